//! `kubectl`, `helm` and the cluster's own switchboard, as commands with time limits and whole answers in their errors.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Where the chart is installed.
pub(crate) const SYSTEM: &str = "tensor-fusion-system";
/// The image with the test programs.
pub(crate) const PROGRAMS: &str = "tensor-fusion/test-programs:1";
/// The image with a Python, Numba and CuPy.
pub(crate) const PYTHON: &str = "tensor-fusion/test-python:1";
/// Long enough for a pod on a busy machine of two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Why there are no nodes, if there are none.
pub(crate) fn without_nodes() -> Option<String> {
    std::env::var("TENSOR_FUSION_TEST_NODES_MISSING").ok()
}

/// Why there is no image with Python and its CUDA clients, if there is none.
pub(crate) fn without_python() -> Option<String> {
    std::env::var("TENSOR_FUSION_TEST_PYTHON_MISSING").ok()
}

/// Where the way to the API server is written.
pub(crate) fn kubeconfig() -> Result<PathBuf, String> {
    given("TENSOR_FUSION_TEST_KUBECONFIG")
}

fn given(name: &str) -> Result<PathBuf, String> {
    std::env::var_os(name).map(PathBuf::from).ok_or_else(|| {
        format!("{name} is not set: run these tests by `cargo xtask test`, or `cargo xtask test --cluster` on a cluster that is up")
    })
}

/// A program of the cluster (`kubectl`, `helm`) with its administrator's rights.
fn program(name: &str) -> Result<Command, String> {
    let mut command = Command::new(given("TENSOR_FUSION_TEST_CLUSTER")?.join(name));
    command.env("KUBECONFIG", kubeconfig()?);
    Ok(command)
}

/// Runs a command with this standard input, and gives what it printed.
fn run(mut command: Command, input: &str) -> Result<String, String> {
    let name = format!("{:?} {:?}", command.get_program(), command.get_args().collect::<Vec<_>>());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
    // It may end without reading; its exit code and its words say why.
    child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()).ok());
    let output = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{name}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// `kubectl` with these words.
pub(crate) fn kubectl(words: &str) -> Result<String, String> {
    kubectl_with(&words.split(' ').collect::<Vec<_>>(), "")
}

/// `kubectl` with these arguments and this standard input.
pub(crate) fn kubectl_with(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = program("kubectl")?;
    command.args(arguments);
    run(command, input)
}

/// `helm` with these words; `CHART` stands for our chart's folder.
pub(crate) fn helm(words: &str) -> Result<String, String> {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../charts/tensor-fusion");
    let mut command = program("helm")?;
    for word in words.split(' ') {
        if word == "CHART" {
            command.arg(&chart)
        } else {
            command.arg(word)
        };
    }
    run(command, "")
}

/// Stops (`stop`) or starts again (`restart`) a program of the cluster.
pub(crate) fn switch(action: &str, name: &str) -> Result<(), String> {
    let mut command = Command::new(given("TENSOR_FUSION_TEST_SWITCH")?);
    command.args(["cluster", action, name]);
    if without_nodes().is_some() {
        command.arg("--control-plane");
    }
    run(command, "").map(drop)
}

/// An object, or a list, as JSON.
pub(crate) fn get(words: &str) -> Result<Value, String> {
    let text = kubectl(&format!("get {words} -o json"))?;
    serde_json::from_str(&text).map_err(|error| format!("get {words}: {error}"))
}

/// The items of a list.
pub(crate) fn list(words: &str) -> Result<Vec<Value>, String> {
    Ok(get(words)?["items"].as_array().cloned().unwrap_or_default())
}

/// Makes the objects of a manifest.
pub(crate) fn apply(manifest: &str) -> Result<(), String> {
    kubectl_with(&["apply", "-f", "-"], manifest).map(drop)
}

/// Makes the objects of a manifest as they are: no copy of it in an annotation. The error is what the API server answers.
pub(crate) fn create(manifest: &str) -> Result<(), String> {
    kubectl_with(&["create", "-f", "-"], manifest).map(drop)
}

/// Waits until there is an answer; the error holds what was seen last.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() > deadline => {
                return Err(format!("waited {} s until {what}; at last: {seen}", patience.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}
