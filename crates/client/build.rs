//! Gives the shared library the name under which programs look for it.

fn main() {
    // Only the cdylib has a soname. One file serves as libcuda.so.1 and libnvidia-ml.so.1: with this name inside, the
    // dynamic loader knows both links for the same library, and they share their state.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    println!("cargo::rerun-if-changed=build.rs");
}
