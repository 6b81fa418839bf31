//! What code images look like.
//!
//! CUDA hands code to the driver by a bare pointer, without a length: PTX text, a fatbin (several images in one
//! container), an ELF cubin or Tile IR. This is the one place that knows the formats. It only reads bytes that it was
//! given, so that the client can find an image's length by showing more and more of it ([`measure`]), and the software
//! GPU can take an image apart ([`classify`], [`fatbin`]). Nothing here trusts a length that stands in the bytes.
//!
//! The layout of the container was measured with `cuobjdump` as reference; no public document describes it.

pub mod fatbin;

/// What an image is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// PTX text, up to the first NUL or the end.
    Ptx,
    /// One or several fatbin containers.
    Fatbin,
    /// An ELF file: machine code of a GPU.
    Elf,
    /// Tile IR bytecode.
    TileIr,
}

/// How long an image is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// The image is this many bytes long.
    Length(usize),
    /// Show at least this many bytes of it.
    Needs(usize),
    /// No image that we know begins like that, or its length cannot be told from its bytes (Tile IR).
    Unknown,
}

pub(crate) const FATBIN_MAGIC: u32 = 0xBA55_ED50;
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const TILE_MAGIC: [u8; 7] = *b"\x7fTileIR";
/// Images beyond this are refused: no module comes near it.
const MAX_IMAGE: usize = 1 << 31;

/// Magic of the wrapper that nvcc puts around a fatbin: `{ magic, version, pointer, pointer }`. The pointer must be
/// followed by whoever holds the process's memory.
pub const WRAPPER_MAGIC: u32 = 0x4662_43B1;

/// Tells what an image is from its first bytes; `None` when it is nothing that we know.
#[must_use]
pub fn classify(bytes: &[u8]) -> Option<Kind> {
    if u32_at(bytes, 0) == Some(FATBIN_MAGIC) {
        return Some(Kind::Fatbin);
    }
    if bytes.starts_with(&ELF_MAGIC) {
        return Some(Kind::Elf);
    }
    if bytes.starts_with(&TILE_MAGIC) {
        return Some(Kind::TileIr);
    }
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    matches!(first, b'.' | b'/').then_some(Kind::Ptx)
}

/// Finds the length of the image that begins at `seen`, of which only the first bytes may be visible.
///
/// Start with 64 bytes (every image has them: the smallest PTX module is longer than that only in practice, so show
/// what may be read) and grow to what [`Measure::Needs`] says.
#[must_use]
pub fn measure(seen: &[u8]) -> Measure {
    if seen.len() < 8 {
        // PTX of fewer than eight bytes with its NUL is no module, but it has a length.
        return match seen.iter().position(|byte| *byte == 0) {
            Some(end) if !seen.starts_with(&ELF_MAGIC[..seen.len().min(4)]) => Measure::Length(end + 1),
            _ => Measure::Needs(8),
        };
    }
    match classify(seen) {
        Some(Kind::Fatbin) => measure_fatbin(seen),
        Some(Kind::Elf) => measure_elf(seen),
        Some(Kind::TileIr) => Measure::Unknown,
        Some(Kind::Ptx) => measure_text(seen),
        // White space only, so far.
        None if seen.iter().all(u8::is_ascii_whitespace) => measure_text(seen),
        None => Measure::Unknown,
    }
}

fn measure_text(seen: &[u8]) -> Measure {
    match seen.iter().position(|byte| *byte == 0) {
        Some(end) => Measure::Length(end + 1),
        None if seen.len() >= MAX_IMAGE => Measure::Unknown,
        None => Measure::Needs(seen.len() + 1),
    }
}

fn measure_fatbin(seen: &[u8]) -> Measure {
    let (Some(header), Some(rest)) = (u16_at(seen, 6), u64_at(seen, 8)) else { return Measure::Needs(16) };
    match usize::try_from(rest).ok().and_then(|rest| rest.checked_add(usize::from(header))) {
        Some(total) if total <= MAX_IMAGE => Measure::Length(total),
        _ => Measure::Unknown,
    }
}

/// The end of an ELF64 file: the furthest of its header tables and, once those are visible, its sections.
fn measure_elf(seen: &[u8]) -> Measure {
    const HEADER: usize = 64;
    if seen.len() < HEADER {
        return Measure::Needs(HEADER);
    }
    if seen[4] != 2 || seen[5] != 1 {
        return Measure::Unknown;
    }
    let table = |offset: usize, size: usize, count: usize| -> Option<(usize, usize, usize)> {
        let start = usize::try_from(u64_at(seen, offset)?).ok()?;
        let (size, count) = (usize::from(u16_at(seen, size)?), usize::from(u16_at(seen, count)?));
        let end = start.checked_add(size.checked_mul(count)?)?;
        (end <= MAX_IMAGE).then_some((start, size, end))
    };
    let (Some(segments), Some(sections)) = (table(32, 54, 56), table(40, 58, 60)) else { return Measure::Unknown };
    let tables = segments.2.max(sections.2).max(HEADER);
    if seen.len() < sections.2 {
        return Measure::Needs(sections.2);
    }
    let mut end = tables;
    if sections.1 >= 64 {
        let mut at = sections.0;
        while at < sections.2 {
            let (Some(kind), Some(offset), Some(size)) =
                (u32_at(seen, at + 4), u64_at(seen, at + 24), u64_at(seen, at + 32))
            else {
                return Measure::Unknown;
            };
            const NOBITS: u32 = 8;
            if kind != NOBITS {
                match offset.checked_add(size).and_then(|section| usize::try_from(section).ok()) {
                    Some(section) if section <= MAX_IMAGE => end = end.max(section),
                    _ => return Measure::Unknown,
                }
            }
            at += sections.1;
        }
    }
    Measure::Length(end)
}

/// The GPU generation that an ELF cubin was made for, times ten, if its header says so.
#[must_use]
pub fn elf_target(bytes: &[u8]) -> Option<u32> {
    let flags = u32_at(bytes, 48)?;
    // Since CUDA 13 the generation stands in bits 8..16, before in bits 0..8.
    let old = flags & 0xff;
    let new = (flags >> 8) & 0xff;
    [new, old].into_iter().find(|target| (20..=210).contains(target))
}

/// PTX text without its NUL terminator and what follows it.
#[must_use]
pub fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests;
