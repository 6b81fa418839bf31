//! Our library in a process whose C library is years older than the one that it was built with: a real loader, a program that is
//! linked with that library, and nothing of this machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::process::{PATIENCE, run};
use super::server::{Server, binary, isolate, own_card, scratch};

/// What `cargo xtask setup` has unpacked.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/old-glibc")
}

pub(crate) fn trials() -> Vec<Trial> {
    if !folder().join("driver_api").exists() {
        let reason = std::fs::read_to_string(folder().join("missing.txt"));
        let reason = reason.unwrap_or_else(|_| "run `cargo xtask setup` first".to_owned());
        return vec![Trial::test(format!("old_glibc ({reason})"), || Ok(())).with_ignored_flag(true)];
    }
    vec![
        Trial::test("old_glibc::a_program_computes_in_its_own_process", || computes(None)),
        Trial::test("old_glibc::a_program_computes_on_a_worker", || computes(Some(&Server::tcp("1GiB")?))),
        Trial::test("old_glibc::nvidia_smi_shows_the_gpu", shows),
    ]
}

/// A program on the old library and nothing else.
fn plain(program: &Path) -> Command {
    let libraries = folder().join("root/lib/x86_64-linux-gnu");
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(libraries).arg(program);
    isolate(&mut command);
    command
}

/// The same with what `install-client` leaves loaded before all others, as in a pod.
fn with_ours(program: &Path, server: Option<&Server>) -> Result<Command, String> {
    let files = scratch("client");
    let mut install = Command::new(binary());
    install.arg("install-client").arg(&files);
    run(install, PATIENCE)?.success()?;
    let preload = std::fs::read_to_string(files.join("ld.so.preload")).map_err(|error| error.to_string())?;
    let mut command = plain(program);
    own_card(&mut command);
    command.env("LD_PRELOAD", preload.lines().collect::<Vec<_>>().join(":"));
    if let Some(server) = server {
        command.env("TENSOR_FUSION_CONNECT", format!("tcp://{}", server.address()?));
    }
    Ok(command)
}

fn computes(server: Option<&Server>) -> Result<(), Failed> {
    // The C library says its version when it is started as a program.
    let library = folder().join("root/lib/x86_64-linux-gnu/libc.so.6");
    let said = run(plain(&library), PATIENCE)?.success()?;
    assert!(said.stdout.contains("release version 2.31"), "{}", said.stdout);
    let finished = run(with_ours(&folder().join("driver_api"), server)?, PATIENCE)?.success()?;
    assert_eq!(finished.stdout, "driver_api: ok\n");
    Ok(())
}

fn shows() -> Result<(), Failed> {
    let mut command = with_ours(&binary().with_file_name("nvidia-smi"), None)?;
    command.arg("-L");
    let finished = run(command, PATIENCE)?.success()?;
    assert!(finished.stdout.starts_with("GPU 0: Tensor Fusion Software GPU (UUID: GPU-"), "{}", finished.stdout);
    Ok(())
}
