//! Pods served by workers that are only pretended: a worker is a file where it should listen.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::oneshot;
use types::{Bytes, Capability, Tflops, Vendor};

use super::*;
use crate::{
    kubernetes::plan::tests::pod,
    node,
    provider::{Devices, Driver, Found},
    worker::{self, Launcher, Running, Spec, Starting, StatusLine},
};

#[derive(Debug, Default)]
struct Fake {
    refuses: AtomicBool,
    running: Mutex<Vec<(Spec, oneshot::Sender<()>)>>,
}

impl Launcher for Fake {
    fn start(&self, spec: Spec) -> Starting {
        if self.refuses.load(Ordering::SeqCst) {
            return Box::pin(async { Err("no".to_owned()) });
        }
        fs::write(spec.listen.strip_prefix("unix://").unwrap(), "").unwrap();
        let (kill, killed) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let (report, ended) = oneshot::channel();
        let (status, questions) = StatusLine::new();
        tokio::spawn(async move {
            let _questions = questions;
            let reason = tokio::select! {
                _ = killed => "killed",
                _ = stopped => "stopped",
            };
            drop(report.send(reason.to_owned()));
        });
        let connect = spec.listen.clone();
        self.running.lock().unwrap().push((spec, kill));
        Box::pin(async move { Ok(Running { pid: 1, connect, status, stop, ended }) })
    }

    fn keep_only(&self, _: BTreeSet<String>) -> worker::Keeping {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Bench {
    server: Server,
    node: Arc<Node>,
    fake: Arc<Fake>,
    notices: mpsc::UnboundedReceiver<Notice>,
    sockets: PathBuf,
    _folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake::default());
    let found = |uuid: &str| Found {
        name: "a card".to_owned(),
        uuid: uuid.to_owned(),
        vram: Bytes::from_gib(8),
        tflops: Some(Tflops::new(20)),
        compute_capability: Capability { major: 12, minor: 0 },
        numa_node: None,
    };
    let found = vec![found("GPU-A"), found("GPU-B")];
    let parts = node::Parts {
        devices: Devices { vendor: Vendor::Software, driver: Driver::Soft, found },
        launcher: Arc::clone(&fake) as Arc<dyn Launcher>,
        clock: Arc::new(|| 42),
        listen: "tcp://127.0.0.1:0".to_owned(),
        folder: folder.path().to_owned(),
    };
    let node = Node::new(parts).unwrap();
    // The plans of these tests look for their sockets here.
    let sockets = folder.path().join("pods");
    let (sender, notices) = mpsc::unbounded_channel();
    let server = Server::new(Arc::clone(&node), "n1".to_owned(), sockets.clone(), sender);
    Bench { server, node, fake, notices, sockets, _folder: folder }
}

impl Bench {
    fn see(&mut self, uid: &str, allocation: &str) {
        let mut pod = pod(uid, allocation);
        let volumes = pod.spec.as_mut().unwrap().volumes.as_mut().unwrap();
        volumes[0].host_path.as_mut().unwrap().path = self.sockets.display().to_string();
        self.server.see(&pod);
    }

    fn has(&self, file: &str) -> bool {
        self.sockets.join(file).exists()
    }

    async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}");
            tokio::task::yield_now().await;
        }
    }

    fn free(&self) -> Bytes {
        self.node.gpus()[0].vram_free()
    }
}

fn shares(container: &str, vram: &str) -> String {
    format!(r#"{{"node":"n1","containers":{{"{container}":[{{"gpu":"gpu-a","tflops":10,"vram":"{vram}"}}]}}}}"#)
}

#[tokio::test]
async fn a_pod_finds_sockets_that_anybody_may_use_and_everything_is_free_when_it_is_gone() {
    let mut bench = bench();
    bench.see("u-1", &shares("main", "6GiB"));
    bench.eventually("it is ready", |bench| bench.has("u-1/ready")).await;
    let mode = |file: &str| fs::metadata(bench.sockets.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("u-1"), mode("u-1/main.sock")), (0o755, 0o666));
    assert_eq!(bench.free(), Bytes::from_gib(2));
    {
        let running = bench.fake.running.lock().unwrap();
        let spec = &running[0].0;
        assert_eq!((&spec.gpus, spec.tflops, spec.token.is_none()), (&vec![0], Some(Tflops::new(10)), true));
    }
    // Seeing it again changes nothing.
    bench.see("u-1", &shares("main", "6GiB"));
    assert_eq!(bench.fake.running.lock().unwrap().len(), 1);
    bench.server.gone("u-1");
    bench.eventually("its folder goes", |bench| !bench.has("u-1")).await;
    assert_eq!(bench.free(), Bytes::from_gib(8));
}

#[tokio::test]
async fn a_worker_that_dies_is_told_on_the_pod_and_started_again() {
    let mut bench = bench();
    bench.see("u-1", &shares("main", "6GiB"));
    bench.eventually("it is ready", |bench| bench.has("u-1/ready")).await;
    bench.fake.running.lock().unwrap().pop().unwrap().1.send(()).unwrap();
    let notice = bench.notices.recv().await.unwrap();
    assert_eq!((notice.reason, notice.pod.name.as_str()), ("VgpuLost", "a-pod"));
    assert_eq!(notice.text, "vGPU of container `main`: killed; it is started again in 0.5 s");
    bench.eventually("another worker is up", |bench| bench.fake.running.lock().unwrap().len() == 1).await;
    assert_eq!(bench.free(), Bytes::from_gib(2));
}

#[tokio::test]
async fn a_worker_that_does_not_come_up_is_told_and_tried_again_until_the_pod_is_gone() {
    let mut bench = bench();
    bench.fake.refuses.store(true, Ordering::SeqCst);
    bench.see("u-1", &shares("main", "6GiB"));
    let notice = bench.notices.recv().await.unwrap();
    assert_eq!(notice.reason, "VgpuFailed");
    assert!(notice.text.contains("cannot be started: no"), "{}", notice.text);
    assert!(!bench.has("u-1/ready"));
    bench.fake.refuses.store(false, Ordering::SeqCst);
    bench.eventually("it is ready", |bench| bench.has("u-1/ready")).await;
    bench.fake.refuses.store(true, Ordering::SeqCst);
    bench.see("u-2", &shares("main", "1GiB"));
    bench.notices.recv().await.unwrap();
    bench.server.gone("u-2");
    bench.eventually("its folder goes", |bench| !bench.has("u-2")).await;
}

#[tokio::test]
async fn another_allocation_replaces_the_first() {
    let mut bench = bench();
    bench.see("u-1", &shares("main", "6GiB"));
    bench.eventually("it is ready", |bench| bench.has("u-1/ready")).await;
    bench.see("u-1", &shares("side", "3GiB"));
    bench
        .eventually("the other container has its own", |bench| bench.has("u-1/side.sock") && bench.has("u-1/ready"))
        .await;
    assert_eq!(bench.free(), Bytes::from_gib(5));
    assert!(!bench.has("u-1/main.sock"));
}

#[tokio::test]
async fn what_the_allocator_decided_is_served_even_when_memory_is_sold_twice() {
    let mut bench = bench();
    bench.see("u-1", &shares("main", "6GiB"));
    bench.see("u-2", &shares("main", "6GiB"));
    bench.eventually("both are ready", |bench| bench.has("u-1/ready") && bench.has("u-2/ready")).await;
    assert_eq!(bench.free(), Bytes::ZERO);
}

#[tokio::test]
async fn a_new_agent_serves_living_pods_in_their_folders_and_removes_those_of_the_others() {
    let mut bench = bench();
    for uid in ["u-1", "u-2"] {
        fs::create_dir_all(bench.sockets.join(uid)).unwrap();
        fs::write(bench.sockets.join(uid).join("ready"), "").unwrap();
        fs::write(bench.sockets.join(uid).join("main.sock"), "").unwrap();
    }
    let inode = |bench: &Bench| std::os::unix::fs::MetadataExt::ino(&fs::metadata(bench.sockets.join("u-1")).unwrap());
    let before = inode(&bench);
    bench.see("u-1", &shares("main", "6GiB"));
    bench.server.keep_only(&BTreeSet::from(["u-1".to_owned()])).await;
    assert!(!bench.has("u-2"));
    bench
        .eventually("it is served", |bench| bench.fake.running.lock().unwrap().len() == 1 && bench.has("u-1/ready"))
        .await;
    assert_eq!(inode(&bench), before, "containers have this folder mounted");
}

#[tokio::test]
async fn an_allocation_that_is_wrong_is_told_and_takes_nothing() {
    let mut bench = bench();
    bench.see("u-1", "junk");
    let notice = bench.notices.recv().await.unwrap();
    assert_eq!(notice.reason, "VgpuNotServed");
    assert_eq!(bench.server.pods(), 0);
    bench.see("u-2", &shares("main", "1GiB").replace("gpu-a", "gpu-x"));
    let notice = bench.notices.recv().await.unwrap();
    assert!(notice.text.contains("there is no GPU `gpu-x` on this node"), "{}", notice.text);
}
