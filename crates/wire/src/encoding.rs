//! Arguments and answers as bytes: postcard's encoding of the tuple of a call's arguments.
//!
//! [`Argument`] exists because serde writes a byte slice byte by byte; here it is one copy, and bulk data can be left out
//! to be sent from where it lies. Whatever is read is checked: a length is compared with what is there before it is used.

use cuda::{ContextId, EventId, FunctionId, LaunchShape, ModuleId, Ordinal, Region, StreamId, StreamKind, TicketId};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// An argument of a driver call.
pub trait Argument<'a>: Sized {
    /// Appends the argument.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes the argument from the front of the bytes.
    ///
    /// # Errors
    /// The bytes are no such argument.
    fn take(input: &mut &'a [u8]) -> Result<Self, Malformed>;
}

struct Appender<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends any value.
///
/// # Panics
/// Never: postcard fails only on sequences of unknown length, which no type of ours is.
pub fn put_value<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let result = postcard::serialize_with_flavor(value, Appender(out));
    debug_assert!(result.is_ok(), "{result:?}");
}

/// Takes any value that owns its parts.
///
/// # Errors
/// The bytes are no such value.
pub fn take_value<T: DeserializeOwned>(input: &mut &[u8]) -> Result<T, Malformed> {
    let (value, rest) = postcard::take_from_bytes(input).map_err(|_| Malformed)?;
    *input = rest;
    Ok(value)
}

/// Appends the length that stands before a byte slice.
pub fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

macro_rules! values {
    ($($type:ty)*) => {$(
        impl Argument<'_> for $type {
            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put_value(self, out);
            }

            #[inline]
            fn take(input: &mut &[u8]) -> Result<Self, Malformed> {
                take_value(input)
            }
        }
    )*};
}

values! { bool u8 u32 u64 i32 usize Ordinal ContextId ModuleId StreamId EventId TicketId FunctionId LaunchShape Region StreamKind }

impl<'a> Argument<'a> for &'a [u8] {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self);
    }

    #[inline]
    fn take(input: &mut &'a [u8]) -> Result<Self, Malformed> {
        let (bytes, rest) = postcard::take_from_bytes::<&'a [u8]>(input).map_err(|_| Malformed)?;
        *input = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_postcards_tuple() {
        let region = Region { address: 1 << 44, width: 300, rows: 2, row_pitch: 512, slices: 1, slice_pitch: 0 };
        let data: &[u8] = &[7; 600];
        let mut out = Vec::new();
        StreamId(77).put(&mut out);
        region.put(&mut out);
        data.put(&mut out);
        assert_eq!(out, postcard::to_stdvec(&(StreamId(77), region, data)).unwrap());
        let mut input = &*out;
        assert_eq!(StreamId::take(&mut input), Ok(StreamId(77)));
        assert_eq!(Region::take(&mut input), Ok(region));
        assert_eq!(<&[u8]>::take(&mut input), Ok(data));
        assert!(input.is_empty());
    }

    #[test]
    fn a_slice_longer_than_what_is_there_is_malformed() {
        let mut out = Vec::new();
        put_length(1 << 60, &mut out);
        out.extend_from_slice(&[1, 2, 3]);
        assert_eq!(<&[u8]>::take(&mut &*out), Err(Malformed));
    }
}
