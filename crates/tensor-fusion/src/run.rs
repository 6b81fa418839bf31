//! `tensor-fusion run`: a program on a vGPU.
//!
//! This process stays until the program has ended: it passes signals on and gives the vGPU back. It holds the vGPU by a
//! connection to the node, so that the node takes it back however this process ends; and the program ends with it.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use types::{Bytes, Capability, Qos, Request, Tflops, Token, Vendor, VgpuId};
use wire::Endpoint;
use wire::hello::{self, Hello, HelloError};

use crate::{
    environment::{self, Surroundings},
    failure::{Failed, Outcome},
    folder::Folder,
    http::Address,
    node::{Holding, Node},
    process::{self, Signals},
    token,
};

/// The program could not be started for a reason of ours.
const OURS: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Run a program on a vGPU.
///
/// Takes the vGPU from this machine's node, which is started if none runs, or from wherever `--connect` says. The
/// program's input, output, signals and exit code are passed on; the vGPU is given back when the program ends.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Number of GPUs that the program sees
    #[arg(long, value_name = "N", default_value_t = 1)]
    gpus: u32,

    /// Memory of each, such as 4GiB or 512MiB [default: half of what is free]
    #[arg(long, value_name = "BYTES")]
    vram: Option<Bytes>,

    /// Compute of each in TFLOPS, such as 10 or 500m [default: no limit]
    #[arg(long, value_name = "TFLOPS")]
    tflops: Option<Tflops>,

    /// Who goes first when GPUs are short: low, medium, high or critical
    #[arg(long, value_name = "CLASS", default_value_t)]
    qos: Qos,

    /// A node or a worker elsewhere: HOST:PORT, tcp://HOST:PORT or unix:///PATH
    #[arg(long, value_name = "WHERE", env = "TENSOR_FUSION_NODE")]
    connect: Option<Peer>,

    /// File with the token of the node or worker elsewhere [default: what `TENSOR_FUSION_TOKEN` holds]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Compute capability that a software GPU presents itself as
    #[arg(long, value_name = "CC", default_value = "12.0")]
    cc: Capability,

    /// Say what is being done
    #[arg(long, short)]
    verbose: bool,

    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// A node or a worker elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer(Address);

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a node or worker: expected HOST:PORT, tcp://HOST:PORT or unix:///PATH")]
pub(crate) struct ParsePeerError(String);

impl std::str::FromStr for Peer {
    type Err = ParsePeerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParsePeerError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self(Address::Unix(path.into()))) } else { Err(wrong()) };
        }
        let host = text.strip_prefix("tcp://").unwrap_or(text).trim_end_matches('/');
        let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
        let bare_ipv6 = name.contains(':') && !(name.starts_with('[') && name.ends_with(']'));
        if name.is_empty() || bare_ipv6 || name.contains('/') || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self(Address::Tcp(host.to_owned())))
    }
}

/// What the program runs on, and what must be kept until it has ended.
struct Granted {
    about: Surroundings,
    held: Option<(Node, Holding)>,
}

impl Run {
    pub(crate) fn main(self) -> Outcome {
        let folder = Folder::open().map_err(|error| Failed::from(error).code(OURS))?;
        let Granted { about, held } = self.ask(&folder).map_err(|failed| failed.code(OURS))?;
        let variables = environment::variables(&folder, &about).map_err(|failed| failed.code(OURS))?;

        let mut words = self.program.iter();
        let program = words.next().ok_or_else(|| Failed::new("no program was given").code(2))?;
        let mut command = Command::new(program);
        command.args(words).envs(variables);
        // Not before: a node that is started on the way must not inherit it, and until now ending is all it takes.
        let signals = Signals::hold_back().map_err(|error| Failed::from(error).code(OURS))?;
        let result = signals.spawn(&mut command);
        let (node, watching) = held.map(watch).unzip();
        let outcome = match result {
            Ok(child) => wait(child, &signals),
            Err(error) => Err(not_started(program, &error)),
        };
        if let (Some((node, id)), Some(watching)) = (node, watching) {
            // Waits until nothing is left of it, so that whoever runs next finds the room. Should the node be gone, then
            // so is the vGPU.
            if let Err(error) = node.remove(&id) {
                self.say(&format!("{id} is gone already: {error:?}"));
            }
            drop(watching);
        }
        outcome
    }

    fn say(&self, text: &str) {
        if self.verbose {
            eprintln!("tensor-fusion: {text}");
        }
    }

    fn ask(&self, folder: &Folder) -> Result<Granted, Failed> {
        let node = match &self.connect {
            None => Node::running_or_started(folder, &|text| self.say(text))?,
            Some(Peer(address)) => {
                let token = token::given(self.token_file.as_deref())?;
                if is_worker(address, token.as_ref())? {
                    return Ok(self.worker(address, token));
                }
                let node = Node { address: address.clone(), token };
                if !node.answers()? {
                    return Err(Failed::new(format!("what answers at `{address}` is neither a node nor a worker")));
                }
                node
            }
        };
        let request = Request {
            gpus: self.gpus,
            vram: self.vram,
            tflops: self.tflops,
            uuids: Vec::new(),
            qos: self.qos,
            compute_capability: Some(self.cc),
            program: self.name(),
            pid: std::process::id(),
        };
        let holding = node.hold(&request)?;
        let lease = &holding.lease;
        let tflops = lease.tflops.map(|tflops| format!(" and {tflops} TFLOPS")).unwrap_or_default();
        self.say(&format!("{} has {}{tflops} on {} GPU {:?}", lease.id, lease.vram, lease.vendor, lease.gpus));
        let connect = reachable(&lease.connect, &node.address);
        let software = lease.vendor == Vendor::Software;
        let about = Surroundings { connect, token: lease.token.clone(), software, capability: self.cc };
        Ok(Granted { about, held: Some((node, holding)) })
    }

    /// The program will connect to it by itself.
    fn worker(&self, address: &Address, token: Option<Token>) -> Granted {
        if self.vram.is_some() || self.tflops.is_some() || self.gpus != 1 {
            eprintln!("warning: `{address}` is no node: the limits are those that its worker was started with");
        }
        self.say(&format!("connecting to the worker at {address}"));
        // Whether its GPU can run anything but PTX is not known; PTX runs everywhere.
        let about = Surroundings { connect: address.to_string(), token, software: true, capability: self.cc };
        Granted { about, held: None }
    }

    /// What people call the program.
    fn name(&self) -> String {
        let name = self.program.first().map(std::path::Path::new).and_then(|path| path.file_name());
        name.unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// How long whoever is elsewhere may take to be reached, and then to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a worker is there that will take the program; `false` when it is something else, as a node is.
///
/// # Errors
/// Nobody is there, or it is a worker that will not take the program: said now, because the program will get a number.
fn is_worker(address: &Address, token: Option<&Token>) -> Result<bool, Failed> {
    let endpoint: Endpoint = address.to_string().parse()?;
    let socket = match endpoint.connect(PATIENCE) {
        Ok(socket) => socket,
        Err(error) => {
            return Err(Failed::new(format!("nobody can be reached at `{address}`: {error}"))
                .hint("is the node (`tensor-fusion up --listen`) or the worker there running?"));
        }
    };
    let hello = Hello { token: token.cloned(), ..Hello::new()? };
    match hello::ask(&socket, &hello, PATIENCE) {
        Ok(()) => Ok(true),
        Err(error @ HelloError::WrongToken) => Err(Failed::new(format!("no vGPU at `{address}`: {error}"))
            .hint("`--token-file FILE` names the file that holds the worker's token")),
        Err(error @ HelloError::Refused(_)) => Err(Failed::new(format!("no vGPU at `{address}`: {error}"))),
        // A node answers that this is no HTTP, or hangs up.
        Err(_) => Ok(false),
    }
}

/// A node that listens at every address says so (`0.0.0.0`); its worker is where we reach the node.
fn reachable(connect: &str, node: &Address) -> String {
    let (Address::Tcp(node), Some(worker)) = (node, connect.strip_prefix("tcp://")) else { return connect.to_owned() };
    let (Some((host, _)), Some((listening, port))) = (node.rsplit_once(':'), worker.rsplit_once(':')) else {
        return connect.to_owned();
    };
    if matches!(listening, "0.0.0.0" | "[::]" | "::") { format!("tcp://{host}:{port}") } else { connect.to_owned() }
}

/// Tells people when the vGPU is lost while the program runs. The thread ends with this process, or when the vGPU is gone.
fn watch((node, mut holding): (Node, Holding)) -> ((Node, VgpuId), std::thread::JoinHandle<()>) {
    let id = holding.lease.id.clone();
    let shown = id.clone();
    let watching = std::thread::spawn(move || {
        if let Some(reason) = holding.lost() {
            eprintln!("tensor-fusion: {shown} is lost: {reason}");
        }
        // Keeps the connection, and with it the vGPU, until the process ends.
        std::mem::forget(holding);
    });
    ((node, id), watching)
}

fn not_started(program: &OsString, error: &io::Error) -> Failed {
    let program = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => Failed::new(format!("`{program}` was not found"))
            .hint("a program in this folder is called `./NAME`")
            .code(NOT_FOUND),
        io::ErrorKind::PermissionDenied => Failed::new(format!("`{program}` cannot be executed: {error}"))
            .hint("is it a program, and is its executable bit set?")
            .code(NOT_EXECUTABLE),
        _ => Failed::new(format!("`{program}` cannot be executed: {error}")).code(NOT_EXECUTABLE),
    }
}

/// Waits for the program, and passes signals on meanwhile.
fn wait(mut child: Child, signals: &Signals) -> Outcome {
    loop {
        let signal = signals.next()?;
        if signal.number != libc::SIGCHLD {
            // What the terminal sends goes to the whole group: the program has got it already.
            if !signal.from_terminal {
                process::send(&child, signal.number)?;
            }
            continue;
        }
        if let Some(status) = child.try_wait().context("the program is lost")? {
            return Ok(exit_code(status));
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read() {
        let peer = |text: &str| text.parse::<Peer>().map(|Peer(address)| address.to_string());
        assert_eq!(peer("127.0.0.1:7700").unwrap(), "tcp://127.0.0.1:7700");
        assert_eq!(peer("tcp://gpu-3.example:7700/").unwrap(), "tcp://gpu-3.example:7700");
        assert_eq!(peer("[::1]:1").unwrap(), "tcp://[::1]:1");
        assert_eq!(peer("unix:///run/w.sock").unwrap(), "unix:///run/w.sock");
        for wrong in ["", "host", "host:", "host:x", ":1", "::1:1", "unix://w.sock", "http://h:1"] {
            assert!(peer(wrong).unwrap_err().to_string().starts_with(&format!("`{wrong}` is not a node")), "{wrong}");
        }
    }

    #[test]
    fn a_worker_that_listens_everywhere_is_where_the_node_is() {
        let node = Address::Tcp("gpu-3:7700".to_owned());
        assert_eq!(reachable("tcp://0.0.0.0:4000", &node), "tcp://gpu-3:4000");
        assert_eq!(reachable("tcp://10.0.0.1:4000", &node), "tcp://10.0.0.1:4000");
        assert_eq!(reachable("unix:///w", &node), "unix:///w");
        assert_eq!(reachable("tcp://127.0.0.1:1", &Address::Unix("/n".into())), "tcp://127.0.0.1:1");
    }
}
