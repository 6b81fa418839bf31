//! Runs the tests and counts them: unit tests of the workspace, programs through the front door, and, when asked, all of it on
//! a real Kubernetes cluster.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, bail};

use crate::cluster::{self, Components, Impossible};
use crate::workspace::{cargo, describe, run as execute, say};
use crate::{image, setup};

/// Outcomes of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the task. `--fast` leaves all but the unit tests out, `--e2e` runs the end-to-end tests alone and `--cluster` those on
/// a cluster, which it leaves up if it was; further words select among those. `--all` runs everything; without it the cluster's
/// tests are shown as skipped, because they want a machine to themselves and a quarter of an hour.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let fast = arguments.iter().any(|argument| argument == "--fast");
    let only_e2e = arguments.iter().any(|argument| argument == "--e2e");
    let only_cluster = arguments.iter().any(|argument| argument == "--cluster");
    let chosen = || arguments.iter().filter(|argument| !argument.starts_with("--"));
    // Minutes of work on a machine that has not done it before, and of no interest to the other tests.
    // Asked now: building the workspace puts another file in this one's place.
    let own = std::env::current_exe()?;
    let with_cluster = only_cluster || arguments.iter().any(|argument| argument == "--all");
    let components = with_cluster.then(|| std::thread::spawn(cluster::prepare));
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
        command.args(["test", "--release", "--quiet", "--package", "tensor-fusion", "--test", "e2e", "--"]);
        command.args(chosen());
        tests(&mut command, &mut tally)?;
    }
    if let Some(components) = components {
        say("tests on a Kubernetes cluster");
        on_cluster(components, &own, chosen(), &mut tally)?;
    } else if !fast && !only_e2e {
        let mut command = cluster_tests();
        command.env("TENSOR_FUSION_TEST_CLUSTER_MISSING", "left out; `make test-cluster` runs them");
        tests(&mut command, &mut tally)?;
    }
    summary(tally)?;
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Brings the cluster up, runs the tests on it and takes it down, unless it was up before.
fn on_cluster<'a>(
    components: JoinHandle<anyhow::Result<Components>>,
    own: &Path,
    chosen: impl Iterator<Item = &'a String>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut command = cluster_tests();
    command.args(chosen);
    let components = match components.join() {
        Ok(outcome) => outcome,
        Err(_) => bail!("the thread that builds the cluster's programs has panicked"),
    };
    let ready = components.and_then(|components| {
        let was_up = cluster::is_up();
        let layout = cluster::up()?;
        cluster::import(&layout, &image::for_tests()?)?;
        command.env("TENSOR_FUSION_TEST_CLUSTER", &components.folder);
        command.env("TENSOR_FUSION_TEST_KUBECONFIG", layout.kubeconfig());
        command.env("TENSOR_FUSION_TEST_SWITCH", own);
        Ok(was_up)
    });
    match ready {
        Ok(was_up) => {
            let outcome = tests(&mut command, tally);
            if !was_up {
                cluster::down()?;
            }
            outcome
        }
        Err(error) => {
            // What this machine cannot carry says nothing about the code; the tests show the reason.
            let reason = if error.is::<Impossible>() { "this machine cannot" } else { "it could not be brought up" };
            command.env("TENSOR_FUSION_TEST_CLUSTER_MISSING", format!("{reason}: {error:#}"));
            tests(&mut command, tally)
        }
    }
}

fn cluster_tests() -> Command {
    let mut command = cargo();
    command.args(["test", "--release", "--quiet", "--package", "tensor-fusion", "--test", "cluster", "--"]);
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
