//! Counting replicas for the annotation `enabled-replicas`.
//!
//! A replica counts from the moment its admission is answered (a *reservation*), and when its pod is seen, the pod counts in its
//! place, for as long as it lives. So a burst of admissions, faster than any watch, cannot get more than allowed. A reservation whose
//! pod never comes (a later webhook or a quota refused it) is forgotten after a while.
//!
//! With several operators only the leader counts; the others refuse with 429, and the pod's controller creates it again, which
//! the Service may send to another. A new leader has seen all pods before it counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A pod that was admitted is seen long before.
const RESERVATION: Duration = Duration::from_secs(30);

/// Whether one more replica may have a vGPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may, and is counted.
    Free,
    /// So many have one already.
    Full(u32),
    /// The pods are not known yet.
    Unknown,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Grey {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    complete: bool,
    /// Admission's UID → owner, and when.
    reserved: BTreeMap<String, (String, Instant)>,
    /// Pod's UID → owner.
    pods: BTreeMap<String, String>,
}

impl Grey {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What is counted stays right when a thread died while it looked.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts a replica, unless `enabled` have a vGPU already. `dry`: only says whether it would.
    pub fn reserve(&self, owner: &str, token: &str, enabled: u32, dry: bool) -> Room {
        let mut state = self.state();
        if !state.complete {
            return Room::Unknown;
        }
        state.reserved.retain(|_, (_, at)| at.elapsed() < RESERVATION);
        if state.reserved.get(token).is_some_and(|(of, _)| of == owner) {
            return Room::Free;
        }
        let there = state.pods.values().filter(|of| *of == owner).count()
            + state.reserved.values().filter(|(of, _)| of == owner).count();
        let there = u32::try_from(there).unwrap_or(u32::MAX);
        if there >= enabled {
            return Room::Full(there);
        }
        if !dry {
            state.reserved.insert(token.to_owned(), (owner.to_owned(), Instant::now()));
        }
        Room::Free
    }

    /// A pod with a vGPU is there. `token` is the admission that it came from.
    pub fn see(&self, pod: &str, owner: &str, token: Option<&str>) {
        let mut state = self.state();
        if let Some(token) = token {
            state.reserved.remove(token);
        }
        state.pods.insert(pod.to_owned(), owner.to_owned());
    }

    /// A pod is gone, or finished.
    pub fn gone(&self, pod: &str) {
        self.state().pods.remove(pod);
    }

    /// All pods that there are have been seen.
    pub fn complete(&self) {
        self.state().complete = true;
    }

    /// Whether all pods that there are have been seen.
    pub fn is_complete(&self) -> bool {
        self.state().complete
    }
}
