//! `tensor-fusion hold`: does nothing until it is told to end. A pod that holds cards of a device plugin's for us runs it.

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Outcome;

/// Wait until told to end.
#[derive(Debug, Args)]
pub(crate) struct Hold {}

impl Hold {
    pub(crate) fn main(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}
