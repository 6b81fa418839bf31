//! `tensor-fusion keeper`, and workers that outlive the agents which asked for them.

use std::{
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Stdio},
};

use hypervisor::{
    keeper::Kept,
    provider::Driver,
    worker::{Launcher, Spec},
};
use types::{Bytes, VgpuId};

use crate::bench::{Bench, alive, both, eventually, kill};

/// A keeper of one's own, killed when dropped.
struct Keeper {
    bench: Bench,
    child: Child,
}

impl Keeper {
    fn start() -> Self {
        let bench = Bench::new();
        let folder = bench.path();
        let words = format!(
            "keeper --socket {} --log-folder {} --node-name n1",
            folder.join("keeper/keeper.sock").display(),
            folder.join("logs").display()
        );
        let child = bench.command(&words).stderr(Stdio::null()).spawn().unwrap();
        let keeper = Self { bench, child };
        eventually("it listens", || keeper.socket().exists().then_some(()));
        keeper
    }

    fn socket(&self) -> PathBuf {
        self.bench.path().join("keeper/keeper.sock")
    }

    fn endpoint(&self) -> PathBuf {
        self.bench.path().join("main.sock")
    }

    fn spec(&self, mib: u64) -> Spec {
        Spec {
            id: VgpuId::numbered(1),
            listen: format!("unix://{}", self.endpoint().display()),
            driver: Driver::Soft,
            gpus: vec![0],
            vram: Bytes::from_mib(mib),
            tflops: None,
            compute_capability: None,
            token: None,
            log: PathBuf::new(),
        }
    }

    /// One life of an agent: it asks for this, and dies without a word. The worker's process.
    fn agent_asks(&self, mib: u64) -> u32 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kept = Kept { socket: self.socket() };
        let running = runtime.block_on(kept.start(self.spec(mib))).unwrap();
        let pid = running.pid;
        // Its tasks go first, as in a process that ends.
        drop(runtime);
        pid
    }

    fn serves(&self) -> bool {
        UnixStream::connect(self.endpoint()).is_ok()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_worker_outlives_its_agents_until_one_ends_it() {
    let keeper = Keeper::start();
    let pid = keeper.agent_asks(64);
    assert!(alive(pid) && keeper.serves());
    assert_eq!(keeper.agent_asks(64), pid, "the next agent gets the same");
    assert!(alive(pid) && keeper.serves());
    let other = keeper.agent_asks(128);
    assert!(other != pid && !alive(pid) && keeper.serves(), "another wish, another worker");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = Kept { socket: keeper.socket() };
    runtime.block_on(kept.keep_only(std::iter::once("unix:///elsewhere".to_owned()).collect())).unwrap();
    assert!(!alive(other) && !keeper.serves());
}

#[test]
fn workers_end_with_their_keeper_however_it_ends() {
    for signal in ["TERM", "KILL"] {
        let mut keeper = Keeper::start();
        let pid = keeper.agent_asks(64);
        kill(signal, keeper.child.id());
        keeper.child.wait().unwrap();
        eventually("the worker has ended", || (!alive(pid)).then_some(()));
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let bench = Bench::new();
    let output = bench.command("keeper --socket /proc/nowhere/keeper.sock --node-name n1").output().unwrap();
    assert!(!output.status.success() && both(&output).contains("`/proc/nowhere` cannot be made"), "{}", both(&output));
}
