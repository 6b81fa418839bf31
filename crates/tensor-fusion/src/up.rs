//! `tensor-fusion up`: this machine's node.

use std::{
    fs::{File, Permissions, TryLockError},
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use hypervisor::{
    api,
    node::Parts,
    provider::{self, Devices, Driver, Found, Probe, Provider},
    worker::Children,
};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use types::{NodeInfo, Token};

use crate::{
    failure::{Failed, Outcome},
    folder::Folder,
    node, print, token,
};

/// The exit code of a node that found another one running.
pub(crate) const ANOTHER_RUNS: u8 = 3;

/// Start this machine's node: find its GPUs and serve them.
///
/// NVIDIA's GPUs where there are any, else a software GPU. The node serves programs of this user that are started with
/// `tensor-fusion run`, which starts a node by itself where none runs.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Leave the node running in the background
    #[arg(long)]
    detach: bool,

    /// Serve other machines too, at this address
    #[arg(long, value_name = "tcp://HOST:PORT")]
    listen: Option<Listen>,

    /// File with the token that other machines must show [default: what `TENSOR_FUSION_TOKEN` holds]
    #[arg(long, value_name = "FILE", requires = "listen")]
    token_file: Option<PathBuf>,

    /// Serve everybody who reaches the address: let no token be asked for
    #[arg(long, requires = "listen", conflicts_with = "token_file")]
    no_token: bool,

    /// Where the GPUs come from: `soft`, or the path of a `libcuda.so.1` (default: NVIDIA's if it has GPUs, else `soft`)
    #[arg(long, value_name = "DRIVER", env = "TENSOR_FUSION_DRIVER")]
    driver: Option<Driver>,

    /// End after so many seconds without a vGPU
    #[arg(long, value_name = "SECONDS", hide = true)]
    idle_exit: Option<u64>,

    /// Be the process in the background
    #[arg(long, hide = true)]
    background: bool,
}

/// Where to serve other machines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listen {
    host: String,
    port: u16,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address to listen at: expected tcp://HOST:PORT, such as tcp://0.0.0.0:7700")]
pub(crate) struct ParseListenError(String);

impl std::str::FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (host, port) = text.strip_prefix("tcp://")?.trim_end_matches('/').rsplit_once(':')?;
            Some(Self { host: host.to_owned(), port: port.parse().ok()? }).filter(|listen| !listen.host.is_empty())
        };
        read().ok_or_else(|| ParseListenError(text.to_owned()))
    }
}

impl Listen {
    /// Whether only this machine gets there.
    fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl Up {
    pub(crate) fn main(self, json: bool) -> Outcome {
        let token = self.token()?;
        let folder = Folder::open()?;
        if self.detach {
            return self.start_in_background(&folder, json);
        }
        if self.background {
            crate::process::new_session()?;
        }
        let lock = File::options().create(true).truncate(false).write(true).open(folder.lock())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failed::new("a node runs here already")
                    .hint("`tensor-fusion down` stops it")
                    .code(ANOTHER_RUNS));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let devices = find(self.driver.as_ref(), &[])?;
        // One thread, and it is the main one: nothing here is busy.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(self.serve(&folder, devices, token, json));
        drop(lock);
        result
    }

    /// What other machines must show. Serving everybody must be asked for.
    fn token(&self) -> Result<Option<Token>, Failed> {
        let Some(listen) = self.listen.as_ref().filter(|_| !self.no_token) else { return Ok(None) };
        let token = token::given(self.token_file.as_deref())?;
        if token.is_none() && !listen.is_loopback() {
            let Listen { host, port } = listen;
            return Err(Failed::new(format!("everybody who reaches `tcp://{host}:{port}` could use the GPUs"))
                .hint("give a token with `--token-file FILE`, or say `--no-token`")
                .code(2));
        }
        Ok(token)
    }

    fn start_in_background(&self, folder: &Folder, json: bool) -> Outcome {
        if let Some((_, info)) = node::Node::running(folder) {
            return Err(Failed::new(format!("a node runs here already, as process {}", info.pid))
                .hint("`tensor-fusion down` stops it")
                .code(ANOTHER_RUNS));
        }
        let mut options = Vec::new();
        let listen = self.listen.as_ref().map(|listen| format!("tcp://{}:{}", listen.host, listen.port));
        let driver = self.driver.as_ref().map(Driver::to_string);
        let idle = self.idle_exit.map(|seconds| seconds.to_string());
        for (name, value) in [("--listen", &listen), ("--driver", &driver), ("--idle-exit", &idle)] {
            if let Some(value) = value {
                options.extend([name, value.as_str()]);
            }
        }
        let token_file = self.token_file.as_deref().map(std::path::absolute).transpose()?;
        if let Some(file) = token_file.as_ref().map(|file| file.to_string_lossy()) {
            let (node, info) = node::start(folder, &[&options[..], &["--token-file", &file]].concat())?;
            return Self::announce(folder, &node, &info, json);
        }
        if self.no_token {
            options.push("--no-token");
        }
        let (node, info) = node::start(folder, &options)?;
        Self::announce(folder, &node, &info, json)
    }

    fn announce(folder: &Folder, node: &node::Node, info: &NodeInfo, json: bool) -> Outcome {
        if json {
            return Ok(print::json(info)?);
        }
        let gpus: Vec<types::Gpu> = node.get("/v1/gpus")?;
        Ok(print::text(&announcement(folder, info, gpus.len()))?)
    }

    async fn serve(&self, folder: &Folder, devices: Devices, token: Option<Token>, json: bool) -> Outcome {
        let count = devices.found.len();
        let host = self.listen.as_ref().map_or("127.0.0.1", |listen| &listen.host);
        let parts = Parts {
            devices,
            launcher: Arc::new(Children { program: std::env::current_exe()?, environment: Vec::new() }),
            clock: Arc::new(print::now),
            listen: format!("tcp://{host}:0"),
            folder: folder.path().to_owned(),
        };
        let node = hypervisor::Node::new(parts).context("the state of the node before cannot be read")?;
        let remote = match &self.listen {
            None => None,
            Some(Listen { host, port }) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let bound = TcpListener::bind((host, *port)).await;
                Some(bound.with_context(|| format!("`tcp://{host}:{port}` cannot be listened at"))?)
            }
        };
        let listening = match &remote {
            None => None,
            Some(listener) => Some(format!("tcp://{}", listener.local_addr()?)),
        };
        let info = NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: print::now(),
            listening,
        };
        let served = api::Served { node: Arc::clone(&node), info: info.clone(), stop: Arc::new(Notify::new()) };

        let socket = folder.socket();
        if let Err(error) = std::fs::remove_file(&socket)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        let local = UnixListener::bind(&socket).with_context(|| format!("`{}`", socket.display()))?;
        std::fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        if let Some(listener) = remote {
            tokio::spawn(axum::serve(listener, api::remote(served.clone(), token)).into_future());
        }
        tokio::spawn(axum::serve(local, api::local(served.clone())).into_future());

        if json {
            print::json(&info)?;
        } else {
            print::text(&announcement(folder, &info, count))?;
        }
        let reason = self.until_end(&node, &served.stop).await?;
        if !json {
            print::text(&format!("{reason}: stopping\n"))?;
        }
        // First the socket: whoever comes now starts a node of its own, and waits for our lock.
        std::fs::remove_file(&socket)?;
        node.remove_all().await;
        Ok(ExitCode::SUCCESS)
    }

    /// Waits for a reason to end.
    async fn until_end(&self, node: &hypervisor::Node, stop: &Notify) -> anyhow::Result<&'static str> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let idle = async {
            let Some(seconds) = self.idle_exit else { return std::future::pending().await };
            let mut count = node.count();
            loop {
                // The sender lives in the node, so these cannot fail while we wait.
                drop(count.wait_for(|count| *count == 0).await);
                let busy = count.wait_for(|count| *count > 0);
                if tokio::time::timeout(Duration::from_secs(seconds), busy).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.notified() => Ok("asked to"),
            _ = interrupt.recv() => Ok("interrupted"),
            _ = terminate.recv() => Ok("terminated"),
            _ = hangup.recv() => Ok("the terminal is gone"),
            () = idle => Ok("nothing to do"),
        }
    }
}

fn announcement(folder: &Folder, info: &NodeInfo, gpus: usize) -> String {
    let mut text = format!("node is up with {gpus} GPU{}, as process {}\n", if gpus == 1 { "" } else { "s" }, info.pid);
    text.push_str(&format!("  here:      {}\n", folder.socket().display()));
    if let Some(listening) = &info.listening {
        text.push_str(&format!("  elsewhere: tensor-fusion run --connect {listening} -- PROGRAM\n"));
    }
    text
}

/// Finds this machine's GPUs, with more variables in the environment of the software GPU.
pub(crate) fn find(driver: Option<&Driver>, environment: &[(&str, &str)]) -> Result<Devices, Failed> {
    let given = driver.cloned().map(provider::Given);
    let nvidia = provider::Nvidia::default();
    let providers: Vec<&dyn Provider> = match &given {
        Some(given) => vec![given],
        None => vec![&nvidia, &provider::Soft],
    };
    provider::find(&providers, &ProbeProcess { environment }).map_err(|error| {
        Failed::new(error).hint("`--driver soft` takes the software GPU; `TENSOR_FUSION_SOFT_...` variables shape it")
    })
}

/// Looks at a driver in a process of its own.
struct ProbeProcess<'a> {
    environment: &'a [(&'a str, &'a str)],
}

impl Probe for ProbeProcess<'_> {
    fn devices(&self, driver: &Driver) -> Result<Vec<Found>, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = Command::new(program)
            .args(["worker", "--probe", "--driver", &driver.to_string()])
            .env_remove("TENSOR_FUSION_CONNECT")
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let last = || {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        };
        if !output.status.success() {
            return Err(if last().is_empty() { format!("`{driver}`: {}", output.status) } else { last() });
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("`{driver}`: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_at_are_read() {
        let listen: Listen = "tcp://[::1]:7700/".parse().unwrap();
        assert_eq!((listen.host.as_str(), listen.port), ("[::1]", 7700));
        for wrong in ["", "127.0.0.1:7700", "tcp://host", "tcp://:1", "tcp://host:70000"] {
            assert!(wrong.parse::<Listen>().is_err(), "{wrong}");
        }
    }
}
