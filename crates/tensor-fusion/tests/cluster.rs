//! Tensor Fusion on a real Kubernetes cluster: stock scheduler, kubelets, containerd, our chart, and unmodified programs.
//!
//! `cargo xtask test` brings the cluster up, runs this and takes the cluster down; with `cargo xtask cluster up` done by hand,
//! `cargo xtask test --cluster [FILTER]` runs this on it and leaves it. The cases share one installation and run in order.
//!
//! Where the machine carries no nodes, the control plane is there all the same: cases that run no program in a pod run on it, the
//! others are shown as ignored, and the reason is printed. Where not even that comes up, one case is shown, with the reason in its
//! name.

mod cluster {
    pub(crate) mod accounts;
    pub(crate) mod case;
    pub(crate) mod chart;
    pub(crate) mod clocks;
    pub(crate) mod crowds;
    pub(crate) mod faults;
    pub(crate) mod hostile;
    pub(crate) mod kubernetes;
    pub(crate) mod losses;
    pub(crate) mod native;
    pub(crate) mod nodes;
    pub(crate) mod objects;
    pub(crate) mod operators;
    pub(crate) mod plugin;
    pub(crate) mod pods;
    pub(crate) mod python;
    pub(crate) mod stand_in;
    pub(crate) mod workloads;
}

use std::process::ExitCode;

use cluster::case::Case;
use cluster::{
    chart, clocks, crowds, faults, hostile, kubernetes, losses, native, nodes, objects, operators, python, stand_in,
    workloads,
};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They are steps on one cluster.
    arguments.test_threads = Some(1);
    if let Ok(reason) = std::env::var("TENSOR_FUSION_TEST_CLUSTER_MISSING") {
        let none = Trial::test(format!("cluster: {reason}"), || Ok(())).with_ignored_flag(true);
        return libtest_mimic::run(&arguments, vec![none]).exit_code();
    }
    if let Some(reason) = kubernetes::without_nodes() {
        eprintln!("on the control plane alone, and what runs programs in pods is left out: {reason}");
        if let Err(error) = kubernetes::kubeconfig().and_then(|kubeconfig| stand_in::start(&kubeconfig)) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    if let Some(reason) = kubernetes::without_python() {
        eprintln!("Python's programs are left out: {reason}");
    }
    let cases: Vec<Case> = [
        nodes::cases(),
        chart::cases(),
        workloads::cases(),
        objects::cases(),
        python::cases(),
        crowds::cases(),
        hostile::cases(),
        losses::cases(),
        clocks::cases(),
        faults::cases(),
        native::cases(),
        chart::last_cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let outcome = libtest_mimic::run(&arguments, cases.into_iter().map(Case::trial).collect());
    // Nothing of ours outlives us.
    operators::end_stand_ins();
    outcome.exit_code()
}
