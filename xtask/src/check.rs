//! What CI asks of every change besides its tests.

use crate::workspace::{cargo, root, run as execute, say};
use crate::{docs, sizes, walls};

/// Runs the task.
pub(crate) fn run(_: &[String]) -> anyhow::Result<()> {
    say("format");
    execute(cargo().args(["fmt", "--all", "--", "--check"]))?;
    walls::run(&[])?;
    sizes::run(&[])?;
    say("generated pages");
    docs::check(&root())?;
    say("lints");
    execute(cargo().args(["clippy", "--workspace", "--all-targets", "--release", "--quiet", "--", "-D", "warnings"]))?;
    // Not among all targets, since `cargo test` alone does not run it.
    execute(cargo().args(
        "clippy --package tensor-fusion --test e2e --test kubernetes --release --quiet -- -D warnings".split(' '),
    ))?;
    for (tool, arguments) in [("cargo-deny", ["deny", "check"].as_slice()), ("cargo-typos", &["typos"])] {
        let present = std::process::Command::new(tool).arg("--version").output().is_ok_and(|out| out.status.success());
        if present {
            say(tool);
            execute(cargo().args(arguments))?;
        }
    }
    say("all checks hold");
    Ok(())
}
