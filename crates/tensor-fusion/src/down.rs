//! `tensor-fusion down`: stops this machine's node.

use std::{
    fs::File,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    failure::{Failed, Outcome},
    folder::Folder,
    node::Node,
    print,
};

/// Stop this machine's node, with everything on it.
///
/// Programs that run on its vGPUs get CUDA errors. Nothing to do is no failure.
#[derive(Debug, Args)]
pub(crate) struct Down {}

const PATIENCE: Duration = Duration::from_secs(15);

impl Down {
    pub(crate) fn main(self, json: bool) -> Outcome {
        let folder = Folder::open()?;
        let Some((node, info)) = Node::running(&folder) else {
            return report(json, false, "no node runs here\n");
        };
        node.stop()?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.lock())?;
        let deadline = Instant::now() + PATIENCE;
        while lock.try_lock().is_err() {
            if Instant::now() > deadline {
                return Err(Failed::new(format!("the node, process {}, does not end", info.pid))
                    .hint(format!("`kill -9 {}` ends it; its workers end with it", info.pid)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        report(json, true, "node is down\n")
    }
}

fn report(json: bool, stopped: bool, text: &str) -> Outcome {
    if json {
        return Ok(print::json(&serde_json::json!({ "stopped": stopped }))?);
    }
    Ok(print::text(text)?)
}
