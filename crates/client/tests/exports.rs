//! The built library exports what the table says, and nothing else; one file serves as both libraries.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be prepared fails the test")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// The library that cargo built together with this test: in the same folder. (The one a folder further up is that of the
/// last `cargo build`.)
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().join("libtensor_fusion_cuda.so")
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_symbols_are_those_of_the_table() {
    let listing = output(Command::new("nm").args(["--dynamic", "--defined-only", "--format=posix"]).arg(library()));
    let exported: BTreeSet<&str> = listing.lines().filter_map(|line| line.split(' ').next()).collect();
    let table: BTreeSet<&str> = cuda::api::CUDA.iter().chain(cuda::api::NVML).map(|function| function.symbol).collect();
    assert_eq!(
        exported.difference(&table).take(9).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "exported, not in the table"
    );
    assert_eq!(
        table.difference(&exported).take(9).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "in the table, not exported"
    );
}

#[test]
fn the_library_has_the_name_that_programs_look_for() {
    let headers = output(Command::new("objdump").arg("-p").arg(library()));
    let soname = headers.lines().find_map(|line| line.trim().strip_prefix("SONAME"));
    assert_eq!(soname.map(str::trim), Some("libcuda.so.1"));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_glibc_from_2_17_on_can_load_it() {
    let listing = output(Command::new("objdump").arg("-T").arg(library()));
    let mut later = Vec::new();
    for line in listing.lines().filter(|line| line.contains("*UND*")) {
        let weak = line.split_whitespace().nth(1) == Some("w");
        let words: Vec<&str> = line.split_whitespace().collect();
        let version = words.iter().find_map(|word| word.trim_matches(['(', ')']).strip_prefix("GLIBC_2."));
        let minor = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        let versioned = line.contains("(GLIBC_") || line.contains("(GCC_");
        if minor.is_some_and(|minor| minor > 17) || !(weak || versioned) {
            later.push(words.last().copied().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(later, Vec::<String>::new(), "to be listed in glibc-floor/src/symbols.txt, or done without");
}

/// Compiles a C program and runs it with links to the library under both names.
fn run_c(name: &str, source: &str, environment: &[(&str, &str)]) -> String {
    let folder = std::env::temp_dir().join(format!("tensor-fusion-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for link in ["libcuda.so.1", "libnvidia-ml.so.1"] {
        let link = folder.join(link);
        if !link.exists() {
            std::os::unix::fs::symlink(library(), link).unwrap();
        }
    }
    let (file, program) = (folder.join("main.c"), folder.join("main"));
    std::fs::write(&file, source).unwrap();
    output(Command::new("cc").arg("-o").arg(&program).arg(&file).args(["-ldl", "-pthread"]));
    let printed = output(
        Command::new(&program)
            .env("LD_LIBRARY_PATH", &folder)
            .env_remove("TENSOR_FUSION_CONNECT")
            .envs(environment.iter().copied()),
    );
    std::fs::remove_dir_all(&folder).unwrap();
    printed
}

#[test]
fn both_names_open_one_library() {
    let printed = run_c("two-names", include_str!("two_names.c"), &[("TENSOR_FUSION_LOG", "trace")]);
    let expected = "\
same instance
found cuInit
not found cuNoSuchThing
absent says 801
nvml absent says 3
at exit 0
";
    assert_eq!(printed, expected);
}

#[test]
fn monitoring_tools_see_the_devices() {
    let devices =
        [("TENSOR_FUSION_SOFT_DEVICES", "2"), ("TENSOR_FUSION_SOFT_VRAM", "3GiB"), ("CUDA_VISIBLE_DEVICES", "0")];
    let printed = run_c("nvml", include_str!("nvml.c"), &devices);
    let expected = "\
count before init: 1
init: 0
count: 0, 2
uuid: 0
found by uuid
pci: 0
found by bus id
name: 0, Tensor Fusion Software GPU
name in too little room: 7
memory: 0, 3072 MiB, adds up: 1
memory v2: 0, the same: 1
memory v2 of another version: 25
cuda version: 0, 13050
processes: 0, 0
temperature: 3
a device that is not there: 2
text: Not Supported
shutdown: 0
shutdown again: 1
";
    assert_eq!(printed, expected);
}

#[test]
fn a_process_has_its_devices_tables_and_no_children() {
    let devices = [("TENSOR_FUSION_SOFT_DEVICES", "2"), ("CUDA_VISIBLE_DEVICES", "1")];
    let printed = run_c("process", include_str!("process.c"), &devices);
    let expected = "\
count before init: 3
init: 0
devices: 1
the second device
error 2: CUDA_ERROR_OUT_OF_MEMORY
error 12345: 1
unknown table: 1, null: 1
slots: 3
integrity: 0, 3341181c03cb675c
storage without a context: 201
context: 0
nothing stored: 400
put: 0
get: 0, 0x4
destroyed: 1
child: 3, 3
parent: 0
";
    assert_eq!(printed, expected);
}
