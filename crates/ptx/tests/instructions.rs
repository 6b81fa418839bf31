//! Agrees with NVIDIA's assembler on single instructions.
//!
//! `cases/accepted.txt` holds instructions that ptxas 13 takes for sm_100a, `cases/refused.txt` such that it refuses; one
//! of each combination of modifiers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

const HEAD: &str = ".version 9.0
.target sm_100a
.address_size 64
.global .align 16 .b32 glb[64];
.const .align 4 .f32 cst[4] = {1.0, 0f40000000, 3.0, 4.0};
.shared .align 16 .b32 shm[64];
.func fn() { ret; }
.func (.reg .b32 r) fn2 (.reg .b32 a) { mov.b32 r,a; ret; }
.func (.param .b32 r) fn3 (.param .b32 a) { .reg .b32 %r<2>; ld.param.b32 %r1,[a]; st.param.b32 [r],%r1; ret; }
";

const REGISTERS: &str = ".reg .b32 %r<9>; .reg .u32 %u<9>; .reg .s32 %s<9>; .reg .f32 %f<9>; .reg .b64 %rd<9>; \
    .reg .u64 %ud<9>; .reg .s64 %sd<9>; .reg .f64 %fd<9>; .reg .pred %p<9>; .reg .b16 %h<9>; .reg .u16 %us<9>; \
    .reg .s16 %ss<9>; .reg .b8 %b<9>; .reg .b128 %q<9>; .reg .v4 .b32 %vec; .local .b32 loc[4];";

/// Loads a kernel of one instruction; gives the first error.
fn load(instruction: &str) -> Result<ptx::ir::Module, String> {
    let text = format!(
        "{HEAD}.visible .entry k(.param .u64 p0,.param .align 8 .b8 p1[24]) {{ {REGISTERS} {instruction} ret; }}"
    );
    ptx::load(&text).map_err(|diagnostics| diagnostics.first().to_string())
}

fn lines(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_the_assembler_accepts_is_accepted() {
    let lines = lines("accepted.txt");
    assert!(lines.len() > 500);
    let refused: Vec<_> =
        lines.iter().filter_map(|line| load(line).err().map(|message| format!("{line} => {message}"))).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Instructions that are right and that we do not run, by the start of their mnemonics.
const NOT_RUN: [&str; 19] = [
    "cvt.rn.satfinite.e2m1x2",
    "cvt.rs.",
    "cvt.rz.satfinite.ue8m0x2",
    "red.async",
    "cp.async.bulk.tensor",
    "st.bulk",
    "st.async",
    "mma.sp",
    "vadd.",
    "vsub.",
    "vabsdiff.",
    "vmin.",
    "vmax.",
    "vmad.",
    "vset.",
    "vshl.",
    "tex.",
    "fma.rn.oob",
    "redux.sync.max.NaN",
];

#[test]
fn what_cannot_run_is_a_short_list() {
    for line in lines("accepted.txt") {
        let expected = NOT_RUN.iter().any(|start| line.starts_with(start));
        if let Ok(module) = load(&line) {
            assert_eq!(!module.unsupported.is_empty(), expected, "{line}");
        }
    }
}

#[test]
fn what_the_assembler_refuses_is_refused() {
    let lines = lines("refused.txt");
    assert!(lines.len() > 500);
    let accepted: Vec<_> = lines.iter().filter(|line| load(line).is_ok()).cloned().collect();
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));
}
