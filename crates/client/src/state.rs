#![expect(unsafe_code, reason = "asks the C library to tell of forks")]
//! The process-wide driver and how it is opened.
//!
//! `TENSOR_FUSION_CONNECT` says where the GPU is; without it the software GPU runs in this process. The driver is opened
//! by the first call that needs it (`cuDriverGetVersion` is one, and so is NVML), `cuInit` only makes it official.
//! A child process that was forked after that cannot use it, as with CUDA: it gets `NOT_INITIALIZED`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use cuda::{CuError, CuResult, Driver, Sink, TicketId};
use parking_lot::Mutex;
use wire::hello::HelloError;

/// The open driver.
pub(crate) struct State {
    /// All devices: what NVML shows.
    pub(crate) all: Arc<dyn Driver>,
    /// The devices that `CUDA_VISIBLE_DEVICES` leaves, in its order: what CUDA shows.
    pub(crate) driver: Arc<dyn Driver>,
}

static STATE: OnceLock<State> = OnceLock::new();
static INITIALIZED: AtomicBool = AtomicBool::new(false);
static FORKED: AtomicBool = AtomicBool::new(false);
static SINK: OnceLock<Arc<dyn Sink>> = OnceLock::new();

/// The driver that CUDA calls go to.
///
/// # Errors
/// `NOT_INITIALIZED` before `cuInit` and in a forked child.
pub(crate) fn driver() -> CuResult<&'static Arc<dyn Driver>> {
    if !INITIALIZED.load(Ordering::Acquire) || FORKED.load(Ordering::Relaxed) {
        return Err(CuError::NOT_INITIALIZED);
    }
    STATE.get().map(|state| &state.driver).ok_or(CuError::NOT_INITIALIZED)
}

/// Where the driver's reports go. To be set before the first work is queued; later calls change nothing.
pub(crate) fn set_sink(sink: Arc<dyn Sink>) {
    SINK.get_or_init(|| sink);
}

/// `cuInit`: opens the driver if need be.
pub(crate) fn initialize() -> CuResult {
    let state = open()?;
    if state.driver.info().devices.is_empty() {
        return Err(CuError::NO_DEVICE);
    }
    INITIALIZED.store(true, Ordering::Release);
    Ok(())
}

/// The open driver, whether or not `cuInit` was called.
///
/// # Errors
/// Why it cannot be opened; the next call tries again.
pub(crate) fn open() -> CuResult<&'static State> {
    static OPENING: Mutex<()> = Mutex::new(());
    if FORKED.load(Ordering::Relaxed) {
        return Err(CuError::NOT_INITIALIZED);
    }
    if let Some(state) = STATE.get() {
        return Ok(state);
    }
    let _opening = OPENING.lock();
    if let Some(state) = STATE.get() {
        return Ok(state);
    }
    let all = connect(Arc::new(Forward)).inspect_err(|error| tracing::error!(%error, "cannot open a GPU"))?;
    let driver = crate::visible::of_environment(&all);
    tell_of_forks();
    Ok(STATE.get_or_init(|| State { all, driver }))
}

/// Opens what the environment names.
fn connect(sink: Arc<dyn Sink>) -> CuResult<Arc<dyn Driver>> {
    match std::env::var("TENSOR_FUSION_CONNECT") {
        Ok(endpoint) => remote(&endpoint, sink),
        Err(_) => soft(sink),
    }
}

/// The software GPU in this process.
fn soft(sink: Arc<dyn Sink>) -> CuResult<Arc<dyn Driver>> {
    let config = gpu::SoftConfig::from_env().map_err(|error| {
        tracing::error!(%error, "the software GPU's configuration");
        CuError::NO_DEVICE
    })?;
    Ok(gpu::Soft::open(config, std::process::id(), sink)?)
}

/// A worker's vGPU.
fn remote(endpoint: &str, sink: Arc<dyn Sink>) -> CuResult<Arc<dyn Driver>> {
    let endpoint: wire::Endpoint = endpoint.parse().map_err(|error| {
        tracing::error!(%error, "TENSOR_FUSION_CONNECT");
        CuError::NO_DEVICE
    })?;
    let mut options = wire::ConnectOptions::new().map_err(|error| {
        tracing::error!(%error, "no random numbers for a session key");
        CuError::OPERATING_SYSTEM
    })?;
    options.hello.token = std::env::var("TENSOR_FUSION_TOKEN").ok().map(types::Token::shown);
    options.hello.compute_capability = capability();
    match wire::Remote::connect(&endpoint, &options, sink) {
        Ok(remote) => Ok(Arc::new(remote)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "no connection to a vGPU");
            // CUDA's words for it are "operation not permitted"; "busy or unavailable" would be looked into elsewhere.
            let forbidden = matches!(error, wire::ConnectError::NoSession { source: HelloError::WrongToken, .. });
            Err(if forbidden { CuError::NOT_PERMITTED } else { CuError::DEVICE_UNAVAILABLE })
        }
    }
}

/// The compute capability that this program wants a software GPU to have, times ten; the variable is `gpu::soft`'s.
fn capability() -> Option<u32> {
    let text = std::env::var("TENSOR_FUSION_SOFT_CC").ok()?;
    let (major, minor) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    Some(major.parse::<u32>().ok()? * 10 + minor.parse::<u32>().ok().filter(|minor| *minor < 10)?)
}

/// Hands the driver's reports to the front end's sink, which is made after the driver.
struct Forward;

impl Sink for Forward {
    fn printed(&self, text: &[u8]) {
        if let Some(sink) = SINK.get() {
            sink.printed(text);
        }
    }

    fn reached(&self, ticket: TicketId) {
        if let Some(sink) = SINK.get() {
            sink.reached(ticket);
        }
    }
}

fn tell_of_forks() {
    extern "C" fn in_child() {
        FORKED.store(true, Ordering::Relaxed);
    }
    // SAFETY: the handler only stores into an atomic, which a forked child may do, and it lives as long as the process.
    let code = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    if code != 0 {
        tracing::warn!(code, "forked children will not be told that they cannot use CUDA");
    }
}
