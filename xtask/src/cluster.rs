//! A real Kubernetes cluster on one machine, without Docker: `cargo xtask cluster up`, `down`, `status`. With `--control-plane` the
//! API server and its companions alone, which take no rights and run beside a whole cluster if need be.
//!
//! A control plane and two nodes, each node with its own network, mounts, processes and host name, running a kubelet,
//! containerd and runc. Nothing is simulated, so what works here works on anybody's cluster. The programs of Kubernetes are
//! built once ([`components`]) and kept outside the work tree; everything else lies in one folder ([`layout`]), and `down`
//! removes it. There is no kube-proxy and no DNS: Services' addresses do not answer, but for the API server's own.

mod certificates;
pub(crate) mod components;
mod control;
pub(crate) mod layout;
mod machine;
mod network;
mod node;
mod process;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::workspace::{cargo, path, run as execute, say};
pub(crate) use components::Components;
pub(crate) use layout::Layout;
pub(crate) use machine::Impossible;
pub(crate) use node::PAUSE;

/// How long a cluster may take to come up, packages to install among it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the task. `--control-plane` among the words means the cluster without nodes, which takes no rights.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let alone = arguments.iter().any(|argument| argument == "--control-plane");
    let layout = if alone { Layout::control_plane()? } else { Layout::whole() };
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--control-plane").collect();
    match words.as_slice() {
        ["up"] => up(&layout),
        ["install"] if !alone => install(&layout),
        ["down"] => down(&layout),
        ["status"] => status(&layout),
        ["images"] if !alone => import(&layout, &crate::image::for_tests()?.files),
        ["build"] => Components::build().map(drop),
        ["restart", name] => restart(&layout, name),
        ["stop", name] => stop(&layout, name),
        _ => {
            bail!(
                "usage: cargo xtask cluster up|install|down|status|build|images|restart NAME|stop NAME [--control-plane] (a name that \
                 `status` lists; the control plane alone runs no pods, so there is nothing to install on it)"
            )
        }
    }
}

/// Brings a cluster up, or finds it up.
pub(crate) fn up(layout: &Layout) -> anyhow::Result<()> {
    let started = Instant::now();
    if layout.is_whole() {
        machine::check()?;
    }
    fs::create_dir_all(&layout.root).with_context(|| format!("cannot make `{}`", layout.root.display()))?;
    let lock = fs::File::create(layout.root.join("lock"))?;
    lock.lock().context("cannot lock the cluster's folder")?;
    let components = Components::build()?;
    if running(layout, &components) {
        say("the cluster is up already");
        return report(layout, started);
    }
    clean(layout)?;
    for folder in ["logs", "pids", "certificates", "configuration"] {
        fs::create_dir_all(layout.root.join(folder))?;
    }
    layout.choose_ports()?;
    certificates::make(layout)?;
    if layout.is_whole() {
        machine::install()?;
        network::up()?;
    }
    say("starting the control plane");
    control::start(layout, &components)?;
    let accounts = ["kube-controller-manager".to_owned()];
    process::wait_until(layout, "the account that pods run under", &accounts, Duration::from_secs(60), || {
        let account = components.administer(layout, "kubectl").args(["get", "serviceaccount", "default"]).output();
        account.is_ok_and(|out| out.status.success())
    })?;
    if layout.is_whole() {
        say("starting the nodes");
        let pause = layout.root.join("pause.tar");
        crate::image::pause(&pause)?;
        for name in layout.nodes() {
            node::start(layout, &components, name)?;
            node::import(layout, name, &pause)?;
        }
        wait_for_nodes(layout, &components)?;
    }
    report(layout, started)
}

/// The same, but what does not come up in time is an error.
pub(crate) fn up_in_time(layout: &Layout) -> anyhow::Result<()> {
    let (sender, outcome) = std::sync::mpsc::channel();
    let own = layout.clone();
    // When nobody waits any more, nobody listens either.
    std::thread::spawn(move || sender.send(up(&own)).ok());
    match outcome.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome,
        Err(_) => bail!("it was not up after {} s", PATIENCE.as_secs()),
    }
}

/// Whether every program of it runs.
pub(crate) fn is_up(layout: &Layout) -> bool {
    layout.processes().iter().all(|name| process::alive(layout, name).is_some())
}

/// Puts images onto every node that has not got them.
pub(crate) fn import(layout: &Layout, archives: &[PathBuf]) -> anyhow::Result<()> {
    let onto = |name| archives.iter().try_for_each(|archive| node::import(layout, name, archive));
    std::thread::scope(|scope| {
        let nodes: Vec<_> = layout.nodes().iter().map(|&name| scope.spawn(move || onto(name))).collect();
        nodes.into_iter().try_for_each(|node| match node.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("the thread that puts images onto a node has panicked"),
        })
    })
}

/// Brings the cluster up and Tensor Fusion onto it, as it stands in the work tree.
fn install(layout: &Layout) -> anyhow::Result<()> {
    up(layout)?;
    crate::setup::run(&[])?;
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    say("making images");
    import(layout, &crate::image::for_tests()?.files)?;
    say("installing the chart");
    let components = Components::find()?;
    let mut helm = components.administer(layout, "helm");
    helm.args("upgrade --install tensor-fusion --namespace tensor-fusion-system --create-namespace".split(' '));
    helm.args("--set image.pullPolicy=Never --set hypervisor.driver=soft --wait --timeout 5m".split(' '));
    execute(helm.arg(path("charts/tensor-fusion")))?;
    say(
        "try: kubectl apply -f examples/kubernetes/job.yaml; kubectl get gpus.tensor-fusion.ai,pods; kubectl logs job/tenant",
    );
    writeln!(
        std::io::stdout(),
        "export KUBECONFIG={} PATH={}:$PATH",
        layout.kubeconfig().display(),
        components.folder.display()
    )?;
    Ok(())
}

/// Takes down whatever is there of the cluster.
pub(crate) fn down(layout: &Layout) -> anyhow::Result<()> {
    if !layout.root.exists() {
        say("there is no cluster");
        return Ok(());
    }
    clean(layout)?;
    fs::remove_dir_all(&layout.root).with_context(|| format!("cannot remove `{}`", layout.root.display()))?;
    say("the cluster is down");
    Ok(())
}

/// Ends processes, namespaces and control groups, and empties the folder but for its lock.
fn clean(layout: &Layout) -> anyhow::Result<()> {
    for name in layout.nodes() {
        node::stop(layout, name)?;
    }
    control::stop(layout)?;
    if layout.is_whole() {
        network::down()?;
    }
    for name in layout.nodes() {
        node::forget(name)?;
    }
    for entry in fs::read_dir(&layout.root)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
        } else if !path.ends_with("lock") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn status(layout: &Layout) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for name in layout.processes() {
        let state = process::alive(layout, &name).map_or("not running".to_owned(), |pid| format!("running as {pid}"));
        writeln!(out, "{name:<24} {state}, log {}", layout.log(&name).display())?;
    }
    writeln!(out, "kubeconfig               {}", layout.kubeconfig().display())?;
    if layout.processes().iter().any(|name| process::alive(layout, name).is_none()) {
        bail!("the cluster is not up: `cargo xtask cluster up`");
    }
    Ok(())
}

/// Ends one program of the cluster, for tests of what its loss does.
fn stop(layout: &Layout, name: &str) -> anyhow::Result<()> {
    known(layout, name)?;
    match node::of(name) {
        Some(node) if node == name => node::stop(layout, node),
        _ => process::stop(layout, name),
    }
}

/// Starts one program of the cluster again.
fn restart(layout: &Layout, name: &str) -> anyhow::Result<()> {
    stop(layout, name)?;
    let components = Components::build()?;
    match node::of(name) {
        Some(node) if node == name => node::start(layout, &components, node),
        Some(node) => node::start_part(layout, &components, node, name),
        None => control::start_part(layout, &components, name),
    }
}

fn known(layout: &Layout, name: &str) -> anyhow::Result<()> {
    if layout.processes().iter().any(|known| known == name) {
        return Ok(());
    }
    bail!("`{name}` is no part of the cluster: expected one of {}", layout.processes().join(", "))
}

fn running(layout: &Layout, components: &Components) -> bool {
    layout.processes().iter().all(|name| process::alive(layout, name).is_some())
        && components
            .administer(layout, "kubectl")
            .args(["get", "--raw", "/readyz"])
            .output()
            .is_ok_and(|out| out.status.success())
}

fn wait_for_nodes(layout: &Layout, components: &Components) -> anyhow::Result<()> {
    let condition = "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status}{' '}{end}";
    let all = "True ".repeat(layout.nodes().len());
    let suspects: Vec<String> = layout.nodes().iter().map(|name| format!("{name}-kubelet")).collect();
    process::wait_until(layout, "the nodes to be ready", &suspects, Duration::from_secs(90), || {
        let out = components.administer(layout, "kubectl").args(["get", "nodes", "-o", condition]).output();
        out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout) == all)
    })
}

fn report(layout: &Layout, started: Instant) -> anyhow::Result<()> {
    let what =
        if layout.is_whole() { "the control plane and two nodes are" } else { "the control plane, without nodes, is" };
    say(&format!("{what} ready after {} s", started.elapsed().as_secs()));
    say(&format!("logs are in {}", layout.root.join("logs").display()));
    let components = Components::find()?;
    say(&format!("kubectl and helm are in {}", components.folder.display()));
    writeln!(std::io::stdout(), "export KUBECONFIG={}", layout.kubeconfig().display())?;
    Ok(())
}
