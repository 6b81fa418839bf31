//! Runs the tests and counts them: unit tests of the workspace, programs through the front door, and all of it on a real
//! Kubernetes cluster.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::cluster::{self, Components, Layout};
use crate::workspace::{cargo, describe, run as execute, say};
use crate::{image, setup};

/// Outcomes of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the task: everything, unless words say otherwise. `--fast` leaves all but the unit tests out and `--no-cluster` the
/// cluster's; `--e2e` runs the end-to-end tests alone and `--cluster` the cluster's, and further words select among those. With
/// `--control-plane` the cluster has no nodes, as where the machine allows none.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let (fast, only_e2e, only_cluster) = (has("--fast"), has("--e2e"), has("--cluster"));
    let chosen = || arguments.iter().filter(|argument| !argument.starts_with("--"));
    // Asked now: building the workspace puts another file in this one's place.
    let own = std::env::current_exe()?;
    let with_cluster = only_cluster || !(fast || only_e2e || has("--no-cluster"));
    // Minutes of work on a machine that has not done it before, most of them of waiting for the network.
    let components = with_cluster.then(|| std::thread::spawn(Components::build));
    if !fast {
        setup::run(&[])?;
    }
    say("building");
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    let mut tally = Tally::default();
    if !only_e2e && !only_cluster {
        say("unit tests");
        tests(cargo().args(["test", "--workspace", "--release", "--no-fail-fast", "--quiet"]), &mut tally)?;
    }
    if !fast && !only_cluster {
        say("end-to-end tests");
        let mut command = cargo();
        // All of the workspace: for one package alone, features of dependencies differ, and all would be built once more.
        command.args(["test", "--release", "--quiet", "--workspace", "--test", "e2e", "--"]);
        command.args(chosen());
        tests(&mut command, &mut tally)?;
    }
    if let Some(components) = components {
        say("tests on a Kubernetes cluster");
        let components = match components.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("the thread that builds the cluster's programs has panicked"),
        };
        on_cluster(components, has("--control-plane"), &own, chosen(), &mut tally)?;
    } else if !fast && !only_e2e {
        let mut command = cluster_tests();
        tests(command.env("TENSOR_FUSION_TEST_CLUSTER_MISSING", "left out, as asked"), &mut tally)?;
    }
    summary(tally)?;
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Brings a cluster up, runs the tests on it and takes it down, unless it was up before. What the machine does not allow says
/// nothing about the code: without nodes those tests run that need none, and the others are shown with the reason.
fn on_cluster<'a>(
    components: anyhow::Result<Components>,
    without_nodes: bool,
    own: &Path,
    chosen: impl Iterator<Item = &'a String>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut command = cluster_tests();
    command.args(chosen);
    let ready = components.and_then(|components| {
        let cluster = Cluster::bring_up(without_nodes)?;
        command.env("TENSOR_FUSION_TEST_CLUSTER", &components.folder);
        command.env("TENSOR_FUSION_TEST_KUBECONFIG", cluster.layout.kubeconfig());
        command.env("TENSOR_FUSION_TEST_SWITCH", own);
        if let Some(reason) = &cluster.without_nodes {
            command.env("TENSOR_FUSION_TEST_NODES_MISSING", reason);
        }
        if let Some(reason) = &cluster.without_python {
            command.env("TENSOR_FUSION_TEST_PYTHON_MISSING", reason);
        }
        Ok(cluster)
    });
    match ready {
        Ok(cluster) => {
            let outcome = tests(&mut command, tally);
            if !cluster.was_up {
                cluster::down(&cluster.layout)?;
            }
            outcome
        }
        Err(error) => {
            let reason = format!("not even the control plane came up: {error:#}");
            tests(command.env("TENSOR_FUSION_TEST_CLUSTER_MISSING", reason), tally)
        }
    }
}

/// A cluster that is up.
struct Cluster {
    layout: Layout,
    was_up: bool,
    /// Why it has no nodes, if it has none.
    without_nodes: Option<String>,
    /// Why it has no image with Python and its CUDA clients, if it has none.
    without_python: Option<String>,
}

impl Cluster {
    fn bring_up(without_nodes: bool) -> anyhow::Result<Self> {
        let reason = if without_nodes {
            "nodes were left out, as asked".to_owned()
        } else {
            let layout = Layout::whole();
            let was_up = cluster::is_up(&layout);
            let up = cluster::up_in_time(&layout);
            let images = up.and_then(|()| {
                let images = image::for_tests()?;
                cluster::import(&layout, &images.files)?;
                Ok(images)
            });
            match images {
                Ok(images) => {
                    return Ok(Self { layout, was_up, without_nodes: None, without_python: images.python_missing });
                }
                Err(error) => {
                    say(&format!("no nodes: {error:#}"));
                    // What came of it must not lie about; what was there before is somebody's.
                    if !was_up {
                        cluster::down(&layout).unwrap_or_else(|error| say(&format!("leftovers: {error:#}")));
                    }
                    format!("{error:#}")
                }
            }
        };
        let layout = Layout::control_plane()?;
        let was_up = cluster::is_up(&layout);
        if let Err(error) = cluster::up_in_time(&layout) {
            if !was_up {
                cluster::down(&layout).unwrap_or_else(|error| say(&format!("leftovers: {error:#}")));
            }
            return Err(error);
        }
        Ok(Self { layout, was_up, without_nodes: Some(reason), without_python: None })
    }
}

fn cluster_tests() -> Command {
    let mut command = cargo();
    command.args(["test", "--release", "--quiet", "--workspace", "--test", "kubernetes", "--"]);
    command
}

/// The line that CI reads, last on standard output.
fn summary(tally: Tally) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped)?;
    out.flush()?;
    Ok(())
}

/// Runs one `cargo test`, passes its output on and adds its results up.
fn tests(command: &mut Command, tally: &mut Tally) -> anyhow::Result<()> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", describe(command)))?;
    let failed_before = tally.failed;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(std::io::stdout(), "{line}")?;
            if let Some(result) = parse(&line) {
                tally.passed += result.passed;
                tally.failed += result.failed;
                tally.skipped += result.skipped;
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == failed_before {
        // A test program that did not get as far as its result line: it does not compile, or it died.
        tally.failed += 1;
    }
    Ok(())
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn parse(line: &str) -> Option<Tally> {
    let rest = line.trim_start().strip_prefix("test result: ")?;
    let count = |what: &str| {
        rest.split(';').find_map(|part| {
            let words: Vec<&str> = part.trim().rsplitn(2, ' ').collect();
            let number = words.get(1)?.rsplit(' ').next()?;
            (words.first() == Some(&what)).then(|| number.parse().ok()).flatten()
        })
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: FAILED. 12 passed; 2 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        assert_eq!(parse(line), Some(Tally { passed: 12, failed: 2, skipped: 3 }));
        assert_eq!(parse("test result_lines_are_counted ... ok"), None);
    }
}
