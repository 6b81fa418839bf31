//! A node of one's own for each test.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A folder that nobody else's node lives in. Stops its node when it goes.
pub(crate) struct Bench {
    folder: TempDir,
}

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Nothing here loads it, so any file will do.
        fs::write(folder.path().join("libtensor_fusion_cuda.so"), "").unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `tensor-fusion WORDS…`, split at spaces.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensor-fusion"));
        command
            .args(words.split_whitespace())
            .env("TENSOR_FUSION_DIR", self.path().join("node"))
            .env("TENSOR_FUSION_LIBRARY", self.path().join("libtensor_fusion_cuda.so"))
            .env("HOME", self.path())
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        for name in ["TENSOR_FUSION_DRIVER", "TENSOR_FUSION_NODE", "TENSOR_FUSION_CONNECT", "TENSOR_FUSION_TOKEN"] {
            command.env_remove(name);
        }
        command.env("TENSOR_FUSION_DRIVER", "soft");
        command
    }

    /// Runs a command that must do.
    pub(crate) fn ok(&self, words: &str) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words}: {}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail: its exit code and what it says.
    pub(crate) fn fails(&self, words: &str) -> (i32, String) {
        let output = self.command(words).output().unwrap();
        assert!(!output.status.success(), "{words}: {}", both(&output));
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs a command and reads its JSON.
    pub(crate) fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{words} --json"))).unwrap()
    }

    /// `run OPTIONS -- sh -c SCRIPT`. Whoever runs the tests may ignore signals (`nohup` does), and a shell cannot trap what
    /// was ignored when it began: so with the defaults.
    pub(crate) fn script(&self, options: &str, script: &str) -> Command {
        let plain = self.command(&format!("run {options}"));
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,TERM,USR1").arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(["--", "/bin/sh", "-c", script]).stdin(Stdio::null());
        command
    }

    /// The bytes of VRAM that are free on GPU 0.
    pub(crate) fn free(&self) -> u64 {
        let gpu = &self.json("gpu ls")[0];
        gpu["vram"].as_u64().unwrap() - gpu["vram_allocated"].as_u64().unwrap()
    }

    /// The node's process.
    pub(crate) fn node_pid(&self) -> Option<u32> {
        let folder = self.path().join("node");
        let log = fs::read_to_string(folder.join("node.log")).ok()?;
        let line = log.lines().rfind(|line| line.starts_with("node is up"))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = self.command("down").output() {
            eprintln!("a node may be left behind: {error}");
        }
    }
}

pub(crate) fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until something holds.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "this never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a command, and waits until it has written `ready` and a line end.
pub(crate) fn started(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.as_mut().unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"ready\n") {
        let read = output.read(&mut byte).unwrap();
        if read == 0 {
            let mut error = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut error).unwrap();
            panic!("it ended before it was ready: {}{error}", String::from_utf8_lossy(&said));
        }
        said.push(byte[0]);
    }
    child
}

pub(crate) fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{signal} {pid}");
}

/// Whether a process still runs; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some('Z' | 'X'))
}

pub(crate) fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}
