//! The threads that do the work: executors for tasks, one thread for callbacks.
//!
//! Both start when first needed. An executor that runs out of work looks around for a moment before it sleeps, so that
//! a program which launches one kernel after another pays no wake-up.

#![expect(unsafe_code, reason = "lends memory to kernels and keeps the application's signals away from our threads")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cuda::CuError;
use ptx::exec::{Environment, Scratch, Trap, TrapKind};

use super::area::Block;
use super::engine::{Engine, State};
use super::meter::now;
use super::task::{Task, Work};

/// How long an executor looks for work before it sleeps.
const SPIN_NS: u64 = 30_000;
/// A task that will take longer than this is worth waking another executor for.
const WORTH_WAKING_NS: u64 = 30_000;

/// Number of executors: one for each available processor, and two at least, so that a kernel which waits for another
/// stream's work gets it.
pub(super) fn executors() -> u64 {
    static COUNT: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(2, |count| count.get() as u64).clamp(2, 64))
}

/// Scratch memory that a thread borrows for some blocks.
#[derive(Debug)]
pub(super) struct Lent {
    block: Block,
    scratch: Scratch,
}

/// Surroundings of a kernel.
struct Surroundings<'a> {
    engine: &'a Engine,
    task: &'a Task,
}

impl Environment for Surroundings<'_> {
    fn print(&self, text: &[u8]) {
        const PLENTY: usize = 64 << 10;
        let mut printed = self.engine.printed.lock();
        printed.extend_from_slice(text);
        if printed.len() > PLENTY {
            drop(printed);
            self.engine.flush_printed();
        }
    }

    fn malloc(&self, size: u64) -> u64 {
        self.engine.heap_of(self.task.device).map_or(0, |heap| heap.allocate(size))
    }

    fn free(&self, address: u64) {
        let heap = self.engine.heap.lock().as_ref().map(Arc::clone);
        if address != 0 && !heap.is_some_and(|heap| heap.free(address)) {
            tracing::warn!("a kernel frees {address:#x}, which it did not allocate");
        }
    }

    fn cancelled(&self) -> bool {
        self.task.failed.load(Ordering::Relaxed) || self.engine.is_over()
    }
}

impl Engine {
    /// Starts the executors unless they run.
    pub(super) fn start_executors(&self, state: &mut State) {
        if !state.threads.is_empty() {
            return;
        }
        for number in 0..executors() {
            let Some(engine) = self.myself.upgrade() else { return };
            let thread = std::thread::Builder::new().name(format!("soft-gpu-{number}")).spawn(move || engine.execute());
            match thread {
                Ok(thread) => state.threads.push(thread),
                Err(error) => tracing::error!(%error, "cannot start an executor"),
            }
        }
    }

    fn execute(&self) {
        block_signals();
        loop {
            let seen = self.ready.load(Ordering::Acquire);
            if let Some(task) = self.next_task() {
                self.run_task(&task);
                continue;
            }
            if self.quit.load(Ordering::Relaxed) {
                return;
            }
            if !self.look_around(seen) {
                self.sleep();
            }
        }
    }

    /// The first task with something to claim. When there is another, somebody else is woken for it: the kernels of two
    /// streams may wait for one another.
    fn next_task(&self) -> Option<Arc<Task>> {
        let state = self.state.lock();
        let mut tasks = state.active.iter().filter(|task| task.unclaimed() > 0);
        let first = tasks.next().map(Arc::clone);
        if tasks.next().is_some() && state.parked > 0 {
            self.work.notify_one();
        }
        first
    }

    /// Waits a moment for something to become ready.
    fn look_around(&self, seen: u64) -> bool {
        self.spinning.fetch_add(1, Ordering::SeqCst);
        let begun = now();
        let mut found = false;
        while !found && now() - begun < SPIN_NS {
            for _ in 0..32 {
                std::hint::spin_loop();
            }
            found = self.ready.load(Ordering::Acquire) != seen || self.quit.load(Ordering::Relaxed);
        }
        self.spinning.fetch_sub(1, Ordering::SeqCst);
        found
    }

    fn sleep(&self) {
        let mut state = self.state.lock();
        if self.quit.load(Ordering::SeqCst) || state.active.iter().any(|task| task.unclaimed() > 0) {
            return;
        }
        state.parked += 1;
        self.work.wait(&mut state);
        state.parked -= 1;
    }

    /// Works on a task until nothing is left to claim.
    pub(super) fn run_task(&self, task: &Arc<Task>) {
        let mut last = false;
        match &task.work {
            Work::Kernel { .. } => {
                let Some(turn) = self.turns.get(task.device as usize) else { return };
                while task.unclaimed() > 0 && !last {
                    if !turn.enter(&self.quit) {
                        last = task.finish(task.abandon());
                        break;
                    }
                    last = self.run_claim(task);
                    turn.leave(task.unclaimed() > 0);
                }
                turn.rest();
            }
            Work::Move(_) => {
                while task.unclaimed() > 0 && !last {
                    last = self.run_claim(task);
                }
            }
        }
        if last {
            task.let_go();
        }
        let mut state = self.state.lock();
        state.active.retain(|other| other.unclaimed() > 0);
        if last {
            self.finished(&mut state, task.key);
        }
    }

    /// Claims some pieces and does them; true when they were the task's last.
    fn run_claim(&self, task: &Arc<Task>) -> bool {
        let Some(pieces) = task.claim(executors()) else { return false };
        let count = pieces.end - pieces.start;
        let mut done = count;
        if self.is_over() {
            done += task.abandon();
        } else {
            let begun = now();
            match &task.work {
                Work::Move(work) => self.do_move(
                    task.device,
                    // SAFETY: the regions were checked when the task was made, and unmapping waits for its queue.
                    |work| unsafe { work.run(pieces) },
                    work,
                ),
                Work::Kernel { .. } => {
                    if let Err(trap) = self.run_blocks(task, pieces) {
                        self.trapped(task, &trap);
                        done += task.abandon();
                    }
                }
            }
            let took = now() - begun;
            task.learn(count, took);
            let rest = task.unclaimed().saturating_mul(took / count.max(1));
            if rest > WORTH_WAKING_NS && task.unclaimed() > 0 {
                self.call_for_help();
            }
        }
        let last = task.finish(done);
        if last {
            self.flush_printed();
        }
        last
    }

    fn call_for_help(&self) {
        let state = self.state.lock();
        if state.parked > 0 && self.spinning.load(Ordering::SeqCst) == 0 {
            self.work.notify_one();
        }
    }

    fn run_blocks(&self, task: &Task, pieces: std::ops::Range<u64>) -> Result<(), Trap> {
        let Work::Kernel { launch, cooperative, .. } = &task.work else { return Ok(()) };
        let blocks = if *cooperative { 0..launch.blocks() } else { pieces };
        let surroundings = Surroundings { engine: self, task };
        let mut lent = self.lend(launch.scratch_bytes() as u64)?;
        let result = launch.run(blocks, &mut lent.scratch, &surroundings);
        self.scratches.lock().push(lent);
        result
    }

    fn lend(&self, needed: u64) -> Result<Lent, Trap> {
        const LEAST: u64 = 256 << 10;
        let mut scratches = self.scratches.lock();
        if let Some(position) = scratches.iter().position(|lent| lent.block.size() >= needed) {
            return Ok(scratches.swap_remove(position));
        }
        drop(scratches);
        let size = needed.max(LEAST).next_power_of_two();
        let block = self.area.allocate(size).map_err(|error| no_scratch(error, needed))?;
        // SAFETY: the block is mapped, is used by this thread alone, lives as long as the scratch and begins at a page.
        let scratch = unsafe { Scratch::new(block.address() as *mut u8, block.size() as usize) };
        Ok(Lent { block, scratch })
    }

    fn trapped(&self, task: &Task, trap: &Trap) {
        let Work::Kernel { name, .. } = &task.work else { return };
        let error = match trap.kind {
            TrapKind::IllegalAddress => CuError::ILLEGAL_ADDRESS,
            TrapKind::MisalignedAddress => CuError::MISALIGNED_ADDRESS,
            TrapKind::Trap => CuError::LAUNCH_FAILED,
            TrapKind::StackOverflow => CuError::HARDWARE_STACK_ERROR,
            TrapKind::Assert => CuError::ASSERT,
            TrapKind::IllegalInstruction => CuError::ILLEGAL_INSTRUCTION,
            TrapKind::Deadlock => CuError::LAUNCH_TIMEOUT,
            TrapKind::Cancelled => return,
        };
        let address = trap.address.map(|address| format!("{address:#x}"));
        tracing::error!(kernel = %name, block = ?trap.block, address, at = %trap.at, %error, "{}", trap.message);
        if trap.kind == TrapKind::Assert {
            let mut text = trap.message.clone().into_bytes();
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            self.printed.lock().extend_from_slice(&text);
        }
        self.fail(error);
    }

    /// Starts the thread that calls back unless it runs.
    pub(super) fn start_caller(&self, state: &mut State) {
        if state.caller_started {
            return;
        }
        let engine = std::sync::Weak::clone(&self.myself);
        // It holds the session only between callbacks, so that a callback which never returns cannot keep it alive.
        let thread = std::thread::Builder::new().name("soft-gpu-callbacks".to_owned()).spawn(move || {
            block_signals();
            while let Some((key, ticket, sink)) = engine.upgrade().and_then(|engine| engine.next_callback()) {
                sink.reached(ticket);
                let Some(engine) = engine.upgrade() else { return };
                let mut state = engine.state.lock();
                engine.finished(&mut state, key);
            }
        });
        match thread {
            Ok(_) => state.caller_started = true,
            Err(error) => tracing::error!(%error, "cannot start the thread for host callbacks"),
        }
    }

    fn next_callback(&self) -> Option<(u64, cuda::TicketId, Arc<dyn cuda::Sink>)> {
        let mut state = self.state.lock();
        loop {
            if self.quit.load(Ordering::SeqCst) {
                return None;
            }
            if let Some((key, ticket)) = state.callbacks.pop_front() {
                drop(state);
                // CUDA: the text that kernels printed before is visible to the callback.
                self.flush_printed();
                return Some((key, ticket, Arc::clone(&self.sink)));
            }
            self.call.wait(&mut state);
        }
    }
}

fn no_scratch(error: CuError, bytes: u64) -> Trap {
    Trap {
        kind: TrapKind::IllegalInstruction,
        message: format!("{bytes} bytes of memory for a block's threads cannot be had: {error}"),
        block: [0; 3],
        address: None,
        at: ptx::Position::default(),
    }
}

/// The application's signals are for the application's threads; what a fault raises must come through.
fn block_signals() {
    // SAFETY: the set is initialised by sigfillset before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut set);
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT] {
            libc::sigdelset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}
