//! Stream-ordered memory: pools that keep freed blocks and hand them out again.
//!
//! A block that was freed on a stream may be reused at once on that stream, and on any other after the stream has been
//! waited for. Blocks beyond the pool's release threshold go back at the next synchronization; all of them go back
//! before any allocation of the process fails, so a limit means the same with pools and without.

use std::collections::BTreeMap;
use std::sync::Arc;

use cuda::{ContextId, CuError, CuResult, StreamId};
use parking_lot::Mutex;

use super::{Engine, Life, Owner, Stream, handle_of};

/// A pool of stream-ordered memory.
#[derive(Debug)]
pub struct Pool {
    /// Its device.
    pub device: u32,
    /// Whether it is the device's default pool, which cannot be destroyed.
    pub default: bool,
    /// Most bytes that it may hold; 0 is no bound.
    pub max_size: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    destroyed: bool,
    threshold: u64,
    reuse: [bool; 3],
    /// Freed blocks by size and address, with the stream they were freed on until that has been waited for.
    cached: BTreeMap<(u64, u64), Option<Pending>>,
    used: Gauge,
    reserved: Gauge,
}

/// The work that a freed block may still be used by.
#[derive(Clone, Copy, Debug)]
struct Pending {
    stream: StreamId,
    context: ContextId,
}

/// What has been waited for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done {
    Stream(StreamId),
    Context(ContextId),
}

impl Pending {
    fn is_over(self, done: Done) -> bool {
        match done {
            Done::Stream(stream) => stream == self.stream,
            Done::Context(context) => context == self.context,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    now: u64,
    high: u64,
}

impl Gauge {
    fn add(&mut self, bytes: u64) {
        self.now += bytes;
        self.high = self.high.max(self.now);
    }

    fn subtract(&mut self, bytes: u64) {
        self.now = self.now.saturating_sub(bytes);
    }
}

/// The pools of a device.
#[derive(Debug)]
pub(super) struct DevicePools {
    default: Arc<Pool>,
    current: Mutex<Arc<Pool>>,
}

impl DevicePools {
    pub(super) fn new(device: u32) -> Self {
        let default = Arc::new(Pool::new(device, true, 0));
        Self { current: Mutex::new(Arc::clone(&default)), default }
    }

    pub(super) fn default_pool(&self) -> Arc<Pool> {
        Arc::clone(&self.default)
    }
}

impl Pool {
    fn new(device: u32, default: bool, max_size: u64) -> Self {
        let state = State { reuse: [true; 3], ..State::default() };
        Self { device, default, max_size, state: Mutex::new(state) }
    }

    /// Takes a cached block that fits and may be used in `stream`'s order; a bit of waste is better than a new mapping.
    fn reuse(&self, size: u64, stream: StreamId) -> Option<(u64, u64)> {
        let mut state = self.state.lock();
        let most = size.saturating_add(size / 8);
        let fits = |(_, freed): &(&(u64, u64), &Option<Pending>)| freed.is_none_or(|freed| freed.stream == stream);
        let (&(length, base), _) = state.cached.range((size, 0)..=(most, u64::MAX)).find(fits)?;
        state.cached.remove(&(length, base));
        state.used.add(length);
        Some((base, length))
    }

    /// Takes cached blocks out: those whose stream is done, until no more than `keep` bytes are cached.
    fn take_cached(&self, keep: u64, even_pending: bool) -> Vec<(u64, u64)> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        while state.reserved.now > keep {
            let next = state.cached.iter().rev().find(|(_, pending)| even_pending || pending.is_none());
            let Some((&(size, base), _)) = next else { break };
            state.cached.remove(&(size, base));
            state.reserved.subtract(size);
            taken.push((base, size));
        }
        taken
    }
}

/// `CUmemPool_attribute`.
mod attribute {
    pub(super) const REUSE_FIRST: u32 = 1;
    pub(super) const REUSE_LAST: u32 = 3;
    pub(super) const RELEASE_THRESHOLD: u32 = 4;
    pub(super) const RESERVED_CURRENT: u32 = 5;
    pub(super) const RESERVED_HIGH: u32 = 6;
    pub(super) const USED_CURRENT: u32 = 7;
    pub(super) const USED_HIGH: u32 = 8;
}

impl Engine {
    /// The pool of a handle.
    ///
    /// # Errors
    /// `INVALID_VALUE` for what is none.
    pub fn pool(&self, handle: u64) -> CuResult<Arc<Pool>> {
        self.pools.get(handle).ok_or(CuError::INVALID_VALUE)
    }

    fn device_pools(&self, device: u32) -> CuResult<&DevicePools> {
        self.device_pools.get(device as usize).ok_or(CuError::INVALID_DEVICE)
    }

    /// A device's default pool.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn default_pool(&self, device: u32) -> CuResult<u64> {
        Ok(handle_of(&self.device_pools(device)?.default))
    }

    /// The pool that `cuMemAllocAsync` takes from on a device.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn current_pool(&self, device: u32) -> CuResult<Arc<Pool>> {
        Ok(Arc::clone(&self.device_pools(device)?.current.lock()))
    }

    /// Sets the pool that `cuMemAllocAsync` takes from on a device.
    ///
    /// # Errors
    /// `INVALID_DEVICE`, or `INVALID_VALUE` for a pool of another device.
    pub fn set_current_pool(&self, device: u32, handle: u64) -> CuResult {
        let pools = self.device_pools(device)?;
        let pool = self.pool(handle)?;
        if pool.device != device {
            return Err(CuError::INVALID_VALUE);
        }
        *pools.current.lock() = pool;
        Ok(())
    }

    /// Makes a pool.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn pool_create(&self, device: u32, max_size: u64) -> CuResult<u64> {
        self.device(device)?;
        Ok(self.pools.insert(Arc::new(Pool::new(device, false, max_size))))
    }

    /// Destroys a pool; memory that is still in use goes back when it is freed.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a default pool or what is none.
    pub fn pool_destroy(&self, handle: u64) -> CuResult {
        if self.pool(handle)?.default {
            return Err(CuError::INVALID_VALUE);
        }
        let pool = self.pools.remove(handle).ok_or(CuError::INVALID_VALUE)?;
        {
            let pools = self.device_pools(pool.device)?;
            let mut current = pools.current.lock();
            if Arc::ptr_eq(&current, &pool) {
                *current = Arc::clone(&pools.default);
            }
        }
        pool.state.lock().destroyed = true;
        self.unmap_blocks(&pool, pool.take_cached(0, true))
    }

    /// Returns a pool attribute.
    ///
    /// # Errors
    /// `INVALID_VALUE` for one that is not known.
    pub fn pool_attribute(&self, pool: &Pool, number: u32) -> CuResult<u64> {
        let state = pool.state.lock();
        Ok(match number {
            attribute::REUSE_FIRST..=attribute::REUSE_LAST => {
                state.reuse.get((number - attribute::REUSE_FIRST) as usize).copied().map_or(0, u64::from)
            }
            attribute::RELEASE_THRESHOLD => state.threshold,
            attribute::RESERVED_CURRENT => state.reserved.now,
            attribute::RESERVED_HIGH => state.reserved.high,
            attribute::USED_CURRENT => state.used.now,
            attribute::USED_HIGH => state.used.high,
            _ => return Err(CuError::INVALID_VALUE),
        })
    }

    /// Whether a pool attribute is a 32-bit `int` rather than a `cuuint64_t`.
    #[must_use]
    pub fn pool_attribute_is_int(number: u32) -> bool {
        matches!(number, attribute::REUSE_FIRST..=attribute::REUSE_LAST)
    }

    /// Sets a pool attribute.
    ///
    /// # Errors
    /// `INVALID_VALUE` for one that is not known or cannot be set to that.
    pub fn pool_set_attribute(&self, pool: &Pool, number: u32, value: u64) -> CuResult {
        let mut state = pool.state.lock();
        match number {
            attribute::REUSE_FIRST..=attribute::REUSE_LAST => {
                if let Some(flag) = state.reuse.get_mut((number - attribute::REUSE_FIRST) as usize) {
                    *flag = value != 0;
                }
            }
            attribute::RELEASE_THRESHOLD => state.threshold = value,
            attribute::RESERVED_HIGH if value == 0 => state.reserved.high = state.reserved.now,
            attribute::USED_HIGH if value == 0 => state.used.high = state.used.now,
            _ => return Err(CuError::INVALID_VALUE),
        }
        Ok(())
    }

    /// Gives cached blocks back until the pool holds no more than `keep` bytes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn pool_trim(&self, pool: &Pool, keep: u64) -> CuResult {
        self.unmap_blocks(pool, pool.take_cached(keep, true))
    }

    fn unmap_blocks(&self, pool: &Pool, blocks: Vec<(u64, u64)>) -> CuResult {
        let mut result = Ok(());
        for (base, size) in blocks {
            let unmapped = self.unmap_memory(pool.device, base, size);
            result = result.and(unmapped);
        }
        result
    }

    /// Allocates from a pool in a stream's order.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes, `OUT_OF_MEMORY`, or what the driver says.
    pub fn pool_alloc(&self, pool: &Arc<Pool>, size: u64, stream: &Stream) -> CuResult<u64> {
        let (base, length) = match pool.reuse(size, stream.id) {
            Some(block) if size > 0 => block,
            _ => {
                if pool.max_size > 0 && pool.state.lock().reserved.now.saturating_add(size) > pool.max_size {
                    self.pool_trim(pool, pool.max_size.saturating_sub(size))?;
                    if pool.state.lock().reserved.now.saturating_add(size) > pool.max_size {
                        return Err(CuError::OUT_OF_MEMORY);
                    }
                }
                let base = self.map_memory(pool.device, size, size)?;
                let mut state = pool.state.lock();
                state.reserved.add(size);
                state.used.add(size);
                (base, size)
            }
        };
        self.add_range(base, length, pool.device, stream.context_handle, Owner::Pool(Arc::clone(pool)));
        Ok(base)
    }

    /// Frees stream-ordered memory once the stream gets there.
    ///
    /// # Errors
    /// `INVALID_VALUE` for an address that no allocation starts at.
    pub fn mem_free_async(&self, address: u64, stream: &Stream) -> CuResult {
        if address == 0 {
            return Ok(());
        }
        let range = self.range_of(address).filter(|range| range.base == address).ok_or(CuError::INVALID_VALUE)?;
        let Owner::Pool(pool) = range.owner else {
            // `cuMemAlloc` memory may be freed this way too; waiting for the device keeps the order.
            return self.mem_free(address);
        };
        self.remove_range(address).ok_or(CuError::INVALID_VALUE)?;
        let mut state = pool.state.lock();
        state.used.subtract(range.size);
        if state.destroyed {
            state.reserved.subtract(range.size);
            drop(state);
            return self.unmap_memory(pool.device, range.base, range.size);
        }
        let pending = Pending { stream: stream.id, context: stream.context };
        state.cached.insert((range.size, range.base), Some(pending));
        drop(state);
        self.mark_busy(stream);
        Ok(())
    }

    /// Frees pool memory at once: `cuMemFree` of it.
    pub(super) fn pool_free_now(&self, pool: &Pool, base: u64, size: u64) -> CuResult {
        let mut state = pool.state.lock();
        state.used.subtract(size);
        state.reserved.subtract(size);
        drop(state);
        self.unmap_memory(pool.device, base, size)
    }

    /// After a synchronization: blocks freed before it are free for all; what is beyond the thresholds goes back, unless
    /// that would wait for other streams' work.
    pub(super) fn release_pools(&self, device: u32, done: Done) -> CuResult {
        let mut result = Ok(());
        for pool in self.pools_of(device) {
            let threshold = {
                let mut state = pool.state.lock();
                if state.cached.is_empty() {
                    continue;
                }
                for pending in state.cached.values_mut() {
                    *pending = pending.filter(|pending| !pending.is_over(done));
                }
                state.threshold
            };
            if self.no_stream_is_busy() {
                let released = self.unmap_blocks(&pool, pool.take_cached(threshold, false));
                result = result.and(released);
            }
        }
        result
    }

    fn pools_of(&self, device: u32) -> Vec<Arc<Pool>> {
        self.pools.all().into_iter().filter(|pool| pool.device == device).collect()
    }

    /// Gives all cached blocks of a device back; whether there were any.
    pub(super) fn drop_cached_blocks(&self, device: u32) -> CuResult<bool> {
        let mut any = false;
        for pool in self.pools_of(device) {
            let blocks = pool.take_cached(0, true);
            any |= !blocks.is_empty();
            self.unmap_blocks(&pool, blocks)?;
        }
        Ok(any)
    }

    /// The device's last context is gone: so is what the pools hold.
    pub(super) fn drop_pool_memory(&self, device: u32) {
        let used = self.remove_ranges_where(|range| range.device == device && matches!(range.owner, Owner::Pool(_)));
        for range in used {
            let Owner::Pool(pool) = &range.owner else { continue };
            if let Err(error) = self.pool_free_now(pool, range.base, range.size) {
                tracing::debug!(%error, address = range.base, "pool memory of a device without contexts");
            }
        }
        if let Err(error) = self.drop_cached_blocks(device) {
            tracing::debug!(%error, device, "cached pool memory of a device without contexts");
        }
    }

    /// The pool for an allocation in a context.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn pool_for(&self, life: &Life) -> CuResult<Arc<Pool>> {
        self.current_pool(life.device)
    }
}
