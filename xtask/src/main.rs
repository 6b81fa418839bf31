//! Project automation.

mod docs;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["table", include] => table::run(&PathBuf::from(include), &root.join("crates/cuda/table")),
        ["docs"] => docs::write(&root),
        ["docs", "--check"] => docs::check(&root),
        _ => bail!("usage: cargo xtask table INCLUDE_DIRECTORY | docs [--check]"),
    }
}
