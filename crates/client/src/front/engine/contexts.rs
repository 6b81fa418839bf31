//! Contexts: created and primary ones, and each thread's stack of current ones.
//!
//! A [`Context`] is what a handle names; its [`Life`] is what exists on the device. A primary context keeps its handle
//! for good and gets a new life whenever it is retained (or set up) again; a created one lives once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cuda::types::CUcontext;
use cuda::{ContextId, CuError, CuResult, Ordinal, StreamId, StreamKind};
use parking_lot::{Mutex, RwLock};

use super::pools::Done;
use super::{Engine, Stream, handle_of};

/// `CU_CTX_SCHED_*`, map host, LMEM resize, coredump, user coredump, sync memops.
const KNOWN_FLAGS: u32 = 0xFF;
/// Flags that are always set in what CUDA reports.
const CONTEXT_MAP_HOST: u32 = 0x08;

/// What a context handle names.
#[derive(Debug)]
pub struct Context {
    /// Its device.
    pub device: u32,
    /// Whether it is the device's primary context.
    pub primary: bool,
    /// `CU_CTX_*` flags.
    pub flags: AtomicU32,
    /// `cuCtxGetApiVersion`'s answer.
    pub api_version: u32,
    /// `CUfunc_cache` preference.
    pub cache_config: AtomicU32,
    /// `CUsharedconfig` preference.
    pub shared_config: AtomicU32,
    /// `cuCtxAttach` minus `cuCtxDetach`, plus one for the creation.
    attached: AtomicU32,
    life: RwLock<Option<Arc<Life>>>,
    /// Handles of the contexts whose memory this one may reach.
    peers: Mutex<HashSet<u64>>,
}

/// One existence of a context on its device.
#[derive(Debug)]
pub struct Life {
    /// Its name for the driver.
    pub id: ContextId,
    /// Its device.
    pub device: u32,
    /// The context's handle.
    pub context: u64,
    /// The default stream.
    pub legacy: Arc<Stream>,
    /// The threads' own default streams, by thread number.
    pub(super) per_thread: Mutex<std::collections::HashMap<u64, Arc<Stream>>>,
}

/// A device's primary context and how often it is retained.
#[derive(Debug)]
pub(super) struct Primary {
    context: Arc<Context>,
    retained: Mutex<u32>,
}

impl Primary {
    pub(super) fn new(device: u32) -> Self {
        Self { context: Arc::new(Context::new(device, true, 0, 3020)), retained: Mutex::new(0) }
    }

    pub(super) fn context(&self) -> Arc<Context> {
        Arc::clone(&self.context)
    }
}

thread_local! {
    static STACK: RefCell<Vec<Arc<Context>>> = const { RefCell::new(Vec::new()) };
    static THREAD: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// A number for the calling thread.
pub(super) fn thread_number() -> CuResult<u64> {
    THREAD.try_with(|number| *number).map_err(|_| CuError::DEINITIALIZED)
}

fn with_stack<T>(work: impl FnOnce(&mut Vec<Arc<Context>>) -> T) -> CuResult<T> {
    STACK.try_with(|stack| work(&mut stack.borrow_mut())).map_err(|_| CuError::DEINITIALIZED)
}

impl Context {
    fn new(device: u32, primary: bool, flags: u32, api_version: u32) -> Self {
        Self {
            device,
            primary,
            flags: AtomicU32::new(flags),
            api_version,
            cache_config: AtomicU32::new(0),
            shared_config: AtomicU32::new(1),
            attached: AtomicU32::new(1),
            life: RwLock::new(None),
            peers: Mutex::default(),
        }
    }

    /// What exists on the device now.
    ///
    /// # Errors
    /// `CONTEXT_IS_DESTROYED`, also for a primary context that nobody has retained yet.
    pub fn life(&self) -> CuResult<Arc<Life>> {
        self.life.read().clone().ok_or(CuError::CONTEXT_IS_DESTROYED)
    }
}

impl Engine {
    fn begin_life(&self, context: &Arc<Context>) -> CuResult<Arc<Life>> {
        let mut slot = context.life.write();
        if let Some(life) = slot.as_ref() {
            return Ok(Arc::clone(life));
        }
        let id = ContextId(self.fresh_id());
        let legacy = StreamId(self.fresh_id());
        self.driver.context_create(id, Ordinal(context.device), context.flags.load(Ordering::Relaxed))?;
        self.driver.stream_create(id, legacy, StreamKind::Legacy, 0)?;
        let handle = handle_of(context);
        let life = Arc::new(Life {
            id,
            device: context.device,
            context: handle,
            legacy: Arc::new(Stream::new(legacy, id, context.device, handle, 0, 0, self.fresh_id())),
            per_thread: Mutex::default(),
        });
        *slot = Some(Arc::clone(&life));
        Ok(life)
    }

    fn end_life(&self, context: &Context) -> CuResult {
        if let Ok(life) = context.life() {
            // Libraries destroy what they keep with the context while it still works.
            crate::export_tables::forget_context(CUcontext(usize::try_from(life.context).unwrap_or(0)));
        }
        let Some(life) = context.life.write().take() else { return Ok(()) };
        context.peers.lock().clear();
        // Work of the context is done before its memory goes away; a sticky error is no reason to keep anything.
        let drained = self.driver.context_synchronize(life.id);
        self.drop_streams_of(&life);
        self.end_downloads(Done::Context(life.id));
        self.events.remove_where(|event| event.context == life.id);
        self.drop_modules_of(life.id);
        self.free_memory_of(&life);
        let last = !self.contexts.all().iter().any(|other| other.device == life.device && other.life().is_ok());
        if last {
            self.drop_pool_memory(life.device);
        }
        self.driver.context_destroy(life.id)?;
        drained
    }

    /// Makes a context and makes it current.
    ///
    /// # Errors
    /// `INVALID_DEVICE`, `INVALID_VALUE` for unknown flags, or what the driver says.
    pub fn context_create(&self, device: u32, flags: u32, api_version: u32) -> CuResult<u64> {
        self.device(device)?;
        check_flags(flags)?;
        let context = Arc::new(Context::new(device, false, flags, api_version));
        self.begin_life(&context)?;
        let handle = self.contexts.insert(Arc::clone(&context));
        with_stack(|stack| stack.push(context))?;
        Ok(handle)
    }

    /// Destroys a context that was created; pops it if it is current here.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` for what is no context, or a primary one.
    pub fn context_destroy(&self, handle: u64) -> CuResult {
        let context = self.context(handle)?;
        if context.primary {
            return Err(CuError::INVALID_CONTEXT);
        }
        self.contexts.remove(handle).ok_or(CuError::INVALID_CONTEXT)?;
        with_stack(|stack| {
            if stack.last().is_some_and(|top| Arc::ptr_eq(top, &context)) {
                stack.pop();
            }
        })?;
        self.end_life(&context)
    }

    /// The context of a handle.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` for what is none.
    pub fn context(&self, handle: u64) -> CuResult<Arc<Context>> {
        self.contexts.get(handle).ok_or(CuError::INVALID_CONTEXT)
    }

    /// The context of a handle, or the current one for 0.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` for what is none, or when none is current.
    pub fn context_or_current(&self, handle: u64) -> CuResult<Arc<Context>> {
        if handle == 0 { self.current_context() } else { self.context(handle) }
    }

    /// The thread's current context.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` when there is none.
    pub fn current_context(&self) -> CuResult<Arc<Context>> {
        with_stack(|stack| stack.last().cloned())?.ok_or(CuError::INVALID_CONTEXT)
    }

    /// What the thread's current context is on its device.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` when there is none, `CONTEXT_IS_DESTROYED` when it is gone.
    pub fn current(&self) -> CuResult<Arc<Life>> {
        let life = STACK
            .try_with(|stack| stack.borrow().last().map(|context| context.life()))
            .map_err(|_| CuError::DEINITIALIZED)?;
        life.unwrap_or(Err(CuError::INVALID_CONTEXT))
    }

    /// The handle of the thread's current context, or 0.
    ///
    /// # Errors
    /// `DEINITIALIZED` when the thread is ending.
    pub fn current_handle(&self) -> CuResult<u64> {
        with_stack(|stack| stack.last().map_or(0, handle_of))
    }

    /// Pushes a context on the thread's stack.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` for what is no context.
    pub fn push_current(&self, handle: u64) -> CuResult {
        let context = self.context(handle)?;
        with_stack(|stack| stack.push(context))
    }

    /// Pops the thread's current context and returns its handle.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` when there is none.
    pub fn pop_current(&self) -> CuResult<u64> {
        with_stack(Vec::pop)?.map(|context| handle_of(&context)).ok_or(CuError::INVALID_CONTEXT)
    }

    /// Replaces the top of the thread's stack; 0 pops it.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` for what is no context.
    pub fn set_current(&self, handle: u64) -> CuResult {
        let context = if handle == 0 { None } else { Some(self.context(handle)?) };
        with_stack(|stack| {
            stack.pop();
            stack.extend(context);
        })
    }

    /// Adds one use of a context.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` when none is current.
    pub fn context_attach(&self) -> CuResult<u64> {
        let context = self.current_context()?;
        context.attached.fetch_add(1, Ordering::Relaxed);
        Ok(handle_of(&context))
    }

    /// Takes one use of a context away; the last one destroys it.
    ///
    /// # Errors
    /// As [`Engine::context_destroy`].
    pub fn context_detach(&self, handle: u64) -> CuResult {
        let context = self.context(handle)?;
        if context.primary {
            return Err(CuError::INVALID_CONTEXT);
        }
        if context.attached.fetch_sub(1, Ordering::AcqRel) > 1 { Ok(()) } else { self.context_destroy(handle) }
    }

    fn primary(&self, device: u32) -> CuResult<&Primary> {
        self.primaries.get(device as usize).ok_or(CuError::INVALID_DEVICE)
    }

    /// Starts a device's primary context without retaining it.
    pub(super) fn begin_primary_life(&self, device: u32) -> CuResult<Arc<Life>> {
        self.begin_life(&self.primary(device)?.context)
    }

    /// The handle of a device's primary context, whether or not it lives.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn primary_handle(&self, device: u32) -> CuResult<u64> {
        Ok(handle_of(&self.primary(device)?.context))
    }

    /// Retains a device's primary context.
    ///
    /// # Errors
    /// `INVALID_DEVICE`, or what the driver says.
    pub fn primary_retain(&self, device: u32) -> CuResult<u64> {
        let primary = self.primary(device)?;
        let mut retained = primary.retained.lock();
        self.begin_life(&primary.context)?;
        *retained += 1;
        Ok(handle_of(&primary.context))
    }

    /// Releases a device's primary context; the last release destroys it.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` when it was not retained.
    pub fn primary_release(&self, device: u32) -> CuResult {
        let primary = self.primary(device)?;
        let mut retained = primary.retained.lock();
        *retained = retained.checked_sub(1).ok_or(CuError::INVALID_CONTEXT)?;
        if *retained == 0 { self.end_life(&primary.context) } else { Ok(()) }
    }

    /// Destroys what a device's primary context holds; it stays retained and starts anew when next retained.
    ///
    /// # Errors
    /// `INVALID_DEVICE`, or what the driver says.
    pub fn primary_reset(&self, device: u32) -> CuResult {
        let primary = self.primary(device)?;
        let _retained = primary.retained.lock();
        self.end_life(&primary.context)
    }

    /// Flags of a device's primary context and whether it lives.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn primary_state(&self, device: u32) -> CuResult<(u32, bool)> {
        let context = &self.primary(device)?.context;
        Ok((context.flags.load(Ordering::Relaxed), context.life().is_ok()))
    }

    /// Sets the flags of a device's primary context.
    ///
    /// # Errors
    /// `INVALID_DEVICE`, or `INVALID_VALUE` for unknown flags.
    pub fn primary_set_flags(&self, device: u32, flags: u32) -> CuResult {
        check_flags(flags)?;
        self.primary(device)?.context.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    /// Flags of the current context as CUDA reports them.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` when there is none.
    pub fn context_flags(&self) -> CuResult<u32> {
        Ok(self.current_context()?.flags.load(Ordering::Relaxed) | CONTEXT_MAP_HOST)
    }

    /// Sets flags of the current context.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` when there is none, `INVALID_VALUE` for unknown flags.
    pub fn context_set_flags(&self, flags: u32) -> CuResult {
        check_flags(flags)?;
        self.current_context()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for all work of a context.
    ///
    /// # Errors
    /// What the driver says, earlier asynchronous errors included.
    pub fn context_synchronize(&self, life: &Life) -> CuResult {
        self.streams_idle(life.id);
        self.driver.context_synchronize(life.id)?;
        self.end_downloads(Done::Context(life.id));
        self.share_after(life.id, None)?;
        self.release_pools(life.device, Done::Context(life.id))
    }

    /// Lets the current context reach the memory of `peer`.
    ///
    /// # Errors
    /// `PEER_ACCESS_UNSUPPORTED`, `PEER_ACCESS_ALREADY_ENABLED`, `INVALID_CONTEXT`, or `INVALID_VALUE` for flags.
    pub fn peer_enable(&self, peer: u64, flags: u32) -> CuResult {
        let context = self.current_context()?;
        let other = self.context(peer)?;
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        if !self.can_access_peer(context.device, other.device)? {
            return Err(CuError::PEER_ACCESS_UNSUPPORTED);
        }
        if context.peers.lock().insert(peer) { Ok(()) } else { Err(CuError::PEER_ACCESS_ALREADY_ENABLED) }
    }

    /// Takes back [`Engine::peer_enable`].
    ///
    /// # Errors
    /// `PEER_ACCESS_NOT_ENABLED`, or `INVALID_CONTEXT`.
    pub fn peer_disable(&self, peer: u64) -> CuResult {
        let context = self.current_context()?;
        self.context(peer)?;
        if context.peers.lock().remove(&peer) { Ok(()) } else { Err(CuError::PEER_ACCESS_NOT_ENABLED) }
    }

    /// Whether kernels on one device may reach another's memory. Not claimed yet: the driver trait has no word for it.
    ///
    /// # Errors
    /// `INVALID_DEVICE`.
    pub fn can_access_peer(&self, device: u32, peer: u32) -> CuResult<bool> {
        self.device(device)?;
        self.device(peer)?;
        Ok(false)
    }
}

fn check_flags(flags: u32) -> CuResult {
    let schedule = flags & 0x7;
    let known = flags & !KNOWN_FLAGS == 0 && matches!(schedule, 0 | 1 | 2 | 4);
    if known { Ok(()) } else { Err(CuError::INVALID_VALUE) }
}
