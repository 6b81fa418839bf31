//! The other side: workers on TCP and Unix sockets, and the commands that reach them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::Running;

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tensor-fusion"))
}

/// A directory with our library under the names that applications look for.
pub(crate) fn library_directory() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            let directory = scratch("lib");
            let library = binary().with_file_name("libtensor_fusion_cuda.so");
            for name in ["libcuda.so.1", "libnvidia-ml.so.1"] {
                std::os::unix::fs::symlink(&library, directory.join(name)).expect("a fresh directory takes links");
            }
            directory
        })
        .clone()
}

/// Holds every directory of [`scratch`]; removed at the end.
pub(crate) fn all_scratch() -> PathBuf {
    std::env::temp_dir().join(format!("tensor-fusion-e2e-{}", std::process::id()))
}

/// A fresh directory for one purpose.
pub(crate) fn scratch(purpose: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = all_scratch().join(format!("{number}-{purpose}"));
    std::fs::remove_dir_all(&directory).ok();
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    directory
}

/// One vGPU served by a worker process.
pub(crate) struct Server {
    running: Running,
    endpoint: String,
}

impl Server {
    /// Starts a worker on a free TCP port.
    pub(crate) fn tcp(vram: &str) -> Result<Self, String> {
        Self::start("tcp://127.0.0.1:0", vram, &[])
    }

    /// Starts a worker on a Unix socket.
    pub(crate) fn unix(vram: &str) -> Result<Self, String> {
        let socket = scratch("socket").join("worker.sock");
        Self::start(&format!("unix://{}", socket.display()), vram, &[])
    }

    /// Starts a worker that opens our software library as if it were a vendor's.
    pub(crate) fn native(vram: &str) -> Result<Self, String> {
        let library = library_directory().join("libcuda.so.1");
        Self::start("tcp://127.0.0.1:0", vram, &["--driver".as_ref(), library.as_ref()])
    }

    /// Starts a worker that serves those who show what is in a file.
    pub(crate) fn with_token(vram: &str, file: &Path) -> Result<Self, String> {
        Self::start("tcp://127.0.0.1:0", vram, &["--token-file".as_ref(), file])
    }

    fn start(listen: &str, vram: &str, more: &[&Path]) -> Result<Self, String> {
        let mut command = Command::new(binary());
        command.args(["worker", "--listen", listen, "--vram", vram, "--tflops", "10", "--gpu", "0", "--parent-stdin"]);
        command.args(more);
        let mut running = Running::start(command)?;
        let line = running.line(|line| line.contains("listening"))?;
        let answer: serde_json::Value = serde_json::from_str(&line).map_err(|error| format!("`{line}`: {error}"))?;
        let endpoint = answer["listening"].as_str().ok_or_else(|| format!("`{line}` names no address"))?.to_owned();
        Ok(Self { running, endpoint })
    }

    /// `127.0.0.1:PORT` of a worker on TCP.
    pub(crate) fn address(&self) -> Result<&str, String> {
        let rest = self.endpoint.strip_prefix("tcp://").ok_or("not on TCP")?;
        Ok(rest.trim_end_matches('/'))
    }

    /// The socket of a worker on one.
    pub(crate) fn socket(&self) -> Result<&Path, String> {
        self.endpoint.strip_prefix("unix://").map(Path::new).ok_or_else(|| "not on a Unix socket".to_owned())
    }

    /// The worker's process.
    pub(crate) fn process(&mut self) -> &mut Running {
        &mut self.running
    }

    /// `tensor-fusion run --connect … -- PROGRAM`.
    pub(crate) fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(binary());
        command.args(["run", "--connect", &self.endpoint, "--"]).arg(program);
        isolate(&mut command);
        command
    }
}

/// Gives a program a software GPU of its own: cards are shared by the processes of a machine, so what another test holds on the
/// usual one would be missing.
pub(crate) fn own_card(command: &mut Command) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    command.env("TENSOR_FUSION_SOFT_SEED", format!("e2e-{}-{number}", std::process::id()));
}

/// Gives a command a home of its own, so that no cache or state of the person who runs the tests is read or written.
pub(crate) fn isolate(command: &mut Command) {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    let home = HOME.get_or_init(|| scratch("home"));
    command.env("HOME", home).env("XDG_RUNTIME_DIR", home).env("XDG_CACHE_HOME", home.join("cache"));
    command.env("XDG_STATE_HOME", home.join("state")).env("XDG_DATA_HOME", home.join("data"));
    command.env_remove("TENSOR_FUSION_CONNECT");
}
