//! The keeper's side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::{Ask, Hello, LANGUAGE, Told, Word, line};
use crate::worker::{Launcher, Running, Spec, StatusLine};

/// Holds workers.
#[derive(Debug)]
pub struct Keeper {
    launcher: Arc<dyn Launcher>,
    /// Where the workers' messages go.
    logs: PathBuf,
    /// Number of workers that were started.
    started: AtomicU64,
    /// By where workers listen.
    places: Mutex<BTreeMap<String, Arc<Place>>>,
}

/// Where one worker listens. Held while it is started: two agents that ask for the same must not get two.
type Place = tokio::sync::Mutex<Option<Worker>>;

#[derive(Clone, Debug)]
struct Worker {
    spec: Spec,
    pid: u32,
    connect: String,
    status: StatusLine,
    /// Ends it when true.
    stop: watch::Sender<bool>,
    /// How it ended, once nothing is left of it.
    ended: watch::Receiver<Option<String>>,
}

impl Worker {
    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Waits until nothing is left of it, and says how it ended.
    async fn end(&self) -> String {
        let mut ended = self.ended.clone();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "its worker is lost".to_owned())
    }
}

impl Keeper {
    /// Holds nothing yet. The folder, for what workers write, exists.
    #[must_use]
    pub fn new(launcher: Arc<dyn Launcher>, logs: PathBuf) -> Arc<Self> {
        Arc::new(Self { launcher, logs, started: AtomicU64::new(0), places: Mutex::default() })
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, listen: &str) -> Arc<Place> {
        let mut places = self.places();
        // Nobody is at it, and nobody is left in it.
        let empty = |place: &Place| place.try_lock().is_ok_and(|worker| worker.as_ref().is_none_or(Worker::has_ended));
        places.retain(|_, place| Arc::strong_count(place) > 1 || !empty(place));
        Arc::clone(places.entry(listen.to_owned()).or_default())
    }

    /// The worker that serves this: the one that there is, or a new one.
    async fn start(&self, spec: Spec) -> Result<Worker, String> {
        let place = self.place(&spec.listen);
        let mut here = place.lock().await;
        if let Some(worker) = here.take() {
            if !worker.has_ended() && spec.is_served_by(&worker.spec) {
                tracing::info!(listen = spec.listen, pid = worker.pid, "a worker is taken up again");
                return Ok(here.insert(worker).clone());
            }
            worker.stop.send_replace(true);
            worker.end().await;
        }
        let worker = self.launch(spec).await?;
        Ok(here.insert(worker).clone())
    }

    async fn launch(&self, mut spec: Spec) -> Result<Worker, String> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let log = self.logs.join(format!("worker-{number}.log"));
        spec.log.clone_from(&log);
        let Running { pid, connect, status, stop, mut ended } = self.launcher.start(spec.clone()).await?;
        tracing::info!(listen = spec.listen, pid, "a worker is up");
        let (stopping, mut stopped) = watch::channel(false);
        let (ending, over) = watch::channel(None);
        tokio::spawn(async move {
            let told = async { drop(stopped.wait_for(|stop| *stop).await) };
            let reason = tokio::select! {
                reason = &mut ended => reason,
                () = told => {
                    drop(stop);
                    ended.await
                }
            };
            let reason = reason.unwrap_or_else(|_| "its worker is lost".to_owned());
            tracing::info!(pid, reason, "a worker has ended");
            // Its last words are in the reason.
            if let Err(error) = fs::remove_file(&log) {
                tracing::debug!(%error, "no log to remove");
            }
            ending.send_replace(Some(reason));
        });
        Ok(Worker { spec, pid, connect, status, stop: stopping, ended: over })
    }

    async fn keep_only(&self, listen: &BTreeSet<String>) {
        let unwanted: Vec<Arc<Place>> = {
            let mut places = self.places();
            places.extract_if(.., |at, _| !listen.contains(at)).map(|(_, place)| place).collect()
        };
        let mut leaving = Vec::new();
        for place in unwanted {
            if let Some(worker) = place.lock().await.take() {
                worker.stop.send_replace(true);
                leaving.push(worker);
            }
        }
        for worker in leaving {
            worker.end().await;
        }
    }

    /// Talks with an agent.
    async fn talk(&self, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let Some(first) = lines.next_line().await? else { return Ok(()) };
        let refuse = |why: String| line(&Told::Refused(why));
        let ask = match serde_json::from_str::<serde_json::Value>(&first) {
            Ok(hello) if hello["language"] == LANGUAGE => serde_json::from_value::<Hello>(hello),
            Ok(hello) => {
                let told = refuse(format!(
                    "the keeper speaks language {LANGUAGE}, the agent {}: delete the keeper's pod once no pods with vGPUs run here",
                    hello["language"]
                ));
                return writer.write_all(&told?).await;
            }
            Err(error) => Err(error),
        };
        match ask {
            Ok(Hello { ask: Ask::Start(spec), .. }) => match self.start(spec).await {
                Ok(worker) => {
                    let told = Told::Started { pid: worker.pid, connect: worker.connect.clone() };
                    writer.write_all(&line(&told)?).await?;
                    converse(&worker, &mut lines, &mut writer).await
                }
                Err(why) => writer.write_all(&refuse(why)?).await,
            },
            Ok(Hello { ask: Ask::KeepOnly(listen), .. }) => {
                self.keep_only(&listen).await;
                writer.write_all(&line(&Told::Kept)?).await
            }
            Err(error) => writer.write_all(&refuse(format!("the keeper does not understand: {error}"))?).await,
        }
    }
}

/// Speaks of one worker until it has ended or nobody listens.
async fn converse(
    worker: &Worker,
    lines: &mut Lines<BufReader<OwnedReadHalf>>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    loop {
        tokio::select! {
            reason = worker.end() => return writer.write_all(&line(&Told::Ended(reason))?).await,
            word = lines.next_line() => {
                // Nobody listens any more, which says nothing of the worker.
                let Some(word) = word? else { return Ok(()) };
                match serde_json::from_str(&word)? {
                    Word::Status => writer.write_all(&line(&Told::Status(worker.status.ask().await))?).await?,
                    Word::Stop => drop(worker.stop.send_replace(true)),
                }
            }
        }
    }
}

/// Serves agents at a socket, for ever.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(keeper: Arc<Keeper>, socket: &Path) -> io::Result<()> {
    // The last one's, which is gone: there is one keeper on a node.
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let keeper = Arc::clone(&keeper);
                tokio::spawn(async move {
                    if let Err(error) = keeper.talk(stream).await {
                        tracing::debug!(%error, "an agent is gone");
                    }
                });
            }
            // Out of descriptors, for example: others will close.
            Err(error) => {
                tracing::warn!(%error, "an agent cannot be heard");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
