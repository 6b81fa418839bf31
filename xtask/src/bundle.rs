//! Packs an archive for a machine with a GPU, a network cable and a compiler away from here: `run.sh` in it runs the same
//! programs on the real GPU directly, on the real GPU through our worker, and on the software GPU, and prints where they
//! differ.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::setup::{self, Toolkits};
use crate::workspace::{cargo, describe, files, path, run as execute, say};

/// What an archive may weigh.
const LIMIT: u64 = 60 << 20;

/// Machine code for these GPUs goes into each program, beside PTX.
const GPUS: &[&str] = &["80", "86", "89", "90", "100", "120"];

/// Programs that need no more than a GPU. Those that fill its memory or break it on purpose stay at home.
const PROGRAMS: &[&str] = &[
    "vector_add",
    "matmul",
    "reduce",
    "histogram",
    "streams",
    "async_copies",
    "symbols",
    "templates",
    "printf",
    "grids",
    "dynamic_shared",
    "cooperative_groups",
    "warps",
    "math",
    "conversions",
    "integers",
    "half",
    "atomics",
    "control_flow",
    "functions",
    "recursion",
    "algorithms",
    "errors",
    "copies",
    "memory",
    "threads",
    "multi_kernel",
    "standard_library",
    "illegal_address",
];

/// Programs in C against the driver API; they bring PTX as text.
const DRIVER_PROGRAMS: &[&str] = &["driver_api", "driver_link", "driver_errors", "bad_handles", "ptx_cases"];

/// Runs the task.
pub(crate) fn run(_: &[String]) -> anyhow::Result<()> {
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    setup::run(&[])?;
    let toolkits = Toolkits::prepared();
    let name = "tensor-fusion-bundle";
    let folder = path(&format!("target/{name}"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for part in ["bin", "programs", "ptx"] {
        fs::create_dir_all(folder.join(part))?;
    }
    for file in ["tensor-fusion", "libtensor_fusion_cuda.so"] {
        fs::copy(path("target/release").join(file), folder.join("bin").join(file))?;
        execute(Command::new("strip").arg("--strip-debug").arg(folder.join("bin").join(file)))?;
    }
    say("compiling the programs for real GPUs");
    for program in PROGRAMS {
        compile(&toolkits, program, &folder.join("programs"))?;
    }
    for program in DRIVER_PROGRAMS {
        let from = path(&format!("target/programs/{program}.host"));
        fs::copy(from, folder.join("programs").join(program))?;
    }
    for case in
        files(&path("crates/ptx"), &|file| file.extension().is_some_and(|ending| ending == "ptx" || ending == "case"))?
    {
        if let Some(name) = case.file_name() {
            fs::copy(&case, folder.join("ptx").join(name))?;
        }
    }
    fs::copy(path("scripts/bundle/run.sh"), folder.join("run.sh"))?;
    fs::copy(path("tests/programs/printf.expected"), folder.join("programs/printf.expected"))?;
    let archive = path(&format!("target/{name}.tar.gz"));
    execute(Command::new("tar").arg("-C").arg(path("target")).arg("-czf").arg(&archive).arg(name))?;
    let size = fs::metadata(&archive)?.len();
    if size > LIMIT {
        bail!("the archive has {} MiB: at most {} MiB are allowed", size >> 20, LIMIT >> 20);
    }
    say(&format!("target/{name}.tar.gz has {} MiB", size.div_ceil(1 << 20)));
    Ok(())
}

/// Compiles a program with machine code for every GPU since Ampere, and PTX for those to come and for ours.
fn compile(toolkits: &Toolkits, name: &str, to: &Path) -> anyhow::Result<()> {
    let sources = files(&path("tests/programs"), &|file| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".cu"))
    })?;
    let target = to.join(name);
    let mut command = Command::new(toolkits.cuda13.join("bin/nvcc"));
    command.args(["-O2", "-std=c++17", "-cudart", "static", "-Wno-deprecated-gpu-targets"]);
    command.args(["-gencode", "arch=compute_75,code=compute_75"]);
    for gpu in GPUS {
        command.arg("-gencode").arg(format!("arch=compute_{gpu},code=sm_{gpu}"));
    }
    command.arg(format!("-L{}", toolkits.cuda13.join("lib").display())).args(sources).arg("-o").arg(&target);
    let kept = path(&format!("target/programs/{name}.bundle"));
    let stamp = path(&format!("target/programs/{name}.bundle.stamp"));
    let state = crate::programs::fingerprint(&command)?;
    if !kept.exists() || fs::read_to_string(&stamp).ok().as_ref() != Some(&state) {
        let outcome = command.output()?;
        if !outcome.status.success() {
            bail!("{}\n{}", describe(&command), String::from_utf8_lossy(&outcome.stderr));
        }
        execute(Command::new("strip").arg(&target))?;
        fs::copy(&target, &kept)?;
        fs::write(stamp, state)?;
    } else {
        fs::copy(&kept, &target)?;
    }
    Ok(())
}
