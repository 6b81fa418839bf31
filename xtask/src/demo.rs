//! `make demo`: a machine without a GPU runs CUDA programs on a vGPU of another process. Each step says what it shows.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::setup;
use crate::workspace::{cargo, path, run as execute, say};

/// The binary that the demo drives, in a folder of its own, so that a node which runs already is left alone.
struct Demo {
    folder: PathBuf,
    node: Option<Child>,
}

/// Runs the task.
pub(crate) fn run(_: &[String]) -> anyhow::Result<()> {
    step("build: one binary, and one library that programs load in place of NVIDIA's driver");
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    step("set up: NVIDIA's own compiler and Numba, unmodified, from PyPI; nothing of ours is linked into the programs");
    setup::run(&[])?;

    let mut demo = Demo::new()?;
    step("node: finds the GPUs of this machine, and makes a software GPU where there is none");
    demo.start()?;
    step("gpu ls: what there is");
    execute(&mut demo.command(&["gpu", "ls"]))?;

    step("CUDA C++: a program that nvcc built, on a vGPU of 2 GiB that another process serves over TCP");
    let program = path("target/programs/heat.static-ptx");
    let mut command = demo.command(&["run", "--vram", "2GiB", "--tflops", "10", "--"]);
    command.arg(program).stdout(Stdio::piped());
    let mut heat = command.spawn().context("cannot start the program")?;
    let mut lines = BufReader::new(heat.stdout.take().context("no standard output")?).lines();
    for line in lines.by_ref() {
        let line = line?;
        eprintln!("{line}");
        if line == "working" {
            break;
        }
    }
    step("ps: who uses which vGPU while it runs");
    execute(&mut demo.command(&["ps"]))?;
    for line in lines {
        eprintln!("{}", line?);
    }
    let status = heat.wait()?;
    if !status.success() {
        bail!("the CUDA C++ program failed: {status}");
    }

    step("Numba: Python on another vGPU; `run` arranges that Numba hands over PTX");
    let mut command = demo.command(&["run", "--vram", "3GiB", "--"]);
    execute(command.arg(path(".venv/cuda13/bin/python")).arg(path("examples/primes.py")))?;

    step("the limit: all of a 1 GiB vGPU can be taken, and not one byte more");
    let mut command = demo.command(&["run", "--vram", "1GiB", "--"]);
    execute(command.arg(path("target/programs/limit.static-ptx")))?;

    step("down: stops the node; nothing is left behind");
    demo.stop()?;
    step("that was Tensor Fusion; `make test` proves it, README.md says more");
    Ok(())
}

fn step(text: &str) {
    say(text);
}

impl Demo {
    fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tensor-fusion-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { folder, node: None })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(path("target/release/tensor-fusion"));
        command.args(arguments).env("TENSOR_FUSION_DIR", &self.folder).env_remove("TENSOR_FUSION_NODE");
        command
    }

    /// Starts the node and waits for its first line, which it prints when it serves.
    fn start(&mut self) -> anyhow::Result<()> {
        let mut command = self.command(&["up"]);
        let mut node = command.stdout(Stdio::piped()).spawn().context("cannot start the node")?;
        let output = node.stdout.take().context("no standard output")?;
        self.node = Some(node);
        let mut lines = BufReader::new(output);
        let mut first = String::new();
        lines.read_line(&mut first)?;
        if first.is_empty() {
            bail!("the node ended at once");
        }
        eprint!("{first}");
        // The rest is read, so that the node never waits for us.
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        execute(&mut self.command(&["down"]))?;
        if let Some(mut node) = self.node.take() {
            let status = node.wait()?;
            if !status.success() {
                bail!("the node failed: {status}");
            }
        }
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill().ok();
            node.wait().ok();
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}
