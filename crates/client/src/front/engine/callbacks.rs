//! What the driver reports by itself: text of kernels, and streams that have reached a host callback.
//!
//! Callbacks of the program run on one thread of their own, one after the other, as CUDA promises; the stream which
//! asked for one goes on when it has returned.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use cuda::{Sink, TicketId};
use parking_lot::Mutex;

use super::raw;

type Work = Box<dyn FnOnce() + Send>;
/// Work, and what is dropped when it has returned.
type Job = (Work, Sender<()>);

/// The program's callbacks that streams have yet to reach, and the [`Sink`] that its driver reports to.
#[derive(Default)]
pub struct Callbacks {
    waiting: Mutex<HashMap<TicketId, Work>>,
    /// Callbacks that have not returned.
    unfinished: AtomicUsize,
    thread: Mutex<Option<Sender<Job>>>,
}

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callbacks").field("waiting", &self.waiting.lock().len()).finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Keeps `work` until a stream reaches `ticket`.
    pub(super) fn add(&self, ticket: TicketId, work: Work) {
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        self.waiting.lock().insert(ticket, work);
    }

    /// Whether some callback has not returned yet.
    pub(super) fn any_waiting(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) > 0
    }

    /// Forgets work that will not be reached.
    pub(super) fn remove(&self, ticket: TicketId) {
        if self.waiting.lock().remove(&ticket).is_some() {
            self.unfinished.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn run(&self, work: Work) {
        let (done, finished) = mpsc::channel();
        let mut thread = self.thread.lock();
        let sender = thread.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel::<Job>();
            let run = move || {
                for (work, done) in receiver {
                    work();
                    // Whoever waited may be gone with its stream; then nobody needs to be told.
                    drop(done);
                }
            };
            if let Err(error) = std::thread::Builder::new().name("cuda-callbacks".to_owned()).spawn(run) {
                tracing::error!(%error, "no thread for host callbacks");
            }
            sender
        });
        let sent = sender.send((work, done));
        drop(thread);
        if let Err(mpsc::SendError((work, _))) = sent {
            work();
            return;
        }
        // The sender is dropped when the work has returned: that is the signal, and an error is what it looks like.
        finished.recv().unwrap_or(());
    }
}

impl Sink for Callbacks {
    fn printed(&self, text: &[u8]) {
        raw::print(text);
    }

    fn reached(&self, ticket: TicketId) {
        let work = self.waiting.lock().remove(&ticket);
        if let Some(work) = work {
            self.run(work);
            self.unfinished.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
