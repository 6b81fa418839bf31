//! The variables by which CUDA's clients are made to hand over PTX instead of machine code for NVIDIA's processors.
//!
//! They are set in two places: by `tensor-fusion run`, and in pods by the client library. A client that needs another one gets
//! it in both from here.

/// Variables with the value that asks for PTX.
pub const SWITCHES: [(&str, &str); 1] = [("CUPY_COMPILE_WITH_PTX", "1")];

/// Variables that name the `ptxas` to use: a stand-in of ours whose result is its input.
pub const PTXAS: [&str; 2] = ["TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"];

/// Variables that name caches of machine code, with the usual place below the home folder.
pub const CACHES: [(&str, &str); 3] = [
    ("CUPY_CACHE_DIR", ".cupy/kernel_cache"),
    ("NUMBA_CACHE_DIR", ".cache/numba"),
    ("TRITON_CACHE_DIR", ".triton/cache"),
];

/// The folder of our own in each cache.
pub const OWN_CACHE: &str = "tensor-fusion";
