//! Video instructions: SIMD inside a 32-bit word.

use super::Lowered;
use super::body::Body;
use crate::ast::Instruction;

impl<'m, 'a> Body<'m, 'a> {
    pub(super) fn video(&mut self, i: &'m Instruction<'a>) -> Lowered<()> {
        self.not_run(i)
    }
}
