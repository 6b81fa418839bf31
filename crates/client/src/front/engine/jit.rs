//! `CUjit_option`: the few that mean something here are the log buffers.

use cuda::{CuError, CuResult};

use super::raw;

/// The program's buffer for one kind of messages.
#[derive(Clone, Copy, Debug, Default)]
struct Log {
    buffer: u64,
    size: u32,
    /// Where the number of bytes written goes.
    size_slot: u64,
}

/// What a program wants to be told about a compilation.
#[derive(Clone, Copy, Debug, Default)]
pub struct JitOptions {
    info: Log,
    error: Log,
    wall_time_slot: u64,
}

const WALL_TIME: u32 = 2;
const INFO_LOG_BUFFER: u32 = 3;
const INFO_LOG_BUFFER_SIZE: u32 = 4;
const ERROR_LOG_BUFFER: u32 = 5;
const ERROR_LOG_BUFFER_SIZE: u32 = 6;

impl JitOptions {
    /// Reads `count` options; `options` are numbers, `values` as many pointer-sized values that may be written to.
    ///
    /// # Errors
    /// `INVALID_VALUE` when there is a count but an address is null.
    pub fn read(count: u32, options: u64, values: u64) -> CuResult<Self> {
        let mut read = Self::default();
        for index in 0..u64::from(count) {
            let slot = values.checked_add(index * 8).filter(|_| values != 0).ok_or(CuError::INVALID_VALUE)?;
            let value = raw::read_u64(slot)?;
            // Sizes are passed as values of 32 bits in a pointer.
            let small = u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0);
            match raw::read_u32(options.checked_add(index * 4).filter(|_| options != 0).ok_or(CuError::INVALID_VALUE)?)?
            {
                WALL_TIME => read.wall_time_slot = slot,
                INFO_LOG_BUFFER => read.info.buffer = value,
                INFO_LOG_BUFFER_SIZE => (read.info.size, read.info.size_slot) = (small, slot),
                ERROR_LOG_BUFFER => read.error.buffer = value,
                ERROR_LOG_BUFFER_SIZE => (read.error.size, read.error.size_slot) = (small, slot),
                _ => {}
            }
        }
        Ok(read)
    }

    /// Whether the program wants to read messages.
    #[must_use]
    pub fn wants_logs(&self) -> bool {
        self.info.buffer != 0 || self.error.buffer != 0
    }

    /// Stores messages: in the error log when the compilation failed, else in the other.
    ///
    /// # Errors
    /// `INVALID_VALUE` for addresses that cannot be.
    pub fn report(&self, log: &str, failed: bool, milliseconds: f32) -> CuResult {
        let (info, error) = if failed { ("", log) } else { (log, "") };
        self.info.store(info)?;
        self.error.store(error)?;
        if self.wall_time_slot != 0 {
            raw::write(self.wall_time_slot, &milliseconds.to_ne_bytes())?;
        }
        Ok(())
    }
}

impl Log {
    /// Cuts the text to the buffer, ends it with NUL and stores its length, NUL included.
    fn store(self, text: &str) -> CuResult {
        let mut written = 0_u64;
        if self.buffer != 0 && self.size > 0 {
            let text = text.as_bytes();
            let text = text.get(..self.size as usize - 1).unwrap_or(text);
            if !text.is_empty() {
                raw::write(self.buffer, text)?;
                written = text.len() as u64 + 1;
            }
            raw::write(self.buffer + text.len() as u64, &[0])?;
        }
        if self.size_slot != 0 {
            raw::write(self.size_slot, &written.to_ne_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_and_their_length_stored() {
        let mut buffer = [b'x'; 8];
        let options = [ERROR_LOG_BUFFER, ERROR_LOG_BUFFER_SIZE];
        let mut values = [buffer.as_mut_ptr() as u64, 5];
        let read = JitOptions::read(2, options.as_ptr() as u64, values.as_mut_ptr() as u64).unwrap();
        read.report("1:2: nonsense", true, 0.0).unwrap();
        assert_eq!(&buffer, b"1:2:\0xxx");
        assert_eq!(values[1], 5);
    }
}
