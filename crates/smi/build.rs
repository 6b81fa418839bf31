//! Lets the program run on every glibc from 2.17 on.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = std::env::var_os("OUT_DIR").unwrap_or_default();
    match glibc_floor::stand_ins(Path::new(&folder)) {
        Ok(Some(folder)) => {
            println!("cargo::rustc-link-arg-bins=-L{}", folder.display());
            // The compiler's own library at hand may ask for more; where the program runs, another is loaded.
            println!("cargo::rustc-link-arg-bins=-Wl,--allow-shlib-undefined");
        }
        Ok(None) => {}
        Err(error) => println!("cargo::error=the stand-ins for glibc 2.17 cannot be made: {error}"),
    }
}
