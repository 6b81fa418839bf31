//! The program's own memory: the one place of the engine that follows addresses which the program gave.
//!
//! Addresses are `u64` here, as everywhere in CUDA's interface. The program promises, by calling CUDA with them, that
//! they are good for what the call says; null is refused before.
#![expect(unsafe_code, reason = "CUDA programs name their own memory by plain addresses")]

use cuda::{CuError, CuResult};

fn check(address: u64, length: u64) -> CuResult<usize> {
    let length = usize::try_from(length).map_err(|_| CuError::INVALID_VALUE)?;
    let good = address != 0 && isize::try_from(length).is_ok() && address.checked_add(length as u64).is_some();
    if good { Ok(length) } else { Err(CuError::INVALID_VALUE) }
}

/// Lends the bytes at `address` to `use_bytes`.
pub(super) fn with_bytes<T>(address: u64, length: u64, use_bytes: impl FnOnce(&[u8]) -> T) -> CuResult<T> {
    let length = check(address, length)?;
    // SAFETY: the program promises that `length` bytes at `address` are readable for the length of its call.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, length) };
    Ok(use_bytes(bytes))
}

/// Lends the bytes at `address` to `use_bytes`, to be changed.
pub(super) fn with_bytes_mut<T>(address: u64, length: u64, use_bytes: impl FnOnce(&mut [u8]) -> T) -> CuResult<T> {
    let length = check(address, length)?;
    // SAFETY: the program promises that `length` bytes at `address` are its to be written, and used by nobody meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) };
    Ok(use_bytes(bytes))
}

/// Copies bytes out of the program's memory.
pub(super) fn read(address: u64, target: &mut [u8]) -> CuResult {
    check(address, target.len() as u64)?;
    // SAFETY: the program promises that the bytes at `address` are readable; `target` is ours and of that length.
    unsafe { std::ptr::copy(address as *const u8, target.as_mut_ptr(), target.len()) };
    Ok(())
}

/// Copies bytes into the program's memory.
pub(super) fn write(address: u64, source: &[u8]) -> CuResult {
    check(address, source.len() as u64)?;
    // SAFETY: the program promises that the bytes at `address` are writable; `source` is ours and of that length.
    unsafe { std::ptr::copy(source.as_ptr(), address as *mut u8, source.len()) };
    Ok(())
}

/// Copies within the program's memory; the ranges may overlap.
pub(super) fn copy(target: u64, source: u64, length: u64) -> CuResult {
    let length = check(target, length).and(check(source, length))?;
    // SAFETY: the program promises that `source` is readable and `target` writable for `length` bytes.
    unsafe { std::ptr::copy(source as *const u8, target as *mut u8, length) };
    Ok(())
}

/// The program's bytes at `address` up to and without the first NUL.
pub(super) fn c_string(address: u64) -> CuResult<Vec<u8>> {
    check(address, 1)?;
    // SAFETY: the program promises that a NUL-terminated string starts at `address`.
    Ok(unsafe { std::ffi::CStr::from_ptr(address as *const std::ffi::c_char) }.to_bytes().to_vec())
}

/// A number of the program's, at an address that need not be aligned.
pub(super) fn read_u64(address: u64) -> CuResult<u64> {
    let mut bytes = [0; 8];
    read(address, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A number of the program's, at an address that need not be aligned.
pub(super) fn read_u32(address: u64) -> CuResult<u32> {
    let mut bytes = [0; 4];
    read(address, &mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Page-aligned memory of this process, zeroed; 0 when there is none.
pub(super) fn map_pages(length: u64) -> u64 {
    let Ok(length) = usize::try_from(length) else { return 0 };
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nobody's memory.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED { 0 } else { address as u64 }
}

/// Page-aligned memory of this process at an address, zeroed; whether nothing else was there.
pub(super) fn map_pages_at(address: u64, length: u64) -> bool {
    let Ok(bytes) = usize::try_from(length) else { return false };
    // SAFETY: a new anonymous mapping that replaces none touches nobody's memory.
    let mapped = unsafe {
        libc::mmap(
            address as *mut libc::c_void,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    // A kernel older than the flag takes the address for a hint.
    if mapped as u64 != address {
        unmap_pages(mapped as u64, length);
        return false;
    }
    true
}

/// Gives back what [`map_pages`] or [`map_pages_at`] mapped, for the same length.
pub(super) fn unmap_pages(address: u64, length: u64) {
    let Ok(length) = usize::try_from(length) else { return };
    // SAFETY: address and length are those of a mapping that was made here and that nobody uses any more.
    let status = unsafe { libc::munmap(address as *mut libc::c_void, length) };
    debug_assert_eq!(status, 0);
}

unsafe extern "C" {
    /// C's standard output: text of kernels goes where the program's own `printf` goes, in the same order.
    #[link_name = "stdout"]
    static C_STDOUT: *mut libc::FILE;
}

/// Writes to C's standard output.
pub(super) fn print(text: &[u8]) {
    // SAFETY: the C library sets `stdout` before any code of ours runs; a program that closes it must not print.
    let stream = unsafe { C_STDOUT };
    if stream.is_null() {
        return;
    }
    // SAFETY: `text` is readable for its length, and stdio streams lock themselves.
    let written = unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream) };
    if written < text.len() {
        tracing::debug!(lost = text.len() - written, "standard output takes no more text");
    }
}
