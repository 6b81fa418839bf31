//! Listens, decides who is served, and counts the sessions.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cuda::{CuResult, Driver, Ordinal, ProcessUsage, Sink};
use limiter::{Account, Limited, Share};
use parking_lot::{Condvar, Mutex};
use types::Token;
use wire::hello::{self, Hello, HelloError, Refusal, Said};
use wire::transport::{LOOK_FOR_LOST, Transport, end_if_lost};
use wire::{Endpoint, Listener};

use crate::outlet::Outlet;
use crate::session::Session;

/// Opens the GPU for one client, as its hello asks.
pub type Open = dyn Fn(&Hello, Arc<dyn Sink>) -> CuResult<Arc<dyn Driver>> + Send + Sync;

/// Connections that have not said hello yet, at most.
const MOST_STRANGERS: usize = 64;

/// Sessions of a broken driver get so long to hear of it, once somebody waits for their end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One vGPU, as it is to be served.
pub struct WorkerConfig {
    /// Bytes of each device's video memory that all sessions together may use.
    pub vram: u64,
    /// FP16 TFLOPS that clients see of each device; `None` shows the whole GPU's.
    pub tflops: Option<f64>,
    /// The devices, among those that `open` makes, in the order of the clients' ordinals.
    pub devices: Vec<Ordinal>,
    /// What clients must show; `None` serves everybody who can connect.
    pub token: Option<Token>,
    /// Sessions at once, at most.
    pub max_sessions: u32,
    /// How long a new connection may take to say hello.
    pub handshake_timeout: Duration,
    /// Opens the GPU, once per session.
    pub open: Box<Open>,
    /// Whether this process can open no GPU any more, and its sessions are lost: some drivers do not survive a kernel's
    /// fault. The worker then tells clients to come again; see [`Worker::wait_until_broken`].
    pub broken: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for WorkerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerConfig").field("vram", &self.vram).field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl WorkerConfig {
    /// A share of `vram` bytes of the first GPU that `open` makes, with the usual limits.
    pub fn new(
        vram: u64,
        open: impl Fn(&Hello, Arc<dyn Sink>) -> CuResult<Arc<dyn Driver>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            vram,
            tflops: None,
            devices: vec![Ordinal(0)],
            token: None,
            max_sessions: 256,
            handshake_timeout: Duration::from_secs(5),
            open: Box::new(open),
            broken: Box::new(|| false),
        }
    }
}

/// A worker that serves until it is dropped.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    endpoint: Endpoint,
}

struct Shared {
    listener: Listener,
    config: WorkerConfig,
    share: Share,
    stopped: AtomicBool,
    strangers: Mutex<Strangers>,
    sessions: Arc<Sessions>,
    /// Somebody was told to come again.
    expected: AtomicBool,
    outlets: Mutex<Vec<Weak<Outlet>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Connections that have not said hello yet, oldest first.
#[derive(Default)]
struct Strangers {
    next: u64,
    waiting: VecDeque<(u64, Arc<dyn Transport>)>,
}

/// How many sessions hold anything.
#[derive(Debug, Default)]
struct Sessions {
    count: Mutex<u32>,
    /// One has ended, or somebody wants the others to end.
    changed: Condvar,
}

/// A session's place among them; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place(Arc<Sessions>);

impl Place {
    fn take(sessions: &Arc<Sessions>, limit: u32) -> Option<Self> {
        let mut count = sessions.count.lock();
        *count = (*count < limit).then(|| *count + 1)?;
        Some(Self(Arc::clone(sessions)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.changed.notify_all();
    }
}

/// Starts to serve a vGPU.
///
/// # Errors
/// The listener has no address, or no thread can be started.
pub fn serve(listener: Listener, config: WorkerConfig) -> io::Result<Worker> {
    let endpoint = listener.endpoint()?;
    let devices = config.devices.iter().map(|device| (*device, Account::new(config.vram))).collect();
    let share = Share { devices, tflops: config.tflops };
    let shared = Arc::new(Shared {
        listener,
        config,
        share,
        stopped: AtomicBool::new(false),
        strangers: Mutex::default(),
        sessions: Arc::default(),
        expected: AtomicBool::new(false),
        outlets: Mutex::default(),
    });
    let watched = Arc::downgrade(&shared);
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || watch(&watched))?;
    let accepting = Arc::clone(&shared);
    std::thread::Builder::new().name("accept".to_owned()).spawn(move || accepting.accept())?;
    Ok(Worker { shared, endpoint })
}

/// Ends the sessions of clients whose machines are gone, for as long as the worker lives.
fn watch(shared: &Weak<Shared>) {
    loop {
        std::thread::sleep(LOOK_FOR_LOST);
        let Some(shared) = shared.upgrade() else { return };
        let outlets: Vec<_> = shared.outlets.lock().iter().filter_map(Weak::upgrade).collect();
        for outlet in outlets {
            end_if_lost(&*outlet.transport);
        }
    }
}

impl Worker {
    /// Where clients connect.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Bytes of video memory in use, of all its devices.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.accounts().map(|account| account.used()).sum()
    }

    /// The applications that are served, with the memory that each holds on all devices.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessUsage> {
        let mut all: Vec<ProcessUsage> = Vec::new();
        for process in self.accounts().flat_map(|account| account.processes()) {
            match all.iter_mut().find(|other| other.pid == process.pid) {
                Some(other) => other.used_memory += process.used_memory,
                None => all.push(process),
            }
        }
        all
    }

    fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.shared.share.devices.iter().map(|(_, account)| account)
    }

    /// Sessions that hold anything.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        *self.shared.sessions.count.lock()
    }

    /// Where clients connect, as a socket.
    #[must_use]
    pub fn listener(&self) -> &Listener {
        &self.shared.listener
    }

    /// Waits until the process is of no use any more, and nothing is left of its sessions. Where somebody waits for their
    /// end, they are ended after a while. Whoever calls this gives the listener to a process that can serve.
    pub fn wait_until_broken(&self) {
        let sessions = &self.shared.sessions;
        let mut count = sessions.count.lock();
        // When the sessions that are left have been given up.
        let mut patience: Option<Instant> = None;
        loop {
            let broken = (self.shared.config.broken)();
            if broken && *count == 0 {
                return;
            }
            if !broken || !self.shared.expected.load(Ordering::SeqCst) {
                sessions.changed.wait(&mut count);
                continue;
            }
            let until = *patience.get_or_insert_with(|| Instant::now() + LAST_WORDS);
            if sessions.changed.wait_until(&mut count, until).timed_out() {
                parking_lot::MutexGuard::unlocked(&mut count, || self.shared.end_sessions());
                patience = Some(Instant::now() + LAST_WORDS);
            }
        }
    }
}

impl Drop for Worker {
    /// Ends the listener and all sessions.
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.listener.close();
        self.shared.end_sessions();
    }
}

impl Shared {
    fn end_sessions(&self) {
        for outlet in self.outlets.lock().drain(..).filter_map(|outlet| outlet.upgrade()) {
            outlet.end();
        }
    }

    /// Tells a client to come again, to a process that can serve it.
    fn is_broken(&self) -> bool {
        let broken = (self.config.broken)();
        if broken {
            self.expected.store(true, Ordering::SeqCst);
            drop(self.sessions.count.lock());
            self.sessions.changed.notify_all();
        }
        broken
    }

    fn accept(self: &Arc<Self>) {
        while !self.stopped.load(Ordering::SeqCst) {
            let socket = match self.listener.accept() {
                Ok(socket) => socket,
                Err(error) => {
                    if !self.stopped.load(Ordering::SeqCst) {
                        // Out of descriptors, say: serving the others goes on.
                        tracing::warn!(%error, "cannot accept a connection");
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    continue;
                }
            };
            let transport: Arc<dyn Transport> = Arc::new(socket);
            let number = self.note_stranger(&transport);
            let shared = Arc::clone(self);
            let started = std::thread::Builder::new().name("session".to_owned()).spawn(move || {
                let session = shared.admit(&transport, number);
                // What lives as long as the session must not keep the listener.
                drop((shared, transport));
                if let Some(session) = session {
                    session.run();
                }
            });
            if let Err(error) = started {
                self.forget_stranger(number);
                tracing::warn!(%error, "cannot start a thread for a connection");
            }
        }
    }

    /// Keeps a connection that has not said hello. When there are too many, the oldest goes: somebody who connects and
    /// says nothing cannot keep others out.
    fn note_stranger(&self, transport: &Arc<dyn Transport>) -> u64 {
        let mut strangers = self.strangers.lock();
        strangers.next += 1;
        let number = strangers.next;
        strangers.waiting.push_back((number, Arc::clone(transport)));
        if strangers.waiting.len() > MOST_STRANGERS
            && let Some((_, oldest)) = strangers.waiting.pop_front()
        {
            oldest.shutdown();
        }
        number
    }

    fn forget_stranger(&self, number: u64) {
        self.strangers.lock().waiting.retain(|(other, _)| *other != number);
    }

    /// The handshake. One line in the log says why a connection becomes no session.
    fn admit(&self, transport: &Arc<dyn Transport>, number: u64) -> Option<Arc<Session>> {
        let guarded = std::panic::AssertUnwindSafe(|| self.try_admit(transport, number));
        match std::panic::catch_unwind(guarded) {
            Ok(Ok(Some(session))) => return Some(session),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                let reason: &dyn std::error::Error = &error;
                let cause = reason.source().map(ToString::to_string);
                tracing::warn!(%error, cause, "a connection is closed");
            }
            Err(_) => tracing::error!("opening the GPU panicked: a connection is closed"),
        }
        transport.shutdown();
        None
    }

    /// The session of a client that is taken; none for one that only asked.
    fn try_admit(&self, transport: &Arc<dyn Transport>, number: u64) -> Result<Option<Arc<Session>>, HelloError> {
        let said = hello::listen(&**transport, self.config.handshake_timeout);
        self.forget_stranger(number);
        let Said { hello, only_asks } = said?;
        let refuse = |refusal: Refusal| match hello::refuse(&**transport, &refusal) {
            Ok(()) => HelloError::Refuse(refusal),
            Err(error) => HelloError::Broken(error),
        };
        if let Some(token) = &self.config.token
            && !hello.token.as_ref().is_some_and(|shown| token.admits(shown.reveal()))
        {
            return Err(refuse(Refusal::Token));
        }
        if self.is_broken() {
            return Err(refuse(Refusal::ComeAgain));
        }
        let limit = self.config.max_sessions;
        let place = Place::take(&self.sessions, limit).ok_or_else(|| refuse(Refusal::Full(limit)))?;
        if only_asks {
            hello::agree(&**transport)?;
            return Ok(None);
        }
        let outlet = Arc::new(Outlet::new(Arc::clone(transport)));
        let sink: Arc<dyn Sink> = Arc::clone(&outlet) as _;
        let opened = (self.config.open)(&hello, sink).and_then(|driver| Limited::new(driver, &self.share, hello.pid));
        let driver = opened.map_err(|error| match self.is_broken() {
            true => refuse(Refusal::ComeAgain),
            false => refuse(Refusal::Driver(format!("the GPU cannot be opened: {error}"))),
        })?;
        {
            let mut outlets = self.outlets.lock();
            outlets.retain(|outlet| outlet.strong_count() > 0);
            outlets.push(Arc::downgrade(&outlet));
        }
        if self.stopped.load(Ordering::SeqCst) {
            return Err(HelloError::Broken(io::ErrorKind::ConnectionAborted.into()));
        }
        hello::welcome(&**transport, driver.info())?;
        let (pid, client) = (hello.pid, hello.client.escape_debug().take(80).collect::<String>());
        tracing::info!(pid, client, "a client has come");
        Ok(Some(Arc::new(Session::new(Arc::new(driver), outlet, pid, place))))
    }
}
