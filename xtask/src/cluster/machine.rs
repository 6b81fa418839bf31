//! What the machine must allow and have. Where it does not, the error says what, and tests can tell that from a failure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{fmt, fs};

use anyhow::Context;

use super::layout::API_ADDRESS;
use crate::workspace::{install_packages, output};

/// Programs that the nodes need, and the Debian packages that hold them.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/bin/ip", "iproute2"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/bin/nsenter", "util-linux"),
    ("/bin/mount", "mount"),
];

/// This machine cannot carry a cluster; nothing is broken.
#[derive(Debug)]
pub(crate) struct Impossible(pub(crate) String);

impl fmt::Display for Impossible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "this machine cannot carry a cluster: {}", self.0)
    }
}

impl std::error::Error for Impossible {}

/// Bytes of memory that two nodes, a control plane and a few pods take.
const MEMORY: u64 = 3 << 30;

/// Tries what the nodes will do. What this refuses, the control plane alone may still do.
pub(crate) fn check() -> anyhow::Result<()> {
    let impossible = |reason: String| Err(Impossible(reason).into());
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return impossible("nodes are namespaces, mounts and control groups, which take root".to_owned());
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    if let Some(free) = free.and_then(|free| free.parse::<u64>().ok()).filter(|free| free << 10 < MEMORY) {
        return impossible(format!("nodes take {} MiB of memory, and {} are free", MEMORY >> 20, free >> 10));
    }
    if std::env::var("KUBERNETES_SERVICE_HOST").is_ok_and(|host| host == API_ADDRESS) {
        return impossible(format!("it is a pod of a cluster whose API server has the address of ours, {API_ADDRESS}"));
    }
    // A namespace of its own for everything is what a node is; an overlay is what a container is.
    let trial = "mount -t tmpfs none /mnt && mkdir /mnt/a && mount --bind /mnt/a /mnt/a";
    let outcome = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-c", trial])
        .stdin(Stdio::null())
        .output()
        .context("cannot start `unshare`")?;
    if !outcome.status.success() {
        let said = String::from_utf8_lossy(&outcome.stderr);
        return impossible(format!("it refuses namespaces or mounts: {}", said.trim()));
    }
    control_groups()
}

/// Whether groups can be made with limits in them.
fn control_groups() -> anyhow::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let impossible = |reason: String| Err(Impossible(reason).into());
    if !root.join("cgroup.controllers").exists() {
        let folder = root.join("memory/tensor-fusion-trial");
        return match fs::create_dir_all(&folder).and_then(|()| fs::remove_dir(&folder)) {
            Ok(()) if root.join("memory/cgroup.procs").exists() => Ok(()),
            Ok(()) => impossible("no control groups are mounted under /sys/fs/cgroup".to_owned()),
            Err(error) => impossible(format!("no control group can be made in /sys/fs/cgroup/memory: {error}")),
        };
    }
    // In version 2 a group hands controllers on to groups below it only while it holds no process; the machine's own is exempt.
    for controller in ["cpuset", "cpu", "memory", "pids"] {
        let file = root.join("cgroup.subtree_control");
        if fs::read_to_string(&file)?.split_whitespace().any(|one| one == controller) {
            continue;
        }
        if let Err(error) = fs::write(&file, format!("+{controller}")) {
            return impossible(format!("control groups cannot limit {controller} for those below them: {error}"));
        }
    }
    Ok(())
}

/// Whether overlays can lie on a folder's disk.
pub(crate) fn overlays(folder: &Path) -> bool {
    let trial =
        "set -e; mkdir -p $0/a $0/b $0/c $0/d; mount -t overlay none -o lowerdir=$0/a,upperdir=$0/b,workdir=$0/c $0/d";
    let place = folder.join("overlay-trial");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", trial]).arg(&place).stderr(Stdio::null());
    let possible = command.status().is_ok_and(|status| status.success());
    // Of no use to anybody, and in nobody's way if it stays.
    fs::remove_dir_all(&place).ok();
    possible
}

/// Installs the Debian packages that are missing.
pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDED.iter().filter(|row| !Path::new(row.0).exists()).map(|row| row.1).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install_packages(&missing)
}
