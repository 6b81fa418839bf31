//! What CUDA's calls mean, in Rust types.
//!
//! One [`Engine`] serves the process. It keeps every object that a program can name, hands out their addresses as
//! handles and never follows a handle which it does not find in its tables: a freed or foreign one is an error, not a
//! crash. The GPU behind it is a [`Driver`], which is told ids and addresses that were chosen here.

mod attributes;
mod callbacks;
mod contexts;
mod copies;
mod functions;
mod handles;
mod image;
mod jit;
mod launches;
mod libraries;
mod links;
mod managed;
mod memory;
mod modules;
mod occupancy;
mod pinned;
mod pools;
mod raw;
mod space;
mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cuda::{CuError, CuResult, DeviceInfo, Driver, Ordinal};

pub use attributes::Limits;
pub use callbacks::Callbacks;
pub use contexts::{Context, Life};
pub use copies::{Place, Shape};
pub use functions::{Function, Kernel};
pub use handles::{Handles, handle_of};
pub use image::read_image;
pub use jit::JitOptions;
pub use launches::{Arguments, LaunchRequest};
pub use libraries::Library;
pub use links::Link;
pub use memory::{Kind, Owner, Range};
pub use modules::Module;
pub use pinned::PinnedInfo;
pub use pools::Pool;
pub use streams::{Event, PRIORITIES, Stream};

/// All CUDA state of this process.
pub struct Engine {
    driver: Arc<dyn Driver>,
    callbacks: Arc<Callbacks>,
    ids: AtomicU64,
    contexts: Handles<Context>,
    primaries: Vec<contexts::Primary>,
    streams: Handles<Stream>,
    busy_streams: AtomicUsize,
    events: Handles<Event>,
    modules: Handles<Module>,
    libraries: Handles<Library>,
    functions: Handles<Function>,
    kernels: Handles<Kernel>,
    links: Handles<Link>,
    pools: Handles<Pool>,
    memory: memory::Memory,
    managed: managed::Managed,
    device_pools: Vec<pools::DevicePools>,
    pinned: pinned::Pinned,
    limits: Vec<Limits>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("devices", &self.driver.info().devices.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over `driver`; `callbacks` is the sink which that driver was opened with.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>, callbacks: Arc<Callbacks>) -> Self {
        let devices = driver.info().devices.len();
        let count = u32::try_from(devices).unwrap_or(0);
        let limits = driver.info().devices.iter().map(Limits::of).collect();
        let memory = memory::Memory::new(driver.info().addresses, count);
        let engine = Self {
            driver,
            callbacks,
            ids: AtomicU64::new(1),
            contexts: Handles::default(),
            primaries: (0..count).map(contexts::Primary::new).collect(),
            streams: Handles::default(),
            busy_streams: AtomicUsize::new(0),
            events: Handles::default(),
            modules: Handles::default(),
            libraries: Handles::default(),
            functions: Handles::default(),
            kernels: Handles::default(),
            links: Handles::default(),
            pools: Handles::default(),
            memory,
            managed: managed::Managed::default(),
            device_pools: (0..count).map(pools::DevicePools::new).collect(),
            pinned: pinned::Pinned::default(),
            limits,
        };
        for primary in &engine.primaries {
            engine.contexts.insert(primary.context());
        }
        for pools in &engine.device_pools {
            engine.pools.insert(pools.default_pool());
        }
        engine
    }

    /// The GPU behind.
    #[must_use]
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// A number that this engine has not handed out before.
    fn fresh_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// How many devices there are.
    #[must_use]
    pub fn device_count(&self) -> u32 {
        u32::try_from(self.driver.info().devices.len()).unwrap_or(0)
    }

    /// A device's constants.
    ///
    /// # Errors
    /// `INVALID_DEVICE` when there is none of that number.
    pub fn device(&self, device: u32) -> CuResult<&DeviceInfo> {
        self.driver.info().devices.get(device as usize).ok_or(CuError::INVALID_DEVICE)
    }

    /// Bytes free and in total on a device.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory_info(&self, device: u32) -> CuResult<(u64, u64)> {
        let total = self.device(device)?.total_memory;
        let used = self.driver.usage(Ordinal(device))?.used_memory;
        Ok((total.saturating_sub(used), total))
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
