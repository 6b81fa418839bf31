//! The memory account of one vGPU, shared by its sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cuda::{CuError, CuResult, ProcessUsage};
use parking_lot::Mutex;

/// How many bytes a vGPU may use, and who uses them.
///
/// The total is what decides; each session's [`Charge`] keeps its own part of it and gives it back when it goes.
#[derive(Debug)]
pub struct Account {
    limit: u64,
    used: AtomicU64,
    sessions: Mutex<Vec<Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    pid: u32,
    used: AtomicU64,
}

impl Account {
    /// An empty account of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), sessions: Mutex::default() })
    }

    /// The most bytes that may be in use.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// The sessions, by the process ids of their applications.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessUsage> {
        let sessions = self.sessions.lock();
        sessions
            .iter()
            .map(|session| ProcessUsage { pid: session.pid, used_memory: session.used.load(Ordering::Acquire) })
            .collect()
    }

    /// Opens a session's part of the account.
    #[must_use]
    pub fn open(self: &Arc<Self>, pid: u32) -> Charge {
        let session = Arc::new(Session { pid, used: AtomicU64::new(0) });
        self.sessions.lock().push(Arc::clone(&session));
        Charge { account: Arc::clone(self), session }
    }
}

/// One session's part of an [`Account`]. Dropping it gives everything back.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    session: Arc<Session>,
}

impl Charge {
    /// The account.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Takes bytes from the account.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` when even one byte of them is beyond the limit; then nothing is taken.
    pub fn take(&self, bytes: u64) -> CuResult {
        let account = &self.account;
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= account.limit);
        let taken = account.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, within);
        taken.map_err(|_| CuError::OUT_OF_MEMORY)?;
        self.session.used.fetch_add(bytes, Ordering::AcqRel);
        Ok(())
    }

    /// Gives back bytes that were taken.
    pub fn give_back(&self, bytes: u64) {
        self.session.used.fetch_sub(bytes, Ordering::AcqRel);
        self.account.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.sessions.lock().retain(|session| !Arc::ptr_eq(session, &self.session));
        self.account.used.fetch_sub(self.session.used.load(Ordering::Acquire), Ordering::AcqRel);
    }
}
