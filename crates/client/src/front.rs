//! The semantics of the CUDA driver API, once, over any [`cuda::Driver`].
//!
//! [`engine`] holds the meaning, in Rust types: contexts and their per-thread stacks, memory and its addresses, modules,
//! libraries, streams, events, launches. The other modules are the C-shaped calls that the exported symbols land in
//! (`cuda`'s `table/columns.txt` says which): each unpacks its arguments, asks the engine and stores the answers.

pub mod engine;

pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod device;
pub(crate) mod event;
pub(crate) mod fill;
pub(crate) mod host;
pub(crate) mod kernel;
pub(crate) mod launch;
pub(crate) mod library;
pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod module;
pub(crate) mod occupancy;
pub(crate) mod pointer;
pub(crate) mod pool;
pub(crate) mod resource;
pub(crate) mod stream;
pub(crate) mod tools;

use std::sync::{Arc, OnceLock};

use cuda::{CuError, CuResult};

use engine::{Callbacks, Engine};

/// The process's engine.
///
/// # Errors
/// `NOT_INITIALIZED` before `cuInit` and in a forked child.
pub(crate) fn front() -> CuResult<&'static Engine> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    #[cfg(test)]
    if let Some(engine) = for_tests::current() {
        return Ok(engine);
    }
    let driver = crate::state::driver()?;
    Ok(ENGINE.get_or_init(|| {
        let callbacks = Arc::new(Callbacks::default());
        crate::state::set_sink(Arc::clone(&callbacks) as Arc<dyn cuda::Sink>);
        Engine::new(Arc::clone(driver), callbacks)
    }))
}

/// A `CUdevice` as an ordinal.
fn ordinal(device: i32) -> CuResult<u32> {
    u32::try_from(device).map_err(|_| CuError::INVALID_DEVICE)
}

/// A size or an address as C's `size_t`.
fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Engines of tests: each test's thread has its own.
#[cfg(test)]
pub(crate) mod for_tests {
    use std::cell::Cell;

    use super::engine::Engine;

    thread_local! {
        static ENGINE: Cell<Option<&'static Engine>> = const { Cell::new(None) };
    }

    pub(super) fn current() -> Option<&'static Engine> {
        ENGINE.get()
    }

    /// Makes the C-shaped calls of this thread go to an engine.
    pub(crate) fn set(engine: Engine) -> &'static Engine {
        let engine = Box::leak(Box::new(engine));
        ENGINE.set(Some(engine));
        engine
    }
}

#[cfg(test)]
mod tests;
