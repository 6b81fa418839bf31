//! Lets what goes into other people's containers run on every glibc from 2.17 on, whatever glibc it is built on. For build scripts.
//!
//! A linker takes the newest version of each symbol that the C library at hand has, and a program then asks for that version on the
//! machine that it runs on. So we do not link to the library at hand but to stand-ins: libraries without code that have the symbols
//! that we use, with the versions of glibc 2.17 (`symbols.txt`), and, linked in, the few functions that later glibcs have and 2.17
//! did not (`added.c`). At run time the real library is there, and every glibc since has those versions.
//!
//! Symbols that are not listed stay without a version, in weak references of Rust's standard library on purpose: it asks at run
//! time whether they are there. `client/tests/exports.rs` checks the outcome.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// `LIBRARY VERSION SYMBOL` one a line, with `data` behind what is no function.
const SYMBOLS: &str = include_str!("symbols.txt");
const ADDED: &str = include_str!("added.c");

/// What the linker looks for, and the file that is loaded for it. The C library's own is a script, see [`stand_ins`].
const LIBRARIES: [(&str, &str); 4] = [
    ("libc-floor.so", "libc.so.6"),
    ("libm.so", "libm.so.6"),
    ("libpthread.so", "libpthread.so.0"),
    ("libdl.so", "libdl.so.2"),
];
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Makes the stand-ins in a folder; the linker is to look there first (`-L`). `None` where there is nothing to do: only Linux on
/// x86-64 is older than the floor (glibc on AArch64 began with 2.17), and only glibc has versions.
///
/// # Errors
/// A file cannot be written, or the C compiler, which links Rust's programs too, does not do.
pub fn stand_ins(folder: &Path) -> io::Result<Option<PathBuf>> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let target = ["OS", "ARCH", "ENV"].map(|part| variable(&format!("CARGO_CFG_TARGET_{part}")));
    if target != ["linux", "x86_64", "gnu"] {
        return Ok(None);
    }
    let folder = folder.join("glibc-floor");
    fs::create_dir_all(&folder)?;
    for (file, soname) in LIBRARIES.into_iter().chain([(LOADER, LOADER)]) {
        library(&folder, file, soname)?;
    }
    let added = folder.join("added.c");
    fs::write(&added, ADDED)?;
    let object = folder.join("added.o");
    compile(&[&"-c", &"-O2", &"-fPIC", &"-fvisibility=hidden", &"-o", &object, &added])?;
    let (libc, loader) = (folder.join("libc-floor.so"), folder.join(LOADER));
    let script = format!("GROUP ( {} {} AS_NEEDED ( {} ) )\n", libc.display(), object.display(), loader.display());
    fs::write(folder.join("libc.so"), script)?;
    Ok(Some(folder))
}

fn library(folder: &Path, file: &str, soname: &str) -> io::Result<()> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut code = String::new();
    for line in SYMBOLS.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        if let (Some(library), Some(version), Some(symbol)) = (words.next(), words.next(), words.next())
            && library == soname
        {
            versions.entry(version).or_default().push(symbol);
            let (section, kind) =
                if words.next() == Some("data") { (".data", "object") } else { (".text", "function") };
            code.push_str(&format!("{section}\n.globl {symbol}\n.type {symbol}, @{kind}\n.size {symbol}, 8\n"));
            code.push_str(&format!("{symbol}: .quad 0\n"));
        }
    }
    let mut map = String::new();
    for (version, symbols) in &versions {
        map.push_str(&format!("{version} {{ global: {}; }};\n", symbols.join("; ")));
    }
    code.push_str(".section .note.GNU-stack,\"\",@progbits\n");
    let (assembly, script) = (folder.join(format!("{soname}.s")), folder.join(format!("{soname}.map")));
    fs::write(&assembly, code)?;
    fs::write(&script, map)?;
    let (named, by) = (format!("-Wl,-soname,{soname}"), format!("-Wl,--version-script,{}", script.display()));
    compile(&[&"-shared", &"-nostdlib", &named, &by, &"-o", &folder.join(file), &assembly])
}

fn compile(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> io::Result<()> {
    let status = Command::new("cc").args(arguments.iter().map(|argument| argument.as_ref())).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cc: {status}"))) }
}
