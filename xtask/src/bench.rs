//! Measures what a remote vGPU costs, each number against a reference of the same run: the same program directly on the
//! same software GPU, or the bare network.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::setup;
use crate::workspace::{cargo, output, path, run as execute, say};

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    ours: f64,
    reference: f64,
    unit: &'static str,
    ratio: f64,
    bound: f64,
    holds: bool,
}

/// What a bound limits.
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

fn row(name: &'static str, unit: &'static str, ours: f64, reference: f64, bound: Bound) -> Row {
    let ratio = if reference > 0.0 { ours / reference } else { f64::NAN };
    let (bound, holds) = match bound {
        Bound::AtMost(bound) => (bound, ours <= bound),
        Bound::AtLeast(bound) => (bound, ours >= bound),
    };
    Row { name, ours, reference, unit, ratio, bound, holds }
}

/// Runs the task.
pub(crate) fn run(_: &[String]) -> anyhow::Result<()> {
    say("building");
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    setup::run(&[])?;
    let node = Node::start()?;
    say("measuring");
    let ping_pong = ping_pong()?;
    let stream = stream()?;
    // One run through, so that files are in the page cache and kernels in whatever caches there are.
    node.remote("first")?;
    let mut first = [0.0; 7];
    for time in &mut first {
        let start = Instant::now();
        node.remote("first")?;
        *time = start.elapsed().as_secs_f64() * 1e3;
    }
    let mut first_direct = [0.0; 7];
    for time in &mut first_direct {
        let start = Instant::now();
        node.direct("first")?;
        *time = start.elapsed().as_secs_f64() * 1e3;
    }
    let rows = [
        row(
            "client processor time per asynchronous launch (reference: the direct call, with its kernel)",
            "us",
            node.remote("launch-cpu")?,
            node.direct("launch-cpu")?,
            Bound::AtMost(1.0),
        ),
        row(
            "synchronous call (reference: raw TCP ping-pong)",
            "us",
            node.remote("synchronous")?,
            ping_pong,
            Bound::AtMost(ping_pong + 5.0),
        ),
        row(
            "copy to the device (reference: raw TCP)",
            "GB/s",
            node.remote("upload")?,
            stream,
            Bound::AtLeast(0.8 * stream),
        ),
        row(
            "copy to the host (reference: raw TCP)",
            "GB/s",
            node.remote("download")?,
            stream,
            Bound::AtLeast(0.8 * stream),
        ),
        row(
            "`tensor-fusion run` to the end of the first CUDA call, warm node (reference: directly)",
            "ms",
            median(&mut first),
            median(&mut first_direct),
            Bound::AtMost(100.0),
        ),
        row(
            "naive SGEMM 512 on two threads (reference: directly)",
            "GFLOP/s",
            node.remote("sgemm")?,
            node.direct("sgemm")?,
            Bound::AtLeast(15.0),
        ),
    ];
    drop(node);
    print(&rows)?;
    fs::write(path("target/bench.json"), serde_json::to_string_pretty(&rows)?)?;
    say("placing 100,000 requests on 10,000 nodes of 8 GPUs");
    execute(cargo().args(["run", "--release", "--quiet", "-p", "pool", "--example", "scale"]))
}

fn print(rows: &[Row]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>10} {:>10} {:>7}  {:>10} {:<8} what", "ours", "reference", "ratio", "bound", "")?;
    for row in rows {
        let verdict = if row.holds { "holds" } else { "BROKEN" };
        writeln!(
            out,
            "{:>10.3} {:>10.3} {:>7.2}  {:>10.3} {:<8} {} [{}]",
            row.ours, row.reference, row.ratio, row.bound, verdict, row.name, row.unit
        )?;
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A warm node, and the two ways to run the benchmark program.
struct Node {
    folder: PathBuf,
    process: Child,
}

impl Node {
    fn start() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tensor-fusion-bench-{}", std::process::id()));
        fs::create_dir_all(folder.join("lib"))?;
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        std::os::unix::fs::symlink(path("target/release/libtensor_fusion_cuda.so"), folder.join("lib/libcuda.so.1"))?;
        let mut command = Self::command_in(&folder);
        let mut process =
            command.args(["up", "--driver", "soft"]).stdout(Stdio::piped()).spawn().context("cannot start the node")?;
        let mut first = [0; 1];
        let ready = process.stdout.as_mut().map(|stdout| stdout.read(&mut first));
        if !matches!(ready, Some(Ok(1))) {
            bail!("the node ended at once");
        }
        Ok(Self { folder, process })
    }

    fn command_in(folder: &PathBuf) -> Command {
        let mut command = Command::new(path("target/release/tensor-fusion"));
        command.env("TENSOR_FUSION_DIR", folder).env_remove("TENSOR_FUSION_NODE");
        command
    }

    fn remote(&self, what: &str) -> anyhow::Result<f64> {
        let mut command = Self::command_in(&self.folder);
        command.args(["run", "--vram", "2GiB", "--"]).arg(path("target/programs/bench.static-ptx")).arg(what);
        number(command)
    }

    fn direct(&self, what: &str) -> anyhow::Result<f64> {
        let mut command = Command::new(path("target/programs/bench.static-ptx"));
        command.arg(what).env("LD_LIBRARY_PATH", self.folder.join("lib")).env_remove("TENSOR_FUSION_CONNECT");
        number(command)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        Self::command_in(&self.folder).arg("down").stdout(Stdio::null()).status().ok();
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

fn number(mut command: Command) -> anyhow::Result<f64> {
    let text = output(&mut command)?;
    let last = text.lines().last().unwrap_or_default();
    last.trim().parse().with_context(|| format!("`{last}` is no number"))
}

/// A small message there and back on one connection of this machine, in microseconds. Both ends look for it without
/// sleeping, as ours do: otherwise the time would be the scheduler's and not the connection's.
fn ping_pong() -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut peer, _) = listener.accept()?;
        peer.set_nodelay(true)?;
        peer.set_nonblocking(true)?;
        let mut message = [0; 24];
        while spin_to_read(&mut peer, &mut message).is_ok() {
            peer.write_all(&message)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut message = [7; 24];
    let mut times = Vec::with_capacity(4000);
    for _ in 0..4000 {
        let start = Instant::now();
        stream.write_all(&message)?;
        spin_to_read(&mut stream, &mut message)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    drop(stream);
    echo.join().map_err(|_| anyhow::anyhow!("the echo died"))??;
    Ok(median(&mut times))
}

fn spin_to_read(stream: &mut TcpStream, mut message: &mut [u8]) -> std::io::Result<()> {
    use std::io::ErrorKind;
    while !message.is_empty() {
        match stream.read(message) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => message = &mut message[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes through one connection of this machine from memory to memory, in GB/s.
fn stream() -> anyhow::Result<f64> {
    const BYTES: usize = 256 << 20;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sink = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut peer, _) = listener.accept()?;
        let mut memory = vec![0; BYTES];
        while peer.read_exact(&mut memory).is_ok() {
            peer.write_all(&[1])?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    let data = vec![7; BYTES];
    let mut rates = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        for chunk in data.chunks(1 << 20) {
            stream.write_all(chunk)?;
        }
        stream.read_exact(&mut [0])?;
        rates.push(BYTES as f64 / start.elapsed().as_secs_f64() * 1e-9);
    }
    drop(stream);
    sink.join().map_err(|_| anyhow::anyhow!("the sink died"))??;
    Ok(median(&mut rates))
}
