//! Operators: those that the chart has installed, and those that a case starts itself, as processes of this machine.
//!
//! Processes can be given fault points and wrong clocks, and their end is seen at once. They have the rights of the chart's account
//! and no more. On a control plane alone there is nothing else: two of them stand in for the Deployment.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chart;
use super::kubernetes::{PATIENCE, SYSTEM, kubeconfig, kubectl, list, until, without_nodes};

/// Whose operators serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The chart's, or what stands in for them.
    Installed,
    /// The case's own; there is none before it starts one.
    Own,
}

#[derive(Default)]
struct State {
    place: Option<Place>,
    /// On a control plane alone.
    stand_ins: Vec<Operator>,
    /// Where the API server finds the webhook of operators outside, chosen once.
    webhook: Option<u16>,
}

static STATE: Mutex<State> = Mutex::new(State { place: None, stand_ins: Vec::new(), webhook: None });

fn state() -> MutexGuard<'static, State> {
    // A case that panicked left nothing half done: it only reads.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts operators where a case wants them.
pub(crate) fn put(place: Place) -> Result<(), String> {
    if state().place == Some(place) && place == Place::Installed {
        return Ok(());
    }
    match place {
        Place::Installed => chart::install("")?,
        Place::Own => {
            state().stand_ins.clear();
            if state().place != Some(Place::Own) {
                chart::upgrade(&outside(port()?))?;
                gone("the installed operators", |_| true)?;
                // Its names are those of the Service; ours is reached by address.
                kubectl(&format!("delete secret tensor-fusion-webhook -n {SYSTEM} --ignore-not-found"))?;
            }
            forget_leader()?;
        }
    }
    state().place = Some(place);
    Ok(())
}

/// Nobody leads, and the next who asks does, without waiting until the lease of one who died has run out.
pub(crate) fn forget_leader() -> Result<(), String> {
    kubectl(&format!("delete lease tensor-fusion-operator -n {SYSTEM} --ignore-not-found")).map(drop)
}

/// Values of the chart for operators outside the cluster.
pub(crate) fn outside(webhook: u16) -> String {
    let values = format!("--set operator.replicas=0 --set webhook.url=https://127.0.0.1:{webhook}/mutate");
    // Where nothing runs in pods, agents need not seem to.
    if without_nodes().is_some() { values + " --set hypervisor.nodeSelector.none=none" } else { values }
}

/// Two operators in place of the Deployment, where no pod runs.
pub(crate) fn stand_in() -> Result<(), String> {
    state().stand_ins.clear();
    forget_leader()?;
    let started = vec![Operator::start("stand-in-1", port()?, &[])?, Operator::start("stand-in-2", free()?, &[])?];
    started.iter().try_for_each(Operator::ready)?;
    let mut state = state();
    state.stand_ins = started;
    state.place = Some(Place::Installed);
    Ok(())
}

/// Ends what stands in, if something does.
pub(crate) fn end_stand_ins() {
    let mut state = state();
    state.stand_ins.clear();
    state.place = None;
}

/// Waits until pods of the installed operators are gone.
pub(crate) fn gone(what: &str, which: impl Fn(&serde_json::Value) -> bool) -> Result<(), String> {
    until(&format!("{what} are gone"), PATIENCE, || {
        let pods = list(&format!("pods -n {SYSTEM} -l app.kubernetes.io/component=operator"))?;
        match pods.iter().filter(|pod| which(pod)).count() {
            0 => Ok(()),
            some => Err(format!("{some} are there")),
        }
    })
}

/// The port on which operators outside answer the webhook.
pub(crate) fn port() -> Result<u16, String> {
    if let Some(port) = state().webhook {
        return Ok(port);
    }
    let port = free()?;
    state().webhook = Some(port);
    Ok(port)
}

/// A port that is free now, and that the kernel lends to nobody for a way out: those are from 32768 on, and one that was free
/// when we looked would be taken when an operator starts.
pub(crate) fn free() -> Result<u16, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes beside this one begin elsewhere.
    let start = u16::try_from(std::process::id() % 5_000).unwrap_or_default();
    let candidates = (0..10_000).map(|_| 20_000 + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let mut free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().ok_or_else(|| "no port from 20000 to 29999 is free".to_owned())
}

/// An operator outside the cluster, killed when dropped.
#[derive(Debug)]
pub(crate) struct Operator {
    child: Child,
    name: String,
    log: PathBuf,
    probes: u16,
}

impl Operator {
    /// Starts one that answers the webhook on this port.
    pub(crate) fn start(name: &str, webhook: u16, environment: &[(&str, &str)]) -> Result<Self, String> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("operators");
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let log = folder.join(format!("{name}.log"));
        let file = fs::File::create(&log).map_err(|error| error.to_string())?;
        let probes = free()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensor-fusion"));
        command.args(["operator", "--certificate-name", "127.0.0.1", "--namespace", SYSTEM, "--identity", name]);
        let image = concat!("tensor-fusion/tensor-fusion:", env!("CARGO_PKG_VERSION"));
        command.args(["--image", image, "--image-pull-policy", "Never"]);
        command.args([format!("--webhook=127.0.0.1:{webhook}"), format!("--probes=127.0.0.1:{probes}")]);
        command.env("KUBECONFIG", with_account(&folder)?).env("TENSOR_FUSION_LOG", "info,operator=debug");
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|error| format!("cannot start an operator: {error}"))?;
        Ok(Self { child, name: name.to_owned(), log, probes })
    }

    /// Waits until it answers.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let looked = until(&format!("operator {} is ready", self.name), PATIENCE, || self.ask("/readyz").map(drop));
        looked.map_err(|error| self.with_log(&error))
    }

    /// Whether it leads.
    pub(crate) fn leads(&self) -> bool {
        self.ask("/metrics").is_ok_and(|text| text.contains("tensor_fusion_operator_leads 1"))
    }

    /// Waits until it leads.
    pub(crate) fn led(&self, patience: Duration) -> Result<(), String> {
        let looked = until(&format!("operator {} leads", self.name), patience, || {
            if self.leads() { Ok(()) } else { Err("it does not".to_owned()) }
        });
        looked.map_err(|error| self.with_log(&error))
    }

    /// Waits until it has died at its fault point.
    pub(crate) fn aborted(&mut self, meanwhile: impl Fn() -> Result<(), String>) -> Result<(), String> {
        let name = self.name.clone();
        let status = until(&format!("operator {name} dies"), PATIENCE, || {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => Ok(status),
                None => meanwhile().and(Err("it runs".to_owned())),
            }
        });
        let status = status.map_err(|error| self.with_log(&error))?;
        // SIGABRT: of its own will.
        if status.signal() == Some(6) {
            Ok(())
        } else {
            Err(self.with_log(&format!("operator {name} ended with {status}")))
        }
    }

    /// An error with the end of its log.
    pub(crate) fn with_log(&self, error: &str) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n  ");
        format!("{error}\nthe log of operator {}:\n  {tail}", self.name)
    }

    fn ask(&self, path: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.probes))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = ask().map_err(|error| error.to_string())?;
        if text.starts_with("HTTP/1.1 200") { Ok(text) } else { Err(text) }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A kubeconfig with the rights of the chart's account.
fn with_account(folder: &std::path::Path) -> Result<PathBuf, String> {
    let token = kubectl(&format!("create token tensor-fusion-operator -n {SYSTEM} --duration=4h"))?;
    let text = fs::read_to_string(kubeconfig()?).map_err(|error| error.to_string())?;
    let lines = text.lines().map(|line| {
        // The one line that says who we are; the rest is where the API server is.
        if line.contains("user: {client-certificate") {
            format!("  user: {{token: {}}}\n", token.trim())
        } else {
            format!("{line}\n")
        }
    });
    let file = folder.join("kubeconfig");
    fs::write(&file, lines.collect::<String>()).map_err(|error| error.to_string())?;
    Ok(file)
}

/// What all operators outside have written: for errors, and empty where there are none.
pub(crate) fn logs() -> String {
    state().stand_ins.iter().map(|operator| operator.with_log("")).collect()
}
