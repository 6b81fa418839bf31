//! Frames: a header of 16 bytes in little endian, then a payload.
//!
//! ```text
//! u32 length of the payload   u16 opcode   u16 flags   u64 id
//! ```
//!
//! A client's frames are numbered from 1 in the order of its commands; answers carry the number of their command, other
//! frames of the worker carry 0. So both sides know what the other has seen, which a resumed connection will need.

use thiserror::Error;

/// Bytes of a header.
pub const HEADER: usize = 16;

/// Bulk data is cut into chunks of this size, so that it holds up small commands only briefly.
pub const CHUNK: usize = 1 << 20;

/// Longest payload that a worker accepts in one frame.
pub const MAX_COMMAND: u32 = 4 << 20;

/// Longest payload that a client accepts in one frame: the metadata of a huge module.
pub const MAX_ANSWER: u32 = 256 << 20;

/// Longest message that a worker puts together from frames with [`MORE`]: a code image.
pub const MAX_MESSAGE: usize = 1 << 30;

/// Flag: the payload goes on in the next frame.
pub const MORE: u16 = 1;

/// Opcodes below are driver calls, by their position in the call table; both sides compare the table's fingerprint in
/// the handshake. Opcodes from here on are written down here.
pub const FIRST_OTHER: u16 = 0xff00;

/// Client: `Driver::copy_to_host`. Answered by [`DATA`] frames and an [`ANSWER`].
pub const COPY_TO_HOST: u16 = 0xff00;
/// Client: the host callback whose ticket is the payload (`u64`) has returned.
pub const CALLBACK_DONE: u16 = 0xff01;
/// Worker: an answer: `u32` status, `u32` first unreported error of earlier one-way calls, then the value.
pub const ANSWER: u16 = 0xff80;
/// Worker: bytes for a copy to the host: `u64` offset, then the bytes.
pub const DATA: u16 = 0xff81;
/// Worker: text that kernels printed.
pub const PRINTED: u16 = 0xff82;
/// Worker: a stream has reached the host callback whose ticket is the payload (`u64`).
pub const REACHED: u16 = 0xff83;

/// What stands before every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub length: u32,
    /// What the payload is.
    pub opcode: u16,
    /// [`MORE`], or nothing.
    pub flags: u16,
    /// The command's number.
    pub id: u64,
}

/// Bytes that are no frame of this protocol.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The length is beyond the limit.
    #[error("a frame promises {length} bytes: at most {limit} are accepted")]
    TooLong {
        /// What it promises.
        length: u32,
        /// What is accepted.
        limit: u32,
    },
    /// The payload cannot be what the opcode says.
    #[error("the payload of a frame with opcode {opcode:#06x} is malformed")]
    Malformed {
        /// Its opcode.
        opcode: u16,
    },
    /// The opcode or a flag is unknown.
    #[error("a frame has the unknown opcode {opcode:#06x} or flags {flags:#06x}")]
    Unknown {
        /// Its opcode.
        opcode: u16,
        /// Its flags.
        flags: u16,
    },
    /// A message in several frames is interrupted by another, or too long.
    #[error("a message of several frames is interrupted or longer than {MAX_MESSAGE} bytes")]
    Interleaved,
}

impl From<FrameError> for std::io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl Header {
    /// As it travels.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.opcode.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// The header in the bytes that travelled.
    #[must_use]
    pub fn from_bytes(bytes: [u8; HEADER]) -> Self {
        let [l0, l1, l2, l3, o0, o1, f0, f1, id @ ..] = bytes;
        Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            opcode: u16::from_le_bytes([o0, o1]),
            flags: u16::from_le_bytes([f0, f1]),
            id: u64::from_le_bytes(id),
        }
    }
}

/// Appends one frame to a buffer; `payload` appends what follows the header. `extra` bytes of payload are sent from
/// elsewhere.
pub fn put(out: &mut Vec<u8>, opcode: u16, flags: u16, id: u64, extra: usize, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    payload(out);
    // Callers cut what they send into chunks; a payload beyond 4 GiB cannot come about.
    let length = u32::try_from(out.len() - start - HEADER + extra).unwrap_or(u32::MAX);
    let header = Header { length, opcode, flags, id };
    if let Some(place) = out.get_mut(start..start + HEADER) {
        place.copy_from_slice(&header.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_starts_with_its_header() {
        let mut out = vec![9];
        put(&mut out, 0xff81, MORE, 0x0102_0304_0506_0708, 2, |out| out.extend_from_slice(b"abc"));
        assert_eq!(out, [9, 5, 0, 0, 0, 0x81, 0xff, 1, 0, 8, 7, 6, 5, 4, 3, 2, 1, b'a', b'b', b'c']);
        let header = Header::from_bytes(out[1..17].try_into().unwrap());
        assert_eq!(header, Header { length: 5, opcode: 0xff81, flags: MORE, id: 0x0102_0304_0506_0708 });
    }
}
