//! `tensor-fusion operator`: the webhook and the allocator of a Kubernetes cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use operator::{Options, Settings};

use crate::{failure::Failed, failure::Outcome, process};

/// Run the Kubernetes operator: the webhook that takes pods, and the allocator that gives them GPUs.
///
/// Reaches the API server as pods do, or by KUBECONFIG. Any number may run: all answer the webhook, one leads.
#[derive(Debug, Args)]
pub(crate) struct Operator {
    /// Namespace of the system
    #[arg(long, env = "TENSOR_FUSION_NAMESPACE", default_value = crd::names::SYSTEM_NAMESPACE)]
    namespace: String,

    /// Name of this operator among others
    #[arg(long, env = "TENSOR_FUSION_POD")]
    identity: Option<String>,

    /// Image that pods get the client library from
    #[arg(long, env = "TENSOR_FUSION_IMAGE", default_value = "tensor-fusion/tensor-fusion:latest")]
    image: String,

    /// When nodes fetch the image
    #[arg(long, env = "TENSOR_FUSION_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: String,

    /// Domain of labels and annotations that people write
    #[arg(long, env = "TENSOR_FUSION_DOMAIN", default_value = crd::names::DOMAIN)]
    domain: String,

    /// Folder on GPU nodes in which node agents serve pods
    #[arg(long, env = "TENSOR_FUSION_SOCKET_FOLDER", default_value = "/run/tensor-fusion/pods")]
    socket_folder: String,

    /// Also take pods that ask for plain nvidia.com/gpu
    #[arg(long, env = "TENSOR_FUSION_PROGRESSIVE_MIGRATION", default_value_t = false, action = clap::ArgAction::Set)]
    progressive_migration: bool,

    /// Among whom a pod of a higher QoS class finds victims when there is no room: cluster, namespace (its own), never
    #[arg(long, env = "TENSOR_FUSION_PREEMPTION", default_value = "cluster")]
    preemption: operator::Scope,

    /// Where the webhook listens
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9443)))]
    webhook: SocketAddr,

    /// Address by which other operators reach this one's webhook
    #[arg(long, value_name = "IP", env = "TENSOR_FUSION_ADDRESS")]
    address: Option<IpAddr>,

    /// Where probes and metrics are answered
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)))]
    probes: SocketAddr,

    /// Further name or address in the webhook's certificate
    #[arg(long = "certificate-name")]
    names: Vec<String>,
}

impl Operator {
    pub(crate) fn main(self) -> Outcome {
        process::log_to_stderr("info");
        let identity = self.identity.unwrap_or_else(|| format!("operator-{}", std::process::id()));
        let settings = Settings {
            domain: self.domain,
            client_image: self.image,
            image_pull_policy: Some(self.image_pull_policy),
            socket_folder: self.socket_folder,
            progressive_migration: self.progressive_migration,
            preemption: self.preemption,
            ..Settings::default()
        };
        let options = Options {
            namespace: self.namespace,
            identity,
            webhook: self.webhook,
            address: self.address,
            probes: self.probes,
            settings,
            service: "tensor-fusion-operator".to_owned(),
            names: self.names,
        };
        operator::run(options).map_err(Failed::new)?;
        Ok(ExitCode::SUCCESS)
    }
}
