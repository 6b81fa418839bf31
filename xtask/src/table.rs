//! Reads NVIDIA's headers and writes the facts of the CUDA tables.
//!
//! The headers come with the PyPI wheels `nvidia-cuda-runtime` and `nvidia-nvml-dev` and stay there: what is written is
//! one line for each exported symbol with the version that introduced it and the types of its arguments. What a
//! function does and costs stands beside, in `columns.txt`, which people edit; `crates/cuda/build.rs` joins the two.

mod c;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The ways to preprocess `cuda.h` that together show every exported name.
const VIEWS: [&str; 3] = ["", "-DCUDA_API_PER_THREAD_DEFAULT_STREAM", "-D__CUDA_API_VERSION_INTERNAL"];

/// Reads the headers in `include` and writes `cuda.txt` and `nvml.txt` into `out`.
pub(crate) fn run(include: &Path, out: &Path) -> Result<()> {
    let mut cuda = c::Header::default();
    for view in VIEWS {
        cuda.read(&preprocess(include, "cuda.h", view)?, "CUresult");
    }
    // Its header is in a wheel of its own; the types of the pointers say enough.
    cuda.read_pointers(&read(include, "cudaProfilerTypedefs.h")?, "CUresult");
    let versions = versions(include)?;
    let mut lines = String::from(HEAD);
    for function in cuda.functions.values() {
        let version = version_of(&function.name, &cuda, &versions)
            .with_context(|| format!("`{}` has no version in cudaTypedefs.h", function.name))?;
        writeln!(lines, "{} {version} {}", function.name, cuda.arguments(function))?;
    }
    write(&out.join("cuda.txt"), &lines)?;

    let mut nvml = c::Header::default();
    for view in ["", "-DNVML_NO_UNVERSIONED_FUNC_DEFS"] {
        nvml.read(&preprocess(include, "nvml.h", view)?, "nvmlReturn_t");
    }
    // The one function that returns text instead of a result.
    nvml.add_function("nvmlErrorString", &["nvmlReturn_t".to_owned(), "result".to_owned()]);
    let mut lines = String::from(HEAD);
    for function in nvml.functions.values() {
        writeln!(lines, "{} 0 {}", function.name, nvml.arguments(function))?;
    }
    write(&out.join("nvml.txt"), &lines)
}

const HEAD: &str =
    "# Written by `cargo xtask table`: symbol, CUDA version that introduced it, arguments. Do not edit.\n";

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

fn read(include: &Path, header: &str) -> Result<String> {
    std::fs::read_to_string(include.join(header)).with_context(|| format!("cannot read `{header}`"))
}

fn preprocess(include: &Path, header: &str, define: &str) -> Result<String> {
    let mut command = Command::new("cc");
    command.args(["-E", "-P", "-x", "c", "-I"]).arg(include).arg(include.join(header));
    if !define.is_empty() {
        command.arg(define);
    }
    let output = command.output().context("cannot run `cc`: a C preprocessor is needed")?;
    if !output.status.success() {
        bail!("cannot preprocess `{header}`: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// For each base name and suffix (`_ptds`, `_ptsz` or none): the versions that brought a new entry point.
type Versions = BTreeMap<(String, String), BTreeSet<u32>>;

fn versions(include: &Path) -> Result<Versions> {
    let mut versions = Versions::new();
    for header in ["cudaTypedefs.h", "cudaProfilerTypedefs.h"] {
        for word in read(include, header)?.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let Some(name) = word.strip_prefix("PFN_") else { continue };
            let (name, suffix) = split_suffix(name);
            let Some((base, version)) = name.rsplit_once("_v") else { continue };
            if let Ok(version) = version.parse() {
                versions.entry((base.to_owned(), suffix.to_owned())).or_default().insert(version);
            }
        }
    }
    Ok(versions)
}

fn split_suffix(name: &str) -> (&str, &str) {
    for suffix in ["_ptds", "_ptsz"] {
        if let Some(rest) = name.strip_suffix(suffix) {
            return (rest, suffix);
        }
    }
    (name, "")
}

/// Splits `cuMemAlloc_v2` into the base name and 2; a name without a number is the first.
fn split_number(name: &str) -> (&str, u32) {
    name.rsplit_once("_v").and_then(|(base, number)| Some((base, number.parse().ok()?))).unwrap_or((name, 1))
}

/// The typedefs name versions, the header names entry points: the n-th version of a name is its n-th entry point.
fn version_of(symbol: &str, header: &c::Header, versions: &Versions) -> Option<u32> {
    let (plain, suffix) = split_suffix(symbol);
    let (base, number) = split_number(plain);
    let mut rank = 0;
    for other in header.functions.keys() {
        let (other, other_suffix) = split_suffix(other);
        let (other_base, other_number) = split_number(other);
        rank += usize::from(other_base == base && other_suffix == suffix && other_number < number);
    }
    let known = versions
        .get(&(base.to_owned(), suffix.to_owned()))
        .or_else(|| versions.get(&(base.to_owned(), String::new())))?;
    known.iter().nth(rank).or(known.last()).copied()
}
