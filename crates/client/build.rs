//! Gives the shared library the name under which programs look for it, and lets it be loaded by every glibc from 2.17 on.

use std::path::Path;

fn main() {
    // Only the cdylib has a soname. One file serves as libcuda.so.1 and libnvidia-ml.so.1: with this name inside, the
    // dynamic loader knows both links for the same library, and they share their state.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    println!("cargo::rerun-if-changed=build.rs");
    let folder = std::env::var_os("OUT_DIR").unwrap_or_default();
    match glibc_floor::stand_ins(Path::new(&folder)) {
        Ok(Some(folder)) => println!("cargo::rustc-cdylib-link-arg=-L{}", folder.display()),
        Ok(None) => {}
        Err(error) => println!("cargo::error=the stand-ins for glibc 2.17 cannot be made: {error}"),
    }
}
