//! The one binary: every role and the user's commands are subcommands, one page each.
//!
//! Exit codes: 0 done · 1 it failed · 2 wrong usage · 125 `run` failed before the program started · 126 the program
//! cannot be executed · 127 the program was not found · 128+n the program was ended by signal n · else the program's own.

mod admit;
mod completions;
mod coverage;
mod crds;
mod down;
mod environment;
mod failure;
mod folder;
mod gpu;
mod hold;
mod http;
mod hypervisor;
mod install_client;
mod keeper;
mod node;
mod operator;
mod print;
mod process;
mod ps;
mod ptxas;
mod run;
mod simulate;
mod token;
mod up;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failed;

/// Share GPUs: run programs on a part of a GPU, on this machine or another, with or without a GPU.
#[derive(Debug, Parser)]
#[command(name = "tensor-fusion", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    /// Print JSON instead of text, errors too
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0        done
  1        it failed
  2        wrong usage
  125      `run` failed before the program started
  126, 127 `run`: the program cannot be executed, was not found
  128+n    `run`: the program was ended by signal n
  other    `run`: the program's own exit code";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Up(up::Up),
    Down(down::Down),
    #[command(subcommand)]
    Gpu(gpu::Gpu),
    Ps(ps::Ps),
    Coverage(coverage::Coverage),
    Admit(admit::Admit),
    Crds(crds::Crds),
    Simulate(simulate::Simulate),
    Operator(operator::Operator),
    Completions(completions::Completions),
    Hypervisor(hypervisor::Hypervisor),
    Keeper(keeper::Keeper),
    #[command(hide = true)]
    Hold(hold::Hold),
    #[command(hide = true)]
    InstallClient(install_client::InstallClient),
    #[command(hide = true)]
    Worker(worker::Worker),
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called_as = words.next().unwrap_or_default();
    if std::path::Path::new(&called_as).file_name().is_some_and(|name| name == "ptxas") {
        return ptxas::main(words);
    }
    let arguments = Arguments::parse();
    let json = arguments.json;
    let result = match arguments.command {
        Command::Run(run) => run.main(),
        Command::Up(up) => up.main(json),
        Command::Down(down) => down.main(json),
        Command::Gpu(gpu) => gpu.main(json),
        Command::Ps(ps) => ps.main(json),
        Command::Coverage(coverage) => coverage.main(json),
        Command::Admit(admit) => admit.main(json),
        Command::Crds(crds) => crds.main(json),
        Command::Simulate(simulate) => simulate.main(json),
        Command::Operator(operator) => operator.main(),
        Command::Completions(completions) => completions.main(),
        Command::InstallClient(install) => install.main(),
        Command::Hypervisor(hypervisor) => hypervisor.main(),
        Command::Keeper(keeper) => keeper.main(),
        Command::Hold(hold) => hold.main(),
        Command::Worker(worker) => worker.main(),
    };
    result.unwrap_or_else(|failed: Failed| failed.report(json))
}
