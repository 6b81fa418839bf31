//! What the commands say: help, errors, output for people and for programs.

use crate::bench::{Bench, both};

#[test]
fn help_names_every_command_but_the_plumbing() {
    let help = Bench::new().ok("--help");
    for command in ["run", "up", "down", "gpu", "ps", "coverage", "completions"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    assert!(!help.contains("worker (") && !help.contains("\n  worker"), "{help}");
    assert!(help.contains("128+n"), "exit codes are documented: {help}");
}

#[test]
fn every_command_has_a_page() {
    let bench = Bench::new();
    for (command, words) in [
        ("run", "--vram <BYTES>"),
        ("up", "--listen <tcp://HOST:PORT>"),
        ("down", "Stop this machine's node"),
        ("gpu ls", "what is free on them"),
        ("ps", "One line per process"),
        ("coverage", "CUDA and NVML"),
        ("completions", "[possible values: bash,"),
        ("worker", "--parent-stdin"),
    ] {
        let help = bench.ok(&format!("{command} --help"));
        assert!(help.contains(words), "{command}: {help}");
    }
}

#[test]
fn the_version_is_the_package_s() {
    assert_eq!(Bench::new().ok("--version"), concat!("tensor-fusion ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn completions_are_made_for_every_shell() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.ok(&format!("completions {shell}"));
        assert!(script.contains("tensor-fusion") && script.contains("vram"), "{shell}: {script}");
    }
}

#[test]
fn wrong_values_are_named_with_what_is_expected() {
    let bench = Bench::new();
    for (words, expected) in [
        ("run --vram 4XB true", "`XB` is not a unit of memory: expected KiB"),
        ("run --vram lots true", "`lots` is not a number: expected digits"),
        ("run --tflops 5T true", "`T` is not a unit of TFLOPS: expected nothing, or `m` for thousandths"),
        ("run --cc sm_80 true", "`sm_80` is not a compute capability: expected a number from 5.0 to 20.9"),
        ("run --qos urgent true", "`urgent` is not a QoS class: expected low, medium, high or critical"),
        ("run --connect nowhere true", "`nowhere` is not a node or worker: expected HOST:PORT"),
        ("up --listen 127.0.0.1:1", "`127.0.0.1:1` is not an address to listen at: expected tcp://HOST:PORT"),
        ("run", "<PROGRAM>"),
        ("frobnicate", "unrecognized subcommand 'frobnicate'"),
    ] {
        let (code, said) = bench.fails(words);
        assert_eq!(code, 2, "{words}: {said}");
        assert!(said.contains(expected), "{words}: {said}");
    }
}

#[test]
fn a_refusal_says_what_is_free_and_what_helps() {
    let bench = Bench::new();
    let (code, said) = bench.fails("run --vram 9GiB -- true");
    assert_eq!(code, 125);
    assert_eq!(
        said,
        "error: no GPU has 9 GiB free: GPU 0 has 8 GiB of 8 GiB\n\
         hint: `tensor-fusion ps` shows who holds what; ask for less, or stop something\n"
    );
    let (_, said) = bench.fails("--json run --vram 9GiB -- true");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["error"], "no GPU has 9 GiB free: GPU 0 has 8 GiB of 8 GiB");
    let (code, said) = bench.fails("run --gpus 2 -- true");
    assert_eq!((code, said.contains("this node has 1 GPU, `2` were asked for")), (125, true), "{said}");
    let (_, said) = bench.fails("run --tflops 21 -- true");
    assert!(said.contains("and 21 TFLOPS free: GPU 0 has 8 GiB of 8 GiB and 20 of 20 TFLOPS"), "{said}");
}

#[test]
fn gpus_are_shown_without_a_node_and_nothing_is_started() {
    let bench = Bench::new();
    let table = bench.ok("gpu ls");
    assert!(table.starts_with("GPU  NAME"), "{table}");
    assert!(table.contains("software") && table.contains("8 GiB"), "{table}");
    let gpus = bench.json("gpu ls");
    assert_eq!((gpus[0]["vendor"].as_str(), gpus[0]["vram"].as_u64()), (Some("software"), Some(8 << 30)));
    assert_eq!(bench.json("ps"), serde_json::json!([]));
    assert_eq!(bench.ok("down"), "no node runs here\n");
}

#[test]
fn the_software_gpu_is_shaped_by_the_environment_and_a_wrong_shape_is_said() {
    let bench = Bench::new();
    let look = |name: &str, value: &str| bench.command("gpu ls --json").env(name, value).output().unwrap();
    let output = look("TENSOR_FUSION_SOFT_VRAM", "2GiB");
    let gpus: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(gpus[0]["vram"].as_u64(), Some(2 << 30));
    let output = look("TENSOR_FUSION_SOFT_VRAM", "lots");
    assert_eq!(output.status.code(), Some(1));
    assert!(both(&output).contains("TENSOR_FUSION_SOFT_VRAM") && both(&output).contains("`lots`"), "{}", both(&output));
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let folder = bench.path().join("node");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, said) = bench.fails("ps");
    assert_eq!(code, 1);
    assert!(said.contains("can be entered by others: expected a folder of yours with mode 0700"), "{said}");
}

#[test]
fn the_example_trace_is_replayed() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/kubernetes/trace.yaml");
    let text = Bench::new().ok(&format!("simulate {trace}"));
    for line in ["REQUEST ", "training ", "notebook-7 ", "QOS ", "VRAM given out ", " placed in "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let summary = Bench::new().ok(&format!("simulate --summary {trace}"));
    assert!(!summary.contains("training") && summary.contains("MEAN WAIT"), "{summary}");
}
