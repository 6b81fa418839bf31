//! Workers as child processes.
//!
//! A worker lives as long as its standard input is open, so it ends with the node however the node ends. It tells where
//! it listens in one line of JSON on its standard output, and answers each line `status` with one line more.

use std::{collections::BTreeSet, fs::File, future::Future, path::PathBuf, pin::Pin, process::Stdio, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot},
};
use types::{Bytes, Capability, Process, Tflops, Token, VgpuId};

use crate::provider::Driver;

/// What a worker shall serve.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The vGPU.
    pub id: VgpuId,
    /// Where to listen.
    pub listen: String,
    /// What opens the GPUs.
    pub driver: Driver,
    /// The driver's devices, in order of the program's ordinals.
    pub gpus: Vec<u32>,
    /// Memory on each of them.
    pub vram: Bytes,
    /// Compute on each of them.
    pub tflops: Option<Tflops>,
    /// What a software GPU shall present itself as.
    pub compute_capability: Option<Capability>,
    /// What programs must show.
    pub token: Option<Token>,
    /// Where the worker's messages go, if whoever starts it sees the same files.
    #[serde(skip)]
    pub log: PathBuf,
}

impl Spec {
    /// Whether a worker of the other serves as one of this would.
    #[must_use]
    pub fn is_served_by(&self, other: &Self) -> bool {
        // What it is called and where it writes is between it and whoever starts it.
        *self == Self { id: self.id.clone(), log: self.log.clone(), ..other.clone() }
    }
}

/// A worker's first line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Where it listens.
    pub listening: String,
}

/// A worker's answer to `status`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Memory in use, of all its devices.
    pub vram_used: Bytes,
    /// The processes that use it.
    pub processes: Vec<Process>,
}

/// A running worker. Dropping it ends the worker.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub connect: String,
    /// Asks it what it does.
    pub status: StatusLine,
    /// Ends it when dropped.
    pub stop: oneshot::Sender<()>,
    /// Says how it ended, once nothing is left of it.
    pub ended: oneshot::Receiver<String>,
}

/// Asks a worker what it does.
#[derive(Clone, Debug)]
pub struct StatusLine(mpsc::Sender<oneshot::Sender<Status>>);

impl StatusLine {
    /// The two ends: for the node, and for whoever answers.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Status>>) {
        let (sender, receiver) = mpsc::channel(4);
        (Self(sender), receiver)
    }

    /// What the worker does now; `None` when it is gone or does not answer soon.
    pub async fn ask(&self) -> Option<Status> {
        let (sender, receiver) = oneshot::channel();
        let ask = async {
            self.0.send(sender).await.ok()?;
            receiver.await.ok()
        };
        tokio::time::timeout(Duration::from_millis(500), ask).await.ok().flatten()
    }
}

/// Something that becomes a worker.
pub type Starting = Pin<Box<dyn Future<Output = Result<Running, String>> + Send>>;

/// Something that ends workers which nobody wants.
pub type Keeping = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Starts workers: the seam between deciding and processes.
pub trait Launcher: Send + Sync + std::fmt::Debug {
    /// Starts a worker, or takes up the one that serves the same already.
    fn start(&self, spec: Spec) -> Starting;

    /// Ends the workers that an earlier process of ours left, but those that listen at one of these.
    fn keep_only(&self, listen: BTreeSet<String>) -> Keeping;
}

/// Starts workers as children of this process.
#[derive(Clone, Debug)]
pub struct Children {
    /// The program that has the `worker` subcommand.
    pub program: PathBuf,
    /// Variables that workers get besides ours.
    pub environment: Vec<(String, String)>,
}

pub(crate) const START_TIME: Duration = Duration::from_secs(10);
const STOP_TIME: Duration = Duration::from_secs(1);

impl Launcher for Children {
    fn start(&self, spec: Spec) -> Starting {
        let this = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(START_TIME, this.spawn(&spec)).await {
                Ok(result) => result,
                Err(_) => Err(format!("its worker said nothing for {} s", START_TIME.as_secs())),
            }
        })
    }

    fn keep_only(&self, _: BTreeSet<String>) -> Keeping {
        // Children end with their parent: it has left none.
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Children {
    fn command(&self, spec: &Spec) -> Command {
        let mut command = Command::new(&self.program);
        let gpus: Vec<String> = spec.gpus.iter().map(u32::to_string).collect();
        command.args(["worker", "--parent-stdin", "--listen", &spec.listen, "--gpu", &gpus.join(",")]).args([
            "--driver",
            &spec.driver.to_string(),
            "--vram",
            &spec.vram.get().to_string(),
        ]);
        if let Some(tflops) = spec.tflops {
            command.args(["--tflops", &tflops.to_string()]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(capability) = spec.compute_capability {
            command.args(["--cc", &capability.to_string()]);
            // For a software GPU behind a library that was given by its path.
            command.env("TENSOR_FUSION_SOFT_CC", capability.to_string());
        }
        // Left over from a program on another vGPU that started this node.
        command.env_remove("TENSOR_FUSION_CONNECT").env_remove("LD_LIBRARY_PATH");
        // By the environment: arguments can be read by everybody on the machine.
        match &spec.token {
            Some(token) => command.env("TENSOR_FUSION_TOKEN", token.reveal()),
            None => command.env_remove("TENSOR_FUSION_TOKEN"),
        };
        command
    }

    async fn spawn(&self, spec: &Spec) -> Result<Running, String> {
        let log = File::create(&spec.log).map_err(|error| format!("`{}`: {error}", spec.log.display()))?;
        let mut child = self
            .command(spec)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // What a terminal sends is for the node, which ends its workers itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("`{}` cannot be started: {error}", self.program.display()))?;
        let (Some(pid), Some(stdin), Some(stdout)) = (child.id(), child.stdin.take(), child.stdout.take()) else {
            return Err("its worker ended at once".to_owned());
        };
        let mut lines = BufReader::new(stdout).lines();
        let Some(hello) = first_line(&mut lines).await else {
            let status = child.wait().await.map_err(|error| error.to_string())?;
            return Err(format!("its worker ended at once ({status}){}", last_words(&spec.log)));
        };
        let (status, questions) = StatusLine::new();
        let (stop, stopped) = oneshot::channel();
        let (report, ended) = oneshot::channel();
        let log = spec.log.clone();
        tokio::spawn(async move {
            let reason = watch(child, stdin, lines, questions, stopped, &log).await;
            // The node may be gone already; then nobody wants to know.
            drop(report.send(reason));
        });
        Ok(Running { pid, connect: hello.listening, status, stop, ended })
    }
}

async fn first_line(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<Hello> {
    let line = lines.next_line().await.ok()??;
    serde_json::from_str(&line).ok()
}

/// Serves one worker until it ends, or until it is told to end.
async fn watch(
    mut child: Child,
    mut stdin: ChildStdin,
    mut lines: Lines<BufReader<ChildStdout>>,
    mut questions: mpsc::Receiver<oneshot::Sender<Status>>,
    mut stopped: oneshot::Receiver<()>,
    log: &std::path::Path,
) -> String {
    let mut waiting: std::collections::VecDeque<oneshot::Sender<Status>> = std::collections::VecDeque::new();
    let mut open = true;
    loop {
        tokio::select! {
            ended = child.wait() => {
                return match ended {
                    Ok(status) => format!("its worker ended by itself ({status}){}", last_words(log)),
                    Err(error) => format!("its worker is lost: {error}"),
                };
            }
            _ = &mut stopped => break,
            Some(question) = questions.recv() => {
                // A worker that no longer reads is about to end, which the first branch sees.
                if stdin.write_all(b"status\n").await.is_ok() {
                    waiting.push_back(question);
                }
            }
            line = lines.next_line(), if open => match line {
                Ok(Some(line)) => {
                    if let (Some(question), Ok(status)) = (waiting.pop_front(), serde_json::from_str(&line)) {
                        drop(question.send(status));
                    }
                }
                _ => open = false,
            },
        }
    }
    drop(stdin);
    if tokio::time::timeout(STOP_TIME, child.wait()).await.is_err() {
        // It is stuck, in a kernel for example.
        if let Err(error) = child.kill().await {
            tracing::warn!(%error, "a worker cannot be killed");
        }
    }
    "it was taken back".to_owned()
}

/// The last line of a worker's log, which usually says why it ended.
fn last_words(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim())).unwrap_or_default()
}
