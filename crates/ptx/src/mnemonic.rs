//! Opcodes and their modifiers as tables.
//!
//! A mnemonic such as `ld.global.nc.v4.f32` is decoded once per module; instructions refer to it by number. The opcode's
//! row says which groups of modifiers it takes, so that a misspelt modifier is an error here and not nonsense later.

mod opcode;
mod suffix;

pub use opcode::Opcode;
pub use suffix::Suffix;

use crate::ir;

/// A decoded mnemonic.
#[derive(Clone, PartialEq, Debug)]
pub struct Mnemonic<'a> {
    /// The whole text.
    pub text: &'a str,
    /// The first word.
    pub opcode: Opcode,
    /// The rest in order.
    pub suffixes: Vec<Suffix>,
    /// The types among the suffixes, in order.
    pub types: Vec<ir::Type>,
}

impl<'a> Mnemonic<'a> {
    /// Decodes a mnemonic; the error says what is wrong with it.
    pub(crate) fn decode(text: &'a str) -> Result<Self, String> {
        let (word, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        let Some((opcode, groups)) = Opcode::find(word) else {
            return Err(format!("`{word}` is not an instruction: expected an opcode, a label or a directive"));
        };
        let mut mnemonic = Mnemonic { text, opcode, suffixes: Vec::new(), types: Vec::new() };
        for word in rest.split('.').skip(1) {
            match Suffix::find(word) {
                Some((suffix, group)) if groups & group != 0 => {
                    mnemonic.suffixes.push(suffix);
                    mnemonic.types.extend(suffix.ty());
                }
                _ if groups == suffix::ANY => mnemonic.suffixes.push(Suffix::Other),
                _ => return Err(format!("`.{word}` is not a modifier of `{}`", opcode.name())),
            }
        }
        Ok(mnemonic)
    }

    /// The type of a name, also of types that nothing here computes with.
    pub(crate) fn ty(word: &str) -> Option<Suffix> {
        Suffix::find(word).filter(|(_, group)| group & suffix::TYPE != 0).map(|(suffix, _)| suffix)
    }

    /// Whether a modifier is there.
    pub(crate) fn has(&self, suffix: Suffix) -> bool {
        self.suffixes.contains(&suffix)
    }

    /// The first of the given modifiers that is there.
    pub(crate) fn any<T: Copy>(&self, choices: &[(Suffix, T)]) -> Option<T> {
        self.suffixes
            .iter()
            .find_map(|suffix| choices.iter().find(|(choice, _)| choice == suffix).map(|&(_, value)| value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mnemonic_splits_into_opcode_modifiers_and_types() {
        let mnemonic = Mnemonic::decode("ld.global.nc.L2::128B.v4.f32").unwrap();
        assert_eq!(mnemonic.opcode, Opcode::Ld);
        assert_eq!(mnemonic.suffixes, [Suffix::Global, Suffix::Nc, Suffix::CachePolicy, Suffix::V4, Suffix::F32]);
        assert_eq!(mnemonic.types, [ir::Type::F32]);
    }

    #[test]
    fn a_modifier_of_another_opcode_is_refused() {
        assert_eq!(Mnemonic::decode("add.lt.s32").unwrap_err(), "`.lt` is not a modifier of `add`");
        assert!(Mnemonic::decode("ad.s32").unwrap_err().starts_with("`ad` is not an instruction"));
    }

    #[test]
    fn opcodes_and_modifiers_are_found_by_their_own_names() {
        for (opcode, name) in Opcode::all() {
            assert_eq!(Opcode::find(name).map(|found| found.0), Some(opcode));
        }
    }
}
