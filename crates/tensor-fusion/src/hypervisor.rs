//! `tensor-fusion hypervisor`: the agent of a Kubernetes node. A DaemonSet runs it.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use axum::{Router, http::StatusCode, routing::get};
use clap::Args;
use hypervisor::{
    keeper::Kept,
    kubernetes::{self, Health, Settings},
    metrics,
    node::Parts,
    provider::Driver,
    worker::{Children, Launcher},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{failure::Outcome, print, process, up};

/// Serve the GPUs of a Kubernetes node to its pods.
///
/// Reports the node's GPUs to the API server, and serves each container that was given a part of one, over a socket in a folder
/// of its pod. With a keeper its workers outlive it, and the next agent takes them up. Without one they are its children: when it
/// ends they end, and programs on their vGPUs get errors.
#[derive(Debug, Args)]
pub(crate) struct Hypervisor {
    /// The Kubernetes node that this runs on
    #[arg(long, value_name = "NAME", env = "TENSOR_FUSION_NODE")]
    node_name: String,

    /// The pool that the GPUs belong to
    #[arg(long, value_name = "NAME", env = "TENSOR_FUSION_POOL", default_value = "default")]
    pool: String,

    /// The folder of sockets, with a folder for each pod; the same path here and on the node
    #[arg(long, value_name = "FOLDER", env = "TENSOR_FUSION_SOCKET_FOLDER", default_value = "/run/tensor-fusion/pods")]
    socket_folder: PathBuf,

    /// Namespace of the operator, whose pods may hold cards for us that a device plugin gives out
    #[arg(long, value_name = "NAME", env = "TENSOR_FUSION_NAMESPACE", default_value = "tensor-fusion-system")]
    namespace: String,

    /// The kubelet's socket that tells what device plugins have given to pods
    #[arg(long, value_name = "PATH", default_value = "/var/lib/kubelet/pod-resources/kubelet.sock")]
    pod_resources: PathBuf,

    /// Where state and the logs of workers go
    #[arg(long, value_name = "FOLDER", default_value = "/run/tensor-fusion/agent")]
    state_folder: PathBuf,

    /// Socket of a `tensor-fusion keeper` that holds the workers
    #[arg(long, value_name = "PATH", env = "TENSOR_FUSION_KEEPER")]
    keeper: Option<PathBuf>,

    /// Where `/healthz`, `/readyz` and `/metrics` are
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8000")]
    health: SocketAddr,

    /// Where the GPUs come from: `soft`, or the path of a `libcuda.so.1` (default: NVIDIA's if it has GPUs, else `soft`)
    #[arg(long, value_name = "DRIVER", env = "TENSOR_FUSION_DRIVER")]
    driver: Option<Driver>,
}

/// Holds the node's name for software GPUs: those of two nodes must not have the same identity, and those of one node keep
/// theirs.
const SEED: &str = "TENSOR_FUSION_SOFT_SEED";

/// Starts the workers of a Kubernetes node as children of this process.
pub(crate) fn children(node_name: &str) -> std::io::Result<Children> {
    let environment = vec![(SEED.to_owned(), node_name.to_owned())];
    Ok(Children { program: std::env::current_exe()?, environment })
}

impl Hypervisor {
    pub(crate) fn main(self) -> Outcome {
        process::log_to_stderr("info");
        let devices = up::find(self.driver.as_ref(), &[(SEED, &self.node_name)])?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.serve(devices))
    }

    async fn serve(self, devices: hypervisor::provider::Devices) -> Outcome {
        for folder in [&self.socket_folder, &self.state_folder] {
            std::fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
        }
        tracing::info!(node = self.node_name, gpus = devices.found.len(), driver = %devices.driver, "serving");
        let launcher: Arc<dyn Launcher> = match &self.keeper {
            Some(socket) => Arc::new(Kept { socket: socket.clone() }),
            None => Arc::new(children(&self.node_name)?),
        };
        let parts = Parts {
            devices,
            launcher,
            clock: Arc::new(print::now),
            listen: "tcp://127.0.0.1:0".to_owned(),
            folder: self.state_folder.clone(),
        };
        let node = hypervisor::Node::new(parts).context("the state of the agent before cannot be read")?;
        let health = Arc::new(Health::default());
        let listener = TcpListener::bind(self.health).await;
        let listener = listener.with_context(|| format!("`{}` cannot be listened at", self.health))?;
        tokio::spawn(axum::serve(listener, pages(Arc::clone(&node), Arc::clone(&health))).into_future());

        let client = kubernetes::connect().await.context("there is no way to the API server")?;
        let settings = Settings {
            node_name: self.node_name,
            pool: self.pool,
            namespace: self.namespace,
            sockets: self.socket_folder,
            kubelet: self.pod_resources,
        };
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            () = kubernetes::run(client, Arc::clone(&node), settings, health) => tracing::error!("the watch has ended"),
            _ = interrupt.recv() => tracing::info!("interrupted"),
            _ = terminate.recv() => tracing::info!("terminated"),
        }
        // What a keeper holds stays: nothing below lets a task run that could still tell it otherwise.
        if self.keeper.is_none() {
            node.remove_all().await;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn pages(node: Arc<hypervisor::Node>, health: Arc<Health>) -> Router {
    let ready = move || async move {
        if health.is_ready() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the API server has not been reached yet\n")
        }
    };
    let prometheus = move || async move {
        let vgpus = node.vgpus().await;
        metrics::text(&node.gpus(), &vgpus, node.counters())
    };
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(prometheus))
}
