//! A keeper and its agents over real sockets, with workers that are only pretended.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::oneshot,
};
use types::{Bytes, VgpuId};

use super::*;
use crate::{
    provider::Driver,
    worker::{Keeping, Launcher, Running, Starting, StatusLine},
};

/// Workers that come up at once and end when told to, or when killed.
#[derive(Debug, Default)]
struct Fake {
    started: AtomicU32,
    /// Those that run, with what kills them.
    running: Arc<Mutex<BTreeSet<u32>>>,
    kill: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Launcher for Fake {
    fn start(&self, spec: Spec) -> Starting {
        if spec.gpus.is_empty() {
            return Box::pin(async { Err("no GPU was given".to_owned()) });
        }
        let pid = self.started.fetch_add(1, Ordering::SeqCst) + 100;
        let (kill, killed) = oneshot::channel();
        self.kill.lock().unwrap().push(kill);
        self.running.lock().unwrap().insert(pid);
        let running = Arc::clone(&self.running);
        Box::pin(async move {
            let (stop, mut stopped) = oneshot::channel();
            let (report, ended) = oneshot::channel();
            let (status, mut questions) = StatusLine::new();
            tokio::spawn(async move {
                let mut killed = killed;
                let reason = loop {
                    tokio::select! {
                        Some(question) = questions.recv() => {
                            drop(question.send(Status { vram_used: spec.vram, processes: Vec::new() }));
                        }
                        Ok(()) = &mut killed => break "killed",
                        _ = &mut stopped => break "stopped",
                    }
                };
                running.lock().unwrap().remove(&pid);
                drop(report.send(reason.to_owned()));
            });
            Ok(Running { pid, connect: spec.listen.clone(), status, stop, ended })
        })
    }

    fn keep_only(&self, _: BTreeSet<String>) -> Keeping {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Bench {
    fake: Arc<Fake>,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("keeper.sock");
    let fake = Arc::new(Fake::default());
    let keeper = Keeper::new(Arc::clone(&fake) as Arc<dyn Launcher>, folder.path().to_owned());
    let at = socket.clone();
    tokio::spawn(async move { serve(keeper, &at).await });
    Bench { fake, socket, _folder: folder }
}

impl Bench {
    fn agent(&self) -> Kept {
        Kept { socket: self.socket.clone() }
    }

    fn running(&self) -> Vec<u32> {
        self.fake.running.lock().unwrap().iter().copied().collect()
    }
}

fn spec(id: u64, listen: &str, gib: u64) -> Spec {
    Spec {
        id: VgpuId::numbered(id),
        listen: listen.to_owned(),
        driver: Driver::Soft,
        gpus: vec![0],
        vram: Bytes::from_gib(gib),
        tflops: None,
        compute_capability: None,
        token: None,
        log: PathBuf::from(format!("agent's-{id}.log")),
    }
}

#[tokio::test]
async fn workers_outlive_their_agent_and_the_next_one_takes_them_up() {
    let bench = bench();
    let first = bench.agent().start(spec(1, "unix:///a", 2)).await.unwrap();
    assert_eq!((first.pid, first.connect.as_str()), (100, "unix:///a"));
    assert_eq!(first.status.ask().await.unwrap().vram_used, Bytes::from_gib(2));
    // An agent that dies: nobody says anything any more. Its tasks are what holds the connection.
    let silent = first;
    std::mem::forget(silent.stop);
    // Its successor calls the vGPU something else.
    let second = bench.agent().start(spec(7, "unix:///a", 2)).await.unwrap();
    assert_eq!(second.pid, 100);
    assert_eq!(second.status.ask().await.unwrap().vram_used, Bytes::from_gib(2));
    drop(second.stop);
    assert_eq!(second.ended.await.unwrap(), "stopped");
    assert_eq!(silent.ended.await.unwrap(), "stopped", "both are told");
    assert!(bench.running().is_empty());
    // What has ended is not taken up.
    assert_eq!(bench.agent().start(spec(8, "unix:///a", 2)).await.unwrap().pid, 101);
}

#[tokio::test]
async fn an_agent_whose_connection_breaks_leaves_its_worker_running() {
    let bench = bench();
    let mut stream = UnixStream::connect(&bench.socket).await;
    while stream.is_err() {
        tokio::task::yield_now().await;
        stream = UnixStream::connect(&bench.socket).await;
    }
    let (reader, mut writer) = stream.unwrap().into_split();
    let ask = Ask::Start(spec(1, "unix:///a", 2));
    writer.write_all(&line(&Hello { language: LANGUAGE, ask }).unwrap()).await.unwrap();
    let mut lines = BufReader::new(reader).lines();
    assert!(lines.next_line().await.unwrap().unwrap().contains("started"));
    drop((writer, lines));
    let again = bench.agent().start(spec(2, "unix:///a", 2)).await.unwrap();
    assert_eq!((again.pid, bench.running()), (100, vec![100]));
}

#[tokio::test]
async fn another_wish_for_the_same_place_ends_what_was_there() {
    let bench = bench();
    let small = bench.agent().start(spec(1, "unix:///a", 2)).await.unwrap();
    let large = bench.agent().start(spec(1, "unix:///a", 4)).await.unwrap();
    assert_eq!((large.pid, bench.running()), (101, vec![101]));
    assert_eq!(small.ended.await.unwrap(), "stopped");
}

#[tokio::test]
async fn many_at_once_for_one_place_share_one_worker_and_other_places_have_their_own() {
    let bench = bench();
    let agent = bench.agent();
    let same = (0..8).map(|id| agent.start(spec(id, "unix:///a", 2)));
    let other = (8..16).map(|id| agent.start(spec(id, &format!("unix:///{id}"), 2)));
    let started = futures::future::join_all(same.chain(other)).await;
    let pids: BTreeSet<u32> = started.iter().map(|running| running.as_ref().unwrap().pid).collect();
    assert_eq!((pids.len(), bench.running().len()), (9, 9));
}

#[tokio::test]
async fn workers_that_nobody_wants_end() {
    let bench = bench();
    let kept = bench.agent().start(spec(1, "unix:///a", 2)).await.unwrap();
    let gone = bench.agent().start(spec(2, "unix:///b", 2)).await.unwrap();
    bench.agent().keep_only(BTreeSet::from(["unix:///a".to_owned()])).await.unwrap();
    assert_eq!(bench.running(), [kept.pid]);
    assert_eq!(gone.ended.await.unwrap(), "stopped");
}

#[tokio::test]
async fn a_worker_that_dies_and_one_that_cannot_start_are_told() {
    let bench = bench();
    let running = bench.agent().start(spec(1, "unix:///a", 2)).await.unwrap();
    bench.fake.kill.lock().unwrap().pop().unwrap().send(()).unwrap();
    assert_eq!(running.ended.await.unwrap(), "killed");
    let error = bench.agent().start(Spec { gpus: Vec::new(), ..spec(2, "unix:///b", 1) }).await.unwrap_err();
    assert!(error.ends_with("keeper.sock`: no GPU was given"), "{error}");
}

#[tokio::test]
async fn who_speaks_otherwise_is_told_so_and_hurts_nobody() {
    let bench = bench();
    let running = bench.agent().start(spec(1, "unix:///a", 2)).await.unwrap();
    for (said, answer) in [
        (r#"{"language":2,"ask":{"pause":1}}"#, "speaks language 1, the agent 2: delete the keeper's pod"),
        (r#"{"language":1,"ask":{"pause":1}}"#, "does not understand"),
        ("junk", "does not understand"),
        (r#"{"language":1,"ask":{"start":{"id":7}}}"#, "does not understand"),
    ] {
        let (reader, mut writer) = UnixStream::connect(&bench.socket).await.unwrap().into_split();
        writer.write_all(format!("{said}\n").as_bytes()).await.unwrap();
        let told = BufReader::new(reader).lines().next_line().await.unwrap().unwrap();
        assert!(told.contains("refused") && told.contains(answer), "{said}: {told}");
    }
    assert_eq!(running.status.ask().await.unwrap().vram_used, Bytes::from_gib(2));
}
