//! The network of the cluster: a bridge on the machine, and a namespace for each node.
//!
//! Nodes see each other directly, and pods are routed: no overlay and no address translation, so every address in a log is
//! the real one. The API server's address lies on the bridge.

use std::path::Path;
use std::process::{Command, Stdio};

use super::layout::{API_ADDRESS, GATEWAY, NODES, address, number, pods};
use crate::workspace::output;

const BRIDGE: &str = "tf-cluster";

/// The network namespace of a node.
pub(crate) fn namespace(node: &str) -> String {
    format!("tf-{node}")
}

/// Makes it.
pub(crate) fn up() -> anyhow::Result<()> {
    ip(&format!("link add {BRIDGE} type bridge"))?;
    ip(&format!("address add {GATEWAY}/24 dev {BRIDGE}"))?;
    ip(&format!("address add {API_ADDRESS}/32 dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up"))?;
    for node in NODES {
        let (space, cable) = (namespace(node), cable(node));
        ip(&format!("netns add {space}"))?;
        ip(&format!("link add {cable} type veth peer name eth0 netns {space}"))?;
        ip(&format!("link set {cable} master {BRIDGE} up"))?;
        ip(&format!("-n {space} link set lo up"))?;
        ip(&format!("-n {space} address add {}/24 dev eth0", address(node)))?;
        ip(&format!("-n {space} link set eth0 up"))?;
        ip(&format!("-n {space} route add default via {GATEWAY}"))?;
        ip(&format!("route add {} via {}", pods(node), address(node)))?;
        for other in NODES.iter().filter(|&&other| other != node) {
            ip(&format!("-n {space} route add {} via {}", pods(other), address(other)))?;
        }
        let forward = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        output(Command::new("nsenter").arg(format!("--net=/run/netns/{space}")).args(forward))?;
    }
    Ok(())
}

/// Takes away what is there of it.
pub(crate) fn down() -> anyhow::Result<()> {
    for node in NODES {
        if Path::new("/run/netns").join(namespace(node)).exists() {
            ip(&format!("netns delete {}", namespace(node)))?;
        }
    }
    for link in NODES.map(cable).iter().map(String::as_str).chain([BRIDGE]) {
        if Path::new("/sys/class/net").join(link).exists() {
            // Deleting a namespace takes its end of a cable with it, a moment later: it may be gone by now.
            Command::new("ip").args(["link", "delete", link]).stderr(Stdio::null()).status()?;
        }
    }
    Ok(())
}

/// The machine's end of the cable to a node; at most 15 characters.
fn cable(node: &str) -> String {
    format!("tf-cable-{}", number(node))
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    output(Command::new("ip").args(arguments.split(' '))).map(drop)
}
