//! Peers that lie to a worker: each is turned away, and the worker serves the next one as if nothing had happened.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::crashes::endless;
use super::process::{PATIENCE, run};
use super::programs::find;
use super::server::{Server, binary, isolate, library_directory, scratch};

/// The first bytes of a hello that no version may change: magic, version, status, length of the body.
fn prefix(version: u16, length: u64) -> Vec<u8> {
    let mut bytes = b"TNSRFUSN".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(0u16.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes
}

/// Sends bytes and returns what the worker says before it closes the connection. That it closes is part of the test.
fn send(server: &Server, bytes: &[u8], then_close: bool) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(server.address()?).map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    // The worker may close before everything is written.
    stream.write_all(bytes).ok();
    if then_close {
        stream.shutdown(std::net::Shutdown::Write).ok();
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => Ok(answer),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(answer),
        Err(error) => Err(format!("the worker kept the connection: {error}")),
    }
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn still_serves(server: &Server) -> Result<(), String> {
    let command = find("vector_add", "static-ptx")?.append_to(|program| server.client(program));
    run(command, PATIENCE)?.success().map(drop)
}

fn garbage() -> Result<(), Failed> {
    let server = Server::tcp("512MiB")?;
    let noise: Vec<u8> = (0u32..100_000).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    send(&server, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", false)?;
    send(&server, &noise, false)?;
    send(&server, &[0; 4096], false)?;
    send(&server, b"TNSR", true)?;
    send(&server, b"", true)?;
    let mut torn = prefix(1, 100);
    torn.extend([7; 10]);
    send(&server, &torn, true)?;
    let mut nonsense = prefix(1, 100);
    nonsense.extend([0xA5; 100]);
    send(&server, &nonsense, false)?;
    still_serves(&server)?;
    Ok(())
}

fn impossible_lengths() -> Result<(), Failed> {
    let mut server = Server::tcp("512MiB")?;
    still_serves(&server)?;
    let before = resident(server.process().id());
    for length in [1 << 63, u64::MAX, 1 << 40, 100 << 20] {
        send(&server, &prefix(1, length), false)?;
    }
    let after = resident(server.process().id());
    if after > before + (64 << 10) {
        return Err(format!("the worker grew from {before} KiB to {after} KiB for promises").into());
    }
    still_serves(&server)?;
    Ok(())
}

fn other_version() -> Result<(), Failed> {
    let server = Server::tcp("512MiB")?;
    for version in [0, 999, u16::MAX] {
        let mut hello = prefix(version, 5);
        hello.extend(b"hello");
        let answer = send(&server, &hello, false)?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        if !answer.starts_with(b"TNSRFUSN") || !text.contains("version") || !text.contains(&version.to_string()) {
            return Err(format!("a peer of version {version} is told: {text:?}").into());
        }
    }
    still_serves(&server)?;
    Ok(())
}

fn silent_peers() -> Result<(), Failed> {
    let server = Server::tcp("512MiB")?;
    let running = endless(&server, 64)?;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(server.address()?)?);
    }
    still_serves(&server)?;
    drop(running);
    Ok(())
}

/// A program sees a number; who looks finds the reason.
fn wrong_token() -> Result<(), Failed> {
    let file = scratch("token").join("token");
    std::fs::write(&file, "open-sesame-0123456789")?;
    let server = Server::with_token("512MiB", &file)?;
    let client = |program: &Path, token: &str| -> Result<Command, String> {
        let mut command = Command::new(program);
        isolate(&mut command);
        command.env("LD_LIBRARY_PATH", library_directory()).env("TENSOR_FUSION_TOKEN", token);
        command.env("TENSOR_FUSION_CONNECT", format!("tcp://{}", server.address()?)).env_remove("TENSOR_FUSION_LOG");
        Ok(command)
    };
    let program = find("vector_add", "static-ptx")?.file;
    let (wrong, reason) = ("open-sesame-9876543210", "the token is missing or wrong");
    let quiet = run(client(&program, wrong)?, PATIENCE)?.expect_code(1)?;
    assert!(quiet.stderr.contains("cudaErrorNotPermitted") && !quiet.stderr.contains("token"), "{}", quiet.stderr);
    let mut command = client(&program, wrong)?;
    command.env("TENSOR_FUSION_LOG", "error");
    let loud = run(command, PATIENCE)?.expect_code(1)?;
    assert!(loud.stderr.contains(reason) && !loud.stderr.contains("sesame"), "{}", loud.stderr);
    let shown = run(client(&binary().with_file_name("nvidia-smi"), wrong)?, PATIENCE)?.expect_code(9)?;
    assert!(shown.stderr.contains(reason) && shown.stderr.contains("answered 4"), "{}", shown.stderr);
    run(client(&program, "open-sesame-0123456789")?, PATIENCE)?.success()?;
    Ok(())
}

/// The cases.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("garbage on a worker's port is turned away", garbage),
        Trial::test("a promise of 2^63 bytes is turned away", impossible_lengths),
        Trial::test("a peer of another protocol version is told so", other_version),
        Trial::test("a wrong token is told where people look", wrong_token),
        Trial::test("silent peers keep nobody waiting", silent_peers),
    ]
}
