//! PTX text to machine code of this CPU. Knows nothing of CUDA calls.
//!
//! `text → ast → ir → exec`: the parser keeps positions for every error; lowering resolves names and inlines calls;
//! `exec` compiles kernels for a block shape, with the lanes of a warp as SIMD, and runs blocks of threads.

pub mod ast;
mod bits;
mod diagnostics;
pub mod exec;
pub mod ir;
mod lexer;
mod lower;
mod mnemonic;
mod parser;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use lower::{load, lower};
pub use parser::parse;

/// A place in PTX text: line and column, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
