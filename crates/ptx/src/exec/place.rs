//! Machine code in executable memory.

use super::ExecError;
use super::code::{Compiled, Sites};
use crate::Position;

/// A compiled kernel.
pub(super) struct Code {
    memory: *mut u8,
    mapped: usize,
    /// Bytes of code.
    pub(super) length: usize,
    pub(super) positions: Vec<(u32, Position)>,
    /// Generated code refers to them by address.
    _sites: Sites,
    pub(super) frame_bytes: usize,
    pub(super) has_barriers: bool,
}

// SAFETY: the memory is immutable once placed.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code")
            .field("length", &self.length)
            .field("frame_bytes", &self.frame_bytes)
            .finish_non_exhaustive()
    }
}

impl Code {
    /// Makes compiled code executable.
    pub(super) fn place(compiled: Compiled) -> Result<Code, ExecError> {
        let failed = |what: &str| ExecError::Internal {
            kernel: String::new(),
            reason: format!("{what}: {}", std::io::Error::last_os_error()),
        };
        let length = compiled.code.len();
        let mapped = length.next_multiple_of(4096);
        // SAFETY: a fresh anonymous mapping.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(failed("no memory for code"));
        }
        let memory = memory.cast::<u8>();
        // SAFETY: the mapping is at least as long.
        unsafe { std::ptr::copy_nonoverlapping(compiled.code.as_ptr(), memory, length) };
        let code = Code {
            memory,
            mapped,
            length,
            positions: compiled.positions,
            _sites: compiled.sites,
            frame_bytes: compiled.frame_bytes,
            has_barriers: compiled.has_barriers,
        };
        // SAFETY: our mapping.
        if unsafe { libc::mprotect(memory.cast(), mapped, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
            return Err(failed("memory cannot be made executable"));
        }
        Ok(code)
    }

    pub(super) fn entry(&self) -> *const u8 {
        self.memory
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: our mapping, and nobody runs it: launches hold references.
        unsafe { libc::munmap(self.memory.cast(), self.mapped) };
    }
}
