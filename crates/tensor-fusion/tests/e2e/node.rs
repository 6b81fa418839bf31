//! The node and its commands as a person meets them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::process::{PATIENCE, Running, run};
use super::programs::find;
use super::server::{binary, isolate, scratch};

/// A node with a folder of its own; gone when dropped.
pub(crate) struct Node {
    folder: PathBuf,
    _running: Option<Running>,
}

impl Node {
    /// Starts `tensor-fusion up` on a software GPU and waits until it answers.
    pub(crate) fn start() -> Result<Self, String> {
        let mut node = Self::absent();
        let mut command = node.command(&["up", "--driver", "soft"]);
        command.env("TENSOR_FUSION_SOFT_VRAM", "8GiB");
        let mut running = Running::start(command)?;
        running.line(|_| true)?;
        node._running = Some(running);
        Ok(node)
    }

    /// A folder in which no node runs.
    fn absent() -> Self {
        let folder = scratch("node");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&folder, mode).expect("our own folder");
        Self { folder, _running: None }
    }

    /// A subcommand in this node's folder.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        isolate(&mut command);
        command.env("TENSOR_FUSION_DIR", &self.folder).env_remove("TENSOR_FUSION_NODE");
        command
    }

    /// `tensor-fusion run OPTIONS -- PROGRAM`.
    pub(crate) fn run(&self, options: &[&str], program: &Path) -> Command {
        let mut command = self.command(&["run"]);
        command.args(options).arg("--").arg(program);
        command
    }

    /// The JSON that a subcommand prints.
    fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = self.command(&["--json"]);
        command.args(arguments);
        let finished = run(command, PATIENCE)?.success()?;
        serde_json::from_str(&finished.stdout).map_err(|error| finished.describe(&format!("no JSON ({error})")))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        run(self.command(&["down"]), PATIENCE).ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn requires(condition: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(what().into()) }
}

fn shows_what_runs() -> Result<(), Failed> {
    let node = Node::start()?;
    let gpus = node.json(&["gpu", "ls"])?;
    requires(gpus.as_array().is_some_and(|gpus| gpus.len() == 1), || format!("expected one GPU: {gpus}"))?;
    requires(node.json(&["ps"])? == Value::Array(Vec::new()), || "expected no vGPU at first".to_owned())?;

    let mut command =
        find("endless", "static-ptx")?.append_to(|program| node.run(&["--vram", "2GiB", "--tflops", "5"], program));
    command.arg("300");
    let mut running = Running::start(command)?;
    running.line(|line| line == "ready")?;
    // The worker reports a few times a second; the program goes on for a minute.
    loop {
        let vgpus = node.json(&["ps"])?;
        let text = vgpus.to_string();
        requires(vgpus.as_array().is_some_and(|vgpus| vgpus.len() == 1), || format!("expected one vGPU: {text}"))?;
        let used = vgpus[0]["vram_used"].as_u64().or_else(|| text_bytes(&vgpus[0]["vram_used"])).unwrap_or(0);
        if text.contains("endless") && used >= 300 << 20 {
            break;
        }
        running.line(|line| line == "alive")?;
    }
    let shown = run(node.command(&["ps"]), PATIENCE)?.success()?;
    requires(shown.stdout.contains("endless"), || shown.describe("`ps` does not name the program"))?;
    running.signal("TERM");
    let finished = running.finish(PATIENCE)?.expect_code(143)?;
    drop(finished);
    let left = node.json(&["ps"])?;
    requires(left == Value::Array(Vec::new()), || format!("the vGPU is still there: {left}"))
}

/// Bytes that JSON shows as text, such as `300 MiB`.
fn text_bytes(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].trim().parse().ok()?;
    let unit = match text[split..].trim() {
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => 1.0,
    };
    Some((number * unit) as u64)
}

fn run_starts_a_node() -> Result<(), Failed> {
    let node = Node::absent();
    let command = find("vector_add", "static-ptx")?.append_to(|program| node.run(&["--vram", "1GiB"], program));
    run(command, PATIENCE)?.success()?;
    let gpus = node.json(&["gpu", "ls"])?;
    requires(gpus.as_array().is_some_and(|gpus| !gpus.is_empty()), || format!("the node is gone: {gpus}"))?;
    run(node.command(&["down"]), PATIENCE)?.success()?;
    Ok(())
}

fn streams_and_exit_codes_pass() -> Result<(), Failed> {
    let node = Node::start()?;
    let mut command = node.run(&["--vram", "64MiB"], Path::new("sh"));
    command.args(["-c", "read line; echo \"got $line\"; echo problem >&2; exit 42"]);
    let mut running = Running::start(command)?;
    running.close_stdin().ok_or("no stdin")?.write_all(b"words\n")?;
    let finished = running.finish(PATIENCE)?.expect_code(42)?;
    requires(finished.stdout == "got words\n" && finished.stderr.contains("problem"), || finished.describe("streams"))?;
    let missing = run(node.run(&["--vram", "64MiB"], Path::new("no-such-program")), PATIENCE)?.expect_code(127)?;
    requires(missing.stderr.contains("no-such-program"), || missing.describe("the message names no program"))?;
    let mut killed = node.run(&["--vram", "64MiB"], Path::new("sh"));
    killed.args(["-c", "kill -9 $$"]);
    run(killed, PATIENCE)?.expect_code(137)?;
    Ok(())
}

fn too_much_is_refused_with_a_hint() -> Result<(), Failed> {
    let node = Node::start()?;
    let refused = run(node.run(&["--vram", "900GiB"], Path::new("true")), PATIENCE)?.expect_code(125)?;
    requires(refused.stderr.contains("hint:") && refused.stderr.contains("900"), || refused.describe("no hint"))?;
    run(node.run(&["--vram", "1GiB"], Path::new("true")), PATIENCE)?.success()?;
    let unit = run(node.run(&["--vram", "3bananas"], Path::new("true")), PATIENCE)?.expect_code(2)?;
    requires(unit.stderr.contains("bananas"), || unit.describe("the unit is not named"))
}

fn killed_run_gives_back() -> Result<(), Failed> {
    let node = Node::start()?;
    let mut command = find("endless", "static-ptx")?.append_to(|program| node.run(&["--vram", "7GiB"], program));
    command.arg("64");
    let mut running = Running::start(command)?;
    running.line(|line| line == "ready")?;
    running.signal("KILL");
    running.finish(PATIENCE)?;
    // The node sees the connection close; then 7 of 8 GiB are free again.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let again = run(node.run(&["--vram", "7GiB"], Path::new("true")), PATIENCE)?;
        if again.status.success() {
            return Ok(());
        }
        requires(std::time::Instant::now() < deadline, || again.describe("the vGPU was not given back"))?;
    }
}

fn coverage_and_completions() -> Result<(), Failed> {
    let node = Node::absent();
    let shown = run(node.command(&["coverage"]), PATIENCE)?.success()?;
    requires(shown.stdout.contains("execution") && shown.stdout.contains("MISSING"), || shown.describe("no table"))?;
    node.json(&["coverage"])?;
    for shell in ["bash", "zsh", "fish"] {
        let script = run(node.command(&["completions", shell]), PATIENCE)?.success()?;
        requires(script.stdout.contains("tensor-fusion"), || script.describe("no completions"))?;
    }
    Ok(())
}

/// The cases.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("gpu ls and ps show what runs", shows_what_runs),
        Trial::test("run starts a node where none runs", run_starts_a_node),
        Trial::test("streams and exit codes pass through run", streams_and_exit_codes_pass),
        Trial::test("too much is refused with a hint", too_much_is_refused_with_a_hint),
        Trial::test("a killed run gives its vGPU back", killed_run_gives_back),
        Trial::test("coverage and completions are printed", coverage_and_completions),
    ]
}
