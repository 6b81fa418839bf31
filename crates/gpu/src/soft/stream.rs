//! Streams: queues whose work runs one after another, and the points in them that others wait for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cuda::{ContextId, StreamKind, TicketId};

use super::task::Task;

/// What of a stream is visible without the session's lock.
#[derive(Debug)]
pub(super) struct Progress {
    /// The queue's key.
    pub(super) key: u64,
    /// How many of its operations are done.
    done: AtomicU64,
}

impl Progress {
    /// Counts one operation as done.
    pub(super) fn advance(&self) {
        self.done.fetch_add(1, Ordering::Release);
    }
}

/// The moment at which a stream has done its first `count` operations.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// The stream.
    pub(super) progress: Arc<Progress>,
    /// Number of operations.
    pub(super) count: u64,
}

impl Point {
    /// Whether that moment has come.
    pub(super) fn passed(&self) -> bool {
        self.progress.done.load(Ordering::Acquire) >= self.count
    }
}

/// The moment of an event's record.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// Nanoseconds of the monotonic clock; 0 until the record is reached.
    pub(super) time: AtomicU64,
}

/// One operation of a stream.
#[derive(Debug)]
pub(super) enum Operation {
    /// A kernel, copy or fill.
    Task(Arc<Task>),
    /// Notes the time.
    Record(Arc<Stamp>),
    /// Only waits for others.
    Wait,
    /// Tells the client.
    Callback(TicketId),
}

/// An operation with what it waits for besides its predecessor.
#[derive(Debug)]
pub(super) struct Queued {
    /// Other streams' points.
    pub(super) after: Vec<Point>,
    /// What to do then.
    pub(super) operation: Operation,
}

/// A stream's queue. It outlives the stream until its work is done.
#[derive(Debug)]
pub(super) struct Queue {
    /// The stream's context.
    pub(super) context: ContextId,
    /// Position of the context's device.
    pub(super) device: u32,
    /// How it relates to its context's other streams.
    pub(super) kind: StreamKind,
    /// Lower numbers first.
    pub(super) priority: i32,
    /// Visible state.
    pub(super) progress: Arc<Progress>,
    /// Number of operations put in.
    pub(super) issued: u64,
    /// An operation of it has begun and not ended.
    pub(super) running: bool,
    /// What has not begun.
    pub(super) waiting: VecDeque<Queued>,
    /// The stream is destroyed: the queue goes once it is empty.
    pub(super) closed: bool,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(key: u64, context: ContextId, device: u32, kind: StreamKind, priority: i32) -> Self {
        Self {
            context,
            device,
            kind,
            priority,
            progress: Arc::new(Progress { key, done: AtomicU64::new(0) }),
            issued: 0,
            running: false,
            waiting: VecDeque::new(),
            closed: false,
        }
    }

    /// The moment at which all that was put in is done.
    pub(super) fn tail(&self) -> Point {
        Point { progress: Arc::clone(&self.progress), count: self.issued }
    }

    /// Whether nothing runs or waits.
    pub(super) fn is_idle(&self) -> bool {
        !self.running && self.waiting.is_empty()
    }
}
