//! The chart carries the definitions that the types make. `cargo xtask docs` runs this to write them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

#[test]
fn the_chart_has_the_definitions_of_these_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/tensor-fusion/crds");
    let write = std::env::var_os("TENSOR_FUSION_WRITE_CHART").is_some();
    let mut names = Vec::new();
    for definition in crd::definitions() {
        let name = format!("{}.yaml", definition.metadata.name.as_deref().unwrap());
        let text = serde_yaml_ng::to_string(&definition).unwrap();
        let text = format!("# @generated from crates/crd by `cargo xtask docs`.\n{text}");
        if write {
            std::fs::write(folder.join(&name), &text).unwrap();
        }
        let there = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(there == text, "charts/tensor-fusion/crds/{name} is out of date: run `cargo xtask docs`");
        names.push(name);
    }
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&file), "charts/tensor-fusion/crds/{file} belongs to no kind");
    }
}
