//! A session's turn at a device, shared by its executors.
//!
//! One session at a time runs kernels on a device, as contexts do on a card. The turn is taken when the first executor
//! begins a piece of a kernel, and passed on when the time slice is over and somebody waits, or when there is nothing
//! left to run. Pieces that have begun always end first: a block may wait for an earlier one that another executor runs.

use std::sync::atomic::AtomicBool;

use parking_lot::{Condvar, Mutex};

use super::card::Seat;
use super::meter::now;

/// How long a session may run while another waits.
const SLICE_NS: u64 = 2_000_000;

/// The turn of one session at one device.
#[derive(Debug)]
pub(super) struct Turn {
    /// The session's place at the device.
    pub(super) seat: Seat,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    acquiring: bool,
    yielding: bool,
    running: u32,
    since: u64,
}

impl Turn {
    /// Nobody's turn yet.
    pub(super) fn new(seat: Seat) -> Self {
        Self { seat, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits until this session may run; false when `give_up` was set first.
    pub(super) fn enter(&self, give_up: &AtomicBool) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.held && !state.yielding {
                state.running += 1;
                return true;
            }
            if state.held || state.acquiring {
                self.changed.wait(&mut state);
                continue;
            }
            state.acquiring = true;
            drop(state);
            let got = self.seat.acquire(give_up);
            state = self.state.lock();
            state.acquiring = false;
            state.held = got;
            state.yielding = false;
            state.since = now();
            self.changed.notify_all();
            if !got {
                return false;
            }
        }
    }

    /// Ends what an executor had entered for: nothing that would enter again may keep the turn from others. Needed because
    /// a piece that was left for more may have been taken by somebody else meanwhile.
    pub(super) fn rest(&self) {
        let mut state = self.state.lock();
        if state.held && state.running == 0 {
            state.held = false;
            state.yielding = false;
            self.seat.release();
            self.changed.notify_all();
        }
    }

    /// Ends a piece. `more`: the same executor will enter again at once.
    pub(super) fn leave(&self, more: bool) {
        let mut state = self.state.lock();
        state.running -= 1;
        if !state.yielding && self.seat.contended() && now() - state.since > SLICE_NS {
            state.yielding = true;
        }
        if state.running == 0 && (state.yielding || !more) {
            state.held = false;
            state.yielding = false;
            self.seat.release();
            self.changed.notify_all();
        }
    }
}
