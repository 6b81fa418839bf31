//! `tensor-fusion worker`: serves one vGPU. Plumbing that the node starts.
//!
//! Says where it listens in one line of JSON. With `--parent-stdin` it ends when its standard input closes, so it never
//! outlives its node, and answers each line `status` with one line of JSON.

mod allocation;
mod renewal;

use std::{
    fs::File,
    io::{BufRead, Read, Write, stdin, stdout},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use cuda::{CuError, CuResult, DeviceInfo, NoSink, Ordinal, Sink};
use gpu::{Native, Soft, SoftConfig, native};
use hypervisor::{
    provider::{Driver, Found},
    worker::{Hello, Status},
};
use types::{Bytes, Capability, Process, Request, Tflops};
use wire::Endpoint;
use worker::{Worker as Server, WorkerConfig};

use crate::{
    failure::{Failed, Outcome},
    print, process, token,
};

/// Serve one vGPU.
#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// Where to listen: tcp://HOST:PORT or unix:///PATH
    #[arg(long, value_name = "WHERE", default_value = "tcp://127.0.0.1:0", overrides_with = "listen")]
    listen: Endpoint,

    /// Memory of the vGPU on each of its GPUs [default: all of it]
    #[arg(long, value_name = "BYTES")]
    vram: Option<Bytes>,

    /// Compute of the vGPU on each of its GPUs in TFLOPS [default: no limit]
    #[arg(long, value_name = "TFLOPS")]
    tflops: Option<Tflops>,

    /// The driver's devices to serve, in order
    #[arg(long, value_name = "INDEX", value_delimiter = ',', default_value = "0")]
    gpu: Vec<u32>,

    /// What opens the GPU: `soft`, or the path of a `libcuda.so.1`
    #[arg(long, value_name = "DRIVER", default_value = "soft")]
    driver: Driver,

    /// File with the token that clients must show [default: what `TENSOR_FUSION_TOKEN` holds]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Compute capability that a software GPU presents itself as
    #[arg(long, value_name = "CC")]
    cc: Option<Capability>,

    /// End when the standard input closes
    #[arg(long)]
    parent_stdin: bool,

    /// Descriptor of a socket that listens already: the worker starts anew after a fault that its driver did not survive
    #[arg(long, value_name = "NUMBER", hide = true)]
    listener: Option<i32>,

    /// Print the driver's devices and end
    #[arg(long)]
    probe: bool,
}

impl Worker {
    pub(crate) fn main(mut self) -> Outcome {
        process::log_to_stderr("warn");
        let given = if self.probe { None } else { allocation::given()? };
        // A vendor's driver prints what kernels print to standard output: lend it that, and keep the way to our parent.
        let mut own = match &self.driver {
            Driver::Library(_) if !self.probe => {
                native::capture_standard_output().context("standard output cannot be lent to the driver")?
            }
            _ => File::from(stdout().as_fd().try_clone_to_owned()?),
        };
        let gpus = Gpus::new(&self.driver, self.cc, given.as_ref())?;
        let devices = gpus.devices()?;
        if self.probe {
            let found: Vec<Found> = devices.iter().map(found).collect();
            return Ok(print::json(&found)?);
        }
        if let Some(given) = &given {
            self.take(given, &devices)?;
        }
        let vram = self.memory(&devices)?;
        let listener = match self.listener {
            Some(number) => self.listen.adopt(process::inherit(number).context("the former worker left no socket")?),
            None => self.listen.listen().with_context(|| format!("`{}` cannot be listened at", self.listen))?,
        };
        let config = WorkerConfig {
            tflops: self.tflops.map(Tflops::as_f64),
            devices: self.gpu.iter().copied().map(Ordinal).collect(),
            token: token::given(self.token_file.as_deref())?,
            broken: Box::new(|| native::broken().is_some()),
            ..WorkerConfig::new(vram.get(), move |hello, sink| gpus.open(hello, sink))
        };
        let server = Arc::new(worker::serve(listener, config)?);
        if self.listener.is_none() {
            say(&mut own, &Hello { listening: server.endpoint().to_string() })?;
        }
        let broken = renewal::watch(&server)?;
        if self.parent_stdin {
            follow_parent(&server, &mut own, &broken)?;
        } else {
            (&broken).read_exact(&mut [0])?;
        }
        Err(renewal::start_anew(&server, own.as_fd())?.into())
    }

    /// Serves what the pod was given, whatever the command line says.
    fn take(&mut self, given: &Request, devices: &[DeviceInfo]) -> Result<(), Failed> {
        let place = |wanted: &String| {
            let found = devices.iter().position(|device| uuid(&device.uuid).eq_ignore_ascii_case(wanted));
            let found = found.and_then(|index| u32::try_from(index).ok());
            found.ok_or_else(|| {
                let has: Vec<String> = devices.iter().map(|device| uuid(&device.uuid)).collect();
                Failed::new(format!("there is no GPU `{wanted}`: `{}` has {}", self.driver, has.join(", ")))
            })
        };
        let gpu = given.uuids.iter().map(place).collect::<Result<_, _>>()?;
        (self.gpu, self.vram, self.tflops) = (gpu, given.vram, given.tflops);
        Ok(())
    }

    /// Checks what was asked for against what there is.
    fn memory(&self, devices: &[DeviceInfo]) -> Result<Bytes, Failed> {
        let mut least = None;
        for index in &self.gpu {
            let Some(device) = usize::try_from(*index).ok().and_then(|index| devices.get(index)) else {
                let (driver, has) = (&self.driver, devices.len());
                return Err(Failed::new(format!("there is no GPU `{index}`: `{driver}` has {has}, counted from 0")));
            };
            let has = Bytes::new(device.total_memory);
            if let Some(vram) = self.vram.filter(|vram| *vram > has) {
                return Err(Failed::new(format!(
                    "`{vram}` of VRAM is more than GPU {index} has: expected up to {has}"
                )));
            }
            least = Some(least.map_or(has, |least: Bytes| least.min(has)));
        }
        self.vram.or(least).ok_or_else(|| Failed::new("no GPU was given"))
    }
}

/// What opens a session's GPUs.
enum Gpus {
    Soft(SoftConfig),
    Native(PathBuf),
}

impl Gpus {
    fn new(driver: &Driver, capability: Option<Capability>, given: Option<&Request>) -> Result<Self, Failed> {
        match driver {
            Driver::Soft => {
                let mut config = SoftConfig::from_env()?;
                config.compute_capability = capability.map_or(config.compute_capability, Capability::tenfold);
                // The software GPUs of this pod are those of its node, as far as they were given to it.
                if let Some(given) = given {
                    config = config.with_uuids(&given.uuids)?;
                    config.vram = given.vram.map_or(config.vram, |vram| config.vram.max(vram.get()));
                }
                Ok(Self::Soft(config))
            }
            Driver::Library(path) => Ok(Self::Native(path.clone())),
        }
    }

    /// Opens them for one client.
    fn open(&self, hello: &wire::hello::Hello, sink: Arc<dyn Sink>) -> CuResult<Arc<dyn cuda::Driver>> {
        match self {
            Self::Soft(config) => {
                let mut config = config.clone();
                // Bounded as in our own options: what a client says is hostile until checked.
                if let Some(capability) = hello.compute_capability.filter(|capability| (50..=209).contains(capability))
                {
                    config.compute_capability = capability;
                }
                Ok(Soft::open(config, hello.pid, sink)?)
            }
            Self::Native(path) => Ok(Native::open(path, hello.pid, sink)?),
        }
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, Failed> {
        let pid = std::process::id();
        let opened: CuResult<Arc<dyn cuda::Driver>> = match self {
            Self::Soft(config) => Soft::open(config.clone(), pid, Arc::new(NoSink)).map(|soft| soft as _),
            Self::Native(path) => Native::open(path, pid, Arc::new(NoSink)).map(|native| native as _),
        };
        match opened {
            Ok(driver) => Ok(driver.info().devices.clone()),
            // A driver without a card is in order; it is just of no use.
            Err(CuError::NO_DEVICE) => Ok(Vec::new()),
            Err(error) => Err(Failed::new(match self {
                Self::Soft(_) => format!("the software GPU cannot be opened: {error}"),
                Self::Native(path) => format!("`{}` cannot be opened: {error}", path.display()),
            })
            .hint("expected `soft`, or the path of a `libcuda.so.1`")),
        }
    }
}

/// Tells the parent something in one line of JSON.
fn say(to: &mut dyn Write, what: &impl serde::Serialize) -> anyhow::Result<()> {
    writeln!(to, "{}", serde_json::to_string(what)?)?;
    Ok(to.flush()?)
}

/// Answers the parent, and ends with it. Comes back when the driver is broken.
fn follow_parent(server: &Server, own: &mut dyn Write, broken: &UnixStream) -> anyhow::Result<()> {
    let mut line = String::new();
    loop {
        // The parent sends no second line before it has the answer to the first, so none hides in the buffer.
        let [asked, broken] = process::wait_for([stdin().as_fd(), broken.as_fd()])?;
        if broken && !asked {
            return Ok(());
        }
        line.clear();
        match stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => {
                if let Endpoint::Unix { path } = server.endpoint()
                    && let Err(error) = std::fs::remove_file(path)
                {
                    tracing::debug!(%error, "the socket is gone already");
                }
                process::end_now(0);
            }
            Ok(_) => {}
        }
        if line.trim() == "status" && say(own, &status(server)).is_err() {
            process::end_now(1);
        }
    }
}

fn status(server: &Server) -> Status {
    let process = |usage: cuda::ProcessUsage| Process {
        pid: usage.pid,
        program: program(server.endpoint(), usage.pid),
        vram_used: Bytes::new(usage.used_memory),
    };
    Status { vram_used: Bytes::new(server.used()), processes: server.processes().into_iter().map(process).collect() }
}

/// What runs as `pid`; nothing when it may be on another machine, where the number means something else.
fn program(endpoint: &Endpoint, pid: u32) -> String {
    let here = match endpoint {
        Endpoint::Unix { .. } => true,
        Endpoint::Tcp { host, .. } => host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
    };
    if !here {
        return String::new();
    }
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let name = |word: &str| Path::new(word).file_name().map(|name| name.to_string_lossy().into_owned());
    let program = words.next().and_then(|word| name(&word)).unwrap_or_default();
    // An interpreter's name says little.
    let script = words.next().filter(|word| program.starts_with("python") && !word.starts_with('-'));
    match script.and_then(|word| name(&word)) {
        Some(script) => format!("{program} {script}"),
        None => program,
    }
}

fn found(device: &DeviceInfo) -> Found {
    let attribute = |number| device.attribute(number).and_then(|value| u16::try_from(value).ok()).unwrap_or_default();
    let tflops = Tflops::from_f64(device.tflops);
    Found {
        name: device.name.clone(),
        uuid: uuid(&device.uuid),
        vram: Bytes::new(device.total_memory),
        tflops: (tflops > Tflops::ZERO).then_some(tflops),
        // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
        compute_capability: Capability { major: attribute(75), minor: attribute(76) },
        numa_node: numa_node(Path::new("/sys/bus/pci/devices"), &device.pci_bus_id),
    }
}

/// The NUMA node of a card on the PCI bus, as the kernel has it in `devices`: -1 where there is only one.
fn numa_node(devices: &Path, bus: &str) -> Option<u32> {
    let text = std::fs::read_to_string(devices.join(bus.to_ascii_lowercase()).join("numa_node")).ok()?;
    text.trim().parse().ok()
}

/// As NVML writes it.
fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::from("GPU");
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cards_numa_node_is_read_where_the_kernel_tells() {
        let devices = tempfile::tempdir().unwrap();
        for (bus, node) in [("0000:3b:00.0", "1\n"), ("0000:3c:00.0", "-1\n")] {
            std::fs::create_dir(devices.path().join(bus)).unwrap();
            std::fs::write(devices.path().join(bus).join("numa_node"), node).unwrap();
        }
        let node = |bus: &str| numa_node(devices.path(), bus);
        assert_eq!((node("0000:3B:00.0"), node("0000:3C:00.0"), node("0000:01:00.0")), (Some(1), None, None));
    }

    #[test]
    fn uuids_are_written_as_nvml_writes_them() {
        let bytes = std::array::from_fn(|index| index as u8);
        assert_eq!(uuid(&bytes), "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn programs_are_named_here_and_not_elsewhere() {
        let here = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
        assert!(program(&here, std::process::id()).starts_with("tensor_fusion-"));
        assert_eq!(program(&here, 0), "");
        let elsewhere = Endpoint::Tcp { host: "10.0.0.1".to_owned(), port: 1 };
        assert_eq!(program(&elsewhere, std::process::id()), "");
    }
}
