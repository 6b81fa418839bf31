//! Where things lie in the work tree, and how commands are run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The root of the work tree.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A path in the work tree.
pub(crate) fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// Says what is being done; the one voice of this program.
pub(crate) fn say(text: &str) {
    eprintln!("== {text}");
}

/// The cargo that runs us, as a person would run it: what `cargo run` tells us about our own package would make build scripts
/// that look at such variables (ring's) run again, and with them everything above them be built again.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let ours =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with our standard streams; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs a command and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {}", describe(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", describe(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program ends well; it says nothing.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Installs Debian packages, as root or by `sudo`. What it prints is left out: people read what a task says on standard
/// output.
pub(crate) fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    let install = format!("apt-get install --yes -qq --no-install-recommends {}", packages.join(" "));
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let prefix = if root {
        ""
    } else if succeeds("sudo", &["-n", "true"]) {
        "sudo "
    } else {
        bail!("these packages are missing: {}; install them as root: {install}", packages.join(", "));
    };
    say(&format!("installing {}", packages.join(", ")));
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{prefix}apt-get update -qq && {prefix}{install}"));
    run(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
}

/// A command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Writes a file unless it holds just that, so that its time says when it changed; whether it did.
pub(crate) fn write_changed(file: &Path, text: &str) -> anyhow::Result<bool> {
    let same = std::fs::read_to_string(file).is_ok_and(|before| before == text);
    if !same {
        std::fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(!same)
}

/// Files below a directory, in order, for which `wanted` says yes.
pub(crate) fn files(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries =
            std::fs::read_dir(&directory).with_context(|| format!("cannot list `{}`", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The files that git tracks, or would if they were added.
pub(crate) fn tracked() -> anyhow::Result<Vec<PathBuf>> {
    let list = output(
        Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root()),
    )?;
    Ok(list.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect())
}
