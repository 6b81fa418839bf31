//! The control plane: etcd, API server, controller manager and the stock scheduler, on the machine itself.
//!
//! Alone it takes no rights: everything listens on loopback. Nothing then watches over nodes, so whoever wants some makes Node
//! objects, which count as ready without a kubelet.

use std::process::Command;
use std::time::Duration;

use super::components::Components;
use super::layout::{CONTROL, Layout, SERVICES};
use super::process;

/// How long etcd and the API server may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts all of it, and waits until the API server answers.
pub(super) fn start(layout: &Layout, components: &Components) -> anyhow::Result<()> {
    for name in CONTROL {
        start_part(layout, components, name)?;
    }
    Ok(())
}

/// Ends all of it, the last started first.
pub(super) fn stop(layout: &Layout) -> anyhow::Result<()> {
    CONTROL.iter().rev().try_for_each(|name| process::stop(layout, name))
}

/// Starts one of its programs.
pub(super) fn start_part(layout: &Layout, components: &Components, name: &str) -> anyhow::Result<()> {
    let arguments = match name {
        "etcd" => etcd(layout)?,
        "kube-apiserver" => api_server(layout)?,
        _ => client(layout, name),
    };
    process::spawn(layout, name, Command::new(components.program(name)).args(arguments))?;
    if name == "kube-apiserver" {
        let needs = ["kube-apiserver".to_owned(), "etcd".to_owned()];
        process::wait_until(layout, "the API server to be ready", &needs, PATIENCE, || {
            let ready = components.administer(layout, "kubectl").args(["get", "--raw", "/readyz"]).output();
            ready.is_ok_and(|out| out.status.success())
        })?;
    }
    Ok(())
}

fn etcd(layout: &Layout) -> anyhow::Result<Vec<String>> {
    let ports = layout.ports()?;
    let peers = format!("http://127.0.0.1:{}", ports.etcd_peers);
    let clients = format!("http://127.0.0.1:{}", ports.etcd);
    Ok(vec![
        "--name=cluster".to_owned(),
        format!("--data-dir={}", layout.root.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=cluster={peers}"),
        // A cluster for tests does not outlive the machine, and need not wait for its disk.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ])
}

fn api_server(layout: &Layout) -> anyhow::Result<Vec<String>> {
    let certificate = |file: &str| layout.certificate(file).display().to_string();
    let (address, port) = layout.api()?;
    let mut arguments = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", layout.ports()?.etcd),
        // With nodes, on the address of the Service `kubernetes` itself: pods reach it without a kube-proxy.
        format!("--bind-address={address}"),
        format!("--advertise-address={address}"),
        format!("--secure-port={port}"),
        "--endpoint-reconciler-type=none".to_owned(),
        // Webhooks are called at their pods' addresses, since Services' do not answer.
        "--enable-aggregator-routing=true".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--client-ca-file={}", certificate("ca.crt")),
        format!("--tls-cert-file={}", certificate("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", certificate("kube-apiserver.key")),
        format!("--kubelet-client-certificate={}", certificate("kubelet-client.crt")),
        format!("--kubelet-client-key={}", certificate("kubelet-client.key")),
        format!("--service-account-key-file={}", certificate("accounts.pub")),
        format!("--service-account-signing-key-file={}", certificate("accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--allow-privileged=true".to_owned(),
        // Nodes have names that no DNS knows.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // Node loss is noticed in seconds, as a test wants it.
        "--default-not-ready-toleration-seconds=10".to_owned(),
        "--default-unreachable-toleration-seconds=10".to_owned(),
    ];
    if !layout.is_whole() {
        // New nodes would bear a taint which only the controller that watches over kubelets takes away.
        arguments.push("--disable-admission-plugins=TaintNodesByCondition".to_owned());
    }
    Ok(arguments)
}

/// Controller manager and scheduler: clients of the API server that serve nothing.
fn client(layout: &Layout, name: &str) -> Vec<String> {
    let certificate = |file: &str| layout.certificate(file).display().to_string();
    let kubeconfig = certificate(&format!("{name}.kubeconfig"));
    let mut arguments = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    if name == "kube-controller-manager" {
        arguments.extend([
            format!("--root-ca-file={}", certificate("ca.crt")),
            format!("--service-account-private-key-file={}", certificate("accounts.key")),
            "--use-service-account-credentials=true".to_owned(),
            "--node-monitor-period=2s".to_owned(),
            "--node-monitor-grace-period=12s".to_owned(),
        ]);
        if !layout.is_whole() {
            arguments.push("--controllers=*,-node-lifecycle-controller".to_owned());
        }
    }
    arguments
}
