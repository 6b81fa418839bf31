//! Filling memory.

use cuda::CuResult;
use cuda::types::CUstream;

use super::front;

/// Rows of elements to fill.
#[derive(Clone, Copy)]
struct Area {
    address: u64,
    pitch: usize,
    width: usize,
    height: usize,
}

fn fill(area: Area, element: u8, value: u32, stream: CUstream) -> CuResult {
    let engine = front()?;
    let queue = engine.stream(stream.0 as u64)?;
    let Area { address, pitch, width, height } = area;
    engine.fill(&queue, address, pitch as u64, element, value, width as u64, height as u64)
}

macro_rules! fills {
    ($($now:ident $later:ident $rows_now:ident $rows_later:ident $type:ty, $element:literal;)*) => {$(
        pub(crate) fn $now(address: u64, value: $type, count: usize) -> CuResult {
            $later(address, value, count, crate::ffi::default_stream())
        }

        pub(crate) fn $later(address: u64, value: $type, count: usize, stream: CUstream) -> CuResult {
            fill(Area { address, pitch: 0, width: count, height: 1 }, $element, u32::from(value), stream)
        }

        pub(crate) fn $rows_now(address: u64, pitch: usize, value: $type, width: usize, height: usize) -> CuResult {
            $rows_later(address, pitch, value, width, height, crate::ffi::default_stream())
        }

        pub(crate) fn $rows_later(
            address: u64,
            pitch: usize,
            value: $type,
            width: usize,
            height: usize,
            stream: CUstream,
        ) -> CuResult {
            fill(Area { address, pitch, width, height }, $element, u32::from(value), stream)
        }
    )*};
}

fills! {
    bytes bytes_async byte_rows byte_rows_async u8, 1;
    halves halves_async half_rows half_rows_async u16, 2;
    words words_async word_rows word_rows_async u32, 4;
}
