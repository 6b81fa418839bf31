//! The table answers what NVIDIA's own libraries were seen to ask.
//!
//! `getproc/` holds every question that the runtimes 12.9 and 13.5 put to `cuGetProcAddress_v2`: name, version in
//! hexadecimal, flags.

use std::collections::BTreeSet;

use cuda::api::{CUDA, Missing, NVML, find, newest};

/// Interfaces of other libraries and of drivers newer than the headers: the runtimes do without.
fn is_foreign(name: &str) -> bool {
    [
        "cuGL",
        "cuGraphicsGL",
        "cuEGL",
        "cuGraphicsEGL",
        "cuVDPAU",
        "cuGraphicsVDPAU",
        "cuEventCreateFromEGL",
        "cuSubgrid",
        "cuGraphicsResourceGetMappedEglFrame",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

#[test]
fn every_question_of_the_cuda_runtimes_has_an_entry_point() {
    for (runtime, list) in
        [("12.9", include_str!("getproc/cudart-12.9.txt")), ("13.5", include_str!("getproc/cudart-13.5.txt"))]
    {
        let mut missing = BTreeSet::new();
        let mut asked = 0;
        for line in list.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, version, flags] = words[..] else { continue };
            let version = u32::from_str_radix(version.trim_start_matches("0x"), 16).unwrap();
            asked += 1;
            let answer = newest(name, version, flags == "0x2");
            if answer.is_none() && !is_foreign(name) {
                missing.insert(format!("{name} {version} {flags}"));
            }
            if let Some(function) = answer {
                assert_eq!(function.version, version, "{name}: the runtime asks for the version that introduced it");
            }
        }
        assert!(asked > 400, "the list of {runtime} was read");
        assert_eq!(missing, BTreeSet::new(), "runtime {runtime}");
    }
}

#[test]
fn the_version_chooses_the_entry_point() {
    let symbol = |name, version, per_thread| newest(name, version, per_thread).map(|function| function.symbol);
    assert_eq!(symbol("cuMemAlloc", 3020, false), Some("cuMemAlloc_v2"));
    assert_eq!(symbol("cuMemAlloc", 2000, false), Some("cuMemAlloc"));
    assert_eq!(symbol("cuCtxGetDevice", 12090, false), Some("cuCtxGetDevice"));
    assert_eq!(symbol("cuCtxGetDevice", 13000, false), Some("cuCtxGetDevice_v2"));
    assert_eq!(symbol("cuMemcpyHtoD", 7000, true), Some("cuMemcpyHtoD_v2_ptds"));
    assert_eq!(symbol("cuMemcpyHtoD", 7000, false), Some("cuMemcpyHtoD_v2"));
    assert_eq!(symbol("cuGetProcAddress", 11030, false), Some("cuGetProcAddress"));
    assert_eq!(symbol("cuGetProcAddress", 12000, false), Some("cuGetProcAddress_v2"));
    assert_eq!(symbol("cuCtxCreate", 99000, false), Some("cuCtxCreate_v4"));
    assert_eq!(symbol("cuMemAlloc_v2", 3020, false), None);
}

#[test]
fn what_is_missing_says_why() {
    assert_eq!(find("cuNoSuchThing", 13000, false).unwrap_err(), Missing::Name);
    assert_eq!(find("", 0, false).unwrap_err(), Missing::Name);
    assert_eq!(find("cuGetProcAddress", 11000, false).unwrap_err(), Missing::Version);
}

#[test]
fn symbols_are_sorted_and_unique() {
    for functions in [CUDA, NVML] {
        assert!(functions.windows(2).all(|pair| pair[0].symbol < pair[1].symbol));
    }
    assert!(CUDA.len() > 680 && NVML.len() > 430);
}
