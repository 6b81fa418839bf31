//! Talking to a node, and starting this machine's when there is none.

use std::{
    fs::File,
    io,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::de::DeserializeOwned;
use types::{Event, Lease, NodeInfo, Request, Token, VgpuId};

use crate::{
    failure::Failed,
    folder::Folder,
    http::{self, Address, Answer},
};

/// A node that answers.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where.
    pub(crate) address: Address,
    /// What it asks for.
    pub(crate) token: Option<Token>,
}

/// A vGPU that lives as long as this value, and a little word of what happens to it.
pub(crate) struct Holding {
    /// The vGPU.
    pub(crate) lease: Lease,
    answer: Answer,
}

impl Node {
    /// This machine's node; `None` when none runs.
    pub(crate) fn running(folder: &Folder) -> Option<(Self, NodeInfo)> {
        let node = Self { address: Address::Unix(folder.socket()), token: None };
        let info = node.get("/v1/node").ok()?;
        Some((node, info))
    }

    /// This machine's node. Starts one in the background when none runs.
    pub(crate) fn running_or_started(folder: &Folder, say: &dyn Fn(&str)) -> Result<Self, Failed> {
        if let Some((node, _)) = Self::running(folder) {
            return Ok(node);
        }
        say("no node runs here yet: starting one in the background");
        // Nobody asked for it to stay: it goes when it has had nothing to do for a while.
        Ok(start(folder, &["--idle-exit", "600"])?.0)
    }

    /// Asks a question.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        let answer = self.send("GET", path, None)?;
        read(answer)
    }

    /// Whether whoever listens there is a node.
    ///
    /// # Errors
    /// It is one, and wants another token.
    pub(crate) fn answers(&self) -> Result<bool, Failed> {
        match self.send("GET", "/v1/node", None) {
            Ok(mut answer) if answer.status == 401 => Err(refusal(&mut answer)),
            Ok(answer) => Ok(read::<NodeInfo>(answer).is_ok()),
            Err(_) => Ok(false),
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer, Failed> {
        let answer = http::send(&self.address, self.token.as_ref(), method, path, body);
        Ok(answer.with_context(|| format!("the node at `{}` does not answer", self.address))?)
    }

    /// Is granted a vGPU for as long as the answer lives.
    pub(crate) fn hold(&self, request: &Request) -> Result<Holding, Failed> {
        let body = serde_json::to_string(request)?;
        let mut answer = self.send("POST", "/v1/vgpus?hold", Some(&body))?;
        if answer.status != 200 {
            return Err(refusal(&mut answer));
        }
        let line = answer.next_line()?.unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(Event::Granted(lease)) => Ok(Holding { lease, answer }),
            _ => Err(Failed::new(format!("the node at `{}` granted nothing: `{}`", self.address, line.trim()))),
        }
    }

    /// Takes a vGPU back; returns when nothing is left of it.
    pub(crate) fn remove(&self, id: &VgpuId) -> Result<(), Failed> {
        let mut answer = self.send("DELETE", &format!("/v1/vgpus/{id}"), None)?;
        // 404: it went by itself meanwhile.
        if matches!(answer.status, 204 | 404) { Ok(()) } else { Err(refusal(&mut answer)) }
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) -> Result<(), Failed> {
        let mut answer = self.send("POST", "/v1/stop", None)?;
        if answer.status == 202 { Ok(()) } else { Err(refusal(&mut answer)) }
    }
}

fn read<T: DeserializeOwned>(mut answer: Answer) -> Result<T, Failed> {
    if answer.status != 200 {
        return Err(refusal(&mut answer));
    }
    Ok(serde_json::from_str(&answer.text()?).context("the node's answer is not understood")?)
}

fn refusal(answer: &mut Answer) -> Failed {
    let text = answer.text().unwrap_or_default();
    match serde_json::from_str::<types::Failure>(&text) {
        Ok(failure) => Failed::refused(failure),
        Err(_) => Failed::new(format!("the node answered {}: `{}`", answer.status, text.trim())),
    }
}

impl Holding {
    /// Waits until the vGPU is lost, and why; `None` when the node itself went.
    pub(crate) fn lost(&mut self) -> Option<String> {
        while let Ok(Some(line)) = self.answer.next_line() {
            if let Ok(Event::Lost { reason, .. }) = serde_json::from_str(&line) {
                return Some(reason);
            }
        }
        None
    }
}

const START_TIME: Duration = Duration::from_secs(20);

/// Starts a node in the background and waits until it answers. Somebody else may be doing the same.
pub(crate) fn start(folder: &Folder, options: &[&str]) -> Result<(Node, NodeInfo), Failed> {
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let log = File::options().create(true).append(true).open(folder.log())?;
    let mut child = Command::new(&program)
        .args(["up", "--background"])
        .args(options)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("`{}` cannot be started", program.display()))?;
    let deadline = Instant::now() + START_TIME;
    loop {
        if let Some(node) = Node::running(folder) {
            return Ok(node);
        }
        if let Some(reason) = ended(&mut child, folder)? {
            return Err(Failed::new(format!("the node ended at once: {reason}"))
                .hint(format!("its log is `{}`", folder.log().display())));
        }
        if Instant::now() > deadline {
            return Err(Failed::new(format!("the node did not answer within {} s", START_TIME.as_secs()))
                .hint(format!("its log is `{}`", folder.log().display())));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Why our node ended, unless it ended because another one runs already.
fn ended(child: &mut Child, folder: &Folder) -> io::Result<Option<String>> {
    match child.try_wait()? {
        None => Ok(None),
        Some(status) if status.code() == Some(crate::up::ANOTHER_RUNS.into()) => Ok(None),
        Some(status) => {
            let log = std::fs::read_to_string(folder.log()).unwrap_or_default();
            let last = log.lines().rfind(|line| !line.starts_with("hint:") && !line.trim().is_empty());
            let last = last.map(|line| line.trim_start_matches("error: ").to_owned());
            let how = || status.signal().map_or_else(|| status.to_string(), |number| format!("signal {number}"));
            Ok(Some(last.unwrap_or_else(how)))
        }
    }
}
