use super::fatbin::{self, EntryKind, FatbinError};
use super::*;

/// Builds one container from entries: kind, arch, flags, stored bytes, size after decompression.
pub(crate) fn build(entries: &[(u16, u32, u64, Vec<u8>, usize)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, arch, flags, stored, size) in entries {
        let padded = stored.len().next_multiple_of(8);
        let compressed = if flags & (fatbin::LZ4 | fatbin::ZSTD) != 0 { stored.len() as u32 } else { 0 };
        let mut header = [0_u8; 64];
        header[0..2].copy_from_slice(&kind.to_le_bytes());
        header[2..4].copy_from_slice(&0x0101_u16.to_le_bytes());
        header[4..8].copy_from_slice(&64_u32.to_le_bytes());
        header[8..16].copy_from_slice(&(padded as u64).to_le_bytes());
        header[16..20].copy_from_slice(&compressed.to_le_bytes());
        header[28..32].copy_from_slice(&arch.to_le_bytes());
        header[40..48].copy_from_slice(&flags.to_le_bytes());
        header[56..64].copy_from_slice(&(*size as u64).to_le_bytes());
        body.extend_from_slice(&header);
        body.extend_from_slice(stored);
        body.resize(body.len() + padded - stored.len(), 0);
    }
    let mut all = FATBIN_MAGIC.to_le_bytes().to_vec();
    all.extend_from_slice(&1_u16.to_le_bytes());
    all.extend_from_slice(&16_u16.to_le_bytes());
    all.extend_from_slice(&(body.len() as u64).to_le_bytes());
    all.extend_from_slice(&body);
    all
}

const TEXT: &[u8] = b"\n//\n.version 8.5\n.target sm_80\n.address_size 64\n.address_size 64\n.address_size 64\n\0";

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn entries_of_all_three_encodings_give_their_text() {
    let image = build(&[
        (1, 75, 0x11, TEXT.to_vec(), TEXT.len()),
        (1, 80, 0x11 | fatbin::LZ4, lz4_flex::block::compress(TEXT), TEXT.len()),
        (1, 90, 0x11 | fatbin::ZSTD, zstd(TEXT), TEXT.len()),
        (2, 90, 0x11, b"\x7fELF".to_vec(), 4),
    ]);
    let entries = fatbin::entries(&image).unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[3].kind, EntryKind::Elf);
    for entry in &entries[..3] {
        assert_eq!(text_of(&entry.unpack().unwrap()), text_of(TEXT), "arch {}", entry.arch);
    }
    assert_eq!(measure(&image[..16]), Measure::Length(image.len()));
}

#[test]
fn the_newest_entry_that_the_device_can_run_is_chosen() {
    let text = || TEXT.to_vec();
    let mut image = build(&[(1, 75, 0, text(), 0), (1, 90, fatbin::ARCH_SPECIFIC, text(), 0)]);
    image.resize(image.len().next_multiple_of(8), 0);
    image.extend(build(&[(2, 100, 0, text(), 0), (1, 90, 0, text(), 0), (1, 120, fatbin::FAMILY_SPECIFIC, text(), 0)]));
    let entries = fatbin::entries(&image).unwrap();
    let chosen = |capability| fatbin::choose(&entries, capability).map(|entry| (entry.arch, entry.flags));
    assert_eq!(chosen(70), None);
    assert_eq!(chosen(89), Some((75, 0)));
    assert_eq!(chosen(90), Some((90, 0)));
    assert_eq!(chosen(100), Some((90, 0)));
    assert_eq!(chosen(121), Some((120, fatbin::FAMILY_SPECIFIC)));
    assert_eq!(chosen(130), Some((90, 0)));
}

#[test]
fn damaged_containers_are_refused() {
    let image = build(&[(1, 80, fatbin::LZ4, lz4_flex::block::compress(TEXT), TEXT.len())]);
    for length in 4..image.len() {
        assert!(fatbin::entries(&image[..length]).is_err(), "{length}");
    }
    let mut long = image.clone();
    long[16 + 8] = 0xff;
    assert!(matches!(fatbin::entries(&long), Err(FatbinError::Truncated(_))));
    let mut wrong = image.clone();
    wrong[16 + 56..16 + 64].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(fatbin::entries(&wrong).unwrap()[0].unpack(), Err(FatbinError::Compression { arch: 80, .. })));
    let lie = build(&[(1, 80, fatbin::ZSTD, zstd(TEXT), TEXT.len() - 1)]);
    assert!(fatbin::entries(&lie).unwrap()[0].unpack().is_err());
    let mut junk = image;
    junk.extend_from_slice(b"junk after it");
    assert!(matches!(fatbin::entries(&junk), Err(FatbinError::Magic(_))));
}

#[test]
fn images_are_told_apart_and_measured() {
    assert_eq!(classify(TEXT), Some(Kind::Ptx));
    assert_eq!(classify(b"\x7fTileIR\0"), Some(Kind::TileIr));
    assert_eq!(classify(b"hello"), None);
    assert_eq!(measure(&TEXT[..20]), Measure::Needs(21));
    let mut longer = TEXT.to_vec();
    longer.extend_from_slice(b"next");
    assert_eq!(measure(&longer), Measure::Length(TEXT.len()));
    assert_eq!(measure(b"12345678"), Measure::Unknown);
}

#[test]
fn an_elf_file_ends_after_its_last_section() {
    let mut elf = vec![0_u8; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[48..52].copy_from_slice(&(0x0600_0000_u32 | 90 << 8).to_le_bytes());
    elf[40..48].copy_from_slice(&64_u64.to_le_bytes());
    elf[58..60].copy_from_slice(&64_u16.to_le_bytes());
    elf[60..62].copy_from_slice(&1_u16.to_le_bytes());
    assert_eq!(measure(&elf[..10]), Measure::Needs(64));
    assert_eq!(measure(&elf), Measure::Needs(128));
    let mut section = [0_u8; 64];
    section[24..32].copy_from_slice(&128_u64.to_le_bytes());
    section[32..40].copy_from_slice(&72_u64.to_le_bytes());
    elf.extend_from_slice(&section);
    assert_eq!(measure(&elf), Measure::Length(200));
    assert_eq!(elf_target(&elf), Some(90));
    elf[64 + 32..64 + 40].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(measure(&elf), Measure::Unknown);
}
