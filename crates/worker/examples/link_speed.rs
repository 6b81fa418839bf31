//! What the connection costs, beside the bare TCP socket in the same run.
//!
//! `cargo run --release -p worker --example link_speed` prints a JSON array of rows; with `--text` a table. The server side
//! is a second process of this program, so that processor time is the client's alone.
#![expect(clippy::print_stdout, reason = "a program that prints its results")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cuda::*;
use limiter::fake::{BASE, Fake};
use wire::{ConnectOptions, Endpoint, Remote};
use worker::{WorkerConfig, serve};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const BULK: usize = 64 << 20;
const PING: usize = 64;
const STREAM: StreamId = StreamId(2);

fn main() -> Outcome {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("serve") {
        return serve_until_stdin_closes();
    }
    let rows = measure()?;
    if argument.as_deref() == Some("--text") {
        for row in &rows {
            println!(
                "{:<28} {:>9.3} {:>9.3} {:<5} {:>6.3}  {:<24} {}",
                row.name,
                row.ours,
                row.reference,
                row.unit,
                row.ours / row.reference,
                row.bound,
                row.holds
            );
        }
    } else {
        let rows: Vec<String> = rows.iter().map(Row::json).collect();
        println!("[{}]", rows.join(",\n "));
    }
    Ok(())
}

struct Row {
    name: &'static str,
    ours: f64,
    reference: f64,
    unit: &'static str,
    bound: &'static str,
    holds: bool,
}

impl Row {
    fn json(&self) -> String {
        let Self { name, ours, reference, unit, bound, holds } = self;
        let ratio = ours / reference;
        format!(
            r#"{{"name":"{name}","ours":{ours:.4},"reference":{reference:.4},"unit":"{unit}","ratio":{ratio:.4},"bound":"{bound}","holds":{holds}}}"#
        )
    }
}

/// The other process.
struct Server {
    child: Child,
    worker: Endpoint,
    raw: String,
}

impl Server {
    fn start() -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let worker = lines.next().ok_or("no line")??.parse()?;
        let raw = lines.next().ok_or("no line")??;
        Ok(Self { child, worker, raw })
    }

    fn raw(&self, mode: u8) -> Outcome<TcpStream> {
        let mut stream = TcpStream::connect(&self.raw)?;
        stream.set_nodelay(true)?;
        stream.write_all(&[mode])?;
        Ok(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the server cannot be waited for: {error}");
        }
    }
}

fn serve_until_stdin_closes() -> Outcome {
    let config = WorkerConfig::new(8 << 30, |_, sink| Ok(Arc::new(Fake::new(1, 8 << 30, sink))));
    let worker = serve("tcp://127.0.0.1:0".parse::<Endpoint>()?.listen()?, config)?;
    let raw = TcpListener::bind("127.0.0.1:0")?;
    println!("{}\n{}", worker.endpoint(), raw.local_addr()?);
    std::thread::spawn(move || {
        for stream in raw.incoming().flatten() {
            std::thread::spawn(move || {
                if let Err(error) = answer(stream) {
                    eprintln!("raw connection: {error}");
                }
            });
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The bare socket's other end: echoes, swallows or pours.
fn answer(mut stream: TcpStream) -> Outcome {
    stream.set_nodelay(true)?;
    let mut mode = [0];
    stream.read_exact(&mut mode)?;
    let mut buffer = vec![1; BULK];
    loop {
        match mode[0] {
            b'p' => {
                let ping = buffer.get_mut(..PING).ok_or("short")?;
                if stream.read_exact(ping).is_err() {
                    return Ok(());
                }
                stream.write_all(ping)?;
            }
            b'u' => {
                let part = buffer.get_mut(..1 << 20).ok_or("short")?;
                for _ in 0..BULK >> 20 {
                    if stream.read_exact(part).is_err() {
                        return Ok(());
                    }
                }
                stream.write_all(&[1])?;
            }
            _ => {
                if stream.read_exact(&mut mode).is_err() {
                    return Ok(());
                }
                for part in buffer.chunks(1 << 20) {
                    stream.write_all(part)?;
                }
            }
        }
    }
}

fn connect(server: &Server) -> Outcome<Remote> {
    let remote = Remote::connect(&server.worker, &ConnectOptions::new()?, Arc::new(NoSink))?;
    prepare(&remote)?;
    Ok(remote)
}

fn prepare(driver: &dyn Driver) -> CuResult {
    driver.context_create(ContextId(1), Ordinal(0), 0)?;
    driver.stream_create(ContextId(1), STREAM, StreamKind::NonBlocking, 0)?;
    driver.module_load(ContextId(1), ModuleId(3), b"nothing")?;
    driver.mem_map(Ordinal(0), BASE, BULK as u64)?;
    driver.stream_synchronize(STREAM)
}

fn measure() -> Outcome<Vec<Row>> {
    let server = Server::start()?;
    let remote = connect(&server)?;
    let mut rows = Vec::new();

    let mut raw = server.raw(b'p')?;
    let mut ping = [7; PING];
    let (mut ours, mut synchronize, mut reference) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..7 {
        reference = reference.min(median(2000, || {
            raw.write_all(&ping)?;
            raw.read_exact(&mut ping)?;
            Ok(())
        })?);
        ours = ours.min(median(2000, || Ok(remote.context_limit(ContextId(1), 0).map(drop)?))?);
        synchronize = synchronize.min(median(2000, || Ok(remote.stream_synchronize(STREAM)?))?);
    }
    let bound = "<= reference + 5 us";
    rows.push(Row { name: "synchronous call", ours, reference, unit: "us", bound, holds: ours <= reference + 5.0 });
    let holds = synchronize <= reference + 5.0;
    rows.push(Row { name: "stream synchronize, idle", ours: synchronize, reference, unit: "us", bound, holds });

    let mut upload = server.raw(b'u')?;
    let mut download = server.raw(b'd')?;
    let mut bytes = vec![3; BULK];
    let region = Region::linear(BASE, BULK as u64);
    let (mut raw_up, mut up, mut raw_down, mut down) = (f64::MAX, f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..7 {
        raw_up = raw_up.min(time(|| {
            for part in bytes.chunks(1 << 20) {
                upload.write_all(part)?;
            }
            upload.read_exact(&mut [0])?;
            Ok(())
        })?);
        up = up.min(time(|| {
            remote.copy_to_device(STREAM, region, &bytes)?;
            Ok(remote.stream_synchronize(STREAM)?)
        })?);
        raw_down = raw_down.min(time(|| {
            download.write_all(&[1])?;
            download.read_exact(&mut bytes)?;
            Ok(())
        })?);
        down = down.min(time(|| {
            let target = HostBuffer { pointer: bytes.as_mut_ptr(), length: bytes.len() };
            Ok(remote.copy_to_host(STREAM, target, region, true)?)
        })?);
    }
    let rate = |seconds: f64| BULK as f64 / seconds / 1e9;
    let bound = ">= 0.8 of reference";
    let (ours, reference) = (rate(up), rate(raw_up));
    let holds = ours >= 0.8 * reference;
    rows.push(Row { name: "host to device, 64 MiB", ours, reference, unit: "GB/s", bound, holds });
    let (ours, reference) = (rate(down), rate(raw_down));
    let holds = ours >= 0.8 * reference;
    rows.push(Row { name: "device to host, 64 MiB", ours, reference, unit: "GB/s", bound, holds });

    let direct = Fake::new(1, 8 << 30, Arc::new(NoSink));
    prepare(&direct)?;
    let (mut ours, mut reference, mut wall) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..5 {
        reference = reference.min(launches(&direct)?.0);
        let (cpu, elapsed) = launches(&remote)?;
        ours = ours.min(cpu);
        wall = wall.min(elapsed);
    }
    let (bound, unit) = ("<= 1 us", "us");
    rows.push(Row { name: "client CPU per launch", ours, reference, unit, bound, holds: ours <= 1.0 });
    let bound = "none: the worker's part too";
    rows.push(Row { name: "launch, wall clock", ours: wall, reference, unit, bound, holds: true });
    Ok(rows)
}

/// Processor and wall time of this process per launch, in microseconds, with the final wait.
fn launches(driver: &dyn Driver) -> Outcome<(f64, f64)> {
    const COUNT: u32 = 200_000;
    let function = FunctionId { module: ModuleId(3), index: 0 };
    let shape =
        LaunchShape { grid: [64, 1, 1], block: [256, 1, 1], cluster: [1; 3], shared_bytes: 0, cooperative: false };
    let params = [5; 40];
    let (begun, cpu) = (Instant::now(), processor_time()?);
    for _ in 0..COUNT {
        driver.launch(STREAM, function, shape, &params)?;
    }
    driver.stream_synchronize(STREAM)?;
    let per = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(COUNT);
    Ok((per(processor_time()? - cpu), per(begun.elapsed())))
}

fn processor_time() -> Outcome<Duration> {
    // Fields 14 and 15 of proc(5)'s stat would be in ticks; schedstat counts nanoseconds, per thread.
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        total += Duration::from_nanos(text.split(' ').next().ok_or("empty schedstat")?.parse()?);
    }
    Ok(total)
}

fn time(mut run: impl FnMut() -> Outcome) -> Outcome<f64> {
    let begun = Instant::now();
    run()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Median time of a run, in microseconds.
fn median(count: usize, mut run: impl FnMut() -> Outcome) -> Outcome<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        times.push(time(&mut run)? * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(count / 2).copied().unwrap_or(f64::NAN))
}
