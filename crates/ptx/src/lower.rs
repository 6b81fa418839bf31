//! AST to the intermediate form: names, scopes, calls and memory layout are resolved here.
//!
//! A wrong program is refused as a whole, as the real assembler does. A right program that we cannot run costs only the
//! kernels that would run it: they are listed in [`ir::Module::unsupported`].

mod arithmetic;
mod asynchronous;
mod atomic;
mod block;
mod body;
mod bulk;
mod call;
mod carry;
mod compare;
mod control;
mod convert;
mod cycles;
mod index;
mod instruction;
mod layout;
mod matrix;
mod mbarrier;
mod memory;
mod operand;
mod routine;
mod scope;
mod simplify;
mod slot;
mod special;
mod stack;
mod types;
mod variable;
mod video;
mod warp;
mod wmma;

use crate::ast;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::ir;
use crate::parser::parse;
use index::Index;

/// Errors after which lowering stops.
const ENOUGH: usize = 20;

/// Why something cannot be lowered.
#[derive(Clone, Debug)]
enum Fault {
    /// The program is wrong.
    Invalid(Diagnostic),
    /// The program is right, and we cannot run it.
    Unsupported(Diagnostic),
}

type Lowered<T> = Result<T, Fault>;

/// Lowers a parsed module.
pub fn lower(module: &ast::Module<'_>) -> Result<ir::Module, Diagnostics> {
    let mut found = Vec::new();
    let index = Index::new(module, &mut found);
    let mut lowered = ir::Module {
        version: module.version,
        target: module.target,
        variables: variable::variables(&index, &mut found),
        kernels: Vec::new(),
        unsupported: Vec::new(),
    };
    for (position, function) in module.functions.iter().enumerate() {
        if !function.entry || function.body.is_none() || found.len() >= ENOUGH {
            continue;
        }
        match body::kernel(&index, position) {
            Ok(kernel) => lowered.kernels.push(kernel),
            Err(faults) => {
                let mut reason = None;
                for fault in faults {
                    match fault {
                        Fault::Invalid(diagnostic) => found.push(diagnostic),
                        Fault::Unsupported(diagnostic) => reason = reason.or(Some(diagnostic)),
                    }
                }
                let (params, _) = layout::parameters(&function.params).unwrap_or_default();
                lowered.unsupported.extend(reason.map(|diagnostic| ir::Unsupported {
                    kernel: function.name.text.to_owned(),
                    params,
                    at: diagnostic.at,
                    message: diagnostic.message,
                }));
            }
        }
    }
    lowered.variables.extend(index.grid_workspace());
    match Diagnostics::collect(found) {
        Some(diagnostics) => Err(diagnostics),
        None => Ok(lowered),
    }
}

/// Parses and lowers a module.
pub fn load(text: &str) -> Result<ir::Module, Diagnostics> {
    lower(&parse(text)?)
}
