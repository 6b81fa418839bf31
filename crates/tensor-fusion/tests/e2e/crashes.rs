//! Somebody dies in the middle: the others get an error or nothing at all, never a hang, and memory comes back.

use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use super::process::{PATIENCE, Running, run};
use super::programs::find;
use super::server::Server;

/// What a program may take to notice that its worker is gone.
const SOON: Duration = Duration::from_secs(20);

/// A program that works until something goes wrong, once it works.
pub(crate) fn endless(server: &Server, megabytes: u32) -> Result<Running, String> {
    let mut command = find("endless", "static-ptx")?.append_to(|program| server.client(program));
    command.arg(megabytes.to_string());
    let mut running = Running::start(command)?;
    running.line(|line| line == "ready")?;
    Ok(running)
}

fn worker_killed() -> Result<(), Failed> {
    let mut server = Server::tcp("512MiB")?;
    let running = endless(&server, 64)?;
    server.process().signal("KILL");
    let finished = running.finish(SOON)?.expect_code(3)?;
    if !finished.stdout.contains("cudaError") {
        return Err(finished.describe("no CUDA error was reported").into());
    }
    Ok(())
}

fn worker_stopped_and_killed() -> Result<(), Failed> {
    // A worker that hangs and then dies: the program waits, and is told in the end.
    let mut server = Server::unix("512MiB")?;
    let running = endless(&server, 64)?;
    server.process().signal("STOP");
    server.process().signal("KILL");
    running.finish(SOON)?.expect_code(3)?;
    Ok(())
}

fn client_killed() -> Result<(), Failed> {
    let server = Server::tcp("512MiB")?;
    let first = endless(&server, 400)?;
    first.kill_group("KILL");
    drop(first);
    // The worker notices when the connection closes; there is room for another 400 MiB soon, without a restart.
    let deadline = Instant::now() + SOON;
    loop {
        match endless(&server, 400) {
            Ok(second) => {
                drop(second);
                return Ok(());
            }
            Err(reason) if Instant::now() > deadline => return Err(reason.into()),
            Err(_) => {}
        }
    }
}

fn illegal_address_is_private() -> Result<(), Failed> {
    let server = Server::tcp("1GiB")?;
    let mut bystander = endless(&server, 64)?;
    let command = find("illegal_address", "static-ptx")?.append_to(|program| server.client(program));
    run(command, PATIENCE)?.success()?;
    for _ in 0..2 {
        bystander.line(|line| line == "alive")?;
    }
    let command = find("vector_add", "static-ptx")?.append_to(|program| server.client(program));
    run(command, PATIENCE)?.success()?;
    Ok(())
}

fn broken_driver_is_opened_anew() -> Result<(), Failed> {
    // A vendor's driver serves a process no more after a fault. The worker becomes a fresh one at the same address.
    let mut server = Server::native("1GiB")?;
    let bystander = endless(&server, 64)?;
    let command = find("illegal_address", "static-ptx")?.append_to(|program| server.client(program));
    run(command, PATIENCE)?.success()?;
    for _ in 0..2 {
        // The first one comes while the bystander still holds the broken driver.
        let command = find("vector_add", "static-ptx")?.append_to(|program| server.client(program));
        run(command, PATIENCE)?.success()?;
    }
    bystander.finish(SOON)?.expect_code(3)?;
    server.process().input("status\n")?;
    let status = server.process().line(|line| line.contains("vram_used"))?;
    if !status.contains("\"vram_used\":0") {
        return Err(format!("memory is left: `{status}`").into());
    }
    Ok(())
}

fn trap_is_a_launch_failure() -> Result<(), Failed> {
    let server = Server::tcp("1GiB")?;
    let mut command = find("null_pointer", "static-ptx")?.append_to(|program| server.client(program));
    command.arg("trap");
    run(command, PATIENCE)?.success()?;
    Ok(())
}

/// The cases.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a killed worker is a CUDA error and no hang", worker_killed),
        Trial::test("a worker that hangs and dies is a CUDA error", worker_stopped_and_killed),
        Trial::test("a killed client's memory is free again", client_killed),
        Trial::test("an illegal address hurts nobody else", illegal_address_is_private),
        Trial::test("a driver that a fault broke is opened anew", broken_driver_is_opened_anew),
        Trial::test("a trap is a launch failure", trap_is_a_launch_failure),
    ]
}
