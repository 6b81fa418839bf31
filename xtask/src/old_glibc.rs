//! A C library of years ago, really there: what goes into other people's containers must run on it.
//!
//! The floor is glibc 2.17, held by symbol versions (`crates/glibc-floor`). Of the libraries that package sources still have, the
//! oldest is Debian 11's 2.31; between it and this machine's the C library became one where it had been several, in 2.34. So
//! its loader and its libraries are unpacked into `target/old-glibc`, a program is linked with them, and the end-to-end tests
//! run that. Where they cannot be had, the tests say so.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::programs::fingerprint;
use crate::setup::Toolkits;
use crate::workspace::{output, path, run as execute, say};

const RELEASE: &str = "bullseye";
const PACKAGES: [&str; 3] = ["libc6", "libc6-dev", "libgcc-s1"];
/// Who signs Debian's releases.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const LIBRARIES: &str = "root/lib/x86_64-linux-gnu";

/// Prepares the folder, or leaves in it why it is not prepared.
pub(crate) fn prepare(toolkits: &Toolkits) -> anyhow::Result<()> {
    let folder = path("target/old-glibc");
    fs::create_dir_all(&folder)?;
    let missing = folder.join("missing.txt");
    match attempt(&folder, toolkits) {
        Ok(()) if missing.exists() => fs::remove_file(missing)?,
        Ok(()) => {}
        Err(error) => {
            say(&format!("no old C library: {error:#}"));
            fs::write(missing, format!("{error:#}"))?;
        }
    }
    Ok(())
}

fn attempt(folder: &Path, toolkits: &Toolkits) -> anyhow::Result<()> {
    let libraries = folder.join(LIBRARIES);
    if !libraries.join("libc.so.6").exists() {
        fetch(folder)?;
    }
    let development = folder.join("root/usr/lib/x86_64-linux-gnu");
    let program = folder.join("driver_api");
    let mut command = Command::new("gcc");
    // Its starting code and its libraries, by their files: the links among them are meant for the root of a system.
    command.arg(format!("-B{}", development.display())).args(["-O2", "-nodefaultlibs"]);
    command.arg(format!("-I{}", toolkits.cuda13.join("include").display()));
    command.arg(path("tests/programs/driver_api.c")).arg("-o").arg(&program);
    for library in ["libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"] {
        command.arg(libraries.join(library));
    }
    command.arg(development.join("libc_nonshared.a")).arg("-lgcc");
    let (stamp, state) = (folder.join("stamp"), fingerprint(&command)?);
    if program.exists() && fs::read_to_string(&stamp).is_ok_and(|before| before == state) {
        return Ok(());
    }
    execute(&mut command)?;
    fs::write(stamp, state)?;
    Ok(())
}

/// Fetches the packages by this machine's own package manager, from where it gets all others, and unpacks them.
fn fetch(folder: &Path) -> anyhow::Result<()> {
    if !Path::new(KEYRING).exists() {
        bail!("`{KEYRING}` is not there, so nothing of Debian's can be trusted");
    }
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]))?;
    let source =
        targets.lines().find_map(|line| line.strip_prefix("Debian ")).context("no packages of Debian's here")?;
    say(&format!("fetching the C library of Debian's {RELEASE}"));
    for part in ["lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let list = folder.join("sources.list");
    fs::write(&list, format!("deb [signed-by={KEYRING}] {source} {RELEASE} main\n"))?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.current_dir(folder.join("packages")).stdout(Stdio::null()).arg("-qq");
        for (name, value) in [
            ("Dir::Etc::SourceList", list.display().to_string()),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::State::Lists", folder.join("lists").display().to_string()),
            ("Dir::State::Status", "/dev/null".to_owned()),
            ("Dir::Cache", folder.join("cache").display().to_string()),
            ("APT::Sandbox::User", String::new()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::http::Timeout", "20".to_owned()),
        ] {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        command
    };
    execute(apt().arg("update"))?;
    execute(apt().arg("download").args(PACKAGES))?;
    for package in fs::read_dir(folder.join("packages"))? {
        execute(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(folder.join("root")))?;
    }
    // A loader is found by an absolute link, which leads to this machine's.
    let libraries = folder.join(LIBRARIES);
    if !libraries.join("ld-linux-x86-64.so.2").canonicalize()?.starts_with(libraries.canonicalize()?) {
        bail!("the loader is none of the fetched files");
    }
    Ok(())
}
