//! The chart: what Helm and the API server think of it, and its installation.

use libtest_mimic::Failed;

use super::case::{Case, case};
use super::kubernetes::{PATIENCE, PROGRAMS, SYSTEM, apply, get, helm, kubectl, until, without_nodes};
use super::{operators, pods, workloads};

/// Values for this cluster: images are on the nodes, GPUs are software.
pub(crate) const VALUES: &str = "--set image.pullPolicy=Never --set hypervisor.driver=soft --set logLevel=info";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("chart::helm_finds_no_fault", helm_finds_no_fault).without_system(),
        case("chart::every_option_is_a_valid_manifest", every_option_is_a_valid_manifest).without_system(),
        case("chart::a_misspelt_value_is_refused", a_misspelt_value_is_refused).without_system(),
        case("chart::it_installs", it_installs).without_system(),
        case("chart::an_upgrade_leaves_the_webhook_trusted", an_upgrade_leaves_the_webhook_trusted).on_nodes(),
        case("chart::an_upgrade_leaves_running_programs_alone", an_upgrade_leaves_running_programs_alone).on_nodes(),
    ]
}

/// What comes after everything else.
pub(crate) fn last_cases() -> Vec<Case> {
    vec![case("chart::it_goes_and_leaves_pods_alone", it_goes_and_leaves_pods_alone)]
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
    operators::put(operators::Place::Installed)?;
    if without_nodes().is_none() {
        for part in ["keeper", "hypervisor"] {
            let ready = || {
                let pods = get(&format!("daemonset -n {SYSTEM} tensor-fusion-{part}"))?;
                if pods["status"]["numberReady"] == 2 { Ok(()) } else { Err(pods["status"].to_string()) }
            };
            let waited = until(&format!("the {part} of each node is ready"), PATIENCE, ready);
            waited.map_err(|error| format!("{error}\n{}", state()))?;
        }
    }
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

fn an_upgrade_leaves_running_programs_alone() -> Result<(), Failed> {
    let pod = workloads::busy("busy", &workloads::wish(""))?;
    let pods = |part: &str| kubectl(&format!("get pods -n {SYSTEM} -l app.kubernetes.io/component={part} -o name"));
    let (keepers, agents) = (pods("keeper")?, pods("hypervisor")?);
    // It changes what the pods of all parts are made from.
    let parts = ["hypervisor", "keeper", "operator"].map(|part| format!("--set {part}.resources.requests.cpu=60m"));
    install(&parts.join(" "))?;
    agents_are_new()?;
    let after = pods("hypervisor")?;
    assert!(agents.lines().all(|agent| !after.contains(agent)), "{agents} {after}");
    assert_eq!(pods("keeper")?, keepers, "a keeper is replaced when somebody deletes it");
    workloads::computes_still(&pod)?;
    assert_eq!(pods::restarts("default", &pod)?, 0);
    install("")?;
    agents_are_new()?;
    workloads::computes_still(&pod)?;
    kubectl("delete job busy")?;
    Ok(())
}

/// Waits until all agents are as the chart says.
fn agents_are_new() -> Result<(), String> {
    kubectl(&format!("rollout status -n {SYSTEM} daemonset/tensor-fusion-hypervisor --timeout=180s")).map(drop)
}

/// Installs the chart, or changes its values, and waits for the operator.
pub(crate) fn install(more: &str) -> Result<(), String> {
    if without_nodes().is_some() {
        upgrade(&format!("{} {more}", operators::outside(operators::port()?)))?;
        return operators::stand_in();
    }
    upgrade(more)?;
    let waited = kubectl(&format!("rollout status -n {SYSTEM} deployment/tensor-fusion-operator --timeout=120s"));
    waited.map_err(|error| format!("{error}\n{}", state()))?;
    // Those that go still answer for a moment, with the values of before.
    operators::gone("the operators of before", |pod| !pod["metadata"]["deletionTimestamp"].is_null())
}

/// Changes the chart's values to these, from whatever they were.
pub(crate) fn upgrade(more: &str) -> Result<(), String> {
    let more = format!("{VALUES} {more}");
    let outcome =
        helm(&format!("upgrade --install tensor-fusion CHART --namespace {SYSTEM} --create-namespace {}", more.trim()));
    outcome.map(drop).map_err(|error| format!("{error}\n{}", state()))
}

fn it_goes_and_leaves_pods_alone() -> Result<(), Failed> {
    let pod = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [\
             {{name: main, image: {PROGRAMS}, imagePullPolicy: Never, command: [/bin/busybox, sleep, '3600']}}]}}}}"
        )
    };
    let with_nodes = without_nodes().is_none();
    apply(&pod("stays"))?;
    let before = pods::running("default", "stays")?;
    let busy = if with_nodes { Some(workloads::busy("busy-for-long", &workloads::wish(""))?) } else { None };
    helm(&format!("uninstall tensor-fusion --namespace {SYSTEM}"))?;
    operators::end_stand_ins();
    if with_nodes {
        kubectl(&format!(
            "wait pods -n {SYSTEM} -l app.kubernetes.io/component=hypervisor --for=delete --timeout=120s"
        ))?;
    }
    busy.iter().try_for_each(|pod| workloads::computes_still(pod))?;
    apply(&pod("comes"))?;
    pods::running("default", "comes")?;
    let after = get("pod stays")?;
    assert_eq!(before["status"]["containerStatuses"], after["status"]["containerStatuses"]);
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    // What people made outlives the chart.
    get("gpupool default")?;
    if let Some(busy) = &busy {
        // Whoever comes back finds it as it was.
        install("")?;
        agents_are_new()?;
        workloads::computes_still(busy)?;
        assert_eq!(pods::restarts("default", busy)?, 0);
        kubectl("delete job busy-for-long --cascade=foreground")?;
        helm(&format!("uninstall tensor-fusion --namespace {SYSTEM}"))?;
    }
    kubectl("delete pod stays comes --now")?;
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
