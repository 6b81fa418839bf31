//! A node: namespaces of its own for network, mounts, processes and host name, and in them containerd and a kubelet.
//!
//! One process holds the namespaces and is the first in them, so when it is killed the kernel ends everything on the node at
//! once, mounts included: that is also what a test does for a node's loss. The folders that software on a node takes for its
//! own (`/var/lib/kubelet`, `/run/tensor-fusion`, …) are the node's, not the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::components::Components;
use super::layout::{Layout, NODES, address, pods};
use super::{machine, network, process};
use crate::workspace::output;

/// Folders of the machine over which each node has its own.
const OWN: [&str; 8] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/log",
    "/run/containerd",
    "/run/netns",
    "/run/tensor-fusion",
    "/etc/cni/net.d",
];
/// Name under which the sandbox image is imported.
pub(crate) const PAUSE: &str = "tensor-fusion.test/pause:1";

/// The node that a program belongs to.
pub(super) fn of(program: &str) -> Option<&'static str> {
    NODES
        .into_iter()
        .find(|&node| program == node || program.strip_prefix(node).is_some_and(|end| end.starts_with('-')))
}

/// Starts a node; whether it is ready shows in the API.
pub(super) fn start(layout: &Layout, components: &Components, node: &str) -> anyhow::Result<()> {
    configure(layout, node)?;
    control_groups(node)?;
    let mut script = String::from("mount --make-rshared / && ");
    for folder in OWN {
        let own = own(layout, node, folder);
        fs::create_dir_all(&own)?;
        fs::create_dir_all(folder)?;
        script += &format!("mount --bind {} {folder} && ", own.display());
    }
    // A shell that waits collects the children of whatever died.
    script += &format!("hostname {node} && while :; do sleep 3600; done");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", network::namespace(node)));
    command.args(["unshare", "--mount", "--propagation", "slave", "--pid", "--uts", "--fork", "--mount-proc"]);
    command.args(["--kill-child", "sh", "-c", &script]);
    let holder = process::spawn(layout, node, &mut command)?;
    let first = process::only_child(holder)?;
    process::wait_until(layout, "the namespaces", &[node.to_owned()], Duration::from_secs(10), || {
        let name = Command::new("nsenter").args(["--target", &first.to_string(), "--uts", "hostname"]).output();
        name.is_ok_and(|name| String::from_utf8_lossy(&name.stdout).trim() == node)
    })?;
    for part in ["containerd", "kubelet"] {
        start_part(layout, components, node, &format!("{node}-{part}"))?;
    }
    Ok(())
}

/// Starts containerd or the kubelet on a node.
pub(super) fn start_part(layout: &Layout, components: &Components, node: &str, program: &str) -> anyhow::Result<()> {
    let configuration = |file: &str| layout.configuration(&format!("{node}-{file}"));
    if program.ends_with("-containerd") {
        let mut command = Command::new("containerd");
        inside(layout, node, program, command.arg("--config").arg(configuration("containerd.toml")))?;
        let socket = socket(layout, node);
        return process::wait_until(layout, "its socket", &[program.to_owned()], Duration::from_secs(30), || {
            Command::new("ctr").arg("-a").arg(&socket).arg("version").output().is_ok_and(|out| out.status.success())
        });
    }
    let mut command = Command::new(components.program("kubelet"));
    command.arg(format!("--config={}", configuration("kubelet.yaml").display()));
    command.arg(format!("--kubeconfig={}", layout.certificate(&format!("{node}.kubeconfig")).display()));
    command.args([&format!("--hostname-override={node}"), &format!("--node-ip={}", address(node))]);
    inside(layout, node, program, &mut command)
}

/// Ends a node as if its power failed.
pub(super) fn stop(layout: &Layout, node: &str) -> anyhow::Result<()> {
    if let Some(holder) = process::alive(layout, node) {
        // `unshare` passes no polite signal on; its first process dies with it.
        Command::new("kill").args(["-KILL", &holder.to_string()]).status()?;
    }
    for program in [node.to_owned(), format!("{node}-kubelet"), format!("{node}-containerd")] {
        process::stop(layout, &program)?;
    }
    Ok(())
}

/// Removes what the kernel still keeps of a node that was stopped.
pub(super) fn forget(node: &str) -> anyhow::Result<()> {
    for group in groups(node)? {
        remove_group(&group).with_context(|| format!("cannot remove the control group `{}`", group.display()))?;
    }
    Ok(())
}

/// Puts the images of an archive onto a node, unless it has got just those.
pub(crate) fn import(layout: &Layout, node: &str, archive: &Path) -> anyhow::Result<()> {
    let key = fs::read_to_string(archive.with_extension("key")).unwrap_or_default();
    let imported = layout.node(node).join("imported");
    let mark = imported.join(archive.file_name().context("an archive without a name")?);
    if !key.is_empty() && fs::read_to_string(&mark).is_ok_and(|before| before == key) {
        return Ok(());
    }
    let mut command = Command::new("ctr");
    command.arg("-a").arg(socket(layout, node)).args(["-n", "k8s.io", "images", "import"]).arg(archive);
    output(&mut command).with_context(|| format!("{node} takes no image"))?;
    fs::create_dir_all(&imported)?;
    fs::write(mark, key)?;
    Ok(())
}

/// Starts a program in a node's namespaces.
fn inside(layout: &Layout, node: &str, name: &str, program: &mut Command) -> anyhow::Result<()> {
    let holder = process::alive(layout, node).with_context(|| format!("{node} is not running"))?;
    let first = process::only_child(holder)?.to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &first, "--net", "--mount", "--pid", "--uts"]);
    command.arg(program.get_program()).args(program.get_args());
    // Entering a process namespace takes a fork: ours is the child, which ends when its namespace does.
    let parent = process::spawn(layout, name, &mut command)?;
    process::remember(layout, name, process::only_child(parent)?)
}

fn own(layout: &Layout, node: &str, folder: &str) -> PathBuf {
    layout.node(node).join(folder.trim_start_matches('/'))
}

fn socket(layout: &Layout, node: &str) -> PathBuf {
    own(layout, node, "/run/containerd").join("containerd.sock")
}

fn configure(layout: &Layout, node: &str) -> anyhow::Result<()> {
    // Where the disk itself is an overlay (a container), layers are copied instead: slow, and it works.
    let snapshotter = if machine::overlays(&layout.root) { "overlayfs" } else { "native" };
    let containerd = format!(
        r#"version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Lowering the score of a process takes a capability that not every machine gives.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"#
    );
    fs::write(layout.configuration(&format!("{node}-containerd.toml")), containerd)?;
    let kubelet = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {}
authentication: {{x509: {{clientCAFile: '{}'}}, anonymous: {{enabled: false}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupRoot: /{}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
enforceNodeAllocatable: []
evictionHard: {{memory.available: '1%', nodefs.available: '1%', imagefs.available: '1%'}}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
nodeStatusUpdateFrequency: 2s
resolvConf: ''
",
        address(node),
        layout.certificate("ca.crt").display(),
        group(node),
    );
    fs::write(layout.configuration(&format!("{node}-kubelet.yaml")), kubelet)?;
    let network = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {"type": "host-local", "subnet": pods(node), "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    });
    let folder = own(layout, node, "/etc/cni/net.d");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("10-pods.conflist"), serde_json::to_string_pretty(&network)?)?;
    Ok(())
}

/// The control group that holds a node's pods.
fn group(node: &str) -> String {
    format!("tf-{node}")
}

/// That group under every controller of version 1, or the one of version 2.
fn groups(node: &str) -> anyhow::Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.join(group(node))]);
    }
    let mut groups = Vec::new();
    for entry in fs::read_dir(root)? {
        let controller = entry?.path();
        if controller.join("cgroup.procs").exists() && !controller.is_symlink() {
            groups.push(controller.join(group(node)));
        }
    }
    Ok(groups)
}

fn control_groups(node: &str) -> anyhow::Result<()> {
    for group in groups(node)? {
        fs::create_dir_all(&group)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // A new group of version 1 may use no processor until it is told which.
            if let Some(parent) = group.parent().filter(|parent| parent.join(file).exists()) {
                fs::write(group.join(file), fs::read(parent.join(file))?)?;
            }
        }
    }
    Ok(())
}

/// Removes a control group, the innermost first; their files cannot be removed and need not be.
fn remove_group(group: &Path) -> std::io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(group)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_group(&path)?;
        }
    }
    for _ in 0..100 {
        // The kernel lets go of the last process a moment after its end.
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
    fs::remove_dir(group)
}
