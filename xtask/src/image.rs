//! Container images made from the work tree, without Docker: `cargo xtask image [FOLDER]`.
//!
//! Ours holds the binary, the client library and the few shared libraries of the C runtime that they need, taken from this
//! machine; no shell, nothing to keep patched. The images for tests are plain bases as users have them, with no CUDA in
//! them but what a program links, and our test programs.

mod closure;
mod oci;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use oci::{Entry, Image};

use crate::workspace::{cargo, files, path, run as execute, say};
use crate::{cluster, setup};

/// The one image of the product; the chart's default repository and version.
pub(crate) const PRODUCT: &str = concat!("docker.io/tensor-fusion/tensor-fusion:", env!("CARGO_PKG_VERSION"));
/// A small system with glibc, a shell and CUDA programs, as unmodified images have.
pub(crate) const PROGRAMS: &str = "docker.io/tensor-fusion/test-programs:1";

/// Programs in the image for tests: statically linked runtimes, and one that brings its runtime as a shared library.
const TEST_PROGRAMS: [&str; 6] = [
    "vector_add.static-ptx",
    "vector_add.shared-ptx",
    "matmul.static-ptx",
    "endless.static-ptx",
    "vram_limit.host",
    "tenant.static-ptx",
];

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let folder = arguments.first().map_or_else(|| path("target/images"), PathBuf::from);
    execute(cargo().args(["build", "--workspace", "--release", "--quiet"]))?;
    fs::create_dir_all(&folder)?;
    product(&folder.join("tensor-fusion.tar"))
}

/// Makes every image that the cluster's tests need, and returns the archives.
pub(crate) fn for_tests() -> anyhow::Result<Vec<PathBuf>> {
    let folder = path("target/images");
    fs::create_dir_all(&folder)?;
    let archives = [folder.join("tensor-fusion.tar"), folder.join("test-programs.tar")];
    let [ours, programs] = &archives;
    product(ours)?;
    test_programs(programs)?;
    Ok(archives.to_vec())
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
    // Every image with glibc has all of glibc, and our library counts on no more than that.
    programs.push(path("target/release/libtensor_fusion_cuda.so"));
    entries.extend(closure::libraries(&programs)?);
    let environment = ["LD_LIBRARY_PATH=/usr/local/cuda/lib64"];
    let image = Image { name: PROGRAMS, entries, entrypoint: &["/bin/sh"], environment: &environment };
    image.write(archive)?;
    said(archive)
}

fn said(archive: &Path) -> anyhow::Result<()> {
    let size = fs::metadata(archive)?.len();
    say(&format!("{} has {} MiB", archive.display(), size.div_ceil(1 << 20)));
    Ok(())
}
