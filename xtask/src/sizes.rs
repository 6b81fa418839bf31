//! No hand-written file longer than 800 lines: what cannot be read in one sitting is cut along its seams.

use std::fs;

use anyhow::bail;

use crate::workspace::{path, say, tracked};

/// Lines from which a file is refused.
const LIMIT: usize = 800;

/// Kinds of file that people write and read.
const KINDS: &[&str] = &["rs", "cu", "c", "cpp", "h", "cuh", "py", "sh", "md", "js", "css", "html", "toml", "yaml"];

/// Files that may be longer, and why.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Runs the task.
pub(crate) fn run(_: &[String]) -> anyhow::Result<()> {
    let mut long = Vec::new();
    for file in tracked()? {
        let name = file.to_string_lossy();
        let kind = file.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
        if !KINDS.contains(&kind.as_str()) || EXCEPTIONS.iter().any(|exception| exception.0 == name) {
            continue;
        }
        let text = fs::read_to_string(path(&name))?;
        let generated = text.lines().take(5).any(|line| line.contains("@generated"));
        let lines = text.lines().count();
        if lines > LIMIT && !generated {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    if !long.is_empty() {
        bail!("longer than {LIMIT} lines:\n  {}", long.join("\n  "));
    }
    say("no file is too long");
    Ok(())
}
