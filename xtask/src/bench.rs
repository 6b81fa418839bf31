//! Measures, each number against a reference of the same run: what a remote vGPU costs beside the same program directly or the
//! bare network ([`cuda`]), and the pool beside a plain scan and beside the stock scheduler ([`pool`]).

mod cuda;
mod network;
mod pool;

use std::fs;
use std::io::Write;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::setup;
use crate::workspace::{cargo, path, run as execute, say};

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    ours: f64,
    reference: f64,
    unit: String,
    ratio: f64,
    bound: f64,
    holds: bool,
}

/// What a bound limits.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A line as the example programs of crates print it.
#[derive(Debug, Deserialize)]
struct Told {
    name: String,
    unit: String,
    ours: f64,
    reference: f64,
    bound: f64,
    at_least: bool,
}

impl Row {
    fn new(name: &str, unit: &str, ours: f64, reference: f64, bound: Bound) -> Self {
        let ratio = if reference > 0.0 { ours / reference } else { f64::NAN };
        let (bound, holds) = match bound {
            Bound::AtMost(bound) => (bound, ours <= bound),
            Bound::AtLeast(bound) => (bound, ours >= bound),
        };
        Self { name: name.to_owned(), ours, reference, unit: unit.to_owned(), ratio, bound, holds }
    }
}

impl From<Told> for Row {
    fn from(told: Told) -> Self {
        let bound = if told.at_least { Bound::AtLeast(told.bound) } else { Bound::AtMost(told.bound) };
        Self::new(&told.name, &told.unit, told.ours, told.reference, bound)
    }
}

/// Runs the task. Words choose among `cuda`, `pool` and `cluster`; without any all are measured.
pub(crate) fn run(words: &[String]) -> anyhow::Result<()> {
    const PARTS: [&str; 3] = ["cuda", "pool", "cluster"];
    if let Some(unknown) = words.iter().find(|word| !PARTS.contains(&word.as_str())) {
        bail!("`{unknown}` is nothing that can be measured: expected some of {}", PARTS.join(", "));
    }
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    say("building");
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    let mut rows = Vec::new();
    if wanted("cuda") {
        setup::run(&[])?;
        say("measuring the CUDA path");
        rows.extend(cuda::rows()?);
    }
    if wanted("pool") {
        say("placing 100,000 requests on 10,000 nodes of 8 GPUs");
        rows.extend(pool::placement()?);
    }
    if wanted("cluster") {
        say("giving 5,000 pods GPUs of 1,000 nodes, on a real API server");
        rows.extend(pool::cluster()?);
    }
    print(&rows)?;
    fs::write(path("target/bench.json"), serde_json::to_string_pretty(&rows)?)?;
    match rows.iter().filter(|row| !row.holds).count() {
        0 => Ok(()),
        broken => bail!("{broken} of {} bounds are broken on this machine", rows.len()),
    }
}

fn print(rows: &[Row]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>10} {:>10} {:>7}  {:>10} {:<8} what", "ours", "reference", "ratio", "bound", "")?;
    for row in rows {
        let verdict = if row.holds { "holds" } else { "BROKEN" };
        writeln!(
            out,
            "{:>10.3} {:>10.3} {:>7.2}  {:>10.3} {:<8} {} [{}]",
            row.ours, row.reference, row.ratio, row.bound, verdict, row.name, row.unit
        )?;
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
