//! `tensor-fusion simulate`: a stream of requests against an inventory of GPUs, with no cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::{failure::Failed, failure::Outcome, print};

/// Replay requests against an inventory of GPUs.
///
/// A trace (YAML or JSON) has `nodes` (name, count, gpus, model, tflops, vram of each GPU), `requests` (name, at, seconds,
/// replicas, gang, request with vram, tflops, count, qos, strategy, …), and may have a `policy` and `quotas`;
/// `docs/reference/traces.md` names all of it. Prints where each request went and when, how long they waited, and how full
/// and how torn the pool was.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Trace
    trace: PathBuf,

    /// Leave out the single requests
    #[arg(long)]
    summary: bool,
}

impl Simulate {
    pub(crate) fn main(self, json: bool) -> Outcome {
        let path = self.trace.display();
        let text = std::fs::read_to_string(&self.trace)
            .map_err(|error| Failed::new(format!("`{path}` cannot be read: {error}")))?;
        let trace: pool::Trace =
            serde_yaml_ng::from_str(&text).map_err(|error| Failed::new(format!("`{path}` is no trace: {error}")))?;
        let mut report = pool::simulate(&trace)?;
        if json {
            if self.summary {
                report.outcomes.clear();
            }
            return Ok(print::json(&report)?);
        }
        if !self.summary {
            let head = ["REQUEST", "QOS", "ARRIVED", "PLACED", "ENDED", "GPUS", "EVICTED", "REFUSED AT FIRST"];
            let rows: Vec<Vec<String>> = report.outcomes.iter().map(row).collect();
            print::text(&print::table(&head, &rows))?;
            print::text("\n")?;
        }
        print::text(&print::table(
            &["QOS", "ASKED", "PLACED", "EVICTIONS", "MEAN WAIT", "MEDIAN", "P99", "LONGEST"],
            &report.classes.iter().map(class).collect::<Vec<_>>(),
        ))?;
        let shares =
            |what: &str, end: f64, mean: f64| vec![what.to_owned(), format!("{mean:.1} %"), format!("{end:.1} %")];
        let rows = [
            shares("VRAM given out", report.vram_percent, report.mean_vram_percent),
            shares("compute given out", report.tflops_percent, report.mean_tflops_percent),
            shares("free VRAM on partly used GPUs", report.fragmentation_percent, report.mean_fragmentation_percent),
        ];
        print::text(&format!("\n{}", print::table(&["POOL", "MEAN", "AT THE END"], &rows)))?;
        print::text(&format!(
            "\n{} of {} placed in {} s, mean wait {:.1} s, longest {} s\n",
            report.placed,
            report.classes.iter().map(|class| class.asked).sum::<usize>(),
            report.seconds,
            report.mean_wait_seconds,
            report.longest_wait_seconds,
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn row(one: &pool::Outcome) -> Vec<String> {
    let time = |at: Option<u64>| at.map_or_else(|| "never".to_owned(), |at| format!("{at} s"));
    let evicted = if one.evicted == 0 { String::new() } else { format!("{} times", one.evicted) };
    vec![
        one.name.clone(),
        one.qos.to_string(),
        format!("{} s", one.arrived),
        time(one.placed),
        time(one.ended),
        one.gpus.join(","),
        evicted,
        one.refused.clone().unwrap_or_default(),
    ]
}

fn class(class: &pool::ClassReport) -> Vec<String> {
    vec![
        class.qos.to_string(),
        class.asked.to_string(),
        class.placed.to_string(),
        class.evictions.to_string(),
        format!("{:.1} s", class.mean_wait_seconds),
        format!("{} s", class.median_wait_seconds),
        format!("{} s", class.p99_wait_seconds),
        format!("{} s", class.longest_wait_seconds),
    ]
}
