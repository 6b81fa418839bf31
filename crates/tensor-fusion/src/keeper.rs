//! `tensor-fusion keeper`: holds the workers of a Kubernetes node for its agent. A DaemonSet of its own runs it.

use std::{os::unix::fs::DirBuilderExt, path::PathBuf, process::ExitCode, sync::Arc};

use ::hypervisor::keeper;
use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{failure::Outcome, hypervisor::children, process};

/// Hold the workers of a node for its agent, so that programs outlive the agent.
///
/// Starts and ends workers as the agent says. When the keeper ends they end, and programs on their vGPUs get errors.
#[derive(Debug, Args)]
pub(crate) struct Keeper {
    /// Where to listen for the agent; only root gets there
    #[arg(long, value_name = "PATH", env = "TENSOR_FUSION_KEEPER")]
    socket: PathBuf,

    /// Where the logs of workers go
    #[arg(long, value_name = "FOLDER", default_value = "/run/tensor-fusion/workers")]
    log_folder: PathBuf,

    /// The Kubernetes node that this runs on
    #[arg(long, value_name = "NAME", env = "TENSOR_FUSION_NODE")]
    node_name: String,
}

impl Keeper {
    pub(crate) fn main(self) -> Outcome {
        process::log_to_stderr("info");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> Outcome {
        let parent = self.socket.parent().context("the path of the socket names no folder")?;
        for folder in [parent, &self.log_folder] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.with_context(|| format!("`{}` cannot be made", folder.display()))?;
        }
        let keeper = keeper::Keeper::new(Arc::new(children(&self.node_name)?), self.log_folder);
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tracing::info!(socket = %self.socket.display(), "holding workers");
        tokio::select! {
            served = keeper::serve(keeper, &self.socket) => {
                served.with_context(|| format!("`{}` cannot be listened at", self.socket.display()))?;
            }
            _ = interrupt.recv() => tracing::info!("interrupted"),
            _ = terminate.recv() => tracing::info!("terminated"),
        }
        // The workers end as their standard input closes.
        Ok(ExitCode::SUCCESS)
    }
}
