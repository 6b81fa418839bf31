//! Fatbin containers: several images of one program for several GPU generations, some compressed.

use std::io::Read as _;

use super::{FATBIN_MAGIC, u16_at, u32_at, u64_at};

/// One image in a container.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What it holds.
    pub kind: EntryKind,
    /// GPU generation, times ten: 80 for `sm_80`.
    pub arch: u32,
    /// Flags; see the constants.
    pub flags: u64,
    /// Bytes as stored, without padding.
    pub stored: &'a [u8],
    /// Bytes after decompression.
    pub size: u64,
}

/// What an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// PTX text.
    Ptx,
    /// ELF: machine code of a GPU.
    Elf,
    /// Something newer.
    Other(u16),
}

/// Entry flag: LZ4 block.
pub const LZ4: u64 = 0x2000;
/// Entry flag: zstd frame.
pub const ZSTD: u64 = 0x8000;
/// Entry flag: runs on its own generation only (`sm_90a`).
pub const ARCH_SPECIFIC: u64 = 0x10_0000;
/// Entry flag: runs on its own family only (`sm_120f`).
pub const FAMILY_SPECIFIC: u64 = 0x20_0000;

/// PTX of one module is never near this; a larger promise is an attack.
const MAX_TEXT: u64 = 1 << 30;

/// Why a container cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatbinError {
    /// It does not begin as a container does.
    #[error("byte {0}: a fatbin container must begin with ba55ed50")]
    Magic(usize),
    /// A length points past the end.
    #[error("byte {0}: the container ends inside this header or its payload")]
    Truncated(usize),
    /// A compressed entry does not decompress.
    #[error("the entry for compute capability {arch} does not decompress: {reason}")]
    Compression {
        /// Generation of the entry, times ten.
        arch: u32,
        /// What the decompressor says.
        reason: String,
    },
}

/// Reads the entries of one container, or of several in a row.
///
/// # Errors
/// The first header that does not fit.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry<'_>>, FatbinError> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if u32_at(bytes, at) != Some(FATBIN_MAGIC) {
            // Containers are padded to eight bytes with zeros.
            if at > 0 && bytes.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0)) {
                break;
            }
            return Err(FatbinError::Magic(at));
        }
        let truncated = FatbinError::Truncated(at);
        let header = usize::from(u16_at(bytes, at + 6).ok_or(truncated.clone())?);
        let rest = u64_at(bytes, at + 8).and_then(|rest| usize::try_from(rest).ok()).ok_or(truncated.clone())?;
        let start = at.checked_add(header.max(16)).ok_or(truncated.clone())?;
        let end = start.checked_add(rest).filter(|end| *end <= bytes.len()).ok_or(truncated)?;
        container(bytes.get(..end).unwrap_or_default(), start, &mut found)?;
        at = end.next_multiple_of(8);
    }
    Ok(found)
}

fn container<'a>(bytes: &'a [u8], mut at: usize, found: &mut Vec<Entry<'a>>) -> Result<(), FatbinError> {
    const SMALLEST_HEADER: usize = 64;
    while bytes.len().saturating_sub(at) >= SMALLEST_HEADER {
        let truncated = || FatbinError::Truncated(at);
        let word = |offset: usize| u32_at(bytes, at + offset).ok_or_else(truncated);
        let long = |offset: usize| u64_at(bytes, at + offset).ok_or_else(truncated);
        let kind = match u16_at(bytes, at).ok_or_else(truncated)? {
            1 => EntryKind::Ptx,
            2 => EntryKind::Elf,
            other => EntryKind::Other(other),
        };
        let header = word(4)? as usize;
        if header < SMALLEST_HEADER {
            return Err(truncated());
        }
        let padded = usize::try_from(long(8)?).map_err(|_| truncated())?;
        let compressed = word(16)? as usize;
        let start = at.checked_add(header).ok_or_else(truncated)?;
        let end = start.checked_add(padded).filter(|end| *end <= bytes.len()).ok_or_else(truncated)?;
        let flags = long(40)?;
        let is_compressed = flags & (LZ4 | ZSTD) != 0;
        let length = if is_compressed && compressed != 0 { compressed } else { padded };
        let stored = bytes.get(start..end).and_then(|payload| payload.get(..length)).ok_or_else(truncated)?;
        let size = if is_compressed { long(56)? } else { length as u64 };
        found.push(Entry { kind, arch: word(28)?, flags, stored, size });
        at = end;
    }
    Ok(())
}

impl Entry<'_> {
    /// Whether a device of this compute capability (times ten) can be given this entry's PTX.
    #[must_use]
    pub fn suits(&self, capability: u32) -> bool {
        if self.flags & ARCH_SPECIFIC != 0 {
            return self.arch == capability;
        }
        if self.flags & FAMILY_SPECIFIC != 0 && self.arch / 10 != capability / 10 {
            return false;
        }
        self.arch <= capability
    }

    /// The entry's bytes, decompressed.
    ///
    /// # Errors
    /// When they do not decompress to the promised size.
    pub fn unpack(&self) -> Result<Vec<u8>, FatbinError> {
        let fail = |reason: String| FatbinError::Compression { arch: self.arch, reason };
        if self.flags & (LZ4 | ZSTD) == 0 {
            return Ok(self.stored.to_vec());
        }
        if self.size > MAX_TEXT {
            return Err(fail(format!("{} bytes are promised, {MAX_TEXT} is the most", self.size)));
        }
        if self.flags & LZ4 != 0 {
            return lz4_flex::block::decompress(self.stored, self.size as usize)
                .map_err(|error| fail(error.to_string()));
        }
        let decoder = ruzstd::decoding::StreamingDecoder::new(self.stored).map_err(|error| fail(error.to_string()))?;
        let mut text = Vec::new();
        decoder.take(self.size + 1).read_to_end(&mut text).map_err(|error| fail(error.to_string()))?;
        if text.len() as u64 != self.size {
            return Err(fail(format!("{} bytes are promised and {} came", self.size, text.len())));
        }
        Ok(text)
    }
}

/// The entry whose PTX the driver would compile for a device: the newest that it can run.
#[must_use]
pub fn choose<'e, 'a>(entries: &'e [Entry<'a>], capability: u32) -> Option<&'e Entry<'a>> {
    let usable = entries.iter().filter(|entry| entry.kind == EntryKind::Ptx && entry.suits(capability));
    // Of two for one generation the plain one is preferred: it promises less about the hardware.
    usable.max_by_key(|entry| (entry.arch, entry.flags & (ARCH_SPECIFIC | FAMILY_SPECIFIC) == 0))
}
