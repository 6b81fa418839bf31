//! Loads PTX files and prints what came of them, with the speed of each step.
//!
//! `cargo run --release -p ptx --example load -- [--ir] FILE…`

#![expect(clippy::print_stdout, reason = "a tool for people")]

use std::time::Instant;

fn main() -> std::io::Result<()> {
    let (flags, files): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let print_ir = flags.iter().any(|flag| flag == "--ir");
    let (mut bytes, mut parsing, mut lowering, mut bad) = (0usize, 0f64, 0f64, 0u32);
    for file in &files {
        let content = std::fs::read(file)?;
        let text = String::from_utf8_lossy(&content);
        let start = Instant::now();
        let parsed = ptx::parse(&text);
        parsing += start.elapsed().as_secs_f64();
        bytes += text.len();
        let start = Instant::now();
        let lowered = parsed.as_ref().map_err(Clone::clone).and_then(ptx::lower);
        lowering += start.elapsed().as_secs_f64();
        match lowered {
            Ok(module) => {
                let instructions: usize =
                    module.kernels.iter().flat_map(|kernel| &kernel.blocks).map(|block| block.instructions.len()).sum();
                println!("{file}: {} kernels, {instructions} instructions", module.kernels.len());
                for unsupported in &module.unsupported {
                    println!("{file}:{}: {}: {}", unsupported.at, unsupported.kernel, unsupported.message);
                }
                if print_ir {
                    print(&module);
                }
            }
            Err(diagnostics) => {
                bad += 1;
                for diagnostic in diagnostics.iter() {
                    println!("{file}:{diagnostic}");
                }
            }
        }
    }
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{} files, {bad} refused, {megabytes:.1} MB; parse {:.0} MB/s, lower {:.0} MB/s",
        files.len(),
        megabytes / parsing,
        megabytes / lowering
    );
    Ok(())
}

fn print(module: &ptx::ir::Module) {
    for variable in &module.variables {
        println!("{variable:?}");
    }
    for kernel in &module.kernels {
        let (params, shared, local) = (&kernel.params, kernel.shared_bytes, kernel.local_bytes);
        println!("kernel {} params {params:?} shared {shared} local {local}", kernel.name);
        for (number, block) in kernel.blocks.iter().enumerate() {
            println!("  block {number}");
            for instruction in &block.instructions {
                println!("    {} {:?} {:?}", instruction.at, instruction.guard, instruction.op);
            }
            println!("    {:?}", block.end);
        }
    }
}
