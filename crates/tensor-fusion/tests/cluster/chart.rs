//! The chart: what Helm and the API server think of it, and its installation.

use libtest_mimic::{Failed, Trial};

use super::kubernetes::PATIENCE;
use super::kubernetes::{SYSTEM, get, helm, kubectl, until};

/// Values for this cluster: images are on the nodes, GPUs are software.
pub(crate) const VALUES: &str = "--set image.pullPolicy=Never --set hypervisor.driver=soft --set logLevel=info";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("chart::helm_finds_no_fault", helm_finds_no_fault),
        Trial::test("chart::every_option_is_a_valid_manifest", every_option_is_a_valid_manifest),
        Trial::test("chart::a_misspelt_value_is_refused", a_misspelt_value_is_refused),
        Trial::test("chart::it_installs", it_installs),
        Trial::test("chart::an_upgrade_leaves_the_webhook_trusted", an_upgrade_leaves_the_webhook_trusted),
    ]
}

fn helm_finds_no_fault() -> Result<(), Failed> {
    let said = helm("lint --strict CHART")?;
    assert!(said.contains("0 chart(s) failed"), "{said}");
    Ok(())
}

fn every_option_is_a_valid_manifest() -> Result<(), Failed> {
    // All that is off by default, but the kinds of the Prometheus operator, which this cluster does not know.
    let all = "--set networkPolicies.create=true --set webhook.progressiveMigration=true --set kubernetesApi.host=10.96.0.1 \
               --set kubernetesApi.port=443 --set hypervisor.driverFolder=/usr/lib/nvidia --set defaultPool.create=false";
    helm(&format!("install tensor-fusion CHART --namespace {SYSTEM} --create-namespace --dry-run=server {all}"))?;
    let text =
        helm("template CHART --set metrics.serviceMonitor.create=true --set metrics.prometheusRule.create=true")?;
    assert!(text.contains("kind: ServiceMonitor") && text.contains("kind: PrometheusRule"), "{text}");
    Ok(())
}

fn a_misspelt_value_is_refused() -> Result<(), Failed> {
    let error =
        helm("template CHART --set hypervisor.socketfolder=/x").err().ok_or("the chart took an unknown value")?;
    assert!(error.contains("socketfolder"), "{error}");
    Ok(())
}

fn it_installs() -> Result<(), Failed> {
    helm(&format!("upgrade --install tensor-fusion CHART --namespace {SYSTEM} --create-namespace {VALUES}"))?;
    kubectl(&format!("rollout status -n {SYSTEM} deployment/tensor-fusion-operator --timeout=120s"))
        .map_err(|error| format!("{error}\n{}", state()))?;
    kubectl(&format!("rollout status -n {SYSTEM} daemonset/tensor-fusion-hypervisor --timeout=120s"))
        .map_err(|error| format!("{error}\n{}", state()))?;
    until("each node reports a software GPU of its own", PATIENCE, || {
        let gpus = get("gpus.tensor-fusion.ai")?;
        let mut uuids: Vec<&str> =
            gpus["items"].as_array().into_iter().flatten().filter_map(|gpu| gpu["status"]["uuid"].as_str()).collect();
        uuids.sort_unstable();
        uuids.dedup();
        if uuids.len() == 2 { Ok(()) } else { Err(format!("{gpus}")) }
    })
    .map_err(|error| format!("{error}\n{}", state()))?;
    Ok(())
}

fn an_upgrade_leaves_the_webhook_trusted() -> Result<(), Failed> {
    let authority = || -> Result<String, String> {
        let webhook = get("mutatingwebhookconfiguration tensor-fusion")?;
        let bundle = webhook["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
        if bundle.is_empty() { Err("no authority is written in".to_owned()) } else { Ok(bundle) }
    };
    let before = until("the operator has written its authority in", PATIENCE, authority)?;
    helm(&format!("upgrade tensor-fusion CHART --namespace {SYSTEM} {VALUES}"))?;
    assert_eq!(authority()?, before);
    Ok(())
}

/// What the system's pods are and say.
fn state() -> String {
    let words = [
        format!("get pods -n {SYSTEM} -o wide"),
        format!("describe pods -n {SYSTEM}"),
        format!("logs -n {SYSTEM} -l app.kubernetes.io/instance=tensor-fusion --prefix --tail 30"),
    ];
    words.iter().map(|words| kubectl(words).unwrap_or_else(|error| error)).collect::<Vec<_>>().join("\n")
}
