//! `nvidia-smi`. What it does is in the library beside it, whose tests need no old glibc to link.

use std::process::ExitCode;

fn main() -> ExitCode {
    smi::main()
}
