//! The node's life: starting, stopping, being killed, serving other machines.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
};

use crate::bench::{Bench, alive, both, eventually, kill, number, started};

#[test]
fn a_node_goes_up_once_and_down_without_a_trace() {
    let bench = Bench::new();
    let said = bench.ok("up --detach");
    assert!(said.starts_with("node is up with 1 GPU, as process "), "{said}");
    let pid = bench.node_pid().unwrap();
    let (code, said) = bench.fails("up");
    assert_eq!((code, said.contains("a node runs here already")), (3, true), "{said}");
    let (code, said) = bench.fails("up --detach");
    assert_eq!((code, said.contains(&format!("as process {pid}"))), (3, true), "{said}");
    assert_eq!(bench.ok("down"), "node is down\n");
    assert!(!alive(pid));
    assert_eq!(bench.json("down")["stopped"], false);
    assert_eq!(bench.json("up --detach")["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(bench.json("down")["stopped"], true);
}

#[test]
fn a_node_in_the_foreground_ends_by_signals() {
    let bench = Bench::new();
    for signal in ["INT", "TERM"] {
        let mut node = bench.command("up").stdout(Stdio::piped()).spawn().unwrap();
        eventually("the node answers", || bench.path().join("node/node.sock").exists().then_some(()));
        bench.ok("ps");
        kill(signal, node.id());
        assert!(node.wait().unwrap().success(), "{signal}");
        assert!(!bench.path().join("node/node.sock").exists());
    }
}

#[test]
fn stopping_a_node_stops_its_workers() {
    let bench = Bench::new();
    let run = started(bench.script("", "echo ready; read line; exit 4").stdin(Stdio::piped()));
    let worker = number(&bench.json("ps")[0]["worker_pid"]);
    bench.ok("down");
    assert!(!alive(worker));
    let mut run = run;
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(4), "the program goes on and its exit code is passed on");
}

#[test]
fn a_killed_node_takes_its_workers_along_and_the_next_run_starts_another() {
    let bench = Bench::new();
    let mut run = started(bench.script("--vram 3GiB", "echo ready; read line; exit 4").stdin(Stdio::piped()));
    let worker = number(&bench.json("ps")[0]["worker_pid"]);
    kill("KILL", bench.node_pid().unwrap());
    eventually("the worker is gone", || (!alive(worker)).then_some(()));
    let next = bench.script("--vram 8GiB", "exit 6").status().unwrap();
    assert_eq!(next.code(), Some(6));
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(4));
    assert_eq!(bench.json("ps"), serde_json::json!([]));
}

#[test]
fn a_killed_worker_is_reported_and_its_memory_is_free() {
    let bench = Bench::new();
    let mut run = started(bench.script("--vram 3GiB", "echo ready; read line; exit 4").stdin(Stdio::piped()));
    let worker = number(&bench.json("ps")[0]["worker_pid"]);
    kill("KILL", worker);
    let failed = eventually("the vGPU has failed", || {
        let vgpu = bench.json("ps")[0].clone();
        (vgpu["state"] == "failed").then_some(vgpu)
    });
    assert!(failed["failure"].as_str().unwrap().contains("signal: 9"), "{failed}");
    assert_eq!(bench.free(), 8 << 30);
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let said = both(&output);
    assert!(said.contains("tensor-fusion: vgpu-1 is lost: its worker ended by itself (signal: 9"), "{said}");
    assert_eq!(bench.json("ps"), serde_json::json!([]));
}

#[test]
fn a_node_that_was_started_by_a_run_goes_when_it_has_nothing_to_do() {
    let bench = Bench::new();
    bench.ok("up --detach --idle-exit 1");
    let pid = bench.node_pid().unwrap();
    eventually("the node is gone", || (!alive(pid)).then_some(()));
}

/// Sends bytes to a node's port and returns all that comes back.
fn raw(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn another_machine_gets_a_vgpu_from_a_node_that_listens() {
    let (here, there) = (Bench::new(), Bench::new());
    let info = there.json("up --detach --listen tcp://127.0.0.1:0");
    let address = info["listening"].as_str().unwrap();
    let options = format!("--connect {address} --vram 3GiB");
    let mut run = started(here.script(&options, "echo ready; read line; exit 4").stdin(Stdio::piped()));
    assert_eq!(there.json("ps")[0]["vram"].as_u64(), Some(3 << 30));
    assert_eq!(here.node_pid(), None, "no node is started here");
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(4));
    assert_eq!(there.json("ps"), serde_json::json!([]));
    let plain = address.strip_prefix("tcp://").unwrap();
    assert_eq!(here.script(&format!("--connect {plain}"), "exit 5").status().unwrap().code(), Some(5));
}

#[test]
fn a_node_with_a_token_serves_those_who_show_it_and_tells_nobody() {
    let (here, there) = (Bench::new(), Bench::new());
    let secret = "open-sesame-0123456789";
    let file = there.path().join("token");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let token = format!("--token-file {}", file.display());
    let info = there.json(&format!("up --detach --listen tcp://127.0.0.1:0 {token}"));
    let address = info["listening"].as_str().unwrap();

    let (code, said) = here.fails(&format!("run --connect {address} true"));
    assert_eq!(code, 125);
    assert!(said.contains("the token is missing or wrong") && said.contains("--token-file"), "{said}");
    let denied = raw(address, b"GET /v1/vgpus HTTP/1.0\r\nauthorization: Bearer open-sesame-0123456788\r\n\r\n");
    assert!(denied.starts_with("HTTP/1.0 401"), "{denied}");
    assert!(raw(address, b"GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 401"));

    // The program gets its own vGPU's token, not the node's; and nobody else is told either.
    let shown = here.script(&format!("--connect {address} {token}"), "echo $TENSOR_FUSION_TOKEN").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.trim().len() == 32 && !shown.contains(secret), "{shown}");
    let mut held = started(there.script("", "echo ready; read line").stdin(Stdio::piped()));
    assert!(!there.ok("ps --json").contains("token"));
    assert!(!std::fs::read_to_string(there.path().join("node/state.json")).unwrap().contains("token"));
    held.kill().unwrap();
    held.wait().unwrap();
}

#[test]
fn serving_everybody_must_be_asked_for() {
    let bench = Bench::new();
    let (code, said) = bench.fails("up --listen tcp://0.0.0.0:0");
    assert_eq!(code, 2);
    assert!(said.contains("everybody who reaches `tcp://0.0.0.0:0` could use the GPUs"), "{said}");
    assert!(said.contains("--token-file FILE") && said.contains("--no-token"), "{said}");
    let short = bench.path().join("short");
    std::fs::write(&short, "sesame").unwrap();
    let (_, said) = bench.fails(&format!("up --listen tcp://0.0.0.0:0 --token-file {}", short.display()));
    assert!(said.contains("a token of 6 characters is not allowed") && !said.contains("sesame"), "{said}");
}

#[test]
fn the_interface_answers_junk_with_errors_and_lives_on() {
    let bench = Bench::new();
    let info = bench.json("up --detach --listen tcp://127.0.0.1:0");
    let address = info["listening"].as_str().unwrap();
    let post = |body: &str| {
        let head = "POST /v1/vgpus HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
        raw(address, format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    };
    assert!(post("{\"vram\":\"9GiB\"}").starts_with("HTTP/1.1 409"), "{}", post("{\"vram\":\"9GiB\"}"));
    assert!(post("{\"vram\":\"9XB\"}").contains("`XB` is not a unit of memory"), "{}", post("{\"vram\":\"9XB\"}"));
    assert!(post("{\"vran\":1}").contains("unknown field `vran`"));
    assert!(post("junk").starts_with("HTTP/1.1 400"));
    assert!(raw(address, b"\x00\x01\x02junk\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(raw(address, b"DELETE /v1/vgpus/vgpu-9 HTTP/1.0\r\n\r\n").contains("there is no vGPU `vgpu-9`"));
    assert!(raw(address, b"POST /v1/stop HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404"), "only on the Unix socket");
    let metrics = raw(address, b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(metrics.contains("tf_gpu_metrics_capacity_vram_bytes{gpu=\"GPU-"), "{metrics}");
    assert!(metrics.contains("\ntf_system_metrics_total_allocation_fail_cnt 1\n"), "{metrics}");
    let granted = post("{\"vram\":\"1GiB\",\"tflops\":\"500m\"}");
    assert!(granted.starts_with("HTTP/1.1 201") && granted.contains("\"tflops\":0.5"), "{granted}");
    let metrics = raw(address, b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(metrics.contains("tf_worker_resources_ready{worker=\"vgpu-1\""), "{metrics}");
    assert!(raw(address, b"DELETE /v1/vgpus/vgpu-1 HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 204"));
    assert_eq!(bench.free(), 8 << 30);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let bench = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap());
    let (code, said) = bench.fails(&format!("up --listen {address}"));
    assert_eq!(code, 1);
    assert!(said.contains(&format!("`{address}` cannot be listened at")), "{said}");
    let (_, said) = bench.fails(&format!("up --detach --listen {address}"));
    assert!(said.contains(&format!("the node ended at once: `{address}` cannot be listened at")), "{said}");
}
