//! A shared library that is nothing but a second name for another.
//!
//! A dynamic loader that has preloaded a library takes it wherever its own name (`DT_SONAME`) is asked for, and no other:
//! CUDA's clients ask for `libcuda.so.1`, `libcuda.so`, `libnvidia-ml.so.1` and `libnvidia-ml.so`. Copies under each name
//! would be four libraries with a state each. So the other names are files of a few hundred bytes which hold a name and
//! a need: `dlsym` on them searches what they need, and finds the functions of the one library there is.

/// `e_machine` of this program, and so of its library.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

const HEADER: u64 = 64;
const SEGMENT: u64 = 56;
const SEGMENTS: u64 = 3;

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const STACK: u32 = 0x6474_e551;
const READ_WRITE: u32 = 6;

const NULL: u64 = 0;
const NEEDED: u64 = 1;
const HASH: u64 = 4;
const STRINGS: u64 = 5;
const SYMBOLS: u64 = 6;
const STRINGS_SIZE: u64 = 10;
const SYMBOL_SIZE: u64 = 11;
const SONAME: u64 = 14;
const RUNPATH: u64 = 29;

/// The file of a library called `name` that needs the library called `of`, which lies beside it unless it is loaded
/// already. The format is that of the System V ABI, chapters 4 and 5.
pub(super) fn library(name: &str, of: &str) -> Vec<u8> {
    let mut strings = vec![0];
    let mut string = |text: &str| {
        let at = strings.len() as u64;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let (soname, needed, runpath) = (string(name), string(of), string("$ORIGIN"));
    let size = strings.len() as u64;
    strings.resize(strings.len().next_multiple_of(8), 0);

    // One bucket and one symbol, the null one: four words, all but the counts zero.
    let hash: [u32; 4] = [1, 1, 0, 0];
    let null_symbol = [0; 24];
    let hash_at = HEADER + SEGMENTS * SEGMENT;
    let symbols_at = hash_at + 16;
    let strings_at = symbols_at + 24;
    let dynamic_at = strings_at + strings.len() as u64;
    let dynamic = [
        [NEEDED, needed],
        [SONAME, soname],
        [RUNPATH, runpath],
        [HASH, hash_at],
        [STRINGS, strings_at],
        [SYMBOLS, symbols_at],
        [STRINGS_SIZE, size],
        [SYMBOL_SIZE, 24],
        [NULL, 0],
    ];
    let dynamic_size = size_of_val(&dynamic) as u64;
    let whole = dynamic_at + dynamic_size;

    let mut file = Vec::new();
    // 64 bits, little-endian, version 1, System V.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let shared_object = 3;
    for half in [shared_object, MACHINE] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1_u32.to_le_bytes());
    // No entry point, segments after this header, no sections.
    for word in [0, HEADER, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    for half in [HEADER, SEGMENT, SEGMENTS, 64, 0, 0] {
        file.extend_from_slice(&(half as u16).to_le_bytes());
    }
    // Writable, because glibc writes addresses into the dynamic section; the stack's segment says that it need not be
    // executable.
    for (kind, at, size, alignment) in
        [(LOAD, 0, whole, 0x1000), (DYNAMIC, dynamic_at, dynamic_size, 8), (STACK, 0, 0, 16)]
    {
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&READ_WRITE.to_le_bytes());
        for word in [at, at, at, size, size, alignment] {
            file.extend_from_slice(&u64::to_le_bytes(word));
        }
    }
    file.extend(hash.iter().flat_map(|word| word.to_le_bytes()));
    file.extend_from_slice(&null_symbol);
    file.extend_from_slice(&strings);
    file.extend(dynamic.iter().flatten().flat_map(|word| word.to_le_bytes()));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_parts_lie_where_it_says() {
        let file = library("libnvidia-ml.so.1", "libcuda.so.1");
        let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
        let dynamic = word(64 + 56 + 8);
        let entry = |tag: u64| {
            let places = (dynamic..file.len()).step_by(16);
            places.into_iter().find(|at| word(*at) == tag as usize).map(|at| word(at + 8)).unwrap()
        };
        let text = |offset: usize| {
            let bytes = &file[entry(STRINGS) + offset..];
            std::str::from_utf8(&bytes[..bytes.iter().position(|byte| *byte == 0).unwrap()]).unwrap()
        };
        assert_eq!(text(entry(SONAME)), "libnvidia-ml.so.1");
        assert_eq!(text(entry(NEEDED)), "libcuda.so.1");
        assert_eq!(word(64 + 32), file.len(), "the whole file is loaded");
    }
}
