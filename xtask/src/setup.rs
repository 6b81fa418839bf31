//! Installs what the tests need and compiles the test programs. Safe to run again: what is there stays.
//!
//! NVIDIA publishes the CUDA compiler and runtimes as Python packages, so a machine without CUDA gets them into a
//! virtual environment under `.venv/`; nothing outside the work tree changes, but for Debian packages that are missing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace::{install_packages, path, run as execute, say, succeeds};
use crate::{old_glibc, programs};

/// Programs that must be on the `PATH`, and the Debian packages that hold them.
const NEEDED: &[(&str, &str)] = &[("gcc", "gcc"), ("g++", "g++"), ("python3", "python3"), ("git", "git")];

/// Runs the task.
pub(crate) fn run(_: &[String]) -> anyhow::Result<()> {
    system_packages()?;
    environment("cuda13")?;
    environment("cuda12")?;
    let toolkits = Toolkits::prepare()?;
    programs::build_all(&toolkits)?;
    old_glibc::prepare(&toolkits)
}

/// Installs the Debian packages that are missing, or says how.
fn system_packages() -> anyhow::Result<()> {
    let mut missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !succeeds(program, &["--version"])).map(|needed| needed.1).collect();
    if !succeeds("python3", &["-c", "import venv, ensurepip"]) {
        missing.push("python3-venv");
    }
    if missing.is_empty() {
        return Ok(());
    }
    install_packages(&missing)
}

/// Makes a virtual environment that holds exactly what its list of requirements says.
fn environment(name: &str) -> anyhow::Result<()> {
    let directory = path(&format!(".venv/{name}"));
    let requirements = path(&format!("tests/requirements-{name}.txt"));
    let wanted = fs::read_to_string(&requirements).with_context(|| format!("no `{}`", requirements.display()))?;
    let stamp = directory.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say(&format!("installing the Python packages of {name} into .venv/{name}"));
    if !directory.join("bin/python").exists() {
        execute(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
    }
    execute(
        Command::new(directory.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements),
    )?;
    fs::write(stamp, wanted)?;
    Ok(())
}

/// The two CUDA toolkits as directories that look the way NVIDIA's installer leaves them.
#[derive(Debug)]
pub(crate) struct Toolkits {
    /// CUDA 13: compiler, headers and runtimes.
    pub(crate) cuda13: PathBuf,
    /// CUDA 12.9: headers and runtimes of 12.9, the compiler of 13 (12.9's is not published as a package).
    pub(crate) cuda12: PathBuf,
}

impl Toolkits {
    /// Where [`run`] has put them.
    pub(crate) fn prepared() -> Self {
        Self { cuda13: path("target/toolkits/cuda13"), cuda12: path("target/toolkits/cuda12") }
    }

    fn prepare() -> anyhow::Result<Self> {
        let site13 = site_packages("cuda13")?.join("nvidia/cu13");
        let site12 = site_packages("cuda12")?.join("nvidia");
        let toolkits = Self::prepared();
        for directory in [&toolkits.cuda13, &toolkits.cuda12] {
            if directory.exists() {
                fs::remove_dir_all(directory)?;
            }
        }
        for part in ["bin", "nvvm", "include"] {
            link_tree(&site13.join(part), &toolkits.cuda13.join(part))?;
        }
        link_tree(&site13.join("lib"), &toolkits.cuda13.join("lib"))?;
        symlink("libcudart.so.13", toolkits.cuda13.join("lib/libcudart.so"))?;
        for part in ["bin", "nvvm"] {
            link_tree(&site13.join(part), &toolkits.cuda12.join(part))?;
        }
        link_tree(&site12.join("cuda_runtime/include"), &toolkits.cuda12.join("include"))?;
        link_tree(&site12.join("cuda_nvcc/include"), &toolkits.cuda12.join("include"))?;
        link_tree(&site12.join("cuda_runtime/lib"), &toolkits.cuda12.join("lib"))?;
        symlink("libcudart.so.12", toolkits.cuda12.join("lib/libcudart.so"))?;
        Ok(toolkits)
    }
}

/// The one `site-packages` directory of a virtual environment.
pub(crate) fn site_packages(environment: &str) -> anyhow::Result<PathBuf> {
    let lib = path(&format!(".venv/{environment}/lib"));
    for entry in fs::read_dir(&lib).with_context(|| format!("no `{}`", lib.display()))? {
        let site = entry?.path().join("site-packages");
        if site.is_dir() {
            return Ok(site);
        }
    }
    bail!("`{}` holds no site-packages", lib.display())
}

/// Makes the same directories, with a symbolic link for each file.
fn link_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("no `{}`", from.display()))? {
        let source = entry?.path();
        let Some(name) = source.file_name() else { continue };
        let target = to.join(name);
        if source.is_dir() {
            link_tree(&source, &target)?;
        } else {
            symlink(&source, &target).with_context(|| format!("cannot link `{}`", target.display()))?;
        }
    }
    Ok(())
}
