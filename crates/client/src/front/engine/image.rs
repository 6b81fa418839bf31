//! The length of a code image that a program passes without one.
//!
//! `cuModuleLoadData` and its kin take a bare address. PTX text ends with a NUL; fatbins and ELF files say in their
//! headers how long they are; cudart's wrapper points at a fatbin.

use cuda::{CuError, CuResult};

use super::raw;

const WRAPPER: u32 = 0x4662_43B1;
const FATBIN: u32 = 0xBA55_ED50;
const ELF: u32 = u32::from_le_bytes(*b"\x7fELF");
const TILE_IR: u32 = u32::from_le_bytes(*b"\x7fTil");
/// Longer images are taken for garbage.
const LONGEST: u64 = 4 << 30;

/// The bytes of the image at an address: PTX text without its NUL, a whole fatbin, or a whole ELF file.
///
/// # Errors
/// `INVALID_IMAGE` for what is none of these.
pub fn read_image(address: u64) -> CuResult<Vec<u8>> {
    let (address, length) = find_image(address)?;
    let mut image = Vec::new();
    let length = usize::try_from(length).map_err(|_| CuError::INVALID_IMAGE)?;
    image.try_reserve_exact(length).map_err(|_| CuError::OUT_OF_MEMORY)?;
    image.resize(length, 0);
    raw::read(address, &mut image)?;
    Ok(image)
}

/// Address and length of an image, behind cudart's wrapper if there is one.
pub(super) fn find_image(address: u64) -> CuResult<(u64, u64)> {
    // Text may be shorter than a magic number, so look at its first bytes one by one.
    let mut magic = [0_u8; 4];
    for (offset, byte) in magic.iter_mut().enumerate() {
        raw::read(address.wrapping_add(offset as u64), std::slice::from_mut(byte))?;
        if *byte == 0 {
            break;
        }
    }
    let length = match u32::from_le_bytes(magic) {
        WRAPPER => {
            let inner = raw::read_u64(address + 8)?;
            if inner == 0 || raw::read_u32(inner)? == WRAPPER {
                return Err(CuError::INVALID_IMAGE);
            }
            return find_image(inner);
        }
        FATBIN => {
            let header = u64::from(raw::read_u32(address + 4)? >> 16);
            header.checked_add(raw::read_u64(address + 8)?)
        }
        ELF => elf_length(address),
        TILE_IR => return Err(CuError::NO_BINARY_FOR_GPU),
        _ => Some(raw::c_string(address)?.len() as u64),
    };
    match length {
        Some(length) if length > 0 && length <= LONGEST => Ok((address, length)),
        _ => Err(CuError::INVALID_IMAGE),
    }
}

/// The end of the last thing that a 64-bit little-endian ELF file's headers name.
fn elf_length(address: u64) -> Option<u64> {
    const SECTION_WITHOUT_BYTES: u32 = 8;
    let mut header = [0; 64];
    raw::read(address, &mut header).ok()?;
    let half = |at: usize| Some(u64::from(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?)));
    let wide = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
    if header.get(4..6)? != [2, 1] {
        return None;
    }
    let (programs, sections) = (wide(32)?, wide(40)?);
    let (program_size, program_count) = (half(54)?, half(56)?);
    let (section_size, section_count) = (half(58)?, half(60)?);
    let mut end = 64;
    for (table, size, count, smallest) in
        [(programs, program_size, program_count, 56), (sections, section_size, section_count, 64)]
    {
        if count > 0 && (size < smallest || table > LONGEST) {
            return None;
        }
        end = end.max(table + size * count);
    }
    for index in 0..section_count {
        let entry = address + sections + index * section_size;
        let kind = raw::read_u32(entry + 4).ok()?;
        let (offset, size) = (raw::read_u64(entry + 24).ok()?, raw::read_u64(entry + 32).ok()?);
        if kind != SECTION_WITHOUT_BYTES {
            end = end.max(offset.checked_add(size)?);
        }
    }
    for index in 0..program_count {
        let entry = address + programs + index * program_size;
        let (offset, size) = (raw::read_u64(entry + 8).ok()?, raw::read_u64(entry + 32).ok()?);
        end = end.max(offset.checked_add(size)?);
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_its_nul() {
        let text = b".version 8.0\n\0garbage";
        assert_eq!(read_image(text.as_ptr() as u64).unwrap(), b".version 8.0\n");
        assert_eq!(read_image(c"a".as_ptr() as u64).unwrap(), b"a");
        assert_eq!(read_image(c"".as_ptr() as u64), Err(CuError::INVALID_IMAGE));
        assert_eq!(read_image(0), Err(CuError::INVALID_VALUE));
    }

    #[test]
    fn a_wrapper_leads_to_its_fatbin() {
        let mut fatbin = Vec::new();
        fatbin.extend(FATBIN.to_le_bytes());
        fatbin.extend(1_u16.to_le_bytes());
        fatbin.extend(16_u16.to_le_bytes());
        fatbin.extend(5_u64.to_le_bytes());
        fatbin.extend(b"12345");
        fatbin.extend(b"not part of it");
        let mut wrapper = Vec::new();
        wrapper.extend(WRAPPER.to_le_bytes());
        wrapper.extend(1_u32.to_le_bytes());
        wrapper.extend((fatbin.as_ptr() as u64).to_le_bytes());
        wrapper.extend([0; 8]);
        assert_eq!(read_image(wrapper.as_ptr() as u64).unwrap(), &fatbin[..21]);
    }

    #[test]
    fn an_elf_file_ends_where_its_last_section_does() {
        let mut elf = [0_u8; 64 + 64 + 10 + 20];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[40..48].copy_from_slice(&74_u64.to_le_bytes());
        elf[58..60].copy_from_slice(&64_u16.to_le_bytes());
        elf[60..62].copy_from_slice(&1_u16.to_le_bytes());
        elf[74 + 4..74 + 8].copy_from_slice(&1_u32.to_le_bytes());
        elf[74 + 24..74 + 32].copy_from_slice(&64_u64.to_le_bytes());
        elf[74 + 32..74 + 40].copy_from_slice(&10_u64.to_le_bytes());
        assert_eq!(read_image(elf.as_ptr() as u64).unwrap().len(), 138);
    }
}
