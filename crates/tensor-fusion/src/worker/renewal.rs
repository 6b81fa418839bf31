//! A worker that starts anew.
//!
//! A vendor's driver does not survive a kernel's fault: the process must go. The worker's sessions are lost then anyway, but
//! its vGPU, its address and its place under its parent are not: the process becomes a fresh worker, with the same socket.

use std::{
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
    sync::Arc,
};

use crate::process;

/// What can be read once the driver is broken, and nothing is left of the sessions.
pub(super) fn watch(server: &Arc<worker::Worker>) -> std::io::Result<UnixStream> {
    let (mut sender, receiver) = UnixStream::pair()?;
    let server = Arc::clone(server);
    std::thread::Builder::new().name("renewal".to_owned()).spawn(move || {
        server.wait_until_broken();
        if let Err(error) = sender.write_all(&[1]) {
            tracing::error!(%error, "the worker cannot be started anew");
        }
    })?;
    Ok(receiver)
}

/// Becomes a fresh worker that serves at the same socket. Comes back only with what prevented it.
pub(super) fn start_anew(server: &worker::Worker, stdout: BorrowedFd<'_>) -> std::io::Result<std::io::Error> {
    tracing::warn!("the driver is broken by a fault: the worker starts anew");
    let number = process::bequeath(server.listener().as_fd())?;
    process::restore_stdout(stdout)?;
    let mut arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    // A port that was chosen stays the same.
    arguments.retain(|argument| !argument.as_encoded_bytes().starts_with(b"--listener="));
    arguments.extend([format!("--listener={number}").into(), format!("--listen={}", server.endpoint()).into()]);
    // The program that runs, even where its file was replaced.
    Ok(Command::new("/proc/self/exe").args(arguments).exec())
}
