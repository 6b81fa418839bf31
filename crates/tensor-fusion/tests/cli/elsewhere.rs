//! `run --connect`: what is there is found out before the program starts, without a trace where all is well.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Stdio},
};

use crate::bench::{Bench, both};

/// A worker that was started by hand.
struct Worker {
    process: Child,
    address: String,
}

impl Worker {
    fn start(bench: &Bench, options: &str) -> Self {
        let words = format!("worker --listen tcp://127.0.0.1:0 --vram 1GiB --parent-stdin {options}");
        let mut command = bench.command(&words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let hello: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { process, address: hello["listening"].as_str().unwrap().to_owned() }
    }

    /// Ends it; what it has logged.
    fn log(mut self) -> String {
        drop(self.process.stdin.take());
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        self.process.wait().unwrap();
        log
    }
}

#[test]
fn a_worker_is_told_from_a_node_and_logs_nothing_of_it() {
    let bench = Bench::new();
    let worker = Worker::start(&bench, "");
    let run = bench.script(&format!("--connect {}", worker.address), "echo $TENSOR_FUSION_CONNECT; exit 3");
    let output = { run }.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim().trim_end_matches('/'),
        worker.address.trim_end_matches('/')
    );
    assert_eq!(bench.node_pid(), None, "no node is started");
    assert_eq!(worker.log(), "");
}

#[test]
fn a_worker_that_wants_another_token_is_named_before_the_program_starts() {
    let bench = Bench::new();
    let file = bench.path().join("token");
    std::fs::write(&file, "open-sesame-0123456789").unwrap();
    let worker = Worker::start(&bench, &format!("--token-file {}", file.display()));
    let started = bench.path().join("started");
    let script = format!("touch {}", started.display());
    let connect = format!("--connect {}", worker.address);
    for token in [None, Some("open-sesame-9876543210")] {
        let mut command = bench.script(&connect, &script);
        command.envs(token.map(|token| ("TENSOR_FUSION_TOKEN", token)));
        let output = command.output().unwrap();
        let said = both(&output);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("refused by the worker: the token is missing or wrong"), "{said}");
        assert!(said.contains("hint: `--token-file FILE`") && !said.contains("sesame"), "{said}");
        assert!(!started.exists());
    }
    let right = bench.script(&format!("{connect} --token-file {}", file.display()), &script).status().unwrap();
    assert!(right.success() && started.exists());
    // Two lines, one for each refusal.
    let log = worker.log();
    assert_eq!(log.matches("the token is missing or wrong").count(), 2, "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
}

#[test]
fn where_nobody_serves_the_program_is_not_started() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        // Asked in two ways.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // What was asked is read, so that the answer is not lost to a reset; who has the answer may hang up as it likes.
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    let (code, said) = bench.fails(&format!("run --connect {address} true"));
    assert_eq!(code, 125);
    assert!(said.contains("neither a node nor a worker"), "{said}");
    other.join().unwrap();
    let (code, said) = bench.fails(&format!("run --connect {address} true"));
    assert_eq!(code, 125);
    assert!(said.contains(&format!("nobody can be reached at `tcp://{address}`")) && said.contains("hint: "), "{said}");
    let (code, said) = bench.fails(&format!("run --connect unix://{}/none true", bench.path().display()));
    assert_eq!(code, 125);
    assert!(said.contains("nobody can be reached"), "{said}");
}
