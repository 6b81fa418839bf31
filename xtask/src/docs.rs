//! Writes the reference pages that are made from the code, and checks that those in the repository are up to date.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cuda::Area;

use crate::workspace::{cargo, run as execute};

/// Every generated file: its path in the repository and its text.
fn pages() -> Result<Vec<(String, String)>> {
    Ok(vec![("docs/reference/coverage.md".to_owned(), coverage()?)])
}

/// Writes the pages below `root`.
pub(crate) fn write(root: &Path) -> Result<()> {
    for (page, text) in pages()? {
        let path = root.join(&page);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write `{page}`"))?;
    }
    // The chart's definitions come from types that take minutes to compile, so they are written, and checked, by a test
    // of their crate, and this program does without them.
    let mut command = cargo();
    command.args("test --release --quiet --package crd --test chart".split(' ')).env("TENSOR_FUSION_WRITE_CHART", "1");
    execute(&mut command)
}

/// Fails when a page differs from what the code says.
pub(crate) fn check(root: &Path) -> Result<()> {
    for (page, text) in pages()? {
        let there = std::fs::read_to_string(root.join(&page)).with_context(|| format!("cannot read `{page}`"))?;
        if there != text {
            bail!("`{page}` is out of date: run `cargo xtask docs`");
        }
    }
    Ok(())
}

fn coverage() -> Result<String> {
    let areas = cuda::coverage();
    let mut page = String::from(
        "# What there is of CUDA and NVML\n\n\
         Made from the table in `crates/cuda/table` by `cargo xtask docs`; `tensor-fusion coverage` prints the same.\n\n\
         Every symbol of CUDA 13's `libcuda.so.1` and `libnvidia-ml.so.1` is exported. Those listed as missing return\n\
         `CUDA_ERROR_NOT_SUPPORTED` (NVML: `NVML_ERROR_NOT_SUPPORTED`), once with a line in the log, and are not found by\n\
         `cuGetProcAddress`. `_ptds` and `_ptsz` twins go with their function and are not counted.\n\n\
         What a call costs when the GPU is remote: *local* and *cached* calls never leave the process, *one-way* calls are\n\
         sent and forgotten, *round trip* calls wait for the answer, *blocking* calls wait for work on the device.\n\n\
         | area | there | missing |\n|---|---:|---:|\n",
    );
    for area in &areas {
        writeln!(page, "| {} | {} | {} |", area.name, area.implemented.len(), area.absent.len())?;
    }
    for area in &areas {
        section(&mut page, area)?;
    }
    Ok(page)
}

fn section(page: &mut String, area: &Area) -> Result<()> {
    writeln!(page, "\n## {}\n", area.name)?;
    for (symbol, class) in &area.implemented {
        writeln!(page, "- `{symbol}`: {}", class.name())?;
    }
    if !area.absent.is_empty() {
        let names: Vec<String> = area.absent.iter().map(|symbol| format!("`{symbol}`")).collect();
        let blank = if area.implemented.is_empty() { "" } else { "\n" };
        writeln!(page, "{blank}Missing: {}", names.join(", "))?;
    }
    Ok(())
}
