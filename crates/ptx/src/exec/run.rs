//! Executes blocks: every warp up to its next barrier, in turn, until all are done.

use super::context::status::{self, AT_BARRIER};
use super::context::{Arrival, Context, Reduction};
use super::kinds::RowClass;
use super::place::Code;
use super::{Environment, LaunchShape, Scratch, Trap, TrapKind, Window, enter, helpers};
use crate::Position;
use std::ops::Range;
use std::sync::Arc;

/// Where the threads of a warp are, and which exist.
#[derive(Clone, Debug)]
pub(super) struct WarpShape {
    mask: u32,
    rows: [[u32; 4]; 3],
    /// Only for irregular shapes.
    lanes: Option<Box<[[u32; 32]; 3]>>,
}

/// The warps of a block.
pub(super) fn warp_shapes(block: [u32; 3], class: RowClass) -> Vec<WarpShape> {
    let threads = block.iter().product::<u32>();
    let place = |thread: u32| [thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]];
    (0..threads.div_ceil(32))
        .map(|warp| {
            let first = warp * 32;
            let count = (threads - first).min(32);
            let mut rows = [[0; 4]; 3];
            for row in 0..class.rows() {
                let at = place(first + (row * class.lanes()) as u32);
                (0..3).for_each(|axis| rows[axis][row] = at[axis]);
            }
            let lanes = (class == RowClass::Irregular).then(|| {
                let mut all = Box::new([[0; 32]; 3]);
                for lane in 0..32 {
                    let at = place(first + lane as u32);
                    (0..3).for_each(|axis| all[axis][lane] = at[axis]);
                }
                all
            });
            WarpShape { mask: if count == 32 { u32::MAX } else { (1 << count) - 1 }, rows, lanes }
        })
        .collect()
}

/// Sizes of what a resident block needs, and where it lies in the scratch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) params: usize,
    pub(super) shared: usize,
    pub(super) local: usize,
    pub(super) frames: usize,
    /// Where each of them begins: a multiple of this power of two.
    pub(super) align: usize,
}

impl Layout {
    pub(super) fn block(&self) -> usize {
        self.local_from() + self.local.next_multiple_of(self.align) + self.frames.next_multiple_of(self.align)
    }

    /// Where the local memory of a block's threads begins, counted from its shared memory.
    fn local_from(&self) -> usize {
        self.shared.next_multiple_of(self.align)
    }

    pub(super) fn total(&self, resident: usize) -> usize {
        self.params.next_multiple_of(self.align) + resident * self.block() + self.align
    }
}

/// Everything that running a launch needs.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) code: Arc<Code>,
    pub(super) shape: LaunchShape,
    pub(super) params: Vec<u8>,
    pub(super) grid_id: u64,
    pub(super) warps: Arc<Vec<WarpShape>>,
    pub(super) layout: Layout,
    pub(super) local_bytes: u64,
    pub(super) local_stride: u64,
    pub(super) stack_bytes: u64,
    pub(super) shared_bytes: u64,
    pub(super) window: Window,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ready,
    /// Parked at barriers: one bit each.
    Waiting(u32),
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Warp {
    state: State,
    resume: u32,
    result: u32,
}

#[derive(Clone, Copy, Debug)]
struct Barrier {
    threads: u32,
    arrived: u32,
    waiting: u32,
    reduction: Reduction,
    count: u32,
    all: bool,
    any: bool,
}

const OPEN: Barrier =
    Barrier { threads: 0, arrived: 0, waiting: 0, reduction: Reduction::None, count: 0, all: true, any: false };

const FRESH: Warp = Warp { state: State::Ready, resume: 0, result: 0 };

/// A block that has begun.
struct Resident {
    at: [u32; 3],
    memory: u64,
    warps: Vec<Warp>,
    barriers: [Barrier; 16],
    /// Barriers that somebody has come to, and warps that are done: one bit each.
    touched: u32,
    done: u32,
    left: usize,
}

impl Bound {
    fn place(&self, index: u64) -> [u32; 3] {
        let [x, y, _] = self.shape.grid.map(u64::from);
        [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32]
    }

    fn context(&self, scratch: &Scratch, environment: &dyn Environment) -> Context {
        let environment: *const (dyn Environment + '_) = environment;
        // SAFETY: only the lifetime changes; the context lives no longer than the run that borrows the environment.
        let environment: *const (dyn Environment + 'static) = unsafe { std::mem::transmute(environment) };
        let entry = self.code.entry() as u64;
        Context {
            stack: 0,
            site: std::ptr::null(),
            resume: 0,
            mask: 0,
            fuel: helpers::FUEL,
            warp: 0,
            warps: self.warps.len() as u32,
            threads: self.shape.block.iter().product(),
            block: self.shape.block,
            grid: self.shape.grid,
            at: [0; 3],
            cluster: self.shape.cluster.map(|c| c.max(1)),
            dynamic_shared: self.shape.shared_bytes,
            grid_id: self.grid_id,
            params: scratch.memory as u64,
            param_bytes: self.params.len() as u64,
            shared: 0,
            shared_bytes: self.shared_bytes,
            local: 0,
            local_stride: self.local_stride,
            local_bytes: self.local_bytes,
            local_arena: 0,
            local_arena_bytes: self.layout.local as u64,
            frame: 0,
            row_x: [0; 4],
            row_y: [0; 4],
            row_z: [0; 4],
            lane_x: [0; 32],
            lane_y: [0; 32],
            lane_z: [0; 32],
            barrier_result: 0,
            zeros: [0; 2],
            window_base: self.window.base,
            window_size: self.window.size,
            arrivals: Vec::new(),
            environment,
            fault: None,
            code: (entry, entry + self.code.length as u64),
            positions: self.code.positions.as_slice(),
        }
    }

    /// Runs a range of blocks.
    pub(super) fn run(
        &self,
        blocks: Range<u64>,
        scratch: &mut Scratch,
        environment: &dyn Environment,
    ) -> Result<(), Trap> {
        let resident = if self.shape.cooperative { (blocks.end - blocks.start) as usize } else { 1 };
        if scratch.bytes < self.layout.total(resident) {
            return Err(Trap {
                kind: TrapKind::IllegalInstruction,
                message: format!("{} bytes of scratch are too few", scratch.bytes),
                block: [0; 3],
                address: None,
                at: Position::default(),
            });
        }
        // SAFETY: the scratch is at least as large as the layout.
        unsafe { std::ptr::copy_nonoverlapping(self.params.as_ptr(), scratch.memory, self.params.len()) };
        let memory = (scratch.memory as u64 + self.layout.params as u64).next_multiple_of(self.layout.align as u64);
        let mut context = self.context(scratch, environment);
        if self.shape.cooperative {
            let mut all: Vec<Resident> = blocks
                .clone()
                .map(|i| self.begin(self.place(i), memory + (i - blocks.start) * self.layout.block() as u64))
                .collect();
            return self.interleave(&mut context, &mut all);
        }
        let mut resident = [self.begin([0; 3], memory)];
        for (count, index) in blocks.enumerate() {
            if count & 63 == 63 && environment.cancelled() {
                return Err(self.cancelled(self.place(index)));
            }
            let at = self.place(index);
            if !self.code.has_barriers {
                self.enter_block(&mut context, at, memory);
                for warp in 0..self.warps.len() {
                    self.enter_warp(&mut context, warp, memory);
                    context.resume = 0;
                    // SAFETY: the context is complete, and matches the code.
                    if unsafe { enter::run_warp(&mut context, self.code.entry()) } == status::TRAPPED {
                        return Err(self.trap(&mut context));
                    }
                }
            } else {
                resident[0].restart(at);
                self.interleave(&mut context, &mut resident)?;
            }
        }
        Ok(())
    }

    fn cancelled(&self, block: [u32; 3]) -> Trap {
        Trap {
            kind: TrapKind::Cancelled,
            message: "the launch was cancelled".into(),
            block,
            address: None,
            at: Position::default(),
        }
    }

    fn begin(&self, at: [u32; 3], memory: u64) -> Resident {
        let warps = vec![FRESH; self.warps.len()];
        Resident { at, memory, left: warps.len(), warps, barriers: [OPEN; 16], touched: 0, done: 0 }
    }

    fn enter_block(&self, context: &mut Context, at: [u32; 3], memory: u64) {
        context.at = at;
        context.shared = memory;
        context.local_arena = memory + self.layout.local_from() as u64;
    }

    fn enter_warp(&self, context: &mut Context, warp: usize, memory: u64) {
        let shape = &self.warps[warp];
        context.warp = warp as u32;
        context.mask = shape.mask;
        [context.row_x, context.row_y, context.row_z] = shape.rows;
        if let Some(lanes) = &shape.lanes {
            [context.lane_x, context.lane_y, context.lane_z] = **lanes;
        }
        context.local = context.local_arena + warp as u64 * 32 * self.local_stride;
        let frames = memory + (self.layout.local_from() + self.layout.local.next_multiple_of(self.layout.align)) as u64;
        context.frame = frames + (warp * self.code.frame_bytes) as u64;
    }

    /// Runs resident blocks in turn until all are done.
    fn interleave(&self, context: &mut Context, blocks: &mut [Resident]) -> Result<(), Trap> {
        let mut left = blocks.len();
        while left > 0 {
            let mut moved = false;
            for block in &mut *blocks {
                if block.left == 0 {
                    continue;
                }
                moved |= self.turn(context, block)?;
                if block.left == 0 {
                    left -= 1;
                }
            }
            if !moved && left > 0 {
                let at = blocks.iter().find(|b| b.left > 0).map_or([0; 3], |b| b.at);
                return Err(Trap {
                    kind: TrapKind::Deadlock,
                    message: "threads wait at a barrier that others will never reach".into(),
                    block: at,
                    address: None,
                    at: Position::default(),
                });
            }
        }
        Ok(())
    }

    /// Runs every ready warp of a block once. Whether any was.
    fn turn(&self, context: &mut Context, block: &mut Resident) -> Result<bool, Trap> {
        let mut moved = false;
        // Warps that have come to one barrier as a whole. When all have, it opens without further ado.
        let mut together = Together { status: 0, warps: 0 };
        self.enter_block(context, block.at, block.memory);
        for i in 0..block.warps.len() {
            if block.warps[i].state != State::Ready {
                continue;
            }
            moved = true;
            self.enter_warp(context, i, block.memory);
            context.resume = block.warps[i].resume;
            context.barrier_result = block.warps[i].result;
            // SAFETY: the context is complete, and matches the code.
            let status = unsafe { enter::run_warp(context, self.code.entry()) };
            if status == status::TRAPPED {
                return Err(self.trap(context));
            }
            block.warps[i].resume = context.resume;
            if status >= AT_BARRIER && together.takes(status) && context.arrivals.is_empty() && block.touched == 0 {
                together.warps |= 1 << i;
                continue;
            }
            block.arrive_together(&mut together);
            let mut waiting = 0;
            for arrival in context.arrivals.drain(..) {
                waiting |= block.arrive(i, arrival);
            }
            match status {
                status::DONE => {
                    block.warps[i].state = State::Done;
                    block.done |= 1 << i;
                    block.left -= 1;
                }
                AT_BARRIER.. => {
                    block.warps[i].state = State::Waiting(waiting | block.arrive_whole(i, status - AT_BARRIER))
                }
                // Lanes that only gave way to others of their warp wait for nothing.
                status::PARKED if waiting != 0 => block.warps[i].state = State::Waiting(waiting),
                _ => {}
            }
            if block.touched != 0 {
                block.open();
            }
        }
        if together.warps | block.done != block.all() {
            block.arrive_together(&mut together);
        }
        Ok(moved)
    }

    fn trap(&self, context: &mut Context) -> Trap {
        let Some(fault) = context.fault.take() else {
            return self.cancelled(context.at);
        };
        let place = fault.at;
        let message = match (&fault.message, fault.kind, fault.address) {
            (Some(message), ..) => message.clone(),
            (_, TrapKind::IllegalAddress, Some(a)) => format!("illegal access to address {a:#x} at {place}"),
            (_, TrapKind::MisalignedAddress, Some(a)) => format!("misaligned access to address {a:#x} at {place}"),
            (_, TrapKind::Trap, _) => format!("trap at {place}"),
            (_, TrapKind::StackOverflow, _) => {
                format!("the stack of a thread ({} bytes) is too small for the call at {place}", self.stack_bytes)
            }
            (_, TrapKind::Cancelled, _) => "the launch was cancelled".into(),
            (_, kind, _) => format!("{kind:?} at {place}"),
        };
        Trap { kind: fault.kind, message, block: context.at, address: fault.address, at: fault.at }
    }
}

/// Warps that have come to a barrier as a whole, with this status.
struct Together {
    status: u32,
    warps: u32,
}

impl Together {
    /// Whether one more warp comes to the same barrier.
    fn takes(&mut self, status: u32) -> bool {
        if self.warps == 0 {
            self.status = status;
        }
        self.status == status
    }
}

impl Resident {
    /// The warps of the block, one bit each.
    fn all(&self) -> u32 {
        if self.warps.len() == 32 { u32::MAX } else { (1 << self.warps.len()) - 1 }
    }

    /// Lets warps wait that have come to a barrier together, since others have not.
    fn arrive_together(&mut self, together: &mut Together) {
        let mut left = std::mem::take(&mut together.warps);
        while left != 0 {
            let warp = left.trailing_zeros() as usize;
            left &= left - 1;
            self.warps[warp].state = State::Waiting(self.arrive_whole(warp, together.status - AT_BARRIER));
        }
    }

    /// Notes lanes that have come to a barrier: the barriers they wait at, one bit each.
    fn arrive(&mut self, warp: usize, arrival: Arrival) -> u32 {
        let id = arrival.id as usize & 15;
        let barrier = &mut self.barriers[id];
        self.touched |= 1 << id;
        barrier.arrived |= 1 << warp;
        barrier.threads = barrier.threads.max(arrival.threads);
        barrier.count += arrival.holds.count_ones();
        barrier.all &= arrival.holds == arrival.lanes;
        barrier.any |= arrival.holds != 0;
        if arrival.reduction != Reduction::None {
            barrier.reduction = arrival.reduction;
        }
        if !arrival.waits {
            return 0;
        }
        barrier.waiting |= 1 << warp;
        1 << id
    }

    /// Notes a whole warp that waits at a barrier for all others: the barrier, as a bit.
    fn arrive_whole(&mut self, warp: usize, id: u32) -> u32 {
        let barrier = &mut self.barriers[id as usize & 15];
        self.touched |= 1 << id;
        barrier.arrived |= 1 << warp;
        barrier.waiting |= 1 << warp;
        barrier.all = false;
        1 << id
    }

    /// Opens the barriers that all have come to.
    fn open(&mut self) {
        let all = self.all();
        let mut touched = self.touched;
        while touched != 0 {
            let id = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            let barrier = self.barriers[id];
            let complete = if barrier.threads == 0 {
                barrier.arrived | self.done == all
            } else {
                32 * barrier.arrived.count_ones() >= barrier.threads
            };
            if !complete {
                continue;
            }
            let result = match barrier.reduction {
                Reduction::None => None,
                Reduction::Popc => Some(barrier.count),
                Reduction::And => Some(u32::from(barrier.all)),
                Reduction::Or => Some(u32::from(barrier.any)),
            };
            for (_, warp) in self.warps.iter_mut().enumerate().filter(|(i, _)| barrier.waiting >> i & 1 == 1) {
                warp.result = result.unwrap_or(warp.result);
                if let State::Waiting(ids) = warp.state {
                    let ids = ids & !(1 << id);
                    warp.state = if ids == 0 { State::Ready } else { State::Waiting(ids) };
                }
            }
            self.barriers[id] = OPEN;
            self.touched &= !(1 << id);
        }
    }

    /// Begins another block in the same place.
    fn restart(&mut self, at: [u32; 3]) {
        self.at = at;
        self.warps.fill(FRESH);
        self.left = self.warps.len();
        self.done = 0;
        if self.touched != 0 {
            self.barriers = [OPEN; 16];
            self.touched = 0;
        }
    }
}
