//! What a program finds in its environment: our `libcuda.so.1`, where its vGPU is, and, on a software GPU, whatever
//! makes CUDA's clients hand over PTX instead of machine code for NVIDIA's processors ([`handover`]).

use std::{
    collections::BTreeMap,
    ffi::OsString,
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
    Ok(given(&install(folder, &library()?)?, about, &|name| std::env::var_os(name)))
}

fn given(files: &Path, about: &Surroundings, ours: &dyn Fn(&str) -> Option<OsString>) -> BTreeMap<OsString, OsString> {
    let mut all = vec![("TENSOR_FUSION_CONNECT", OsString::from(&about.connect))];
    all.extend(about.token.as_ref().map(|token| (token::VARIABLE, token.reveal().into())));
    let libraries = handover::in_front(&files.join("lib"), ours("LD_LIBRARY_PATH"));
    all.extend(libraries.map(|list| ("LD_LIBRARY_PATH", list)));
    if about.software {
        all.push(("TENSOR_FUSION_SOFT_CC", about.capability.to_string().into()));
        all.extend(handover::variables(files, ours));
    }
    all.into_iter().map(|(name, value)| (OsString::from(name), value)).collect()
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
        let set = given(Path::new("/f"), &about, &lookup);
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
        let set = environment(true, &[("HOME", "/h"), ("LD_LIBRARY_PATH", "/f/lib:/x")]);
        assert_eq!(set["TENSOR_FUSION_SOFT_CC"], "12.0");
        assert_eq!(set["CUPY_COMPILE_WITH_PTX"], "1");
        assert_eq!(set["PYTHONPATH"], "/f/python");
        assert!(!set.contains_key("LD_LIBRARY_PATH"), "it is in front already");
    }
}
