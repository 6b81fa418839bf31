//! `run` is invisible to the program and to whoever started it.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use crate::bench::{Bench, alive, both, eventually, kill, started};

#[test]
fn the_exit_code_is_the_program_s() {
    let bench = Bench::new();
    for code in [0, 1, 7, 255] {
        let status = bench.script("", &format!("exit {code}")).status().unwrap();
        assert_eq!(status.code(), Some(code));
    }
    let status = bench.script("", "kill -TERM $$").status().unwrap();
    assert_eq!(status.code(), Some(128 + 15));
}

#[test]
fn input_output_and_arguments_are_passed_on() {
    let bench = Bench::new();
    let mut command = bench.command("run --");
    command.args(["/bin/sh", "-c", "cat; echo \"$1|$2\"; echo error >&2", "name", "two words", "--vram"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from the input\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from the input\ntwo words|--vram\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error\n", "nothing of ours");
}

#[test]
fn the_program_finds_our_library_and_its_vgpu() {
    let bench = Bench::new();
    let script = "echo $TENSOR_FUSION_CONNECT; echo $CUPY_COMPILE_WITH_PTX; echo $TENSOR_FUSION_SOFT_CC; \
                  readlink -f ${LD_LIBRARY_PATH%%:*}/libcuda.so.1 ${LD_LIBRARY_PATH%%:*}/libnvidia-ml.so.1; \
                  $TRITON_PTXAS_PATH --version | tail -1";
    let output = bench.script("--cc 8.0", script).output().unwrap();
    let said = both(&output);
    let lines: Vec<&str> = said.lines().collect();
    let library = bench.path().join("libtensor_fusion_cuda.so").canonicalize().unwrap();
    let library = library.to_str().unwrap();
    assert!(lines[0].starts_with("tcp://127.0.0.1:"), "{said}");
    assert_eq!(lines[1..5], ["1", "8.0", library, library], "{said}");
    assert!(lines[5].starts_with("Cuda compilation tools, release 13."), "{said}");
}

#[test]
fn the_stand_in_for_ptxas_passes_ptx_through() {
    let bench = Bench::new();
    let script = "cd $HOME && echo .version 9.0 > a.ptx && $TRITON_PTXAS_PATH -lineinfo -v --gpu-name=sm_120a a.ptx -o \
                  a.cubin && cat a.cubin && ! $TRITON_PTXAS_PATH missing.ptx -o b.cubin";
    let output = bench.script("", script).output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), ".version 9.0\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("`missing.ptx`"), "{}", both(&output));
}

#[test]
fn a_python_program_keeps_its_own_sitecustomize_and_is_told_that_nvjitlink_is_absent() {
    let Ok(found) = Command::new("python3").arg("-c").arg("pass").status() else { return };
    assert!(found.success());
    let bench = Bench::new();
    let mine = bench.path().join("mine");
    fs::create_dir_all(mine.join("cuda/pathfinder")).unwrap();
    fs::write(mine.join("sitecustomize.py"), "mine = True\n").unwrap();
    let pathfinder = "class DynamicLibNotFoundError(RuntimeError): pass\n\
                      def load_nvidia_dynamic_lib(libname): return 'found ' + libname\n";
    fs::write(mine.join("cuda/pathfinder/__init__.py"), pathfinder).unwrap();
    let program = "import sys, sitecustomize\n\
                   from cuda.pathfinder import load_nvidia_dynamic_lib as find, DynamicLibNotFoundError\n\
                   print(sitecustomize.mine, find('nvrtc'))\n\
                   try: find('nvJitLink')\n\
                   except DynamicLibNotFoundError as error: print(error)\n\
                   print([folder for folder in sys.path if 'client-' in folder])\n";
    let mut command = bench.command("run --");
    let output = command.args(["python3", "-c", program]).env("PYTHONPATH", &mine).output().unwrap();
    let expected = "True found nvrtc\nnvJitLink makes no PTX, and a software GPU runs nothing else\n[]\n";
    assert_eq!(both(&output), expected);
}

#[test]
fn a_program_that_cannot_be_started_is_named_and_its_vgpu_is_given_back() {
    let bench = Bench::new();
    let (code, said) = bench.fails("run -- no-such-program");
    assert_eq!(code, 127);
    assert_eq!(said, "error: `no-such-program` was not found\nhint: a program in this folder is called `./NAME`\n");
    let plain = bench.path().join("plain");
    fs::write(&plain, "").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = bench.fails(&format!("run -- {}", plain.display()));
    assert_eq!(code, 126, "{said}");
    assert_eq!(bench.free(), 8 << 30);
}

#[test]
fn a_missing_library_is_said() {
    let bench = Bench::new();
    let output = bench.script("", "true").env("TENSOR_FUSION_LIBRARY", "/nowhere/lib.so").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(both(&output).contains("expected `/nowhere/lib.so`"), "{}", both(&output));
    eventually("the vGPU is given back", || (bench.free() == 8 << 30).then_some(()));
}

#[test]
fn signals_are_passed_on() {
    let bench = Bench::new();
    for (signal, code) in [("INT", 3), ("TERM", 4), ("HUP", 5), ("USR1", 6)] {
        let script = format!("trap 'exit {code}' {signal}; echo ready; while :; do sleep 0.01; done");
        let mut run = started(&mut bench.script("", &script));
        kill(signal, run.id());
        assert_eq!(run.wait().unwrap().code(), Some(code), "{signal}");
    }
    assert_eq!(bench.free(), 8 << 30);
}

#[test]
fn a_program_that_ignores_a_signal_goes_on() {
    let bench = Bench::new();
    let script = "trap '' INT; trap 'echo got' USR1; echo ready; read line; exit 9";
    let mut run = started(bench.script("", script).stdin(Stdio::piped()));
    kill("INT", run.id());
    kill("USR1", run.id());
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", both(&output));
}

#[test]
fn a_killed_run_takes_the_program_along_and_gives_everything_back() {
    let bench = Bench::new();
    let script = format!("echo $$ > {}/pid; echo ready; read line", bench.path().display());
    let mut run = started(bench.script("--vram 3GiB", &script).stdin(Stdio::piped()));
    let program: u32 = fs::read_to_string(bench.path().join("pid")).unwrap().trim().parse().unwrap();
    let worker = crate::bench::number(&bench.json("ps")[0]["worker_pid"]);
    assert_eq!(bench.free(), 5 << 30);
    kill("KILL", run.id());
    run.wait().unwrap();
    eventually("the program is gone", || (!alive(program)).then_some(()));
    eventually("the worker is gone", || (!alive(worker)).then_some(()));
    eventually("the memory is free", || (bench.free() == 8 << 30).then_some(()));
    assert_eq!(bench.json("ps"), serde_json::json!([]));
}

#[test]
fn runs_at_once_have_a_vgpu_each() {
    let bench = Bench::new();
    let script = "echo ready; read line; echo $TENSOR_FUSION_CONNECT";
    let mut runs: Vec<_> =
        (0..3).map(|_| started(bench.script("--vram 2GiB --tflops 5", script).stdin(Stdio::piped()))).collect();
    let vgpus = bench.json("ps");
    assert_eq!(vgpus.as_array().unwrap().len(), 3);
    assert_eq!((vgpus[0]["vram"].as_u64(), vgpus[0]["tflops"].as_u64()), (Some(2 << 30), Some(5)));
    assert_eq!(vgpus[0]["program"], "sh");
    assert_eq!(bench.free(), 2 << 30);
    let (_, said) = bench.fails("run --vram 3GiB -- true");
    assert!(said.contains("no GPU has 3 GiB free: GPU 0 has 2 GiB of 8 GiB"), "{said}");
    for run in &mut runs {
        run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let mut addresses: Vec<Vec<u8>> = runs.into_iter().map(|run| run.wait_with_output().unwrap().stdout).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "each has a worker of its own");
    assert_eq!(bench.free(), 8 << 30, "given back before `run` ends");
}

#[test]
fn runs_that_start_at_once_share_one_node() {
    let bench = Bench::new();
    let runs: Vec<_> = (0..4).map(|_| bench.script("--vram 1GiB", "exit 5").spawn().unwrap()).collect();
    for mut run in runs {
        assert_eq!(run.wait().unwrap().code(), Some(5));
    }
    let log = fs::read_to_string(bench.path().join("node/node.log")).unwrap();
    assert_eq!(log.matches("node is up").count(), 1, "{log}");
}
