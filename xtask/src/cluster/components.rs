//! The programs of Kubernetes, built from their Go modules and kept by what they were built from.
//!
//! They are one executable (`xtask/cluster/main.go`) under several names. Building it takes minutes on two cores, so it lies in
//! the user's cache, where every work tree finds it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use super::layout::Layout;
use super::machine::Impossible;
use crate::workspace::{install_packages, output, path, run, say};

/// The names under which the executable is each of its programs.
const NAMES: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "helm"];
/// What the executable is made of.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];
/// How long the build may take: the slowest machine that was seen took a quarter of it.
const LIMIT: &str = "2400";
/// Bytes that fetching and building takes on the disk.
const ROOM: u64 = 8 << 30;
/// The first Go that fetches by itself the version that a `go.mod` asks for.
const OLDEST_GO: (u32, u32) = (1, 21);

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Components {
    /// Holds them; fit for a `PATH`.
    pub(crate) folder: PathBuf,
}

impl Components {
    /// Finds them, or builds them.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let components = Self::expected()?;
        if components.complete() {
            return Ok(components);
        }
        fs::create_dir_all(&components.folder)?;
        // Two who build at once would halve each other's speed: the second waits, and finds it done.
        let lock = fs::File::create(components.folder.join("lock"))?;
        lock.lock().context("cannot lock the cache of the cluster's programs")?;
        if !components.complete() {
            components.compile()?;
        }
        Ok(components)
    }

    /// Finds them.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let components = Self::expected()?;
        if !components.complete() {
            bail!("the cluster's programs are not built: `cargo xtask cluster build`");
        }
        Ok(components)
    }

    /// A program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `kubectl` or `helm` as the cluster's administrator.
    pub(crate) fn administer(&self, layout: &Layout, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.env("KUBECONFIG", layout.kubeconfig());
        command
    }

    fn expected() -> anyhow::Result<Self> {
        let mut hash = Sha256::new();
        for file in SOURCES {
            let text = fs::read(path("xtask/cluster").join(file))?;
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder: cache()?.join("tensor-fusion/cluster").join(hash) })
    }

    fn complete(&self) -> bool {
        NAMES.iter().all(|name| self.program(name).exists())
    }

    fn compile(&self) -> anyhow::Result<()> {
        let go = go()?;
        let free = output(Command::new("df").args(["--output=avail", "-B1"]).arg(&self.folder))?;
        let free: u64 = free.lines().nth(1).and_then(|free| free.trim().parse().ok()).unwrap_or(u64::MAX);
        if free < ROOM {
            let (free, room) = (free >> 20, ROOM >> 20);
            return Err(Impossible(format!("building Kubernetes takes {room} MiB of disk, and {free} are free")).into());
        }
        let version = kubernetes_version()?;
        say(&format!("building Kubernetes {version}, etcd and Helm, once (about eight minutes on two cores)"));
        let part = "k8s.io/component-base/version.git";
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let flags = format!(
            "-s -w -X {part}Version={version} -X {part}Major={major} -X {part}Minor={minor} -X {part}TreeState=clean"
        );
        let fresh = self.folder.join("kube.new");
        // Others share these cores, tests with deadlines among them; and a network that answers nothing may not hold us for ever.
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=10", LIMIT, "nice", "-n", "10"]);
        command.arg(&go).args(["build", "-trimpath", "-ldflags", &flags, "-o"]).arg(&fresh).arg(".");
        run(command.current_dir(path("xtask/cluster")).env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "auto"))?;
        fs::rename(&fresh, self.folder.join("kube"))?;
        for name in NAMES {
            let link = self.program(name);
            if !link.is_symlink() {
                symlink("kube", &link)?;
            }
        }
        Ok(())
    }
}

/// The version in our `go.mod`.
fn kubernetes_version() -> anyhow::Result<String> {
    let text = fs::read_to_string(path("xtask/cluster/go.mod"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    Ok(line.context("`xtask/cluster/go.mod` names no k8s.io/kubernetes")?.to_owned())
}

/// Where what can be made again lies for this user.
pub(super) fn cache() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").filter(|folder| Path::new(folder).is_absolute()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    given.or_else(home).context("neither XDG_CACHE_HOME nor HOME says where a cache may lie")
}

/// A Go that is new enough to fetch a newer one, installed where Debian's is.
fn go() -> anyhow::Result<PathBuf> {
    for candidate in ["go", "/usr/local/go/bin/go"] {
        match version(candidate.as_ref()) {
            Some(found) if found >= OLDEST_GO => return Ok(candidate.into()),
            _ => {}
        }
    }
    install_packages(&["golang-go"])?;
    match version("/usr/bin/go".as_ref()) {
        Some(found) if found >= OLDEST_GO => Ok("/usr/bin/go".into()),
        found => {
            let found = found.map_or("none".to_owned(), |(major, minor)| format!("{major}.{minor}"));
            let (major, minor) = OLDEST_GO;
            Err(Impossible(format!("it has no Go from {major}.{minor} on to build Kubernetes with (found {found})"))
                .into())
        }
    }
}

/// Reads `go version go1.26.8 linux/amd64`.
fn version(go: &OsStr) -> Option<(u32, u32)> {
    // Elsewhere a go.mod would say which version to fetch and run.
    let out = Command::new(go).arg("version").env("GOTOOLCHAIN", "local").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut numbers = text.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
