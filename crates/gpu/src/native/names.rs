//! Names of the variables in a code image.
//!
//! The driver finds a variable by name but lists none, and the client wants all of them with the module. So the names are
//! read from the image: PTX declarations and ELF symbols. What is found here is only a question to the driver; a name too
//! many does no harm.

use std::collections::BTreeSet;

use crate::image::{self, Kind, fatbin, u16_at, u32_at, u64_at};

/// Candidates for names of variables, sorted.
pub(super) fn variables(image: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match image::classify(image) {
        Some(Kind::Ptx) => of_text(image::text_of(image), &mut found),
        Some(Kind::Elf) => of_elf(image, &mut found),
        Some(Kind::Fatbin) => {
            for entry in fatbin::entries(image).unwrap_or_default() {
                let Ok(bytes) = entry.unpack() else { continue };
                match entry.kind {
                    fatbin::EntryKind::Ptx => of_text(image::text_of(&bytes), &mut found),
                    fatbin::EntryKind::Elf => of_elf(&bytes, &mut found),
                    fatbin::EntryKind::Other(_) => {}
                }
            }
        }
        Some(Kind::TileIr) | None => {}
    }
    found
}

/// `.visible .global .align 4 .b8 name[12] = {…};` gives `name`.
fn of_text(text: &[u8], found: &mut BTreeSet<String>) {
    let text = String::from_utf8_lossy(text);
    for statement in text.split([';', '{', '}', '\n']) {
        let declaration = statement.split('=').next().unwrap_or_default().trim();
        let words: Vec<&str> = declaration.split_whitespace().collect();
        let is_linkage = |word: &&&str| matches!(**word, ".visible" | ".extern" | ".weak" | ".common");
        let space = words.iter().find(|word| !is_linkage(word));
        if !matches!(space, Some(&".global" | &".const")) {
            continue;
        }
        let last = declaration.rsplit(|letter: char| letter.is_whitespace()).find(|word| !word.starts_with('['));
        let name = last.unwrap_or_default().split('[').next().unwrap_or_default();
        if !name.is_empty() && !name.starts_with('.') {
            found.insert(name.to_owned());
        }
    }
}

/// Data symbols of an ELF64 file.
fn of_elf(bytes: &[u8], found: &mut BTreeSet<String>) {
    const SYMBOLS: u32 = 2;
    const OBJECT: u8 = 1;
    let section = |index: usize| -> Option<(u32, usize, usize, usize)> {
        let at = usize::try_from(u64_at(bytes, 40)?).ok()?.checked_add(index.checked_mul(64)?)?;
        let place =
            |offset: usize| u64_at(bytes, at.checked_add(offset)?).and_then(|value| usize::try_from(value).ok());
        Some((u32_at(bytes, at.checked_add(4)?)?, place(24)?, place(32)?, u32_at(bytes, at.checked_add(40)?)? as usize))
    };
    for index in 0..usize::from(u16_at(bytes, 60).unwrap_or(0)) {
        let Some((SYMBOLS, start, size, link)) = section(index) else { continue };
        let Some((_, names, names_size, _)) = section(link) else { continue };
        let names = bytes.get(names..names.saturating_add(names_size)).unwrap_or_default();
        let symbols = bytes.get(start..start.saturating_add(size)).unwrap_or_default();
        for symbol in symbols.chunks_exact(24) {
            if symbol[4] & 0x0f != OBJECT {
                continue;
            }
            let name = u32_at(symbol, 0).and_then(|at| names.get(at as usize..)).map(image::text_of);
            if let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty()) {
                found.insert(name.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_of_variables_are_found_and_nothing_else() {
        let text = b".version 8.0\n.target sm_80\n.visible .global .align 4 .b8 table[12] = {1, 2, 3};\n\
            .const .align 8 .f64 scale;\n.extern .global .u32 other [4];\n.global .b32 plain = 5;\n\
            .visible .entry kernel(.param .u64 p) {\n.reg .b32 %r<3>;\nld.global.u32 %r1, [%rd1];\n.shared .b32 s;\n}\n";
        let names: Vec<String> = variables(text).into_iter().collect();
        assert_eq!(names, ["other", "plain", "scale", "table"]);
    }

    #[test]
    fn junk_has_no_names() {
        let mut elf = vec![0xff; 200];
        elf[..4].copy_from_slice(b"\x7fELF");
        assert!(variables(&elf).is_empty());
        assert!(variables(b"").is_empty());
    }
}
