//! Container images made from the work tree, without Docker: `cargo xtask image [FOLDER]`.
//!
//! Ours holds the binary, the client library and the few shared libraries of the C runtime that they need, taken from this
//! machine; no shell, nothing to keep patched. The images for tests are plain bases as users have them, with no CUDA in
//! them but what a program links, and our test programs.

mod closure;
mod oci;
mod python;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use oci::{Entry, Image};

use crate::workspace::{cargo, files, path, run as execute, say, write_changed};
use crate::{cluster, setup};

/// The one image of the product; the chart's default repository and version.
pub(crate) const PRODUCT: &str = concat!("docker.io/tensor-fusion/tensor-fusion:", env!("CARGO_PKG_VERSION"));
/// A small system with glibc, a shell and CUDA programs, as unmodified images have.
pub(crate) const PROGRAMS: &str = "docker.io/tensor-fusion/test-programs:1";

/// A Python with Numba and CuPy.
const PYTHON: &str = "docker.io/tensor-fusion/test-python:1";

/// Programs in the image for tests: statically linked runtimes, and one that brings its runtime as a shared library.
const TEST_PROGRAMS: [&str; 6] = [
    "vector_add.static-ptx",
    "vector_add.shared-ptx",
    "matmul.static-ptx",
    "endless.static-ptx",
    "vram_limit.host",
    "tenant.static-ptx",
];

/// Where a toolkit's are.
const STUBS: &str = "usr/local/cuda/lib64/stubs";

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let folder = arguments.first().map_or_else(|| path("target/images"), PathBuf::from);
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    fs::create_dir_all(&folder)?;
    product(&folder.join("tensor-fusion.tar"))
}

/// What the cluster's tests run.
#[derive(Debug)]
pub(crate) struct Archives {
    pub(crate) files: Vec<PathBuf>,
    /// Why the one with Python is not among them, if it is not.
    pub(crate) python_missing: Option<String>,
}

/// Makes every image that the cluster's tests need.
pub(crate) fn for_tests() -> anyhow::Result<Archives> {
    let folder = path("target/images");
    fs::create_dir_all(&folder)?;
    let [ours, programs, python] =
        ["tensor-fusion.tar", "test-programs.tar", "test-python.tar"].map(|file| folder.join(file));
    product(&ours)?;
    test_programs(&programs)?;
    let mut archives = Archives { files: vec![ours, programs], python_missing: None };
    match python::image(PYTHON, &python) {
        Ok(()) => {
            said(&python)?;
            archives.files.push(python);
        }
        Err(error) => archives.python_missing = Some(format!("{error:#}")),
    }
    Ok(archives)
}

/// The image that holds a pod's namespaces on the test cluster: it sleeps.
pub(crate) fn pause(archive: &Path) -> anyhow::Result<()> {
    let image = Image {
        name: cluster::PAUSE,
        entries: vec![Entry::file("bin/busybox", "/bin/busybox", 0o755)],
        entrypoint: &["/bin/busybox", "sleep", "2147483647"],
        environment: &[],
    };
    image.write(archive)
}

fn product(archive: &Path) -> anyhow::Result<()> {
    let stripped = path("target/images/stripped");
    fs::create_dir_all(&stripped)?;
    let mut entries = Vec::new();
    let mut programs = Vec::new();
    for file in ["tensor-fusion", "libtensor_fusion_cuda.so", "nvidia-smi"] {
        let target = stripped.join(file);
        execute(
            Command::new("strip").arg("--strip-debug").arg(path("target/release").join(file)).arg("-o").arg(&target),
        )?;
        entries.push(Entry::file(file, &target, 0o755));
        programs.push(target);
    }
    entries.extend(closure::libraries(&programs)?);
    entries.push(Entry::folder("tmp"));
    let image = Image { name: PRODUCT, entries, entrypoint: &["/tensor-fusion"], environment: &[] };
    image.write(archive)?;
    said(archive)
}

fn test_programs(archive: &Path) -> anyhow::Result<()> {
    let mut entries =
        vec![Entry::file("bin/busybox", "/bin/busybox", 0o755), Entry::folder("tmp"), Entry::folder("etc")];
    for name in ["sh", "cat", "ls", "sleep", "env", "test", "grep", "echo", "true", "kill", "date", "seq"] {
        entries.push(Entry::link(&format!("bin/{name}"), "busybox"));
    }
    // Not busybox's: a program of the image's C library, as nearly all of an image's programs are.
    let own = PathBuf::from("/usr/bin/env");
    entries.push(Entry::file("usr/bin/env", &own, 0o755));
    let mut programs = vec![own];
    for name in TEST_PROGRAMS {
        let program = path("target/programs").join(name);
        entries.push(Entry::file(&format!("programs/{name}"), &program, 0o755));
        programs.push(program);
    }
    // As an image with a toolkit has it: found through LD_LIBRARY_PATH, and no driver in it.
    let toolkit = setup::Toolkits::prepared().cuda13.join("lib");
    for library in files(&toolkit, &|file| file.to_string_lossy().contains("libcudart.so.13"))? {
        let real = fs::canonicalize(&library)?;
        let name = library.file_name().context("a library without a name")?.to_string_lossy().into_owned();
        programs.push(real.clone());
        entries.push(Entry::file(&format!("usr/local/cuda/lib64/{name}"), real, 0o755));
    }
    // What toolkits bring to link against on a machine without a driver, with the second name that people give it.
    let stub = archive.with_file_name("stub.so");
    stub_library(&stub)?;
    entries.push(Entry::file(&format!("{STUBS}/libcuda.so"), &stub, 0o755));
    entries.push(Entry::link(&format!("{STUBS}/libcuda.so.1"), "libcuda.so"));
    // Every image with glibc has all of glibc, and our library counts on no more than that.
    programs.push(path("target/release/libtensor_fusion_cuda.so"));
    entries.extend(closure::libraries(&programs)?);
    let environment = [&*format!("LD_LIBRARY_PATH=/{STUBS}:/usr/local/cuda/lib64")];
    let image = Image { name: PROGRAMS, entries, entrypoint: &["/bin/sh"], environment: &environment };
    image.write(archive)?;
    said(archive)
}

/// A driver that does nothing but say that it is none (`CUDA_ERROR_STUB_LIBRARY`), as NVIDIA's of this kind do.
fn stub_library(file: &Path) -> anyhow::Result<()> {
    let source = file.with_extension("c");
    let functions = ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuGetProcAddress", "cuGetProcAddress_v2"];
    let text: String = functions.iter().map(|name| format!("int {name}(void) {{ return 34; }}\n")).collect();
    let changed = write_changed(&source, &text)?;
    if file.is_file() && !changed {
        return Ok(());
    }
    execute(Command::new("gcc").args(["-shared", "-Wl,-soname,libcuda.so.1", "-o"]).arg(file).arg(source))
}

fn said(archive: &Path) -> anyhow::Result<()> {
    let size = fs::metadata(archive)?.len();
    say(&format!("{} has {} MiB", archive.display(), size.div_ceil(1 << 20)));
    Ok(())
}
