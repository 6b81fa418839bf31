//! What generated code and its helpers see while a warp runs.

use super::site::Site;
use super::{Environment, TrapKind};
use crate::Position;

/// Why generated code came back.
pub(super) mod status {
    /// All lanes have exited.
    pub(in crate::exec) const DONE: u32 = 0;
    /// All lanes that have not exited are parked at barriers.
    pub(in crate::exec) const PARKED: u32 = 1;
    /// The warp gives way to others.
    pub(in crate::exec) const YIELDED: u32 = 2;
    /// A trap is recorded in the context.
    pub(in crate::exec) const TRAPPED: u32 = 3;
    /// The whole warp is parked at the barrier with this number less [`AT_BARRIER`], for all threads of the block.
    pub(in crate::exec) const AT_BARRIER: u32 = 16;
}

/// A trap on its way from generated code to the caller.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: TrapKind,
    pub(super) address: Option<u64>,
    pub(super) at: Position,
    pub(super) message: Option<String>,
}

/// The state of one executing thread. Generated code addresses fields by offset; `stack` and `site` are known to
/// assembly in [`super::enter`].
#[repr(C)]
pub(super) struct Context {
    /// Stack pointer to go back to.
    pub(super) stack: u64,
    /// The helper site being executed, or the last one.
    pub(super) site: *const Site,
    /// Where to begin: 0, or a resume point.
    pub(super) resume: u32,
    /// Lanes to run.
    pub(super) mask: u32,
    /// Back edges until the next poll.
    pub(super) fuel: i32,
    pub(super) warp: u32,
    pub(super) warps: u32,
    pub(super) threads: u32,
    pub(super) block: [u32; 3],
    pub(super) grid: [u32; 3],
    pub(super) at: [u32; 3],
    pub(super) cluster: [u32; 3],
    pub(super) dynamic_shared: u32,
    pub(super) grid_id: u64,
    pub(super) params: u64,
    pub(super) param_bytes: u64,
    pub(super) shared: u64,
    pub(super) shared_bytes: u64,
    /// Local memory of the warp's first lane.
    pub(super) local: u64,
    pub(super) local_stride: u64,
    pub(super) local_bytes: u64,
    /// Local memory of all threads of the block.
    pub(super) local_arena: u64,
    pub(super) local_arena_bytes: u64,
    /// Registers of the warp while it waits.
    pub(super) frame: u64,
    pub(super) row_x: [u32; 4],
    pub(super) row_y: [u32; 4],
    pub(super) row_z: [u32; 4],
    pub(super) lane_x: [u32; 32],
    pub(super) lane_y: [u32; 32],
    pub(super) lane_z: [u32; 32],
    /// Result of the last barrier, for `bar.red`.
    pub(super) barrier_result: u32,
    /// Nothing but zeros, which the compiler does not know.
    pub(super) zeros: [u64; 2],
    /// First address that kernels may touch, and the number of bytes.
    pub(super) window_base: u64,
    pub(super) window_size: u64,
    /// What the warp's lanes are parked at; for the block's runner.
    pub(super) arrivals: Vec<Arrival>,
    pub(super) environment: *const (dyn Environment + 'static),
    pub(super) fault: Option<Fault>,
    /// Bytes of the code in use, to tell faults of generated code by their place.
    pub(super) code: (u64, u64),
    pub(super) positions: *const [(u32, Position)],
}

/// Lanes of a warp that have come to a barrier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) id: u32,
    /// Threads to wait for; 0 means all.
    pub(super) threads: u32,
    pub(super) waits: bool,
    pub(super) lanes: u32,
    /// Lanes whose predicate holds.
    pub(super) holds: u32,
    pub(super) reduction: Reduction,
}

/// What a barrier computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reduction {
    None,
    Popc,
    And,
    Or,
}
