//! The shared libraries that programs need, as the dynamic loader of this machine finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
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
        let missing = needed(std::slice::from_ref(program), &mut found)?;
        if let Some(name) = missing.iter().find(|name| !name.starts_with("libcudart")) {
            bail!("`{}` needs {name}, which is not on this machine", program.display());
        }
    }
    Ok(entries(found, &|_| true))
}

/// The same for modules of a Python, many at once. What they find among themselves is left out, and so is what only those need
/// that nobody loads.
pub(super) fn libraries_outside(own: &Path, modules: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    let mut found = BTreeMap::new();
    needed(modules, &mut found)?;
    Ok(entries(found, &|file| !file.starts_with(own)))
}

fn entries(found: BTreeMap<String, PathBuf>, wanted: &dyn Fn(&Path) -> bool) -> Vec<Entry> {
    let wanted = found.into_iter().filter(|(_, file)| wanted(file));
    wanted.map(|(path, file)| Entry::file(&path, file, 0o755)).collect()
}

/// Adds what the programs need, by its path in an image; the result names what is not there.
fn needed(programs: &[PathBuf], found: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    for line in output(Command::new("ldd").args(programs))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), second, third) = (words.next(), words.next(), words.next()) else { continue };
        let (path, file) = match (second, third) {
            // `/programs/one:` goes before what that one needs.
            _ if !line.starts_with(char::is_whitespace) => continue,
            // `libm.so.6 => /lib/…/libm.so.6 (0x…)`
            (Some("=>"), Some("not")) => {
                missing.push(name.to_owned());
                continue;
            }
            (Some("=>"), Some(file)) => (format!("{FOLDER}/{name}"), file),
            // `/lib64/ld-linux-x86-64.so.2 (0x…)`: programs name the loader by its full path.
            _ if name.starts_with('/') => (name.trim_start_matches('/').to_owned(), name),
            // `linux-vdso.so.1 (0x…)` is the kernel's.
            _ => continue,
        };
        found.insert(path, fs::canonicalize(file)?);
    }
    Ok(missing)
}
