//! The programs of `tests/programs/`, each on every way to the GPU that it names.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde::Deserialize;

use super::process::{PATIENCE, run};
use super::server::{Server, binary, isolate, library_directory, own_card, scratch};

/// One compiled program, as `cargo xtask setup` lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) build: String,
    pub(crate) file: PathBuf,
    pub(crate) libraries: Vec<PathBuf>,
    pub(crate) paths: Vec<String>,
    pub(crate) expected: Option<PathBuf>,
}

/// What the setup prepared; an error says how to do it.
pub(crate) fn list() -> Result<Vec<Program>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("target/programs/programs.json");
    let text = std::fs::read_to_string(file).map_err(|_| "run `cargo xtask setup` first".to_owned())?;
    serde_json::from_str(&text).map_err(|error| format!("programs.json: {error}"))
}

/// One program by name and build.
pub(crate) fn find(name: &str, build: &str) -> Result<Program, String> {
    let found = list()?.into_iter().find(|program| program.name == name && program.build == build);
    found.ok_or_else(|| format!("no program `{name}` built as `{build}`: run `cargo xtask setup`"))
}

/// Python of the environment with the CUDA 13 clients.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/cuda13/bin/python")
}

impl Program {
    /// Fills in how it is started, on a command that takes a program and its arguments.
    pub(crate) fn append_to(&self, wrap: impl FnOnce(&Path) -> Command) -> Command {
        let mut command = if self.build == "python" {
            let mut command = wrap(&python());
            command.arg(&self.file);
            command
        } else {
            wrap(&self.file)
        };
        if !self.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", join(&self.libraries));
        }
        command
    }

    /// Runs it on one way to the GPU and judges it.
    fn check(&self, way: &str) -> Result<(), String> {
        let command = |server: &Server| self.append_to(|program| server.client(program));
        let (server, command) = match way {
            "tcp" => started(Server::tcp("6GiB")?, command),
            "unix" => started(Server::unix("6GiB")?, command),
            "native" => started(Server::native("6GiB")?, command),
            "direct" => (None, self.direct()),
            "pod" => {
                let server = Server::unix("6GiB")?;
                let command = self.in_pod(&server)?;
                (Some(server), command)
            }
            _ => return Err(format!("`{way}` is no way to the GPU")),
        };
        let finished = run(command, PATIENCE)?.success()?;
        drop(server);
        let Some(expected) = &self.expected else { return Ok(()) };
        let expected = std::fs::read_to_string(expected).map_err(|error| error.to_string())?;
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        if sorted(&expected) == sorted(&finished.stdout) {
            Ok(())
        } else {
            Err(finished.describe(&format!("expected these lines in any order:\n{expected}\n--- but")))
        }
    }

    /// As in a pod: nothing but what `install-client` leaves, what the webhook writes and what the node agent puts beside the socket.
    fn in_pod(&self, server: &Server) -> Result<Command, String> {
        let files = scratch("client");
        let mut install = Command::new(binary());
        install.arg("install-client").arg(&files);
        run(install, PATIENCE)?.success()?;
        let socket = server.socket()?;
        std::fs::write(socket.with_file_name("software"), "").map_err(|error| error.to_string())?;
        let preload = std::fs::read_to_string(files.join("ld.so.preload")).map_err(|error| error.to_string())?;
        let mut command = self.append_to(|program| Command::new(program));
        isolate(&mut command);
        command.env("LD_PRELOAD", preload.lines().collect::<Vec<_>>().join(":"));
        command.env("TENSOR_FUSION_CLIENT", &files).env("TRITON_LIBCUDA_PATH", files.join("lib"));
        command.env("TENSOR_FUSION_CONNECT", format!("unix://{}", socket.display()));
        Ok(command)
    }

    /// With the software GPU in its own process.
    fn direct(&self) -> Command {
        let mut command = self.append_to(|program| Command::new(program));
        let mut directories = vec![library_directory()];
        directories.extend(self.libraries.iter().cloned());
        command.env("LD_LIBRARY_PATH", join(&directories));
        own_card(&mut command);
        isolate(&mut command);
        command
    }
}

fn started(server: Server, command: impl FnOnce(&Server) -> Command) -> (Option<Server>, Command) {
    let command = command(&server);
    (Some(server), command)
}

fn join(directories: &[PathBuf]) -> std::ffi::OsString {
    std::env::join_paths(directories).unwrap_or_default()
}

/// Every program on every way that it names.
pub(crate) fn trials() -> Vec<Trial> {
    let programs = match list() {
        Ok(programs) => programs,
        Err(reason) => return vec![Trial::test(format!("programs ({reason})"), || Ok(())).with_ignored_flag(true)],
    };
    let mut trials = Vec::new();
    for program in programs {
        // Ways beside TCP are walked with the first build alone.
        let first = program.build == "static-ptx" || program.build.starts_with("host") || program.build == "python";
        for way in program.paths.clone() {
            if way != "tcp" && !first {
                continue;
            }
            let program = program.clone();
            let name = format!("{} {} {way}", program.name, program.build);
            trials.push(Trial::test(name, move || program.check(&way).map_err(Failed::from)));
        }
    }
    trials
}
