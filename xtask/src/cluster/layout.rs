//! Where everything of a cluster lies, and its addresses.
//!
//! There are two kinds. The whole one has nodes, so its folder and its network are the machine's and not the work tree's. The
//! control plane alone is a few programs on loopback, which anybody may start: it lies in the user's cache.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;

use super::components::cache;

/// The nodes, in order: the first has addresses ending in 1.
pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];

/// The address that Kubernetes gives its own Service, the first of [`SERVICES`]. The API server of the whole cluster listens on it
/// directly, so pods reach it as on any cluster though there is no kube-proxy.
pub(crate) const API_ADDRESS: &str = "10.96.0.1";
/// Addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The machine's address on the network of the nodes.
pub(crate) const GATEWAY: &str = "10.200.0.1";

/// Programs of the control plane in the order in which they start.
pub(crate) const CONTROL: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// The folder of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Holds all of it.
    pub(crate) root: PathBuf,
    whole: bool,
}

/// Ports on loopback, chosen when the cluster comes up, so that whatever else runs on the machine is in nobody's way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peers: u16,
    /// Of the API server, where that listens on loopback.
    pub(crate) api: u16,
}

impl Layout {
    /// The cluster with nodes: the one place on this machine.
    pub(crate) fn whole() -> Self {
        Self { root: PathBuf::from("/var/lib/tensor-fusion-cluster"), whole: true }
    }

    /// The control plane alone: one for each user.
    pub(crate) fn control_plane() -> anyhow::Result<Self> {
        Ok(Self { root: cache()?.join("tensor-fusion/control-plane"), whole: false })
    }

    /// Whether there are nodes.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Its nodes.
    pub(crate) fn nodes(&self) -> &'static [&'static str] {
        if self.whole { &NODES } else { &[] }
    }

    /// Where the API server answers.
    pub(crate) fn api(&self) -> anyhow::Result<(&'static str, u16)> {
        Ok(if self.whole { (API_ADDRESS, 443) } else { ("127.0.0.1", self.ports()?.api) })
    }

    /// Chooses ports that are free now. The kernel lends those from 32768 on to whoever connects somewhere, so one of them could
    /// be taken before its program starts, or while it is restarted.
    pub(crate) fn choose_ports(&self) -> anyhow::Result<()> {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let ports: Vec<u16> = (10_000..20_000).filter(is_free).take(3).collect();
        anyhow::ensure!(ports.len() == 3, "no three ports from 10000 to 19999 are free on loopback");
        let text: String = ports.iter().map(|port| format!("{port}\n")).collect();
        fs::write(self.root.join("ports"), text)?;
        Ok(())
    }

    /// The ports that were chosen.
    pub(crate) fn ports(&self) -> anyhow::Result<Ports> {
        let text = fs::read_to_string(self.root.join("ports")).context("the cluster is not up")?;
        let mut lines = text.lines().map(str::parse);
        let mut next = || lines.next().context("the list of ports is too short")?.context("a port that is no number");
        Ok(Ports { etcd: next()?, etcd_peers: next()?, api: next()? })
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
        for &node in self.nodes() {
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
