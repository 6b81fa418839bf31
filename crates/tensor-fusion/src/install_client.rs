//! `tensor-fusion install-client`: what a container needs to use a vGPU, put into a folder. An init container runs it.
//!
//! | in the folder | for |
//! |---|---|
//! | `lib/libcuda.so.1` | our library, a copy |
//! | `lib/libcuda.so`, `lib/libnvidia-ml.so.1`, `lib/libnvidia-ml.so` | its other names, see `alias` |
//! | `ld.so.preload` | to be mounted as `/etc/ld.so.preload`: names those four |
//! | `bin/nvidia-smi` | to be mounted as `/usr/local/bin/nvidia-smi` |
//! | `bin/ptxas`, `python/sitecustomize.py` | what makes Triton and Numba hand over PTX, see the client's `environment` |
//!
//! Preloading puts the names in place before any search: whatever `LD_LIBRARY_PATH` an image sets and whatever
//! `libcuda.so.1` it brings along (CUDA's `compat` folder), the loader takes ours. It works for every C library that
//! reads `/etc/ld.so.preload`, which is glibc's; on musl nothing is preloaded, and `nvidia-smi` says so.

mod alias;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;

use crate::{
    environment,
    failure::{Failed, Outcome},
};

/// The library's own name first: the others need it.
const NAMES: [&str; 4] = ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1", "libnvidia-ml.so"];
/// Programs that show the vGPU, found beside our library or this program.
const SMI: &str = "nvidia-smi";
const SMI_SCRIPT: &str = include_str!("install_client/nvidia-smi.sh");
const PTXAS_SCRIPT: &str = include_str!("install_client/ptxas.sh");
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Put what containers need to use a vGPU into a folder.
#[derive(Debug, Args)]
pub(crate) struct InstallClient {
    /// The folder, as containers see it
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,

    /// Then wait until this file exists: the node agent makes it once the pod's vGPUs are served
    #[arg(long, value_name = "FILE")]
    wait: Option<PathBuf>,

    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    wait_seconds: u64,
}

impl InstallClient {
    pub(crate) fn main(self) -> Outcome {
        let library = environment::library()?;
        install(&self.folder, &library).with_context(|| format!("`{}` cannot be filled", self.folder.display()))?;
        if let Some(file) = &self.wait {
            wait(file, Duration::from_secs(self.wait_seconds))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn install(folder: &Path, library: &Path) -> anyhow::Result<()> {
    let folder = std::path::absolute(folder)?;
    for part in ["lib", "bin", "python"] {
        let part = folder.join(part);
        fs::create_dir_all(&part)?;
        fs::set_permissions(&part, Permissions::from_mode(0o755))?;
    }
    let mut preload = String::new();
    for name in NAMES {
        let path = folder.join("lib").join(name);
        let contents = if name == NAMES[0] { fs::read(library) } else { Ok(alias::library(name, NAMES[0])) };
        put(&path, &contents.with_context(|| format!("`{}`", library.display()))?, 0o755)?;
        preload.push_str(&format!("{}\n", path.display()));
    }
    let script = SMI_SCRIPT.replace("@FOLDER@", &folder.display().to_string());
    put(&folder.join("bin").join(SMI), script.as_bytes(), 0o755)?;
    put(&folder.join("bin/ptxas"), PTXAS_SCRIPT.as_bytes(), 0o755)?;
    put(&folder.join("python/sitecustomize.py"), environment::SITECUSTOMIZE.as_bytes(), 0o644)?;
    let beside = std::env::current_exe()?.with_file_name(SMI);
    if let Some(program) = [library.with_file_name(SMI), beside].into_iter().find(|file| file.is_file()) {
        let contents = fs::read(&program).with_context(|| format!("`{}`", program.display()))?;
        put(&folder.join("lib").join(SMI), &contents, 0o755)?;
    }
    // Last: whoever finds it finds what it names.
    put(&folder.join("ld.so.preload"), preload.as_bytes(), 0o644)
}

/// Writes a file at once: an init container that is run again must not change what running programs have mapped.
fn put(path: &Path, contents: &[u8], mode: u32) -> anyhow::Result<()> {
    let fresh = path.with_added_extension("new");
    let write = || {
        fs::write(&fresh, contents)?;
        fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("`{}`", path.display()))
}

/// Waits for a file.
fn wait(file: &Path, patience: Duration) -> Result<(), Failed> {
    let deadline = Instant::now() + patience;
    while !file.exists() {
        if Instant::now() > deadline {
            return Err(Failed::new(format!(
                "this pod's vGPU is not there: `{}` did not appear within {} s",
                file.display(),
                patience.as_secs()
            ))
            .hint("the node agent (`tensor-fusion hypervisor`) of this node makes it: the pod's events and the agent's log say why it has not"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_and_preloaded_in_order_and_a_second_time_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("our.so");
        fs::write(&library, "the library").unwrap();
        let into = folder.path().join("into");
        for _ in 0..2 {
            install(&into, &library).unwrap();
            let names: Vec<String> = NAMES.iter().map(|name| format!("{}/lib/{name}\n", into.display())).collect();
            assert_eq!(fs::read_to_string(into.join("ld.so.preload")).unwrap(), names.concat());
            assert_eq!(fs::read_to_string(into.join("lib/libcuda.so.1")).unwrap(), "the library");
            assert!(fs::read(into.join("lib/libnvidia-ml.so.1")).unwrap().starts_with(b"\x7fELF"));
            assert_eq!(fs::metadata(into.join("bin/nvidia-smi")).unwrap().permissions().mode() & 0o777, 0o755);
        }
    }

    #[test]
    fn where_there_is_no_gnu_c_library_it_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("nvidia-smi");
        // As on an image that is built on musl: the loaders are not there.
        fs::write(&script, SMI_SCRIPT.replace(" /lib", " /nonexistent/lib")).unwrap();
        let said = std::process::Command::new("sh").arg(&script).output().unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1));
        assert!(text.contains("no GNU C library (glibc 2.17 or later)") && text.contains("musl (Alpine)"), "{text}");
    }

    #[test]
    fn waiting_ends_with_the_file_or_with_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready");
        let failed = wait(&file, Duration::ZERO).unwrap_err();
        assert!(format!("{failed:?}").contains("did not appear within 0 s"));
        fs::write(&file, "").unwrap();
        wait(&file, Duration::ZERO).unwrap();
    }
}
