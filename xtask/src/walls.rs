//! Which crate of the workspace may use which: the picture in ARCHITECTURE.md, held by a tool.

use anyhow::{Context, bail};
use serde_json::Value;

use crate::workspace::{cargo, output, say};

/// Every crate and the workspace crates that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("cuda", &[]),
    ("ptx", &[]),
    ("pool", &["types"]),
    ("limiter", &["cuda", "types"]),
    ("gpu", &["cuda", "ptx", "types"]),
    ("wire", &["cuda", "types"]),
    ("glibc-floor", &[]),
    ("client", &["cuda", "glibc-floor", "gpu", "limiter", "types", "wire"]),
    ("worker", &["cuda", "gpu", "limiter", "types", "wire"]),
    ("crd", &["types"]),
    ("hypervisor", &["crd", "cuda", "gpu", "limiter", "types"]),
    ("operator", &["crd", "pool", "types"]),
    ("smi", &["glibc-floor"]),
    (
        "tensor-fusion",
        &[
            "client",
            "crd",
            "cuda",
            "gpu",
            "hypervisor",
            "limiter",
            "operator",
            "pool",
            "ptx",
            "types",
            "wire",
            "worker",
        ],
    ),
    ("xtask", &["cuda"]),
];

/// Crates that may not use an asynchronous runtime: the client lives in other people's processes, and nobody on the
/// path of a CUDA call waits for a scheduler of ours.
const NO_RUNTIME: &[&str] = &["types", "cuda", "ptx", "pool", "limiter", "gpu", "wire", "client", "worker"];

/// Runs the task.
pub(crate) fn run(_: &[String]) -> anyhow::Result<()> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut broken = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|row| row.0 == name) else {
            broken.push(format!("`{name}` has no row in xtask/src/walls.rs: say what it may use"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"].as_str() == Some("dev");
            if names.contains(&used) && !in_tests && !allowed.contains(&used) {
                broken.push(format!("`{name}` uses `{used}`, and may use only: {}", allowed.join(", ")));
            }
            if ["tokio", "async-std", "smol"].contains(&used) && !in_tests && NO_RUNTIME.contains(&name) {
                broken.push(format!("`{name}` uses `{used}`: it must work without an asynchronous runtime"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("walls are broken:\n  {}", broken.join("\n  "));
    }
    say("walls hold");
    Ok(())
}
