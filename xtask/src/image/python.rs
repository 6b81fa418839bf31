//! An image as people have them who use CUDA from Python: an interpreter, Numba and CuPy in a virtual environment, and nothing of
//! ours.
//!
//! All of it is this machine's: the Python that the test programs' environment was made of (`cargo xtask setup`), and the packages
//! in there. Left out is what those clients do not load, most of it NVIDIA's compiler for the command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::closure;
use super::oci::{Entry, Image};
use crate::setup;
use crate::workspace::{files, output, write_changed};

/// What goes in of `site-packages`: folders and files whose names begin so.
const PACKAGES: [&str; 8] = ["_numba_cuda", "cuda", "cupy", "llvmlite", "numba", "numpy", "nvidia", "packaging"];
/// What does not go in, wherever it is in a package.
const LEFT_OUT: [&str; 6] =
    ["/tests/", "/nvidia/cu13/bin/", "/nvidia/cu13/nvvm/bin/", "/libcurand", "/cccl/", "/curand"];
/// The same for Python's own library.
const LEFT_OUT_OF_LIBRARY: [&str; 10] = [
    "/site-packages/",
    "/dist-packages/",
    "/test/",
    "/tests/",
    "/idlelib/",
    "/tkinter/",
    "/_tkinter",
    "/ensurepip/",
    "/lib2to3/",
    "/config-",
];
/// What only compilers read, and static libraries.
const UNUSED_KINDS: [&str; 5] = ["pyi", "pxd", "pyx", "a", "inl"];
/// Where the packages are in the image.
const ENVIRONMENT: &str = "opt/venv";

/// Writes the archive.
pub(super) fn image(name: &str, archive: &Path) -> anyhow::Result<()> {
    let site = setup::site_packages("cuda13")?.canonicalize()?;
    let own = Interpreter::of(&site)?;
    let version = &own.version;
    let mut entries = vec![Entry::folder("tmp"), Entry::folder("root")];
    let program = format!("usr/local/bin/python{version}");
    entries.push(Entry::file(&program, &own.program, 0o755));
    let library = format!("usr/local/lib/python{version}");
    let mut modules = vec![own.program.clone()];
    tree(&own.library, &library, &LEFT_OUT_OF_LIBRARY, &mut entries, &mut modules)?;
    for part in std::fs::read_dir(&site)? {
        let part = part?;
        let name = part.file_name().to_string_lossy().into_owned();
        if PACKAGES.iter().any(|package| name.starts_with(package)) {
            let place = format!("{ENVIRONMENT}/lib/python{version}/site-packages/{name}");
            if part.path().is_dir() {
                tree(&part.path(), &place, &LEFT_OUT, &mut entries, &mut modules)?;
            } else {
                entries.push(Entry::file(&place, part.path(), 0o644));
            }
        }
    }
    entries.extend(closure::libraries_outside(&site, &modules)?);
    // As `python3 -m venv` makes one.
    let written = archive.with_extension("cfg");
    let text = format!("home = /usr/local/bin\ninclude-system-site-packages = false\nversion = {version}\n");
    write_changed(&written, &text)?;
    entries.push(Entry::file(&format!("{ENVIRONMENT}/pyvenv.cfg"), written, 0o644));
    for name in ["python", "python3"] {
        entries.push(Entry::link(&format!("{ENVIRONMENT}/bin/{name}"), &format!("/{program}")));
    }
    let path = format!("PATH=/{ENVIRONMENT}/bin:/usr/local/bin:/usr/bin:/bin");
    Image { name, entries, entrypoint: &["python3"], environment: &[&path] }.write(archive)
}

/// Adds the files of a folder, and to `modules` those that the loader loads.
fn tree(
    from: &Path,
    to: &str,
    left_out: &[&str],
    entries: &mut Vec<Entry>,
    modules: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let wanted = |file: &Path| {
        let text = file.to_string_lossy();
        let kind = file.extension().unwrap_or_default();
        file.is_file() && !UNUSED_KINDS.iter().any(|one| kind == *one) && !left_out.iter().any(|one| text.contains(one))
    };
    for file in files(from, &wanted)? {
        let place = format!("{to}/{}", file.strip_prefix(from)?.display());
        if file.extension().is_some_and(|kind| kind == "so") {
            modules.push(file.clone());
        }
        entries.push(Entry::file(&place, file, 0o644));
    }
    Ok(())
}

/// The Python that a virtual environment was made of.
struct Interpreter {
    version: String,
    program: PathBuf,
    library: PathBuf,
}

impl Interpreter {
    fn of(site: &Path) -> anyhow::Result<Self> {
        let environment = site.ancestors().nth(3).context("an environment without a folder")?;
        let program = environment.join("bin/python").canonicalize()?;
        let ask = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2]); print(sysconfig.get_path('stdlib'))";
        let said = output(Command::new(&program).args(["-I", "-c", ask]))?;
        let [version, library] = said.lines().collect::<Vec<_>>()[..] else {
            bail!("`{}` says {said}", program.display())
        };
        Ok(Self { version: version.to_owned(), program, library: PathBuf::from(library) })
    }
}
