//! C programs against the built library, with the software GPU in their process.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The library that cargo built together with this test: in the same folder.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join("libtensor_fusion_cuda.so")
}

/// Compiles `tests/driver_api/NAME.c` and runs it.
fn run(name: &str, environment: &[(&str, &str)]) -> Output {
    let folder = std::env::temp_dir().join(format!("tensor-fusion-api-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(library(), folder.join("libcuda.so.1")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver_api").join(format!("{name}.c"));
    let program = folder.join(name);
    let compiled = Command::new("cc")
        .args(["-Wall", "-Werror", "-o"])
        .arg(&program)
        .arg(source)
        .arg(folder.join("libcuda.so.1"))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let output = Command::new(&program)
        .env("LD_LIBRARY_PATH", &folder)
        .env_remove("TENSOR_FUSION_CONNECT")
        // Devices are shared between processes that name them alike.
        .env("TENSOR_FUSION_SOFT_NAME", format!("Device of {name} {}", std::process::id()))
        .env("TENSOR_FUSION_SOFT_VRAM", "64MiB")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    output
}

fn succeeds(name: &str) -> String {
    let output = run(name, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn memory_is_copied_filled_pooled_and_limited() {
    assert_eq!(succeeds("memory"), "all as expected\n");
}

#[test]
fn kernels_run_from_modules_libraries_and_links() {
    assert_eq!(succeeds("kernels"), "all as expected\n");
}
