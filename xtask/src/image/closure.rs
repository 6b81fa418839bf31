//! The shared libraries that programs need, as the dynamic loader of this machine finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;

use super::oci::Entry;
use crate::workspace::output;

/// Where they go in an image: glibc looks there before anywhere else on every distribution for this machine.
const FOLDER: &str = "lib/x86_64-linux-gnu";

/// Entries for the libraries of all the programs, and the loader itself.
pub(super) fn libraries(programs: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for program in programs {
        for line in output(Command::new("ldd").arg(program))?.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), second, third) = (words.next(), words.next(), words.next()) else { continue };
            let (path, file) = match (second, third) {
                // `libm.so.6 => /lib/…/libm.so.6 (0x…)`
                (Some("=>"), Some("not")) if name.starts_with("libcudart") => continue,
                (Some("=>"), Some("not")) => {
                    bail!("`{}` needs {name}, which is not on this machine", program.display())
                }
                (Some("=>"), Some(file)) => (format!("{FOLDER}/{name}"), file),
                // `/lib64/ld-linux-x86-64.so.2 (0x…)`: programs name the loader by its full path.
                _ if name.starts_with('/') => (name.trim_start_matches('/').to_owned(), name),
                // `linux-vdso.so.1 (0x…)` is the kernel's.
                _ => continue,
            };
            found.insert(path, fs::canonicalize(file)?);
        }
    }
    Ok(found.into_iter().map(|(path, file)| Entry::file(&path, file, 0o755)).collect())
}
