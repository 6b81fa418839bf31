//! The variables by which CUDA's clients are made to hand over PTX instead of machine code for NVIDIA's processors.
//!
//! They are set in two places: by `tensor-fusion run`, and in pods by the client library. Both set what this says.
//!
//! | client | by default | what is set |
//! |---|---|---|
//! | CuPy | NVRTC makes machine code | `CUPY_COMPILE_WITH_PTX`, a cache of its own |
//! | Numba (numba-cuda) | nvJitLink makes machine code | a `sitecustomize` that hides nvJitLink, a cache of its own |
//! | Triton, `torch.compile` | `ptxas` makes machine code | `TRITON_PTXAS_PATH` and the like, a cache of its own |
//!
//! A variable that somebody has set stays as it is, but for caches, which get a folder of ours inside. One that is empty is not
//! set. A program that a program starts gets nothing twice.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Variables with the value that asks for PTX.
const SWITCHES: [(&str, &str); 1] = [("CUPY_COMPILE_WITH_PTX", "1")];

/// Variables that name the `ptxas` to use: a stand-in of ours whose result is its input.
const PTXAS: [&str; 2] = ["TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"];

/// Variables that name caches of machine code, with the usual place below the home folder.
const CACHES: [(&str, &str); 3] = [
    ("CUPY_CACHE_DIR", ".cupy/kernel_cache"),
    ("NUMBA_CACHE_DIR", ".cache/numba"),
    ("TRITON_CACHE_DIR", ".triton/cache"),
];

/// The folder of our own in each cache.
const OWN_CACHE: &str = "tensor-fusion";

/// What is to be set, where our files are in this folder, given what is set.
pub fn variables(files: &Path, set: &dyn Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
    let given = |name: &str| set(name).filter(|value| !value.is_empty());
    let mut all: Vec<(&'static str, OsString)> = Vec::new();
    let ptxas = files.join("bin/ptxas");
    let switches = SWITCHES.map(|(name, value)| (name, OsStr::new(value)));
    for (name, value) in switches.into_iter().chain(PTXAS.map(|name| (name, ptxas.as_os_str()))) {
        if given(name).is_none() {
            all.push((name, value.to_owned()));
        }
    }
    all.extend(in_front(&files.join("python"), given("PYTHONPATH")).map(|value| ("PYTHONPATH", value)));
    for (name, usual) in CACHES {
        let home = || given("HOME").map(|home| PathBuf::from(home).join(usual));
        // A cache beside the one for NVIDIA's GPUs: what is in there is machine code.
        let cache = given(name).map(PathBuf::from).or_else(home).filter(|cache| !cache.ends_with(OWN_CACHE));
        all.extend(cache.map(|cache| (name, cache.join(OWN_CACHE).into_os_string())));
    }
    all
}

/// A list of folders with this one before all others, and only there; nothing when it is so already.
pub fn in_front(folder: &Path, list: Option<OsString>) -> Option<OsString> {
    let old = list.unwrap_or_default();
    let mut new = folder.as_os_str().to_owned();
    // An empty entry has a meaning of its own, and there is none in an empty list.
    let others = old.as_encoded_bytes().split(|byte| *byte == b':').filter(|_| !old.is_empty());
    for other in others.filter(|other| *other != folder.as_os_str().as_encoded_bytes()) {
        new.push(":");
        new.push(OsStr::from_bytes(other));
    }
    (new != old).then_some(new)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ask(given: &[(&str, &str)]) -> BTreeMap<&'static str, String> {
        let set = |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        let all = variables(Path::new("/opt/t"), &set);
        all.into_iter().map(|(name, value)| (name, value.into_string().unwrap())).collect()
    }

    #[test]
    fn clients_are_told_to_hand_over_ptx() {
        let set = ask(&[("HOME", "/h"), ("PYTHONPATH", "/theirs"), ("CUPY_CACHE_DIR", "/c")]);
        assert_eq!(set["CUPY_COMPILE_WITH_PTX"], "1");
        assert_eq!(set["PYTHONPATH"], "/opt/t/python:/theirs");
        assert_eq!(set["TRITON_PTXAS_PATH"], "/opt/t/bin/ptxas");
        assert_eq!(set["TRITON_PTXAS_BLACKWELL_PATH"], "/opt/t/bin/ptxas");
        assert_eq!(set["CUPY_CACHE_DIR"], "/c/tensor-fusion");
        assert_eq!(set["NUMBA_CACHE_DIR"], "/h/.cache/numba/tensor-fusion");
        assert!(!ask(&[]).contains_key("NUMBA_CACHE_DIR"), "there is no home");
    }

    #[test]
    fn what_somebody_has_set_stays_and_what_is_empty_is_not_set() {
        assert!(!ask(&[("TRITON_PTXAS_PATH", "/mine")]).contains_key("TRITON_PTXAS_PATH"));
        assert_eq!(ask(&[("TRITON_PTXAS_PATH", "")])["TRITON_PTXAS_PATH"], "/opt/t/bin/ptxas");
        assert_eq!(ask(&[("CUPY_COMPILE_WITH_PTX", "")])["CUPY_COMPILE_WITH_PTX"], "1");
        assert_eq!(ask(&[("PYTHONPATH", "")])["PYTHONPATH"], "/opt/t/python");
        let set = ask(&[("HOME", "/h"), ("CUPY_CACHE_DIR", "")]);
        assert_eq!(set["CUPY_CACHE_DIR"], "/h/.cupy/kernel_cache/tensor-fusion");
    }

    #[test]
    fn a_program_that_a_program_starts_gets_nothing_twice() {
        let first = ask(&[("HOME", "/h"), ("PYTHONPATH", "/theirs")]);
        let mut again: Vec<(&str, &str)> = first.iter().map(|(name, value)| (*name, value.as_str())).collect();
        again.push(("HOME", "/h"));
        assert_eq!(ask(&again), BTreeMap::new());
    }

    #[test]
    fn a_folder_goes_in_front_of_a_list_and_is_there_once() {
        let put = |list: &str| in_front(Path::new("/f"), Some(list.into())).map(|list| list.into_string().unwrap());
        assert_eq!(put("").as_deref(), Some("/f"));
        assert_eq!(put("/a:/b").as_deref(), Some("/f:/a:/b"));
        assert_eq!(put("/a:/f:/b").as_deref(), Some("/f:/a:/b"));
        assert_eq!(put("/a:").as_deref(), Some("/f:/a:"));
        assert_eq!(put("/f:/a"), None);
        assert_eq!(in_front(Path::new("/f"), None), Some("/f".into()));
    }
}
