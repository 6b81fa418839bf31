//! Where everything of the cluster lies, and its addresses.
//!
//! One cluster per machine, so its folder and its network are the machine's and not the work tree's.

use std::path::PathBuf;

/// The nodes, in order: the first has addresses ending in 1.
pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];

/// The address that Kubernetes gives its own Service, the first of [`SERVICES`]. The API server listens on it directly, so pods
/// reach it as on any cluster though there is no kube-proxy.
pub(crate) const API_ADDRESS: &str = "10.96.0.1";
/// Addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The machine's address on the network of the nodes.
pub(crate) const GATEWAY: &str = "10.200.0.1";

/// Programs of the control plane in the order in which they start.
pub(crate) const CONTROL: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// The folder of the running cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Holds all of it.
    pub(crate) root: PathBuf,
}

impl Layout {
    /// The one place on this machine.
    pub(crate) fn new() -> Self {
        Self { root: PathBuf::from("/var/lib/tensor-fusion-cluster") }
    }

    /// What a person or a test gives to `kubectl`.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// What a program wrote.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// A certificate or key.
    pub(crate) fn certificate(&self, file: &str) -> PathBuf {
        self.root.join("certificates").join(file)
    }

    /// A configuration file.
    pub(crate) fn configuration(&self, file: &str) -> PathBuf {
        self.root.join("configuration").join(file)
    }

    /// The folder of a node; in the node it lies over the machine's own folders.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Every program that runs while the cluster is up.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mut names: Vec<String> = CONTROL.iter().map(|&name| name.to_owned()).collect();
        for node in NODES {
            names.extend([node.to_owned(), format!("{node}-containerd"), format!("{node}-kubelet")]);
        }
        names
    }
}

/// The number of a node, from 1.
pub(crate) fn number(node: &str) -> usize {
    NODES.iter().position(|&name| name == node).map_or(0, |index| index + 1)
}

/// The address of a node.
pub(crate) fn address(node: &str) -> String {
    format!("10.200.0.1{}", number(node))
}

/// The addresses of a node's pods.
pub(crate) fn pods(node: &str) -> String {
    format!("10.244.{}.0/24", number(node))
}
