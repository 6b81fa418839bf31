//! Runs every test there is and counts them: unit tests of the workspace, then programs through the front door.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::setup;
use crate::workspace::{cargo, describe, run as execute, say};

/// Outcomes of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the task. `--fast` leaves the end-to-end tests out, `--e2e` runs nothing else; further words select among those.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let fast = arguments.iter().any(|argument| argument == "--fast");
    let only_e2e = arguments.iter().any(|argument| argument == "--e2e");
    if !fast {
        setup::run(&[])?;
    }
    say("building");
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    let mut tally = Tally::default();
    if !only_e2e {
        say("unit tests");
        tests(cargo().args(["test", "--workspace", "--release", "--no-fail-fast", "--quiet"]), &mut tally)?;
    }
    if !fast {
        say("end-to-end tests");
        let mut command = cargo();
        command.args(["test", "--release", "--quiet", "--package", "tensor-fusion", "--test", "e2e", "--"]);
        command.args(arguments.iter().filter(|argument| !argument.starts_with("--")));
        tests(&mut command, &mut tally)?;
    }
    summary(tally)?;
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
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
