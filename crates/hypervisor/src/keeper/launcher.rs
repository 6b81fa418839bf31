//! The agent's side.

use std::{collections::BTreeSet, future::Future, io, path::PathBuf, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

use super::{Ask, Hello, LANGUAGE, Told, Word, line};
use crate::worker::{Keeping, Launcher, Running, START_TIME, Spec, Starting, Status, StatusLine};

/// Has workers started by a keeper. They outlive whoever uses this: they end when told to, or with the keeper.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The keeper's socket.
    pub socket: PathBuf,
}

/// How long to wait before a keeper that is not there is looked for again.
const AGAIN: Duration = Duration::from_millis(100);

impl Launcher for Kept {
    fn start(&self, spec: Spec) -> Starting {
        let this = self.clone();
        Box::pin(async move { this.in_time(this.begin(spec)).await })
    }

    fn keep_only(&self, listen: BTreeSet<String>) -> Keeping {
        let this = self.clone();
        Box::pin(async move {
            let ask = async {
                let (mut told, _writer) = this.ask(Ask::KeepOnly(listen)).await.map_err(|error| error.to_string())?;
                match read(&mut told).await? {
                    Told::Kept => Ok(()),
                    other => Err(strange(other)),
                }
            };
            this.in_time(ask).await
        })
    }
}

impl Kept {
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        // A keeper ends what stands in the way of a worker before it starts it.
        let outcome = tokio::time::timeout(START_TIME * 2, work).await;
        outcome
            .unwrap_or_else(|_| Err("the keeper does not answer".to_owned()))
            .map_err(|error| format!("the keeper of workers at `{}`: {error}", self.socket.display()))
    }

    /// Begins a connection with a question.
    async fn ask(&self, ask: Ask) -> io::Result<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)> {
        let deadline = tokio::time::Instant::now() + START_TIME;
        let stream = loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => break stream,
                // It comes up, as we do.
                Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&line(&Hello { language: LANGUAGE, ask })?).await?;
        Ok((BufReader::new(reader).lines(), writer))
    }

    async fn begin(&self, spec: Spec) -> Result<Running, String> {
        let (mut told, writer) = self.ask(Ask::Start(spec)).await.map_err(|error| error.to_string())?;
        match read(&mut told).await? {
            Told::Started { pid, connect } => {
                let (status, questions) = StatusLine::new();
                let (stop, stopped) = oneshot::channel();
                let (report, ended) = oneshot::channel();
                tokio::spawn(async move {
                    let reason = follow(told, writer, questions, stopped).await;
                    // The node may be gone already; then nobody wants to know.
                    drop(report.send(reason));
                });
                Ok(Running { pid, connect, status, stop, ended })
            }
            other => Err(strange(other)),
        }
    }
}

/// Serves one worker's [`Running`] until the worker has ended.
async fn follow(
    mut told: Lines<BufReader<OwnedReadHalf>>,
    mut writer: OwnedWriteHalf,
    mut questions: mpsc::Receiver<oneshot::Sender<Status>>,
    mut stopped: oneshot::Receiver<()>,
) -> String {
    let mut waiting: std::collections::VecDeque<oneshot::Sender<Status>> = std::collections::VecDeque::new();
    let mut stopping = false;
    loop {
        let word = tokio::select! {
            told = read(&mut told) => match told {
                Ok(Told::Ended(reason)) => return reason,
                Ok(Told::Status(status)) => {
                    if let (Some(question), Some(status)) = (waiting.pop_front(), status) {
                        drop(question.send(status));
                    }
                    continue;
                }
                Ok(other) => return strange(other),
                Err(error) => return format!("its worker is lost with its keeper: {error}"),
            },
            Some(question) = questions.recv() => {
                waiting.push_back(question);
                Word::Status
            }
            _ = &mut stopped, if !stopping => {
                stopping = true;
                Word::Stop
            }
        };
        // A keeper that no longer reads is gone, which the first branch sees.
        if let Ok(line) = line(&word)
            && let Err(error) = writer.write_all(&line).await
        {
            tracing::debug!(%error, "the keeper does not listen");
        }
    }
}

/// A line of the keeper's.
async fn read<T: DeserializeOwned>(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> Result<T, String> {
    match lines.next_line().await {
        Ok(Some(line)) => serde_json::from_str(&line).map_err(|error| format!("it speaks another language: {error}")),
        Ok(None) => Err("it has ended".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn strange(told: Told) -> String {
    match told {
        Told::Refused(why) => why,
        other => format!("it speaks out of turn: {other:?}"),
    }
}
