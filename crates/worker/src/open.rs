//! A worker from a few words: which GPU, which share of it, where to listen.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cuda::{CuError, CuResult, Driver, Ordinal, Sink};
use gpu::{ConfigError, Soft, SoftConfig};
use wire::Endpoint;
use wire::hello::Hello;

use crate::{Worker, WorkerConfig, serve};

/// What opens the GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// The software GPU, configured by the environment.
    Soft,
    /// A vendor's `libcuda.so.1`.
    Library(PathBuf),
}

/// A vGPU and where it is served.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Where to listen.
    pub listen: Endpoint,
    /// What opens the GPU.
    pub gpu: Gpu,
    /// The GPU's devices to serve, in the order of the clients' ordinals.
    pub devices: Vec<u32>,
    /// Bytes of each device's memory; `None` for all of it.
    pub vram: Option<u64>,
    /// FP16 TFLOPS of each device; `None` for all of them.
    pub tflops: Option<f64>,
    /// Compute capability, times ten, of a software GPU for clients that do not ask for one.
    pub compute_capability: Option<u32>,
    /// What clients must show.
    pub token: Option<String>,
    /// Sessions at once, at most; `None` for the usual limit.
    pub max_sessions: Option<u32>,
}

impl WorkerOptions {
    /// The whole first device of a GPU.
    #[must_use]
    pub fn new(listen: Endpoint, gpu: Gpu) -> Self {
        let devices = vec![0];
        let (vram, tflops, compute_capability, token, max_sessions) = (None, None, None, None, None);
        Self { listen, gpu, devices, vram, tflops, compute_capability, token, max_sessions }
    }
}

/// Why a worker cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The address cannot be listened on.
    #[error("cannot listen on `{endpoint}`")]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The environment describes no software GPU.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The GPU cannot be opened.
    #[error("the GPU cannot be opened")]
    Open(#[source] CuError),
    /// The GPU has no such device.
    #[error("there is no device `{device}`: the GPU has {count}")]
    NoDevice {
        /// What was asked for.
        device: u32,
        /// How many there are.
        count: usize,
    },
    /// Vendors' libraries are not in this build.
    #[error("`{}` cannot be opened: vendors' drivers are not in this build", .0.display())]
    NoLibraries(PathBuf),
    /// No thread can be started.
    #[error("the worker cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Starts a worker; it serves until the value is dropped.
///
/// # Errors
/// The GPU, its share or the address is not to be had.
pub fn start(options: WorkerOptions) -> Result<Worker, WorkerError> {
    let open = opener(&options)?;
    // Opened once now, so that what is wrong is said at the start and not to the first client.
    let probe = open(None, 0, Arc::new(cuda::NoSink)).map_err(WorkerError::Open)?;
    let count = probe.info().devices.len();
    if let Some(&device) = options.devices.iter().find(|device| **device as usize >= count) {
        return Err(WorkerError::NoDevice { device, count });
    }
    drop(probe);
    let open = move |hello: &Hello, sink: Arc<dyn Sink>| open(hello.compute_capability, hello.pid, sink);
    let mut config = WorkerConfig::new(options.vram.unwrap_or(u64::MAX), open);
    config.tflops = options.tflops;
    config.devices = options.devices.into_iter().map(Ordinal).collect();
    config.token = options.token;
    config.max_sessions = options.max_sessions.unwrap_or(config.max_sessions);
    let endpoint = options.listen;
    let listener = endpoint.listen().map_err(|source| WorkerError::Listen { endpoint, source })?;
    serve(listener, config).map_err(WorkerError::Thread)
}

/// Starts a worker, tells `ready` about it, and serves for as long as it listens.
///
/// # Errors
/// As [`start`].
pub fn run(options: WorkerOptions, ready: impl FnOnce(&Worker)) -> Result<(), WorkerError> {
    let worker = start(options)?;
    ready(&worker);
    worker.join();
    Ok(())
}

/// Opens a session on the GPU: of a compute capability, for a process.
type Opener = Box<dyn Fn(Option<u32>, u32, Arc<dyn Sink>) -> CuResult<Arc<dyn Driver>> + Send + Sync>;

fn opener(options: &WorkerOptions) -> Result<Opener, WorkerError> {
    match &options.gpu {
        Gpu::Library(path) => Err(WorkerError::NoLibraries(path.clone())),
        Gpu::Soft => {
            let config = SoftConfig::from_env()?;
            let usual = options.compute_capability.unwrap_or(config.compute_capability);
            Ok(Box::new(move |capability, pid, sink| {
                let compute_capability = capability.unwrap_or(usual);
                if !(50..=209).contains(&compute_capability) {
                    return Err(CuError::INVALID_VALUE);
                }
                let config = SoftConfig { compute_capability, ..config.clone() };
                Ok(Soft::open(config, pid, sink)?)
            }))
        }
    }
}
