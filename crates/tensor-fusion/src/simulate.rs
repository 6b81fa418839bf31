//! `tensor-fusion simulate`: a stream of requests against an inventory of GPUs, with no cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::{failure::Failed, failure::Outcome, print};

/// Replay requests against an inventory of GPUs.
///
/// A trace (YAML or JSON) has `nodes` (name, count, gpus, model, tflops, vram of each GPU) and `requests` (name, at, seconds,
/// replicas, request with vram, tflops, count, strategy, …). Prints where each request went and when, and what the pool
/// looks like at the end.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Trace
    trace: PathBuf,
}

impl Simulate {
    pub(crate) fn main(self, json: bool) -> Outcome {
        let path = self.trace.display();
        let text = std::fs::read_to_string(&self.trace)
            .map_err(|error| Failed::new(format!("`{path}` cannot be read: {error}")))?;
        let trace: pool::Trace =
            serde_yaml_ng::from_str(&text).map_err(|error| Failed::new(format!("`{path}` is no trace: {error}")))?;
        let report = pool::simulate(&trace)?;
        if json {
            return Ok(print::json(&report)?);
        }
        let rows: Vec<Vec<String>> = report
            .outcomes
            .iter()
            .map(|one| {
                let placed = one.placed.map_or_else(|| "never".to_owned(), |at| format!("{at} s"));
                let note = one.refused.clone().unwrap_or_default();
                vec![one.name.clone(), format!("{} s", one.arrived), placed, one.gpus.join(","), note]
            })
            .collect();
        print::text(&print::table(&["REQUEST", "ARRIVED", "PLACED", "GPUS", "REFUSED AT FIRST"], &rows))?;
        print::text(&format!(
            "\n{} of {} placed, {:.1} % of VRAM and {:.1} % of compute given out, {:.1} % of the free VRAM on partly used GPUs, \
             mean wait {:.1} s, longest {} s\n",
            report.placed,
            report.outcomes.len(),
            report.vram_percent,
            report.tflops_percent,
            report.fragmentation_percent,
            report.mean_wait_seconds,
            report.longest_wait_seconds,
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
