#![expect(unsafe_code, reason = "C hands over addresses; here, and only here, they become Rust values")]
//! Arguments as C passes them, safe to use from Rust.
//!
//! An exported function takes these types in place of pointers, so that what implements it is safe Rust: a null where
//! CUDA wants a value is `INVALID_VALUE`, never a crash. What cannot be checked is what CUDA's own documentation asks of
//! the program: that an address which is not null is valid for what the function does with it.

use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::marker::PhantomData;

use crate::{CuError, CuResult, HostBuffer};

/// `T *`: where the program wants one or more answers.
#[repr(transparent)]
pub struct Out<'a, T>(*mut T, PhantomData<&'a mut T>);

/// `const T *`: one or more values from the program.
#[repr(transparent)]
pub struct In<'a, T>(*const T, PhantomData<&'a T>);

/// `void *`: host memory of the program, or any other address that it passes.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Host(pub usize);

/// `const char *`: a name which ends with a zero byte.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(*const c_char, PhantomData<&'a CStr>);

/// `char *`: room for text, whose length is another argument.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text<'a>(*mut c_char, PhantomData<&'a mut [u8]>);

impl<'a, T> Out<'a, T> {
    /// Where a Rust caller wants the answer.
    pub fn to(slot: &'a mut T) -> Self {
        Self(slot, PhantomData)
    }

    /// Where a Rust caller wants several answers.
    pub fn first(slots: &'a mut [T]) -> Self {
        Self(slots.as_mut_ptr(), PhantomData)
    }

    /// A null pointer.
    #[must_use]
    pub fn null() -> Self {
        Self(std::ptr::null_mut(), PhantomData)
    }

    /// Whether the program passed null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Gives the answer.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null.
    pub fn set(&self, value: T) -> CuResult {
        self.set_at(0, value)
    }

    /// Gives the answer if the program wants it.
    pub fn set_if(&self, value: T) {
        if !self.is_null() {
            // SAFETY: not null, and the caller of the C function promises room for one value.
            unsafe { self.0.write_unaligned(value) }
        }
    }

    /// Gives the answer at a position of an array; the caller has checked the position against the array's length.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null.
    pub fn set_at(&self, position: usize, value: T) -> CuResult {
        if self.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        let slot = self.0.wrapping_add(position);
        // SAFETY: not null, and the caller of the C function promises an array that is long enough.
        unsafe { slot.write_unaligned(value) }
        Ok(())
    }
}

impl<T: Copy> Out<'_, T> {
    /// What is there already, for arguments that are read and written.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null.
    pub fn get(&self) -> CuResult<T> {
        self.get_at(0)
    }

    /// What is at a position of an array already.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null.
    pub fn get_at(&self, position: usize) -> CuResult<T> {
        In(self.0, PhantomData).get_at(position)
    }

    /// The first `count` values that are there already; empty for a null with no values.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null and a count.
    pub fn get_all(&self, count: usize) -> CuResult<Vec<T>> {
        In(self.0, PhantomData).get_all(count)
    }
}

impl<'a, T: Copy> In<'a, T> {
    /// A Rust caller's value.
    pub fn of(value: &'a T) -> Self {
        Self(value, PhantomData)
    }

    /// A null pointer.
    #[must_use]
    pub fn null() -> Self {
        Self(std::ptr::null(), PhantomData)
    }

    /// Whether the program passed null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// The value.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null.
    pub fn get(&self) -> CuResult<T> {
        self.get_at(0)
    }

    /// The value, if the program passed one.
    #[must_use]
    pub fn get_if(&self) -> Option<T> {
        self.get().ok()
    }

    /// The value at a position of an array; the caller has checked the position against the array's length.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null.
    pub fn get_at(&self, position: usize) -> CuResult<T> {
        if self.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        let slot = self.0.wrapping_add(position);
        // SAFETY: not null, and the caller of the C function promises an array that is long enough.
        Ok(unsafe { slot.read_unaligned() })
    }

    /// The first `count` values of an array; empty for a null with no values.
    ///
    /// # Errors
    /// `INVALID_VALUE` when the program passed null and a count.
    pub fn get_all(&self, count: usize) -> CuResult<Vec<T>> {
        (0..count).map(|position| self.get_at(position)).collect()
    }
}

impl<T> Clone for Out<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<'_, T> {}

impl<T> Clone for In<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<'_, T> {}

impl Host {
    /// A null pointer.
    pub const NULL: Self = Self(0);

    /// Where a Rust caller's memory is.
    pub fn of<T>(memory: *const T) -> Self {
        Self(memory.expose_provenance())
    }

    /// Whether the address is null.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address as a number of CUDA's unified address space.
    #[must_use]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// The address as a pointer.
    #[must_use]
    pub fn pointer(self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.0)
    }

    /// The address `bytes` further on.
    #[must_use]
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The program's bytes; empty for no bytes, whatever the address.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null.
    pub fn bytes(&self, length: usize) -> CuResult<&[u8]> {
        if length == 0 {
            return Ok(&[]);
        }
        if self.is_null() || isize::try_from(length).is_err() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller of the C function promises that many readable bytes until the call returns.
        Ok(unsafe { std::slice::from_raw_parts(self.pointer(), length) })
    }

    /// Copies bytes into the program's memory.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null.
    pub fn write(self, bytes: &[u8]) -> CuResult {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller of the C function promises room for these bytes. They may overlap.
        unsafe { std::ptr::copy(bytes.as_ptr(), self.pointer(), bytes.len()) }
        Ok(())
    }

    /// Fills the program's memory.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null.
    pub fn fill(self, byte: u8, length: usize) -> CuResult {
        if length == 0 {
            return Ok(());
        }
        if self.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller of the C function promises room for that many bytes.
        unsafe { self.pointer().write_bytes(byte, length) }
        Ok(())
    }

    /// The memory as a driver writes it.
    #[must_use]
    pub fn buffer(self, length: usize) -> HostBuffer {
        HostBuffer { pointer: self.pointer(), length }
    }

    /// The value that lies here.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null.
    pub fn read<T: Copy>(self) -> CuResult<T> {
        self.array::<T>().get()
    }

    /// The values that lie here, for arguments whose type depends on another argument.
    #[must_use]
    pub fn array<'a, T: Copy>(self) -> In<'a, T> {
        In(self.pointer().cast::<T>(), PhantomData)
    }

    /// The place for values of a type that depends on another argument.
    #[must_use]
    pub fn out<'a, T>(self) -> Out<'a, T> {
        Out(self.pointer().cast::<T>(), PhantomData)
    }

    /// The text that lies here, up to its zero byte.
    #[must_use]
    pub fn name<'a>(self) -> Name<'a> {
        Name(self.pointer().cast::<c_char>(), PhantomData)
    }
}

impl<'a> Name<'a> {
    /// A name that lives for the whole program, as an answer.
    #[must_use]
    pub fn from_static(text: &'a CStr) -> Self {
        Self(text.as_ptr(), PhantomData)
    }

    /// A null pointer.
    #[must_use]
    pub fn null() -> Self {
        Self(std::ptr::null(), PhantomData)
    }

    /// Whether the program passed null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// The name's bytes.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null.
    pub fn c_str(&self) -> CuResult<&'a CStr> {
        if self.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller of the C function promises text that ends with a zero byte.
        Ok(unsafe { CStr::from_ptr(self.0) })
    }

    /// The name.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null, or when it is not UTF-8.
    pub fn get(&self) -> CuResult<&'a str> {
        self.c_str()?.to_str().map_err(|_| CuError::INVALID_VALUE)
    }
}

impl Text<'_> {
    /// Whether the program passed null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Writes text and a zero byte into room of `length` bytes, cut where it does not fit.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null or no room.
    pub fn set(&self, length: usize, text: &str) -> CuResult {
        if self.is_null() || length == 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let bytes = text.as_bytes();
        let bytes = bytes.get(..length - 1).unwrap_or(bytes);
        let host = Host::of(self.0);
        host.write(bytes)?;
        host.offset(bytes.len()).write(&[0])
    }

    /// Copies bytes, without a zero byte.
    ///
    /// # Errors
    /// `INVALID_VALUE` for null.
    pub fn set_bytes(&self, bytes: &[u8]) -> CuResult {
        Host::of(self.0).write(bytes)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.c_str() {
            Ok(text) => fmt::Debug::fmt(text, f),
            Err(_) => f.write_str("null"),
        }
    }
}

macro_rules! debug_as_address {
    ($([$($generic:tt)*] $name:ty, $me:ident => $address:expr;)*) => {$(
        impl<$($generic)*> fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $me = self;
                write!(f, "{:#x}", $address)
            }
        }
    )*};
}

debug_as_address! {
    [T] Out<'_, T>, me => me.0.addr();
    [T] In<'_, T>, me => me.0.addr();
    [] Host, me => me.0;
    [] Text<'_>, me => me.0.addr();
}

macro_rules! callbacks {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $(-> $answer:ty)?;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub Option<unsafe extern "C" fn($($type),*) $(-> $answer)?>);

        impl $name {
            /// Whether the program passed null.
            #[must_use]
            pub fn is_null(&self) -> bool {
                self.0.is_none()
            }

            /// Calls the program's function.
            ///
            /// # Errors
            /// `INVALID_VALUE` for null.
            pub fn call(&self, $($argument: $type),*) -> CuResult<callbacks!(@answer $($answer)?)> {
                let function = self.0.ok_or(CuError::INVALID_VALUE)?;
                // SAFETY: the program passed the address of a function of this type, as CUDA demands.
                Ok(unsafe { function($($argument),*) })
            }
        }
    )*};
    (@answer) => { () };
    (@answer $answer:ty) => { $answer };
}

callbacks! {
    /// A function that a stream calls on the host.
    CUhostFn(data: Host);
    /// A function that a stream calls on the host, with the stream's state.
    CUstreamCallback(stream: crate::types::CUstream, status: u32, data: Host);
    /// Dynamic shared memory that a kernel needs at a block size.
    CUoccupancyB2DSize(block_size: i32) -> usize;
    /// A destructor of a value in context-local storage.
    StorageDestructor(context: crate::types::CUcontext, key: Host, value: Host);
}

// A handle and an address have the size of C's pointers.
const _: () = assert!(size_of::<Host>() == size_of::<*mut c_void>() && size_of::<CUhostFn>() == size_of::<Host>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_answer_is_an_invalid_value() {
        assert_eq!(Out::<u32>::null().set(1), Err(CuError::INVALID_VALUE));
        Out::<u32>::null().set_if(1);
        assert_eq!(In::<u32>::null().get(), Err(CuError::INVALID_VALUE));
        assert_eq!(In::<u32>::null().get_all(0), Ok(vec![]));
    }

    #[test]
    fn text_is_cut_to_the_room_and_always_ends() {
        let mut room = [b'x'; 4];
        let text = Text(room.as_mut_ptr().cast(), PhantomData);
        assert_eq!(text.set(4, "hello"), Ok(()));
        assert_eq!(&room, b"hel\0");
    }
}
