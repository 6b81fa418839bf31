#![expect(unsafe_code, reason = "the loader calls it, and the environment is the whole process's")]
//! In a pod on a software GPU: what makes CUDA's clients hand over PTX, in place before the program begins.
//!
//! Whether a pod's GPU is a software GPU is known when it is found, long after the variables of its containers are fixed. So
//! the webhook only says where our files are, the node agent puts a file beside the pod's sockets, and this, which the loader
//! calls in every program of the container that uses glibc, sets what `tensor-fusion run` sets elsewhere. Guests leave the
//! environment of their process alone otherwise: here no other thread is there yet, and the program has not looked.

use std::ffi::OsString;
use std::path::Path;

use types::handover;

/// Folder of our files in a container, as the webhook says it. Nowhere else is anything done.
const FILES: &str = "TENSOR_FUSION_CLIENT";
/// The file beside the sockets, and the variable where there are no sockets.
const SOFTWARE: &str = "software";
const SOFTWARE_VARIABLE: &str = "TENSOR_FUSION_SOFTWARE";

#[used]
// SAFETY: the section holds addresses of functions that take what `main` takes; C lets one that takes nothing be called so.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    // Most programs are in no pod: this is all that they get of it. Nothing in here panics.
    let Some(files) = std::env::var_os(FILES).filter(|files| !files.is_empty()) else { return };
    for (name, value) in variables(Path::new(&files), &|name| std::env::var_os(name), &Path::exists) {
        // SAFETY: the loader runs this before `main`, in the process's one thread.
        unsafe { std::env::set_var(name, value) };
    }
}

/// What is to be set, given what is.
fn variables(
    files: &Path,
    set: &dyn Fn(&str) -> Option<OsString>,
    exists: &dyn Fn(&Path) -> bool,
) -> Vec<(&'static str, OsString)> {
    let socket = set("TENSOR_FUSION_CONNECT").and_then(|url| {
        let path = url.to_str()?.strip_prefix("unix://")?;
        Some(Path::new(path).with_file_name(SOFTWARE))
    });
    let software = set(SOFTWARE_VARIABLE).is_some_and(|value| value == "true");
    if !software && !socket.is_some_and(|file| exists(&file)) {
        return Vec::new();
    }
    handover::variables(files, set)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ask(ours: &[(&str, &str)], there: &str) -> BTreeMap<&'static str, String> {
        let set = |name: &str| ours.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        let all = variables(Path::new("/opt/t"), &set, &|path| path == Path::new(there));
        all.into_iter().map(|(name, value)| (name, value.into_string().unwrap())).collect()
    }

    const SOCKET: (&str, &str) = ("TENSOR_FUSION_CONNECT", "unix:///run/vgpu/main.sock");

    #[test]
    fn on_a_card_nothing_changes() {
        assert!(ask(&[SOCKET, ("HOME", "/h")], "").is_empty());
        assert!(ask(&[("TENSOR_FUSION_CONNECT", "tcp://10.0.0.1:8000/")], "/run/vgpu/software").is_empty());
        assert!(ask(&[(SOFTWARE_VARIABLE, "false")], "").is_empty());
    }

    #[test]
    fn on_a_software_gpu_clients_are_told_to_hand_over_ptx() {
        assert_eq!(ask(&[SOCKET], "/run/vgpu/software")["PYTHONPATH"], "/opt/t/python");
        assert_eq!(ask(&[(SOFTWARE_VARIABLE, "true")], "")["CUPY_COMPILE_WITH_PTX"], "1");
    }
}
