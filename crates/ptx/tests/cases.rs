//! Runs the kernels of `cases/*.case` from PTX text to results.
//!
//! A case file says how to launch kernels of the PTX file of the same name and what to expect; `cases/make.py` writes it.
//! Lines: `case NAME`, `kernel NAME`, `grid X Y Z`, `block X Y Z`, `shared BYTES`, `stack BYTES`, `cooperative`, `buffer NAME TYPE VALUES`
//! and `value TYPE VALUES` (parameters in order), `expect BUFFER TYPE VALUES`, `prints TEXT`, `traps assert` or `traps stack`.

#![expect(unsafe_code, reason = "lends memory to kernels")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use ptx::exec::{Environment, LaunchShape, Program, Scratch, TrapKind, Window};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const BYTES: usize = 64 << 20;
const HEAP: usize = 1 << 20;
const SCRATCH: usize = 32 << 20;

/// Device memory: buffers from the beginning, a heap behind, scratch at the end.
struct Memory {
    base: *mut u8,
    used: usize,
}

impl Memory {
    fn new() -> Self {
        // SAFETY: a new anonymous mapping.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Memory { base: base.cast(), used: 0 }
    }

    fn place(&mut self, bytes: &[u8], size: usize, align: usize) -> u64 {
        let offset = self.used.next_multiple_of(align.max(256));
        self.used = offset + size.max(bytes.len());
        assert!(self.used <= BYTES - SCRATCH - HEAP);
        // SAFETY: inside the mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset), bytes.len()) };
        self.base as u64 + offset as u64
    }

    fn read(&self, address: u64, size: usize) -> Vec<u8> {
        let offset = (address - self.base as u64) as usize;
        assert!(offset + size <= BYTES);
        // SAFETY: inside the mapping, and no kernel runs.
        unsafe { std::slice::from_raw_parts(self.base.add(offset), size) }.to_vec()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { libc::munmap(self.base.cast(), BYTES) };
    }
}

struct Host {
    printed: Mutex<Vec<u8>>,
    heap: AtomicU64,
}

impl Environment for Host {
    fn print(&self, text: &[u8]) {
        self.printed.lock().unwrap().extend_from_slice(text);
    }
    fn malloc(&self, size: u64) -> u64 {
        self.heap.fetch_add(size.next_multiple_of(16), Ordering::Relaxed)
    }
    fn free(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// Bytes of values of a type.
fn encode(ty: &str, words: &[&str]) -> Vec<u8> {
    let integer = |word: &str| word.parse::<i128>().unwrap();
    let mut bytes = Vec::new();
    for word in words {
        match ty {
            "u8" | "i8" | "bytes" => bytes.push(integer(word) as u8),
            "u16" => bytes.extend((integer(word) as u16).to_le_bytes()),
            "u32" | "i32" => bytes.extend((integer(word) as u32).to_le_bytes()),
            "u64" | "i64" => bytes.extend((integer(word) as u64).to_le_bytes()),
            "f32" => bytes.extend(word.parse::<f32>().unwrap().to_le_bytes()),
            "f64" => bytes.extend(word.parse::<f64>().unwrap().to_le_bytes()),
            _ => panic!("`{ty}` is no type of a case file"),
        }
    }
    bytes
}

#[derive(Default)]
struct Case<'a> {
    name: &'a str,
    kernel: &'a str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stack: u32,
    cooperative: bool,
    /// Name (none by value) and bytes.
    params: Vec<(Option<&'a str>, Vec<u8>)>,
    expect: Vec<(&'a str, &'a str, Vec<u8>)>,
    prints: Option<String>,
    traps: Option<TrapKind>,
}

fn parse(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["case", name] = words.as_slice() {
            cases.push(Case { name, ..Case::default() });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        let extent = |words: &[&str]| [0, 1, 2].map(|axis: usize| words[axis].parse::<u32>().unwrap());
        match words.as_slice() {
            [] => {}
            ["kernel", name] => case.kernel = name,
            ["grid", extents @ ..] => case.grid = extent(extents),
            ["block", extents @ ..] => case.block = extent(extents),
            ["shared", bytes] => case.shared = bytes.parse().unwrap(),
            ["stack", bytes] => case.stack = bytes.parse().unwrap(),
            ["cooperative"] => case.cooperative = true,
            ["buffer", name, ty, values @ ..] => case.params.push((Some(name), encode(ty, values))),
            ["value", ty, values @ ..] => case.params.push((None, encode(ty, values))),
            ["expect", name, ty, values @ ..] => case.expect.push((name, ty, encode(ty, values))),
            ["prints", ..] => case.prints = line.strip_prefix("prints ").map(|text| text.replace("\\n", "\n")),
            ["traps", "assert"] => case.traps = Some(TrapKind::Assert),
            ["traps", "stack"] => case.traps = Some(TrapKind::StackOverflow),
            _ => panic!("`{line}` is no line of a case file"),
        }
    }
    cases
}

fn run(module: &Arc<ptx::ir::Module>, case: &Case<'_>) {
    let mut memory = Memory::new();
    let addresses: Vec<u64> = module
        .variables
        .iter()
        .map(|variable| memory.place(&variable.bytes, variable.size as usize, variable.align as usize))
        .collect();
    for (variable, &address) in module.variables.iter().zip(&addresses) {
        for relocation in &variable.relocations {
            let value = addresses[relocation.variable as usize].wrapping_add_signed(relocation.addend);
            // SAFETY: inside the variable, which has been placed.
            unsafe { ((address + relocation.offset) as *mut u64).write_unaligned(value) };
        }
    }
    let window = Window { base: memory.base as u64, size: BYTES as u64 };
    let program = Program::new(Arc::clone(module), addresses, window).unwrap();
    let index = program.kernel_index(case.kernel).unwrap_or_else(|| panic!("no kernel `{}`", case.kernel));
    let kernel = &module.kernels[index];
    let mut params = vec![0u8; kernel.param_bytes as usize];
    let mut buffers = HashMap::new();
    assert_eq!(kernel.params.len(), case.params.len(), "parameters of {}", case.name);
    for (param, (name, bytes)) in kernel.params.iter().zip(&case.params) {
        let bytes = match name {
            Some(name) => {
                let address = memory.place(bytes, bytes.len(), 256);
                buffers.insert(*name, address);
                address.to_le_bytes().to_vec()
            }
            None => bytes.clone(),
        };
        let start = param.offset as usize;
        params[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    let shape = LaunchShape {
        grid: case.grid,
        block: case.block,
        cluster: [1; 3],
        shared_bytes: case.shared,
        stack_bytes: case.stack,
        cooperative: case.cooperative,
    };
    let launch = program.prepare(index, shape, &params, 1).unwrap();
    assert!(launch.scratch_bytes() <= SCRATCH);
    // SAFETY: the end of the mapping, which nothing else uses.
    let mut scratch = unsafe { Scratch::new(memory.base.add(BYTES - SCRATCH), SCRATCH) };
    let heap = memory.base as u64 + (BYTES - SCRATCH - HEAP) as u64;
    let host = Host { printed: Mutex::default(), heap: AtomicU64::new(heap) };
    let result = launch.run(0..launch.blocks(), &mut scratch, &host);
    match result {
        Ok(()) => assert!(case.traps.is_none(), "{} should have trapped", case.name),
        Err(trap) => assert_eq!(case.traps, Some(trap.kind), "{}: {trap:?}", case.name),
    }
    for (name, ty, expected) in &case.expect {
        let found = memory.read(buffers[name], expected.len());
        let width = encode(ty, &["0"]).len();
        for (place, (found, expected)) in found.chunks(width).zip(expected.chunks(width)).enumerate() {
            assert_eq!(found, expected, "{}: element {place} of `{name}`, type {ty}", case.name);
        }
    }
    if let Some(prints) = &case.prints {
        assert_eq!(&String::from_utf8_lossy(&host.printed.lock().unwrap()), prints, "{}", case.name);
    }
}

fn run_file(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let text = std::fs::read_to_string(folder.join(name).with_extension("ptx")).unwrap();
    let module = Arc::new(ptx::load(&text).unwrap_or_else(|diagnostics| panic!("{name}: {diagnostics}")));
    let cases = std::fs::read_to_string(folder.join(name).with_extension("case")).unwrap();
    let cases = parse(&cases);
    assert!(!cases.is_empty());
    for case in &cases {
        run(&module, case);
    }
}

macro_rules! files {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run_file(stringify!($name));
        })*
    };
}

files! { barrier basics control grid matrix memory recursion simd warp }
