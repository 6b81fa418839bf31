//! The heart of a session: its queues, what runs, and who waits.
//!
//! Every operation of a stream starts when its predecessor is done and when the points of other streams that it waits
//! for have passed. Those points are fixed when the operation is put in, so nothing can wait in a circle. Work is done by
//! executor threads and by threads that wait for it anyway: a launch followed by a synchronize costs no thread switch.
//!
//! One lock guards the queues. It is held for bookkeeping only, never while something runs.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use cuda::{
    ContextId, CuError, CuResult, DeviceInfo, DriverInfo, EventId, ModuleId, Ordinal, Region, Sink, StreamId,
    StreamKind, TicketId,
};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::area::{Area, Block, Heap};
use super::executor::Lent;
use super::memory::{Mappings, extent};
use super::meter::now;
use super::module::Loaded;
use super::stream::{Operation, Point, Queue, Queued, Stamp};
use super::task::{Move, Task, Work};
use super::turn::Turn;
use super::window::Span;

/// `CU_LIMIT_MALLOC_HEAP_SIZE` of a new context.
pub(super) const DEFAULT_HEAP: u64 = 8 << 20;

/// What must stay alive while a task runs.
pub(super) type Keep = Vec<Arc<dyn Any + Send + Sync>>;

/// One session.
pub(super) struct Engine {
    /// What the client was told.
    pub(super) info: DriverInfo,
    /// Compute capability, times ten.
    pub(super) capability: u32,
    /// Where reports go.
    pub(super) sink: Arc<dyn Sink>,
    /// The client's addresses.
    pub(super) span: Span,
    /// The rest of the session's memory.
    pub(super) area: Arc<Area>,
    /// The session's turn at each device.
    pub(super) turns: Vec<Arc<Turn>>,
    /// Queues and objects.
    pub(super) state: Mutex<State>,
    /// The heap of kernels, made when first used.
    pub(super) heap: Mutex<Option<Arc<Heap>>>,
    /// Text that kernels printed and that the client has not got yet.
    pub(super) printed: Mutex<Vec<u8>>,
    /// How large the heap of kernels becomes.
    pub(super) heap_limit: AtomicU64,
    /// Scratch memory that no thread uses now.
    pub(super) scratches: Mutex<Vec<Lent>>,
    /// The session is over: everything stops.
    pub(super) quit: AtomicBool,
    /// Number of launches so far.
    pub(super) launches: AtomicU64,
    /// Executors that look for work without the lock.
    pub(super) spinning: AtomicU32,
    /// Changes whenever a task becomes ready.
    pub(super) ready: AtomicU64,
    /// Wakes executors.
    pub(super) work: Condvar,
    /// Wakes threads that wait for a point.
    done: Condvar,
    /// Wakes the thread that calls back.
    pub(super) call: Condvar,
    sticky: AtomicU32,
    /// Itself, for threads that start later.
    pub(super) myself: Weak<Engine>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("addresses", &self.info.addresses).finish_non_exhaustive()
    }
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct State {
    /// Contexts.
    pub(super) contexts: HashMap<ContextId, Context>,
    /// Keys of streams.
    pub(super) streams: HashMap<StreamId, u64>,
    /// Queues by key, in order of creation.
    pub(super) queues: BTreeMap<u64, Queue>,
    next_key: u64,
    /// Queues whose next operation waits for other streams.
    blocked: BTreeSet<u64>,
    /// Events.
    pub(super) events: HashMap<EventId, Event>,
    /// Modules.
    pub(super) modules: HashMap<ModuleId, Arc<Loaded>>,
    /// Module variables by address.
    pub(super) globals: BTreeMap<u64, Arc<Block>>,
    /// Memory that the client placed.
    pub(super) mappings: Mappings,
    /// Tasks with pieces to claim; those to begin first in front.
    pub(super) active: Vec<Arc<Task>>,
    /// Callbacks to make.
    pub(super) callbacks: VecDeque<(u64, TicketId)>,
    /// Executors that sleep.
    pub(super) parked: u32,
    waiters: u32,
    /// Threads of the session.
    pub(super) threads: Vec<std::thread::JoinHandle<()>>,
    /// The thread that calls back has been started.
    pub(super) caller_started: bool,
}

/// A context.
#[derive(Debug)]
pub(super) struct Context {
    /// Position of its device.
    pub(super) device: u32,
    /// Limits that were set.
    pub(super) limits: HashMap<u32, u64>,
}

/// An event.
#[derive(Debug)]
pub(super) struct Event {
    /// Its context.
    pub(super) context: ContextId,
    /// Whether it keeps times.
    pub(super) timing: bool,
    /// Its latest record.
    pub(super) record: Option<(Point, Arc<Stamp>)>,
}

/// The parts of an engine that its maker gives.
pub(super) struct Parts {
    pub(super) info: DriverInfo,
    pub(super) capability: u32,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) span: Span,
    pub(super) area: Arc<Area>,
    pub(super) turns: Vec<Arc<Turn>>,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        let Parts { info, capability, sink, span, area, turns } = parts;
        let mappings = Mappings::new(span.range());
        let state = State {
            contexts: HashMap::new(),
            streams: HashMap::new(),
            queues: BTreeMap::new(),
            next_key: 0,
            blocked: BTreeSet::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            globals: BTreeMap::new(),
            mappings,
            active: Vec::new(),
            callbacks: VecDeque::new(),
            parked: 0,
            waiters: 0,
            threads: Vec::new(),
            caller_started: false,
        };
        Arc::new_cyclic(|myself| Self {
            info,
            capability,
            sink,
            span,
            area,
            turns,
            state: Mutex::new(state),
            heap: Mutex::new(None),
            printed: Mutex::new(Vec::new()),
            heap_limit: AtomicU64::new(DEFAULT_HEAP),
            scratches: Mutex::new(Vec::new()),
            quit: AtomicBool::new(false),
            launches: AtomicU64::new(0),
            spinning: AtomicU32::new(0),
            ready: AtomicU64::new(0),
            work: Condvar::new(),
            done: Condvar::new(),
            call: Condvar::new(),
            sticky: AtomicU32::new(0),
            myself: Weak::clone(myself),
        })
    }

    /// A device and the session's turn at it.
    pub(super) fn device(&self, device: Ordinal) -> CuResult<(&DeviceInfo, &Arc<Turn>)> {
        let position = device.0 as usize;
        let info = self.info.devices.get(position).ok_or(CuError::INVALID_DEVICE)?;
        Ok((info, self.turns.get(position).ok_or(CuError::INVALID_DEVICE)?))
    }

    /// The error that ended the session, if one did.
    pub(super) fn check(&self) -> CuResult {
        CuError::check(self.sticky.load(Ordering::Acquire))
    }

    /// Ends the session with an error; the first one counts.
    pub(super) fn fail(&self, error: CuError) {
        let first = self.sticky.compare_exchange(0, error.code(), Ordering::AcqRel, Ordering::Acquire).is_ok();
        if first {
            tracing::error!(%error, "the session is broken");
        }
    }

    /// Whether work that runs shall end early.
    pub(super) fn is_over(&self) -> bool {
        self.quit.load(Ordering::Relaxed) || self.sticky.load(Ordering::Relaxed) != 0
    }

    /// Puts an operation into a queue and starts it if nothing stands before it.
    pub(super) fn submit(&self, state: &mut State, key: u64, mut after: Vec<Point>, operation: Operation) -> CuResult {
        state.points_before(key, &mut after)?;
        after.retain(|point| !point.passed());
        let queue = state.queues.get_mut(&key).ok_or(CuError::INVALID_HANDLE)?;
        queue.issued += 1;
        if queue.is_idle() && after.is_empty() {
            self.start(state, key, operation);
            return Ok(());
        }
        let head = queue.is_idle();
        queue.waiting.push_back(Queued { after, operation });
        if head {
            state.blocked.insert(key);
        }
        Ok(())
    }

    /// Starts an operation of a queue in which nothing runs.
    fn start(&self, state: &mut State, key: u64, operation: Operation) {
        let Some(queue) = state.queues.get_mut(&key) else { return };
        let over = self.is_over();
        match operation {
            Operation::Record(stamp) => {
                stamp.time.store(now(), Ordering::Release);
                queue.progress.advance();
            }
            Operation::Wait => queue.progress.advance(),
            _ if over => queue.progress.advance(),
            Operation::Task(task) if task.pieces == 0 => {
                drop(task);
                queue.progress.advance();
            }
            Operation::Task(task) => {
                queue.running = true;
                let position = state.active.partition_point(|other| other.priority <= task.priority);
                state.active.insert(position, task);
                self.ready.fetch_add(1, Ordering::Release);
                self.wake_executor(state);
            }
            Operation::Callback(ticket) => {
                queue.running = true;
                state.callbacks.push_back((key, ticket));
                self.start_caller(state);
                self.call.notify_one();
            }
        }
    }

    /// Sees to it that an executor looks at the active tasks.
    pub(super) fn wake_executor(&self, state: &mut State) {
        self.start_executors(state);
        if state.parked > 0 && self.spinning.load(Ordering::SeqCst) == 0 {
            self.work.notify_one();
        }
    }

    /// Notes that the operation which a queue ran is done, and starts what waited for it.
    pub(super) fn finished(&self, state: &mut State, key: u64) {
        if let Some(queue) = state.queues.get_mut(&key) {
            queue.running = false;
            queue.progress.advance();
        }
        self.advance(state, key);
        // Others may have waited for this point, and for points that this brings about.
        loop {
            let free = state.blocked.iter().copied().find(|key| state.head_is_free(*key));
            let Some(key) = free else { break };
            state.blocked.remove(&key);
            self.advance(state, key);
        }
        if state.waiters > 0 {
            self.done.notify_all();
        }
    }

    /// Starts the operations of one queue, as far as they end at once, and the first that does not.
    fn advance(&self, state: &mut State, key: u64) {
        while let Some(queue) = state.queues.get_mut(&key).filter(|queue| !queue.running) {
            let Some(head) = queue.waiting.front() else {
                if queue.closed {
                    state.queues.remove(&key);
                }
                break;
            };
            if head.after.iter().any(|point| !point.passed()) {
                state.blocked.insert(key);
                break;
            }
            if let Some(Queued { operation, .. }) = queue.waiting.pop_front() {
                self.start(state, key, operation);
            }
        }
    }

    /// Does a move at once on this thread if its queue is idle and nothing stands before it; else gives it back.
    pub(super) fn move_at_once<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        key: u64,
        work: Move,
    ) -> Result<(), (MutexGuard<'a, State>, Move)> {
        let mut after = Vec::new();
        let sound = state.points_before(key, &mut after).is_ok() && after.iter().all(Point::passed);
        let Some(queue) = state.queues.get_mut(&key).filter(|queue| sound && queue.is_idle()) else {
            return Err((state, work));
        };
        queue.issued += 1;
        queue.running = true;
        let device = queue.device;
        drop(state);
        self.do_move(
            device,
            |work| {
                #[expect(unsafe_code, reason = "the engine has checked the regions")]
                // SAFETY: the caller has checked that the regions are mapped; unmapping waits for this queue.
                unsafe {
                    work.run_all();
                }
            },
            &work,
        );
        let mut state = self.state.lock();
        self.finished(&mut state, key);
        Ok(())
    }

    /// Moves bytes and notes it on the card.
    pub(super) fn do_move(&self, device: u32, run: impl FnOnce(&Move), work: &Move) {
        const WORTH_NOTING: u64 = 64 << 10;
        if work.bytes() < WORTH_NOTING {
            return run(work);
        }
        let from = now();
        run(work);
        if let Some(turn) = self.turns.get(device as usize) {
            turn.seat.note_copy(from, now());
        }
    }

    /// Waits until a point has passed, and helps with the work before it.
    pub(super) fn wait_for(&self, point: &Point) -> CuResult {
        let begun = now();
        const SPIN_NS: u64 = 20_000;
        while !point.passed() {
            let mut state = self.state.lock();
            if point.passed() {
                break;
            }
            let key = point.progress.key;
            let helpable = state.active.iter().find(|task| task.key == key && task.unclaimed() > 0).map(Arc::clone);
            if let Some(task) = helpable {
                drop(state);
                self.run_task(&task);
                continue;
            }
            if now() - begun < SPIN_NS {
                drop(state);
                for _ in 0..64 {
                    std::hint::spin_loop();
                }
                continue;
            }
            state.waiters += 1;
            self.done.wait(&mut state);
            state.waiters -= 1;
        }
        self.flush_printed();
        self.check()
    }

    /// The heap of kernels, made and charged to the device that first needs it.
    pub(super) fn heap_of(&self, device: u32) -> Option<Arc<Heap>> {
        let mut heap = self.heap.lock();
        if heap.is_none() {
            let size = self.heap_limit.load(Ordering::Relaxed);
            let (turn, device) = (self.turns.get(device as usize)?, self.info.devices.get(device as usize)?);
            turn.seat.charge(size, device.total_memory).ok()?;
            match self.area.allocate(size) {
                Ok(block) => *heap = Some(Arc::new(Heap::new(block))),
                Err(_) => turn.seat.refund(size),
            }
        }
        heap.as_ref().map(Arc::clone)
    }

    /// Hands the client what kernels have printed.
    pub(super) fn flush_printed(&self) {
        // Under the lock, so that text stays in order; a sink does not call back into the driver.
        let mut printed = self.printed.lock();
        if !printed.is_empty() {
            self.sink.printed(&printed);
            printed.clear();
        }
    }

    /// Checks that a region is mapped. Returns what must stay alive until it has been used.
    pub(super) fn checked(state: &State, region: &Region, keep: &mut Keep) -> CuResult {
        let Some((address, end)) = extent(region)? else { return Ok(()) };
        if state.mappings.covers(address, end) {
            return Ok(());
        }
        let block = state.globals.range(..=address).next_back().map(|(_, block)| block);
        match block.filter(|block| block.covers(address, end)) {
            Some(block) => {
                keep.push(Arc::clone(block) as Arc<dyn Any + Send + Sync>);
                Ok(())
            }
            None => Err(CuError::INVALID_VALUE),
        }
    }

    /// Queues work of a stream.
    pub(super) fn submit_work(&self, state: &mut State, key: u64, work: Work, keep: Keep) -> CuResult {
        let queue = state.queues.get(&key).ok_or(CuError::INVALID_HANDLE)?;
        let task = Task::new(key, queue.device, queue.priority, work, keep);
        self.submit(state, key, Vec::new(), Operation::Task(Arc::new(task)))
    }
}

impl State {
    /// The queue of a stream.
    pub(super) fn key(&self, stream: StreamId) -> CuResult<u64> {
        self.streams.get(&stream).copied().ok_or(CuError::INVALID_HANDLE)
    }

    /// The queue of a stream.
    pub(super) fn queue(&self, stream: StreamId) -> CuResult<&Queue> {
        self.queues.get(&self.key(stream)?).ok_or(CuError::INVALID_HANDLE)
    }

    /// Adds the points that the legacy default stream's rule makes a queue's next operation wait for.
    fn points_before(&self, key: u64, after: &mut Vec<Point>) -> CuResult {
        let queue = self.queues.get(&key).ok_or(CuError::INVALID_HANDLE)?;
        let other = match queue.kind {
            StreamKind::Legacy => StreamKind::Blocking,
            StreamKind::Blocking => StreamKind::Legacy,
            StreamKind::NonBlocking => return Ok(()),
        };
        let related = |one: &&Queue| one.kind == other && one.context == queue.context && !one.is_idle();
        after.extend(self.queues.values().filter(related).map(Queue::tail));
        Ok(())
    }

    fn head_is_free(&self, key: u64) -> bool {
        self.queues
            .get(&key)
            .and_then(|queue| queue.waiting.front())
            .is_none_or(|head| head.after.iter().all(Point::passed))
    }

    /// Makes a queue for a stream.
    pub(super) fn add_stream(
        &mut self,
        stream: StreamId,
        context: ContextId,
        kind: StreamKind,
        priority: i32,
    ) -> CuResult {
        let device = self.contexts.get(&context).ok_or(CuError::INVALID_CONTEXT)?.device;
        if self.streams.contains_key(&stream) {
            return Err(CuError::INVALID_VALUE);
        }
        let key = self.next_key;
        self.next_key += 1;
        self.streams.insert(stream, key);
        self.queues.insert(key, Queue::new(key, context, device, kind, priority));
        Ok(())
    }

    /// Forgets a stream; its queue goes when its work is done.
    pub(super) fn close_stream(&mut self, stream: StreamId) -> CuResult {
        let key = self.streams.remove(&stream).ok_or(CuError::INVALID_HANDLE)?;
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.closed = true;
            if queue.is_idle() {
                self.queues.remove(&key);
            }
        }
        Ok(())
    }

    /// The ends of all queues that a test accepts and that are not idle.
    pub(super) fn tails(&self, mut test: impl FnMut(&Queue) -> bool) -> Vec<Point> {
        self.queues.values().filter(|queue| !queue.is_idle() && test(queue)).map(Queue::tail).collect()
    }
}
