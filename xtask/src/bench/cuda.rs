//! What a remote vGPU costs: the same program through a worker and directly, on the same software GPU.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use super::{Bound, Row, median, network};
use crate::workspace::{output, path};

/// Measures it.
pub(super) fn rows() -> anyhow::Result<Vec<Row>> {
    let node = Node::start()?;
    let ping_pong = network::ping_pong()?;
    let stream = network::stream()?;
    // One run through, so that files are in the page cache and kernels in whatever caches there are.
    node.remote("first")?;
    let mut first = [0.0; 7];
    for time in &mut first {
        let start = Instant::now();
        node.remote("first")?;
        *time = start.elapsed().as_secs_f64() * 1e3;
    }
    let mut first_direct = [0.0; 7];
    for time in &mut first_direct {
        let start = Instant::now();
        node.direct("first")?;
        *time = start.elapsed().as_secs_f64() * 1e3;
    }
    Ok(vec![
        Row::new(
            "client processor time per asynchronous launch (reference: the direct call, with its kernel)",
            "us",
            node.remote("launch-cpu")?,
            node.direct("launch-cpu")?,
            Bound::AtMost(1.0),
        ),
        Row::new(
            "synchronous call (reference: raw TCP ping-pong)",
            "us",
            node.remote("synchronous")?,
            ping_pong,
            Bound::AtMost(ping_pong + 5.0),
        ),
        Row::new(
            "copy to the device (reference: raw TCP)",
            "GB/s",
            node.remote("upload")?,
            stream,
            Bound::AtLeast(0.8 * stream),
        ),
        Row::new(
            "copy to the host (reference: raw TCP)",
            "GB/s",
            node.remote("download")?,
            stream,
            Bound::AtLeast(0.8 * stream),
        ),
        Row::new(
            "`tensor-fusion run` to the end of the first CUDA call, warm node (reference: directly)",
            "ms",
            median(&mut first),
            median(&mut first_direct),
            Bound::AtMost(100.0),
        ),
        Row::new(
            "naive SGEMM 512 on two threads (reference: directly)",
            "GFLOP/s",
            node.remote("sgemm")?,
            node.direct("sgemm")?,
            Bound::AtLeast(15.0),
        ),
    ])
}

/// A warm node, and the two ways to run the benchmark program.
struct Node {
    folder: PathBuf,
    process: Child,
}

impl Node {
    fn start() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tensor-fusion-bench-{}", std::process::id()));
        fs::create_dir_all(folder.join("lib"))?;
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        std::os::unix::fs::symlink(path("target/release/libtensor_fusion_cuda.so"), folder.join("lib/libcuda.so.1"))?;
        let mut command = Self::command_in(&folder);
        let mut process =
            command.args(["up", "--driver", "soft"]).stdout(Stdio::piped()).spawn().context("cannot start the node")?;
        let mut first = [0; 1];
        let ready = process.stdout.as_mut().map(|stdout| stdout.read(&mut first));
        if !matches!(ready, Some(Ok(1))) {
            bail!("the node ended at once");
        }
        Ok(Self { folder, process })
    }

    fn command_in(folder: &PathBuf) -> Command {
        let mut command = Command::new(path("target/release/tensor-fusion"));
        command.env("TENSOR_FUSION_DIR", folder).env_remove("TENSOR_FUSION_NODE");
        command
    }

    fn remote(&self, what: &str) -> anyhow::Result<f64> {
        let mut command = Self::command_in(&self.folder);
        command.args(["run", "--vram", "2GiB", "--"]).arg(path("target/programs/bench.static-ptx")).arg(what);
        number(command)
    }

    fn direct(&self, what: &str) -> anyhow::Result<f64> {
        let mut command = Command::new(path("target/programs/bench.static-ptx"));
        command.arg(what).env("LD_LIBRARY_PATH", self.folder.join("lib")).env_remove("TENSOR_FUSION_CONNECT");
        number(command)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        Self::command_in(&self.folder).arg("down").stdout(Stdio::null()).status().ok();
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

fn number(mut command: Command) -> anyhow::Result<f64> {
    let text = output(&mut command)?;
    let last = text.lines().last().unwrap_or_default();
    last.trim().parse().with_context(|| format!("`{last}` is no number"))
}
