//! Processes with a time limit: nothing that a test starts outlives it, and a hang is a failure with a message.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Long enough for the slowest program on a busy machine; a program that takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// What a finished process left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// An error that shows everything, unless the exit code is this one.
    pub(crate) fn expect_code(self, code: i32) -> Result<Self, String> {
        if self.status.code() == Some(code) {
            Ok(self)
        } else {
            Err(self.describe(&format!("expected exit code {code}")))
        }
    }

    /// An error that shows everything, unless the process ended with exit code 0.
    pub(crate) fn success(self) -> Result<Self, String> {
        self.expect_code(0)
    }

    /// Everything that is known, after a sentence that says what is wrong.
    pub(crate) fn describe(&self, what: &str) -> String {
        format!("{what}: {}\n--- stdout\n{}\n--- stderr\n{}", self.status, tail(&self.stdout), tail(&self.stderr))
    }
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// A running process in a process group of its own, killed with the group when dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    stdout: Option<Receiver<String>>,
    seen: String,
    stderr: Option<JoinHandle<String>>,
    started: Instant,
}

impl Running {
    /// Starts a command; standard input stays open until [`Self::close_stdin`] or the end.
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let (lines, stdout) = channel();
        let pipe = child.stdout.take().ok_or("no stdout")?;
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut pipe = child.stderr.take().ok_or("no stderr")?;
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ok(Self { child, name, stdout: Some(stdout), seen: String::new(), stderr: Some(stderr), started })
    }

    /// The process id, which is also the group's.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on standard output that `wanted` says yes to.
    pub(crate) fn line(&mut self, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        let deadline = self.started + PATIENCE;
        loop {
            let lines = self.stdout.as_ref().ok_or("standard output was taken")?;
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if wanted(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.kill_group("KILL");
                    self.child.wait().ok();
                    let stderr = self.stderr();
                    return Err(format!(
                        "{} ended early\n--- stdout\n{}\n--- stderr\n{}",
                        self.name,
                        tail(&self.seen),
                        stderr
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.kill_group("KILL");
                    let stderr = self.stderr();
                    return Err(format!(
                        "{} did not say it\n--- stdout\n{}\n--- stderr\n{}",
                        self.name,
                        tail(&self.seen),
                        stderr
                    ));
                }
            }
        }
    }

    fn stderr(&mut self) -> String {
        self.stderr.take().and_then(|thread| thread.join().ok()).map(|text| tail(&text)).unwrap_or_default()
    }

    /// Writes to standard input.
    pub(crate) fn input(&mut self, text: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("standard input is closed")?;
        stdin.write_all(text.as_bytes()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Closes standard input.
    pub(crate) fn close_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: &str) {
        kill(&format!("-{signal}"), &self.child.id().to_string());
    }

    /// Sends a signal to the whole group.
    pub(crate) fn kill_group(&self, signal: &str) {
        kill(&format!("-{signal}"), &format!("-{}", self.child.id()));
    }

    /// Waits for the end; a process that is still there at the limit is killed with its group and that is an error.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Finished, String> {
        drop(self.close_stdin());
        let deadline = Instant::now() + limit;
        let lines = self.stdout.take().ok_or("standard output was taken")?;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let stacks = stacks(self.child.id());
                    self.kill_group("KILL");
                    let stderr = self.stderr();
                    return Err(format!(
                        "{} hangs after {limit:?}\n--- stdout\n{}\n--- stderr\n{}\n--- where\n{stacks}",
                        self.name,
                        tail(&self.seen),
                        stderr
                    ));
                }
            }
        }
        let status = self.child.wait().map_err(|error| format!("{}: {error}", self.name))?;
        self.kill_group("KILL");
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(Finished { status, stdout: std::mem::take(&mut self.seen), stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group("KILL");
        self.child.wait().ok();
    }
}

/// Runs a command to its end within the limit.
pub(crate) fn run(command: Command, limit: Duration) -> Result<Finished, String> {
    Running::start(command)?.finish(limit)
}

fn kill(signal: &str, target: &str) {
    // The group may be gone already.
    Command::new("kill").args([signal, "--", target]).stderr(Stdio::null()).status().ok();
}

/// What each thread of a process waits for, as the kernel knows it: the first question about a hang.
fn stacks(pid: u32) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default().trim().to_owned();
        text.push_str(&format!("{} waits in {}\n", read("comm"), read("wchan")));
    }
    text
}
