//! What a program finds in its environment: our `libcuda.so.1`, where its vGPU is, and, on a software GPU, whatever
//! makes CUDA's clients hand over PTX instead of machine code for NVIDIA's processors.
//!
//! | client | by default | what we set |
//! |---|---|---|
//! | CuPy | NVRTC makes machine code | `CUPY_COMPILE_WITH_PTX`, a cache of its own |
//! | Numba (numba-cuda) | nvJitLink makes machine code | a `sitecustomize` that hides nvJitLink, a cache of its own |
//! | Triton, `torch.compile` | `ptxas` makes machine code | `TRITON_PTXAS_PATH` and the like, a cache of its own |
//!
//! A variable that the user has set stays as it is, except for caches, which get a folder of ours inside.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context;
use hypervisor::provider::OUR_LIBRARY;
use types::{Capability, Token, handover};

use crate::{failure::Failed, folder::Folder, token};

/// Where our library is, if not beside this program.
const LIBRARY: &str = "TENSOR_FUSION_LIBRARY";
/// Where packages and container images put it.
const SYSTEM: &str = "/usr/lib/tensor-fusion";
/// Makes Numba hand over PTX.
pub(crate) const SITECUSTOMIZE: &str = include_str!("environment/sitecustomize.py");
/// One file, every name that programs load it by. Links, never copies: two files would be two libraries.
const NAMES: [&str; 3] = ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1"];

/// What a program runs on.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Where its vGPU is.
    pub(crate) connect: String,
    /// What it must show there.
    pub(crate) token: Option<Token>,
    /// Whether the GPU runs nothing but PTX.
    pub(crate) software: bool,
    /// What a software GPU presents itself as.
    pub(crate) capability: Capability,
}

/// The variables of a program, on top of ours.
pub(crate) fn variables(folder: &Folder, about: &Surroundings) -> Result<BTreeMap<OsString, OsString>, Failed> {
    let files = install(folder, &library()?)?;
    Ok(Setter { set: BTreeMap::new(), ours: &|name| std::env::var_os(name) }.all(&files, about))
}

struct Setter<'a> {
    set: BTreeMap<OsString, OsString>,
    ours: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Setter<'_> {
    fn all(mut self, files: &Path, about: &Surroundings) -> BTreeMap<OsString, OsString> {
        self.set("TENSOR_FUSION_CONNECT", &about.connect);
        if let Some(token) = &about.token {
            self.set(token::VARIABLE, token.reveal());
        }
        self.in_front("LD_LIBRARY_PATH", &files.join("lib"));
        if about.software {
            self.set("TENSOR_FUSION_SOFT_CC", about.capability.to_string());
            for (name, value) in handover::SWITCHES {
                self.default(name, value);
            }
            let ptxas = files.join("bin").join("ptxas");
            for name in handover::PTXAS {
                self.default(name, &ptxas);
            }
            self.in_front("PYTHONPATH", &files.join("python"));
            for (name, theirs) in handover::CACHES {
                self.own_cache(name, theirs);
            }
        }
        self.set
    }

    fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.set.insert(OsString::from(name), value.as_ref().to_owned());
    }

    fn default(&mut self, name: &str, value: impl AsRef<OsStr>) {
        if (self.ours)(name).is_none() {
            self.set(name, value);
        }
    }

    fn in_front(&mut self, name: &str, folder: &Path) {
        let mut value = folder.as_os_str().to_owned();
        if let Some(rest) = (self.ours)(name).filter(|rest| !rest.is_empty()) {
            value.push(":");
            value.push(rest);
        }
        self.set(name, value);
    }

    /// A cache beside the one for NVIDIA's GPUs: what is in there is machine code.
    fn own_cache(&mut self, name: &str, theirs: &str) {
        let home = || (self.ours)("HOME").map(|home| PathBuf::from(home).join(theirs));
        let cache = (self.ours)(name).map(PathBuf::from).or_else(home);
        // A run inside a run has ours already.
        if let Some(cache) = cache.filter(|cache| !cache.ends_with(handover::OWN_CACHE)) {
            self.set(name, cache.join(handover::OWN_CACHE));
        }
    }
}

/// Our library's file.
pub(crate) fn library() -> Result<PathBuf, Failed> {
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let beside = program.parent().unwrap_or(Path::new("/"));
    let given = std::env::var_os(LIBRARY).map(PathBuf::from);
    let places = match given {
        Some(given) => vec![given],
        None => vec![
            beside.join(OUR_LIBRARY),
            beside.join("../lib/tensor-fusion").join(OUR_LIBRARY),
            PathBuf::from(SYSTEM).join(OUR_LIBRARY),
        ],
    };
    if let Some(found) = places.iter().find_map(|place| place.canonicalize().ok()) {
        return Ok(found);
    }
    let places: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
    Err(Failed::new(format!("the CUDA library is missing: expected {}", places.join(" or ")))
        .hint(format!("`cargo build --release` makes it; `{LIBRARY}` says where else it is")))
}

/// Makes the folder of links that programs are given, unless it is there. Its name says what it links to, so that
/// another build gets another folder and running programs keep theirs.
fn install(folder: &Folder, library: &Path) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let mut hash = DefaultHasher::new();
    (library, &program, SITECUSTOMIZE).hash(&mut hash);
    let files = folder.path().join(format!("client-{:016x}", hash.finish()));
    if files.is_dir() {
        return Ok(files);
    }
    let fresh = folder.path().join(format!("client-new-{}", std::process::id()));
    for part in ["lib", "bin", "python"] {
        fs::create_dir_all(fresh.join(part))?;
    }
    for name in NAMES {
        link(library, &fresh.join("lib").join(name))?;
    }
    link(&program, &fresh.join("bin").join("ptxas"))?;
    fs::write(fresh.join("python").join("sitecustomize.py"), SITECUSTOMIZE)?;
    match fs::rename(&fresh, &files) {
        // Another `run` was faster.
        Err(_) if files.is_dir() => fs::remove_dir_all(&fresh)?,
        result => result.with_context(|| format!("`{}`", files.display()))?,
    }
    Ok(files)
}

fn link(target: &Path, name: &Path) -> io::Result<()> {
    match symlink(target, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(software: bool, ours: &[(&str, &str)]) -> BTreeMap<String, String> {
        let lookup = |name: &str| ours.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        let about = Surroundings {
            connect: "tcp://127.0.0.1:1".to_owned(),
            token: Some(Token::shown("secret".to_owned())),
            software,
            capability: Capability { major: 12, minor: 0 },
        };
        let set = Setter { set: BTreeMap::new(), ours: &lookup }.all(Path::new("/f"), &about);
        let text = |value: OsString| value.into_string().unwrap();
        set.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn a_card_gets_the_library_and_the_connection_only() {
        let set = environment(false, &[("HOME", "/h"), ("LD_LIBRARY_PATH", "/x")]);
        let expected = [
            ("LD_LIBRARY_PATH", "/f/lib:/x"),
            ("TENSOR_FUSION_CONNECT", "tcp://127.0.0.1:1"),
            ("TENSOR_FUSION_TOKEN", "secret"),
        ];
        assert_eq!(set, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_software_gpu_gets_what_makes_clients_hand_over_ptx() {
        let set = environment(true, &[("HOME", "/h"), ("CUPY_CACHE_DIR", "/c"), ("TRITON_PTXAS_PATH", "/mine")]);
        assert_eq!(set["TENSOR_FUSION_SOFT_CC"], "12.0");
        assert_eq!(set["CUPY_COMPILE_WITH_PTX"], "1");
        assert_eq!(set["CUPY_CACHE_DIR"], "/c/tensor-fusion");
        assert_eq!(set["NUMBA_CACHE_DIR"], "/h/.cache/numba/tensor-fusion");
        assert_eq!(set["PYTHONPATH"], "/f/python");
        assert_eq!(set["TRITON_PTXAS_BLACKWELL_PATH"], "/f/bin/ptxas");
        assert!(!set.contains_key("TRITON_PTXAS_PATH"), "what the user has set stays");
    }

    #[test]
    fn a_run_inside_a_run_adds_nothing_to_caches() {
        let set = environment(true, &[("HOME", "/h"), ("CUPY_CACHE_DIR", "/c/tensor-fusion")]);
        assert!(!set.contains_key("CUPY_CACHE_DIR"));
    }
}
