//! Programs that outlive the command that starts them: a log and a file with their number each.
//!
//! The number is kept with the time at which the process started, so that a number which the kernel has given away again is
//! never taken for ours.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::layout::Layout;
use crate::workspace::describe;

/// How long a program may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a program in the background.
pub(crate) fn spawn(layout: &Layout, name: &str, command: &mut Command) -> anyhow::Result<u32> {
    let log = fs::OpenOptions::new().create(true).append(true).open(layout.log(name))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Its own group, so that a Ctrl-C at the command which started it is not meant for it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    remember(layout, name, child.id())?;
    Ok(child.id())
}

/// Notes that a process is the program of this name.
pub(crate) fn remember(layout: &Layout, name: &str, pid: u32) -> anyhow::Result<()> {
    let since = started(pid).with_context(|| broken(layout, name, "ended at once"))?;
    fs::write(file(layout, name), format!("{pid} {since}\n"))?;
    Ok(())
}

/// The process of a program that runs.
pub(crate) fn alive(layout: &Layout, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file(layout, name)).ok()?;
    let (pid, since) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (started(pid)? == since).then_some(pid)
}

/// Ends a program, if it runs, and waits until it has.
pub(crate) fn stop(layout: &Layout, name: &str) -> anyhow::Result<()> {
    for (signal, patience) in [("-TERM", PATIENCE), ("-KILL", PATIENCE)] {
        let Some(pid) = alive(layout, name) else { break };
        // It may end by itself in between: what counts is that it is gone.
        Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status()?;
        let deadline = Instant::now() + patience;
        while alive(layout, name).is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if let Some(pid) = alive(layout, name) {
        bail!("{name} (process {pid}) does not end");
    }
    match fs::remove_file(file(layout, name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The one child of a process, waited for a moment.
pub(crate) fn only_child(pid: u32) -> anyhow::Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let children = fs::read_to_string(&path).with_context(|| format!("process {pid} has ended"))?;
        if let Some(child) = children.split_whitespace().next() {
            return Ok(child.parse()?);
        }
        if Instant::now() > deadline {
            bail!("process {pid} has started nothing");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for something; gives up at once when one of the programs that it needs has ended.
pub(crate) fn wait_until(
    layout: &Layout,
    what: &str,
    needs: &[String],
    patience: Duration,
    mut done: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while !done() {
        for name in needs {
            if alive(layout, name).is_none() {
                bail!(broken(layout, name, "has ended"));
            }
        }
        if Instant::now() > deadline {
            let name = needs.first().map_or("", String::as_str);
            bail!(broken(layout, name, &format!("was waited {} s for: {what}", patience.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// An error's text with the end of the log, and where the rest is.
fn broken(layout: &Layout, name: &str, what: &str) -> String {
    let log = layout.log(name);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n  ");
    format!("{name} {what}; the end of `{}`:\n  {tail}", log.display())
}

fn file(layout: &Layout, name: &str) -> PathBuf {
    layout.root.join("pids").join(name)
}

/// When a process started, in the kernel's ticks; nothing for one that is gone or only waits to be collected.
fn started(pid: u32) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it are numbered from 3 (proc(5)).
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let state = *fields.first()?;
    (state != "Z" && state != "X").then(|| fields.get(19).map(|&since| since.to_owned()))?
}
