//! Wrong programs: each is refused at the right place, in words that say what was expected; none of them panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

/// A kernel around a body, whose first line is line 4.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.5\n.target sm_80\n.visible .entry k(.param .u64 p, .param .align 4 .b8 s[6]) {{ .reg .b32 %r<9>; \
         .reg .f32 %f<9>; .reg .b64 %rd<9>; .reg .pred %p<9>; .reg .b16 %h<9>; .shared .b32 sh[4]; .local .b32 lo[4];\n\
         {body}\nret;\n}}\n"
    )
}

fn first(text: &str) -> String {
    match ptx::load(text) {
        Ok(_) => "accepted".to_owned(),
        Err(diagnostics) => diagnostics.first().to_string(),
    }
}

#[test]
fn wrong_instructions_are_refused_with_place_and_expectation() {
    let cases = [
        ("add.s32 %r1, %r2;", "4:1: error: `add.s32` has 2 operands: expected 3"),
        ("add.s32 %r1, %r2, %rd3;", "4:19: error: `%rd3` is declared `.b64`, which does not fit: expected `.s32`"),
        ("add.s32 %f1, %r2, %r3;", "4:9: error: `%f1` is declared `.f32`, which does not fit: expected `.s32`"),
        ("add.f32 %f1, %f2, 1;", "4:19: error: an integer is out of place: expected a `.f32` constant"),
        ("mov.u32 %r1, 1.5;", "4:14: error: a floating-point constant is out of place: expected `.u32`"),
        ("add.s32 %r1, %r2, %q3;", "4:19: error: `%q3` is not declared"),
        ("add.s32 %r1, %r2, %r9;", "4:19: error: `%r9` is not declared"),
        ("add.lt.s32 %r1, %r2, %r3;", "4:1: error: `.lt` is not a modifier of `add`"),
        (
            "addd.s32 %r1, %r2, %r3;",
            "4:1: error: `addd` is not an instruction: expected an opcode, a label or a directive",
        ),
        ("add %r1, %r2, %r3;", "4:1: error: `add` lacks a type"),
        ("mul.s32 %r1, %r2, %r3;", "4:1: error: `mul.s32` of integers lacks `.lo`, `.hi` or `.wide`"),
        ("add.s32 %r1, %r2, %r3", "5:1: error: `ret` is out of place: expected `,` or `;` behind an operand"),
        ("bra nowhere;", "4:1: error: the label `nowhere` is not in this function"),
        ("@%r1 bra l; l:", "4:2: error: `%r1` is not a predicate: expected one"),
        ("@%p1 ret; l: l:", "4:14: error: the label `l` is there twice"),
        ("setp.s32 %p1, %r1, %r2;", "4:1: error: `setp.s32` lacks a comparison such as `.lt`"),
        ("setp.ltu.s32 %p1, %r1, %r2;", "4:1: error: `setp.ltu.s32` compares in a way that its type does not have"),
        ("setp.lt.b32 %p1, %r1, %r2;", "4:1: error: `setp.lt.b32` compares in a way that its type does not have"),
        ("ld.global.f32 %f1, %rd1;", "4:20: error: expected an address such as `[%rd1+4]`"),
        ("ld.global.f32 %f1, [%f2];", "4:21: error: `%f2` is declared `.f32`, which does not hold this address"),
        ("ld.global.f32 %f1, [%r2];", "4:21: error: `%r2` is declared `.b32`, which does not hold this address"),
        ("ld.global.b32 %r1, [sh];", "4:21: error: `sh` does not lie in the state space of the access"),
        ("ld.global.v2.f32 %f1, [%rd1];", "4:18: error: 1 elements in braces: `ld.global.v2.f32` takes 2"),
        ("ld.param.b64 %rd1, [s];", "4:20: error: the access lies outside of the parameters, which have 14 bytes"),
        ("st.param.b64 [p], %rd1;", "4:1: error: a kernel cannot store to its parameters"),
        ("st.const.b32 [%rd1], %r1;", "4:1: error: constant memory cannot be stored to"),
        ("mov.b64 %rd1, {%r1, %r2, %r3};", "4:15: error: `.b64` does not split into 3 parts"),
        ("mov.u32 %r1, %tid.q;", "4:14: error: `%tid.q` is not declared"),
        ("call missing, (%r1);", "4:6: error: the function `missing` is not declared"),
        ("mov.b32 %r1, 0f3F8;", "4:14: error: a malformed float: expected `0f` and 8 hexadecimal digits"),
        ("mov.b32 %r1, 12x;", "4:14: error: a number with letters in it"),
        ("mov.b32 %r1, 1/0;", "4:15: error: a constant expression divides by zero"),
        ("lop3.b32 %r1, %r2, %r3, %r4, 256;", "4:30: error: expected a truth table: a constant from 0 to 255"),
        (".reg .b32 %r1;.reg .b32 %a;.reg .b32 %a;", "4:38: error: `%a` is declared twice"),
        (".reg .q32 %a;", "4:6: error: `.q32` is out of place: expected a type, `.align`, `.v2` or `.v4`"),
        ("brx.idx %r1, list;", "4:14: error: `list` is not a list of targets: expected `.branchtargets`"),
    ];
    for (body, expected) in cases {
        assert_eq!(first(&kernel(body)), expected, "for `{body}`");
    }
}

#[test]
fn wrong_modules_are_refused_with_place_and_expectation() {
    let cases = [
        ("", "1:1: error: the end of the text is out of place: expected `.version` at the top of a PTX module"),
        ("hello", "1:1: error: `hello` is out of place: expected `.version` at the top of a PTX module"),
        (".version 8.5", "1:13: error: the end of the text is out of place: expected `.target` behind `.version`"),
        (
            ".version 8.5 .target nv",
            "1:24: error: the end of the text is out of place: expected a target such as `sm_80` before it",
        ),
        (
            ".version 8.5 .target sm_80 .address_size 32",
            "1:42: error: addresses of 32 bits are not offered: expected 64",
        ),
        (
            ".version 8.5 .target sm_80 .entry k() { ret;",
            "1:45: error: the body opened at 1:41 has no end: expected `}`",
        ),
        (".version 8.5 .target sm_80 /* no end", "1:28: error: a comment without its end: expected `*/`"),
        (".version 8.5 .target sm_80 .global .u64 x = y;", "1:45: error: `y` is not declared"),
        (
            ".version 8.5 .target sm_80 .global .b32 x[1] = {1, 2};",
            "1:41: error: the initial value of `x` is larger than it",
        ),
        (".version 8.5 .target sm_80 .global .b8 x[1099511627777];", "1:40: error: `x` is too large"),
        (".version 8.5 .target sm_80 .global .b32 x; .global .b32 x;", "1:57: error: `x` is declared twice"),
        (
            ".version 8.5 .target sm_80 .global .align 3 .b32 x;",
            "1:43: error: `3` is not an alignment: expected a power of two up to 65536",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(first(text), expected, "for `{text}`");
    }
}

#[test]
fn several_errors_are_found_in_one_run() {
    let text = kernel("add.s32 %r1, ;\nadd.s32 %r2, %r3, %r4;\nbogus %r1;");
    let found: Vec<String> = ptx::parse(&text).unwrap_err().iter().map(|it| it.at.to_string()).collect();
    assert_eq!(found, ["4:14", "6:1"]);
    let text = kernel("add.s32 %r1, %r2, %x;\nadd.s32 %y, %r3, %r4;");
    let found: Vec<String> = ptx::load(&text).unwrap_err().iter().map(|it| it.at.to_string()).collect();
    assert_eq!(found, ["4:19", "5:9"]);
}

#[test]
fn what_cannot_run_costs_only_its_kernel() {
    let text = format!("{}.entry good() {{ ret; }}", kernel("wgmma.fence.sync.aligned;"));
    let module = ptx::load(&text).unwrap();
    assert_eq!(module.kernels.len(), 1);
    assert_eq!(module.kernels[0].name, "good");
    let lost = &module.unsupported[0];
    assert_eq!((lost.kernel.as_str(), lost.at.to_string().as_str()), ("k", "4:1"));
    assert_eq!(lost.message, "`wgmma.fence.sync.aligned` is not supported by the software GPU");
    assert_eq!(lost.params.iter().map(|it| (it.offset, it.size)).collect::<Vec<_>>(), [(0, 8), (8, 6)]);
}

#[test]
fn an_unknown_extern_function_is_an_error_only_where_a_kernel_reaches_it() {
    let head = ".version 8.5 .target sm_80 .extern .func foreign; .func unused() { call foreign; }";
    assert!(ptx::load(&format!("{head} .entry k() {{ ret; }}")).is_ok());
    let text = format!("{head} .entry k() {{ call unused; }}");
    assert_eq!(first(&text), "1:68: error: the extern function `foreign` is defined nowhere");
}

#[test]
fn units_of_a_text_link_by_shared_names_and_keep_hidden_ones() {
    let first = ".version 7.0 .target sm_70 .global .b32 text = 1; .extern .func (.param .b32 r) give(); .entry a() { \
                 .reg .b32 %r<3>; .param .b32 x; call (x), give; ld.param.b32 %r1, [x]; ld.global.b32 %r2, [text]; ret; }";
    let second = ".version 8.3 .target sm_80 .global .b32 text = 2; .visible .func (.param .b32 r) give() { \
                  .reg .b32 %r<2>; ld.global.b32 %r1, [text]; st.param.b32 [r], %r1; ret; } .weak .func w() { ret; }";
    let third = ".version 8.0 .target sm_75 .weak .func w() { ret; }";
    let module = ptx::load(&format!("{first}\n{second}\n{third}")).unwrap();
    assert_eq!((module.version, module.target), ((8, 3), 80));
    assert_eq!(module.variables.iter().map(|it| it.bytes[0]).collect::<Vec<_>>(), [1, 2]);
    let loaded: Vec<_> = module.kernels[0]
        .blocks
        .iter()
        .flat_map(|block| &block.instructions)
        .filter_map(|instruction| match &instruction.op {
            ptx::ir::Op::Load { address, .. } => Some(address.base),
            _ => None,
        })
        .collect();
    assert_eq!(loaded, [ptx::ir::Operand::Global(1, 0), ptx::ir::Operand::Global(0, 0)]);
    assert_eq!(first_error(&[second, second]), "2:82: error: `give` is defined twice",);
}

fn first_error(units: &[&str]) -> String {
    first(&units.join("\n"))
}

#[test]
fn the_text_ends_at_a_nul_byte() {
    assert!(ptx::load(&format!("{}\0rubbish", kernel(""))).is_ok());
}

#[test]
fn depth_costs_no_stack() {
    let deep = 200_000;
    let text = kernel(&format!("{}{}", "{".repeat(deep), "}".repeat(deep)));
    assert!(ptx::load(&text).is_ok());
    for (open, close) in [("(", ")"), ("-", ""), ("!", "")] {
        let text = kernel(&format!("mov.b32 %r1, {}1{};", open.repeat(deep), close.repeat(deep)));
        assert!(ptx::load(&text).is_err());
    }
    let text = kernel(&format!("mov.b32 %r1, {}%r2{};", "{".repeat(deep), "}".repeat(deep)));
    assert!(ptx::load(&text).is_err());
    let text = format!(".version 8.5 .target sm_80 .global .b32 x[1] = {}1{};", "{".repeat(deep), "}".repeat(deep));
    assert!(ptx::load(&text).is_err());
    let text = kernel(&format!("ld.global.b32 %r1, [%rd1{}];", "+1".repeat(deep)));
    assert!(ptx::load(&text).is_err());
}

/// PTX made by real compilers.
fn real() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ptx"))
        .collect();
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Pieces that a mutation puts into the text.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    "-",
    "0x",
    "0f",
    "%r1",
    "%p1|%p2",
    "_",
    ".b64",
    ".v4",
    "<9999999>",
    "18446744073709551615",
    "\"",
    "/*",
    "\0",
    "é",
    "call",
    "@!%p1",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn mutated_programs_never_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, prop::sample::select(&PIECES[..])), 1..6),
    ) {
        let all = real();
        let mut text = which.get(&all).clone();
        for (at, cut, piece) in edits {
            let mut from = at.index(text.len());
            while !text.is_char_boundary(from) { from -= 1; }
            let mut to = (from + cut).min(text.len());
            while !text.is_char_boundary(to) { to += 1; }
            text.replace_range(from..to, piece);
        }
        if let Err(diagnostics) = ptx::load(&text) {
            for diagnostic in diagnostics.iter() {
                prop_assert!(diagnostic.at.line >= 1 && diagnostic.at.column >= 1);
                prop_assert!(!diagnostic.message.is_empty());
            }
        }
    }

    #[test]
    fn junk_never_panics(junk in "\\PC{0,200}") {
        prop_assert!(ptx::load(&junk).is_err());
        let _loaded = ptx::load(&format!(".version 8.0 .target sm_80 {junk}"));
        let _loaded = ptx::load(&kernel(&junk));
    }
}
