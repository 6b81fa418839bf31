//! Parts that die while pods ask: nothing is promised twice, nothing stays taken, and those who wait get their GPU.

use libtest_mimic::{Failed, Trial};

use super::kubernetes::{SYSTEM, apply, kubectl, switch};
use super::workloads::{job, prints, wish};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("losses::pods_wait_for_an_operator_that_was_killed", pods_wait_for_an_operator_that_was_killed),
        Trial::test("losses::the_api_server_restarts", || restarted("kube-apiserver", "after-api-server")),
        Trial::test("losses::a_kubelet_restarts", || restarted("node-1-kubelet", "after-kubelet")),
    ]
}

const TENANT: &str = "[/programs/tenant.static-ptx, '1073741824', '11']";

fn pods_wait_for_an_operator_that_was_killed() -> Result<(), Failed> {
    kubectl(&format!("delete pods -n {SYSTEM} -l app.kubernetes.io/component=operator --force --grace-period=0"))?;
    // The Job is made at once; its pod is refused until a webhook answers, and the Job's controller tries again.
    apply(&job("after-operator", &wish(""), TENANT, "{}"))?;
    prints("after-operator", "tenant")?;
    kubectl("delete job after-operator")?;
    Ok(())
}

fn restarted(part: &str, name: &str) -> Result<(), Failed> {
    switch("restart", part)?;
    apply(&job(name, &wish(""), TENANT, "{}"))?;
    prints(name, "tenant")?;
    kubectl(&format!("delete job {name}"))?;
    Ok(())
}
