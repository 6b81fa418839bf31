//! The pool: decisions alone, and the operator against a real API server. The crates' own example programs measure, because
//! they may use what this tool must not depend on.

use std::process::Command;

use anyhow::Context;

use super::{Row, Told};
use crate::cluster::{self, Components, Layout};
use crate::workspace::{cargo, output, path, run as execute};

/// Decisions, without a cluster.
pub(super) fn placement() -> anyhow::Result<Vec<Row>> {
    rows(cargo().args(["run", "--release", "--quiet", "-p", "pool", "--example", "scale"]))
}

/// The operator, on a control plane that is made for this and taken down afterwards.
pub(super) fn cluster() -> anyhow::Result<Vec<Row>> {
    // With the whole workspace: for one package alone its dependencies would be built with other features.
    execute(cargo().args(["build", "--release", "--quiet", "--workspace", "--example", "cluster_scale"]))?;
    Components::build()?;
    let layout = Layout::control_plane()?;
    cluster::down(&layout)?;
    cluster::up_in_time(&layout)?;
    let mut command = Command::new(path("target/release/examples/cluster_scale"));
    command.arg(path("target/release/tensor-fusion")).env("KUBECONFIG", layout.kubeconfig());
    let rows = rows(&mut command);
    cluster::down(&layout)?;
    rows
}

/// A row of JSON in each line.
fn rows(command: &mut Command) -> anyhow::Result<Vec<Row>> {
    let text = output(command)?;
    let row = |line: &str| {
        let told: Told = serde_json::from_str(line).with_context(|| format!("`{line}` is no row"))?;
        Ok(Row::from(told))
    };
    text.lines().map(row).collect()
}
