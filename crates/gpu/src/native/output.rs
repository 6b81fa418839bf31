//! What kernels print through a vendor's driver.
//!
//! The driver writes it to this process's standard output when somebody synchronizes; it has no other way. A process that
//! serves clients therefore lends that descriptor to a file of its own before it opens the driver, and each synchronizing
//! call hands on what has come since. With several clients of one process at once the text goes to whichever of them
//! synchronizes first: the driver does not say whose it is.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use cuda::Sink;
use parking_lot::Mutex;

/// What is kept of it at most before the file's pages are given back.
const KEEP: u64 = 1 << 20;

struct Captured {
    file: File,
    /// How far it has been handed on, and how far its pages were given back.
    place: Mutex<(u64, u64)>,
}

static CAPTURED: OnceLock<Captured> = OnceLock::new();

/// Lends this process's standard output to the drivers it opens. What comes back is the descriptor that was standard
/// output before: the process's own words belong there from now on.
///
/// # Errors
/// The system has no descriptor or memory left, or this was done before (`AlreadyExists`).
pub fn capture_standard_output() -> io::Result<File> {
    // SAFETY: a constant name; the descriptor that comes back is ours alone.
    let file = unsafe { libc::memfd_create(c"kernel output".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made.
    let file = unsafe { File::from_raw_fd(file) };
    // Each write goes to the end, whoever writes.
    // SAFETY: the descriptor is open.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let captured = Captured { file: file.try_clone()?, place: Mutex::new((0, 0)) };
    if CAPTURED.set(captured).is_err() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: plain system calls on open descriptors.
    unsafe {
        let own = libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3);
        if own < 0 || libc::dup2(file.as_raw_fd(), libc::STDOUT_FILENO) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(own))
    }
}

/// Hands on what has been printed since the last time.
pub(super) fn forward(sink: &dyn Sink) {
    let Some(captured) = CAPTURED.get() else { return };
    // The driver prints through C's stream, which keeps text back when it does not write to a terminal.
    // SAFETY: flushes all streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    let mut place = captured.place.lock();
    let mut text = [0; 4096];
    loop {
        match captured.file.read_at(&mut text, place.0) {
            Ok(0) => break,
            Ok(count) => {
                sink.printed(&text[..count]);
                place.0 += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "what kernels printed cannot be read");
                break;
            }
        }
    }
    if place.0 - place.1 >= KEEP {
        let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a plain system call on our own file.
        let given = unsafe { libc::fallocate(captured.file.as_raw_fd(), flags, 0, place.0 as i64) };
        if given == 0 {
            place.1 = place.0;
        }
    }
}
