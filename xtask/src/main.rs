//! Project automation: everything that building, proving and packing Tensor Fusion takes beyond `cargo build`.
//!
//! `cargo xtask` prints the list. Nothing need be installed beforehand but Rust, gcc and Python; `setup` fetches the rest.

use std::process::ExitCode;

mod bench;
mod bundle;
mod check;
mod cluster;
mod demo;
mod docs;
mod image;
mod old_glibc;
mod programs;
mod setup;
mod sizes;
mod table;
mod test;
mod walls;
mod workspace;

/// One subcommand: its name, what it does, and how.
type Task = (&'static str, &'static str, fn(&[String]) -> anyhow::Result<()>);

const TASKS: &[Task] = &[
    ("setup", "install NVIDIA's compiler and the Python clients, compile the test programs", setup::run),
    ("check", "format, lints, walls, sizes: what CI asks of every change", check::run),
    ("walls", "which crate may use which", walls::run),
    ("sizes", "no file that nobody can read in one sitting", sizes::run),
    ("docs", "write the pages that are made from code; with --check, say whether they are up to date", make_docs),
    ("table", "make the tables of CUDA and NVML from a folder of NVIDIA's headers", make_table),
    ("demo", "run CUDA programs on remote vGPUs and show what happens", demo::run),
    ("bench", "measure what a remote vGPU costs; writes target/bench.json", bench::run),
    ("bundle", "pack everything that a machine with a GPU needs to check us", bundle::run),
    ("image", "make the container image, without Docker: target/images/tensor-fusion.tar", image::run),
    ("cluster", "a real Kubernetes cluster of two nodes on this machine: up, down, status", cluster::run),
    ("test", "all tests, ending with `N passed, N failed, N skipped`", test::run),
];

fn make_docs(arguments: &[String]) -> anyhow::Result<()> {
    match arguments {
        [] => docs::write(&workspace::root()),
        [check] if check == "--check" => docs::check(&workspace::root()),
        _ => anyhow::bail!("usage: cargo xtask docs [--check]"),
    }
}

fn make_table(arguments: &[String]) -> anyhow::Result<()> {
    let [include] = arguments else { anyhow::bail!("usage: cargo xtask table INCLUDE_DIRECTORY") };
    table::run(include.as_ref(), &workspace::path("crates/cuda/table"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("", String::as_str);
    let Some((_, _, task)) = TASKS.iter().find(|task| task.0 == name) else {
        eprintln!("usage: cargo xtask TASK\n");
        for (name, what, _) in TASKS {
            eprintln!("  {name:<8} {what}");
        }
        return ExitCode::from(2);
    };
    match task(arguments.get(1..).unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            // Not a failure to those who test: 77 is how test programs since automake say that they cannot run here.
            if error.is::<cluster::Impossible>() { ExitCode::from(77) } else { ExitCode::FAILURE }
        }
    }
}
