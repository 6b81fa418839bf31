//! The node with workers that are only pretended, so that every order of events can be had at once.

use std::sync::atomic::{AtomicU32, Ordering};

use types::{Capability, Vendor};

use super::*;
use crate::{
    provider::{Driver, Found},
    worker::{Keeping, Running, Starting},
};

/// Workers that come up at once, or not at all, and end when told to.
#[derive(Debug, Default)]
struct Fake {
    refuses: bool,
    slow: Option<Arc<tokio::sync::Notify>>,
    started: AtomicU32,
    kill: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Launcher for Fake {
    fn start(&self, spec: Spec) -> Starting {
        let pid = self.started.fetch_add(1, Ordering::SeqCst) + 100;
        if self.refuses {
            return Box::pin(async { Err("no".to_owned()) });
        }
        let (kill, killed) = oneshot::channel();
        self.kill.lock().unwrap().push(kill);
        let slow = self.slow.clone();
        Box::pin(async move {
            if let Some(slow) = slow {
                slow.notified().await;
            }
            let (stop, stopped) = oneshot::channel();
            let (report, ended) = oneshot::channel();
            let (status, mut questions) = StatusLine::new();
            let used = spec.vram;
            tokio::spawn(async move {
                let mut killed = killed;
                let mut stopped = stopped;
                let reason = loop {
                    tokio::select! {
                        Some(question) = questions.recv() => {
                            drop(question.send(Status { vram_used: used, processes: Vec::new() }));
                        }
                        Ok(()) = &mut killed => break "killed",
                        _ = &mut stopped => break "stopped",
                    }
                };
                drop(report.send(reason.to_owned()));
            });
            Ok(Running { pid, connect: format!("tcp://127.0.0.1:{pid}"), status, stop, ended })
        })
    }

    fn keep_only(&self, _: BTreeSet<String>) -> Keeping {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Bench {
    node: Arc<Node>,
    fake: Arc<Fake>,
    _folder: tempfile::TempDir,
}

fn bench(fake: Fake) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let fake = Arc::new(fake);
    let found = Found {
        name: "a card".to_owned(),
        uuid: "GPU-0".to_owned(),
        vram: Bytes::from_gib(8),
        tflops: Some(Tflops::new(20)),
        compute_capability: Capability { major: 12, minor: 0 },
        numa_node: None,
    };
    let parts = Parts {
        devices: Devices { vendor: Vendor::Software, driver: Driver::Soft, found: vec![found] },
        launcher: Arc::clone(&fake) as Arc<dyn Launcher>,
        clock: Arc::new(|| 42),
        listen: "tcp://127.0.0.1:0".to_owned(),
        folder: folder.path().to_owned(),
    };
    Bench { node: Node::new(parts).unwrap(), fake, _folder: folder }
}

fn ask(vram: &str) -> Request {
    Request { vram: Some(vram.parse().unwrap()), program: "a program".to_owned(), pid: 7, ..Request::default() }
}

async fn create(node: &Arc<Node>, request: Request) -> Result<Lease, NodeError> {
    node.hold(request).await.map(Held::keep)
}

fn free(node: &Node) -> Bytes {
    node.gpus()[0].vram_free()
}

#[tokio::test]
async fn a_vgpu_takes_room_and_gives_it_back() {
    let Bench { node, .. } = &bench(Fake::default());
    let lease = create(node, ask("6GiB")).await.unwrap();
    assert_eq!((lease.id.as_str(), lease.connect.as_str()), ("vgpu-1", "tcp://127.0.0.1:100"));
    assert_eq!(free(node), Bytes::from_gib(2));
    let vgpus = node.vgpus().await;
    assert_eq!((vgpus[0].since, vgpus[0].pid, vgpus[0].vram_used), (42, 7, Bytes::from_gib(6)));
    assert_eq!(
        create(node, ask("3GiB")).await.unwrap_err().to_string(),
        "no GPU has 3 GiB free: GPU 0 has 2 GiB of 8 GiB"
    );
    node.remove(&lease.id).await.unwrap();
    assert_eq!(free(node), Bytes::from_gib(8));
    assert!(node.vgpus().await.is_empty());
    assert!(matches!(node.remove(&lease.id).await, Err(NodeError::Unknown { .. })));
    assert_eq!(node.counters(), Counters { granted: 1, refused: 1, died: 0 });
}

#[tokio::test]
async fn a_killed_worker_is_reported_and_its_memory_is_free() {
    let Bench { node, fake, .. } = &bench(Fake::default());
    let mut held = node.hold(ask("6GiB")).await.unwrap();
    fake.kill.lock().unwrap().pop().unwrap().send(()).unwrap();
    let event = held.events.recv().await.unwrap();
    assert_eq!(event, Event::Lost { id: held.lease.id.clone(), reason: "killed".to_owned() });
    assert_eq!(free(node), Bytes::from_gib(8));
    let failed = &node.vgpus().await[0];
    assert_eq!((failed.state, failed.failure.as_deref()), (VgpuState::Failed, Some("killed")));
    drop(held);
    assert!(node.vgpus().await.is_empty());
    assert_eq!(node.counters().died, 1);
}

#[tokio::test]
async fn a_holder_that_goes_away_gives_everything_back() {
    let Bench { node, .. } = &bench(Fake::default());
    let held = node.hold(ask("6GiB")).await.unwrap();
    let mut count = node.count();
    drop(held);
    count.wait_for(|count| *count == 0).await.unwrap();
    assert_eq!(free(node), Bytes::from_gib(8));
}

#[tokio::test]
async fn a_worker_that_does_not_come_up_leaves_no_trace() {
    let Bench { node, .. } = &bench(Fake { refuses: true, ..Fake::default() });
    let error = create(node, ask("6GiB")).await.unwrap_err();
    assert_eq!(error.to_string(), "`vgpu-1` cannot be started: no");
    assert_eq!(free(node), Bytes::from_gib(8));
    assert!(node.vgpus().await.is_empty());
}

#[tokio::test]
async fn room_is_taken_before_the_worker_is_up_and_given_back_when_it_is_taken_away_meanwhile() {
    let slow = Arc::new(tokio::sync::Notify::new());
    let Bench { node, .. } = &bench(Fake { slow: Some(Arc::clone(&slow)), ..Fake::default() });
    let creating = tokio::spawn({
        let node = Arc::clone(node);
        async move { create(&node, ask("6GiB")).await }
    });
    node.count().wait_for(|count| *count == 1).await.unwrap();
    assert_eq!(free(node), Bytes::from_gib(2));
    assert_eq!(node.vgpus().await[0].state, VgpuState::Starting);
    let removing = tokio::spawn({
        let node = Arc::clone(node);
        async move { node.remove(&VgpuId::numbered(1)).await }
    });
    tokio::task::yield_now().await;
    slow.notify_one();
    assert!(matches!(creating.await.unwrap(), Err(NodeError::TakenAway { .. })));
    removing.await.unwrap().unwrap();
    assert_eq!(free(node), Bytes::from_gib(8));
}

#[tokio::test]
async fn names_are_never_given_twice_even_by_a_later_process() {
    let Bench { node, _folder: folder, .. } = &bench(Fake::default());
    create(node, ask("1GiB")).await.unwrap();
    let later = Node::new(Parts { folder: folder.path().to_owned(), ..node.parts.clone() }).unwrap();
    assert!(later.vgpus().await.is_empty());
    assert_eq!(create(&later, ask("1GiB")).await.unwrap().id.as_str(), "vgpu-2");
}

#[tokio::test]
async fn removing_all_leaves_nothing() {
    let Bench { node, .. } = &bench(Fake::default());
    for _ in 0..3 {
        create(node, ask("1GiB")).await.unwrap();
    }
    node.remove_all().await;
    assert_eq!(free(node), Bytes::from_gib(8));
}
