//! A keeper holds workers for a node's agent, so that they and the programs on them outlive it: it may be upgraded, killed or
//! taken away, and the next one goes on where it was.
//!
//! The agent decides, the keeper only holds. They talk over a Unix socket that nobody but root reaches, a line of JSON at a time:
//!
//! - A connection that begins with [`Ask::Start`] is one worker's. Told the same again, from another connection, the keeper answers with the
//!   worker that there is; told something else for the same place, it ends the old one first. Then come [`Word`]s, and [`Told`] in
//!   answer. A worker is ended by [`Word::Stop`] alone; a connection that closes says nothing about it.
//! - [`Ask::KeepOnly`] ends what no agent wants any more.
//!
//! A keeper that ends takes its workers with it, as an agent without one does.

mod launcher;
mod serve;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use launcher::Kept;
pub use serve::{Keeper, serve};

use crate::worker::{Spec, Status};

/// The language of this module. A keeper that runs longer than its agent may speak an older one.
pub const LANGUAGE: u32 = 1;

/// The first line on a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Hello {
    /// [`LANGUAGE`] of who asks.
    language: u32,
    ask: Ask,
}

/// What an agent wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    /// A worker that serves this.
    Start(Spec),
    /// No workers but those that listen at one of these.
    KeepOnly(BTreeSet<String>),
}

/// What an agent says of its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// What does it do?
    Status,
    /// It shall end.
    Stop,
}

/// What a keeper says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// The worker is up.
    Started { pid: u32, connect: String },
    /// What was asked for cannot be had, and why.
    Refused(String),
    /// What the worker does; `None` when it did not say.
    Status(Option<Status>),
    /// Nothing is left of the worker, and why.
    Ended(String),
    /// Workers were ended.
    Kept,
}

/// A line of JSON.
fn line(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests;
