//! Real programs through the front door: what NVIDIA's compiler, Numba, CuPy, tinygrad and Warp produce, run by
//! `tensor-fusion run` on a vGPU of another process; and what happens when somebody dies, lies or asks too much.
//!
//! `cargo xtask setup` compiles the programs and installs the Python clients; `cargo xtask test` does that and runs
//! everything. A case that cannot run here is shown as ignored, with the reason in its name.

#![expect(clippy::expect_used, reason = "a test harness that cannot make its own folders cannot go on")]

mod e2e {
    pub(crate) mod crashes;
    pub(crate) mod limits;
    pub(crate) mod node;
    pub(crate) mod old_glibc;
    pub(crate) mod peers;
    pub(crate) mod process;
    pub(crate) mod programs;
    pub(crate) mod server;
}

use e2e::{crashes, limits, node, old_glibc, peers, programs, server};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(programs::trials());
    trials.extend(limits::trials());
    trials.extend(crashes::trials());
    trials.extend(peers::trials());
    trials.extend(node::trials());
    trials.extend(old_glibc::trials());
    let outcome = libtest_mimic::run(&arguments, trials);
    // There may be none.
    std::fs::remove_dir_all(server::all_scratch()).ok();
    outcome.exit();
}
