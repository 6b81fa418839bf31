//! Output for people and for programs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// Writes text to the standard output; whoever hung up does not want the rest.
pub(crate) fn text(text: &str) -> io::Result<ExitCode> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes JSON to the standard output.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<ExitCode> {
    Ok(text(&(serde_json::to_string_pretty(value)? + "\n"))?)
}

/// A table whose columns are as wide as what is in them.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|name| name.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            write!(line, "{cell:<width$}  ").unwrap_or_default();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long ago that was: `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn age(since: u64, now: u64) -> String {
    let seconds = now.saturating_sub(since);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = vec![vec!["0".to_owned(), "a card".to_owned()], vec!["10".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["GPU", "NAME"], &rows), "GPU  NAME\n0    a card\n10   b\n");
        assert_eq!(table(&["GPU"], &[]), "GPU\n");
    }

    #[test]
    fn ages_are_short() {
        let ages: Vec<String> = [0, 59, 60, 7200, 200_000].iter().map(|age_of| age(100, 100 + age_of)).collect();
        assert_eq!(ages, ["0 s", "59 s", "1 min", "2 h", "2 d"]);
        assert_eq!(age(100, 50), "0 s");
    }
}
