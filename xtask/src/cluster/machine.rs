//! What the machine must allow and have. Where it does not, the error says what, and tests can tell that from a failure.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

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

/// Tries what the nodes will do.
pub(crate) fn check() -> anyhow::Result<()> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(Impossible("nodes are namespaces, mounts and control groups, which take root".to_owned()).into());
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && !Path::new("/sys/fs/cgroup/memory").exists() {
        return Err(Impossible("no control groups are mounted under /sys/fs/cgroup".to_owned()).into());
    }
    // An overlay in a namespace of its own is what a container is; a bridge is what joins them.
    let trial = "set -e; mount -t tmpfs none /mnt; mkdir /mnt/a /mnt/b /mnt/c /mnt/d; \
                 mount -t overlay none -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c /mnt/d";
    let outcome = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-c", trial])
        .stdin(Stdio::null())
        .output()
        .context("cannot start `unshare`")?;
    if !outcome.status.success() {
        let said = String::from_utf8_lossy(&outcome.stderr);
        return Err(Impossible(format!("it refuses namespaces or overlay mounts: {}", said.trim())).into());
    }
    Ok(())
}

/// Installs the Debian packages that are missing.
pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDED.iter().filter(|row| !Path::new(row.0).exists()).map(|row| row.1).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install_packages(&missing)
}
