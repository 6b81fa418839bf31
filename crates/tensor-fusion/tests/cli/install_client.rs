//! What `install-client` puts into a folder, asked by a C program as CUDA's clients ask.

use std::{fs, path::Path, process::Command};

use crate::bench::Bench;

/// Opens each name that it is given and prints what `answer` in it answers.
const CLIENT: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **names) {
    for (int index = 1; index < count; index++) {
        void *library = dlopen(names[index], RTLD_NOW | RTLD_LOCAL);
        int (*answer)(void) = library ? (int (*)(void))dlsym(library, "answer") : 0;
        printf("%s %d\n", names[index], answer ? answer() : -1);
    }
    return 0;
}
"#;

fn compile(source: &str, to: &Path, options: &[&str]) {
    let file = to.with_added_extension("c");
    fs::write(&file, source).unwrap();
    let status = Command::new("cc").arg("-o").arg(to).arg(&file).args(options).arg("-ldl").status();
    assert!(status.unwrap().success());
}

/// Counts its calls, so that a second copy of it would be seen.
fn library(to: &Path, first: i32) {
    let source = format!("static int calls = {first}; int answer(void) {{ return calls++; }}");
    compile(&source, to, &["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]);
}

#[test]
fn every_name_is_our_library_whatever_the_image_has_and_says() {
    let bench = Bench::new();
    let path = bench.path();
    library(&path.join("libtensor_fusion_cuda.so"), 1);
    // An image with NVIDIA's own library in its search path, as CUDA's `compat` folder is.
    let image = path.join("image");
    fs::create_dir(&image).unwrap();
    for name in ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1"] {
        library(&image.join(name), 100);
    }
    let client = path.join("client");
    compile(CLIENT, &client, &[]);
    bench.ok(&format!("install-client {}/into", path.display()));

    let names = ["libcuda.so", "libcuda.so.1", "libnvidia-ml.so", "libnvidia-ml.so.1"];
    let ask = |preload: &str, search: &Path| {
        let output = Command::new(&client)
            .args(names)
            .env("LD_PRELOAD", preload)
            .env("LD_LIBRARY_PATH", search)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    };
    let one_library = "libcuda.so 1\nlibcuda.so.1 2\nlibnvidia-ml.so 3\nlibnvidia-ml.so.1 4\n";
    let preload = fs::read_to_string(path.join("into/ld.so.preload")).unwrap();
    assert_eq!(ask(&preload.replace('\n', " "), &image), one_library);
    // Where nothing is preloaded, the folder still works as any folder of libraries does.
    assert_eq!(ask("", &path.join("into/lib")), one_library);
}

#[test]
fn waiting_for_a_vgpu_that_never_comes_says_what_is_missing() {
    let bench = Bench::new();
    let path = bench.path().display().to_string();
    let (code, said) = bench.fails(&format!("install-client {path}/into --wait {path}/ready --wait-seconds 0"));
    assert_eq!(code, 1);
    assert!(
        said.contains(&format!("this pod's vGPU is not there: `{path}/ready` did not appear within 0 s")),
        "{said}"
    );
    assert!(said.contains("tensor-fusion hypervisor"), "{said}");
}
