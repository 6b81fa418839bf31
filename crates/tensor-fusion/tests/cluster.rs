//! Tensor Fusion on a real Kubernetes cluster: stock scheduler, kubelets, containerd, our chart, and unmodified programs.
//!
//! `make test-cluster` brings the cluster up, runs this and takes the cluster down; with `cargo xtask cluster up` done by
//! hand, `cargo xtask test --cluster [FILTER]` runs this on it and leaves it. The cases share one installation and run in
//! order. Where the machine cannot carry a cluster, one case is shown as ignored, with the reason in its name.

mod cluster {
    pub(crate) mod chart;
    pub(crate) mod kubernetes;
    pub(crate) mod losses;
    pub(crate) mod nodes;
    pub(crate) mod pods;
    pub(crate) mod workloads;
}

use cluster::{chart, losses, nodes, workloads};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // They are steps on one cluster.
    arguments.test_threads = Some(1);
    let mut trials: Vec<Trial> = Vec::new();
    if let Ok(reason) = std::env::var("TENSOR_FUSION_TEST_CLUSTER_MISSING")
        .or_else(|_| std::env::var("TENSOR_FUSION_TEST_NODES_MISSING"))
    {
        trials.push(Trial::test(format!("cluster: {reason}"), || Ok(())).with_ignored_flag(true));
    } else {
        trials.extend(nodes::trials());
        trials.extend(chart::trials());
        trials.extend(workloads::trials());
        trials.extend(losses::trials());
        trials.extend(chart::last_trials());
    }
    libtest_mimic::run(&arguments, trials).exit();
}
