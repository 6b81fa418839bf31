//! Copies and fills: what lies where, checked, and cut to what the driver does.
//!
//! The driver copies packed host bytes to and from strided device memory. Strides on the host's side are taken out, or
//! put back in, here.

use std::sync::Arc;

use cuda::{CuError, CuResult, HostBuffer, Region};

use super::{Engine, Stream, raw};

/// How much to copy: `slices` times `rows` rows of `width` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes in a row.
    pub width: u64,
    /// Rows in a slice.
    pub rows: u64,
    /// Slices.
    pub slices: u64,
}

/// One side of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte.
    pub address: u64,
    /// Whether it is the program's own memory.
    pub host: bool,
    /// Bytes from one row's start to the next's.
    pub row_pitch: u64,
    /// Bytes from one slice's start to the next's.
    pub slice_pitch: u64,
}

impl Shape {
    /// A plain run of bytes.
    #[must_use]
    pub fn linear(bytes: u64) -> Self {
        Self { width: bytes, rows: 1, slices: 1 }
    }

    fn bytes(self) -> CuResult<u64> {
        let rows = self.rows.checked_mul(self.slices).ok_or(CuError::INVALID_VALUE)?;
        self.width.checked_mul(rows).ok_or(CuError::INVALID_VALUE)
    }
}

impl Place {
    /// A run of device bytes.
    #[must_use]
    pub fn device(address: u64) -> Self {
        Self { address, host: false, row_pitch: 0, slice_pitch: 0 }
    }

    /// A run of host bytes.
    #[must_use]
    pub fn host(address: u64) -> Self {
        Self { address, host: true, row_pitch: 0, slice_pitch: 0 }
    }

    fn region(self, shape: Shape) -> Region {
        Region {
            address: self.address,
            width: shape.width,
            rows: shape.rows,
            row_pitch: if shape.rows > 1 { self.row_pitch } else { shape.width },
            slices: shape.slices,
            slice_pitch: if shape.slices > 1 { self.slice_pitch } else { shape.width * shape.rows },
        }
    }

    /// Bytes from the first to the last one touched, or an error where rows or slices overlap or sizes overflow.
    fn extent(self, shape: Shape) -> CuResult<u64> {
        let region = self.region(shape);
        if (shape.rows > 1 && self.row_pitch < shape.width) || (shape.slices > 1 && self.slice_pitch < shape.width) {
            return Err(CuError::INVALID_VALUE);
        }
        let rows = region.row_pitch.checked_mul(shape.rows - 1);
        let slices = region.slice_pitch.checked_mul(shape.slices - 1);
        rows.zip(slices)
            .and_then(|(rows, slices)| rows.checked_add(slices)?.checked_add(shape.width))
            .ok_or(CuError::INVALID_VALUE)
    }

    /// Addresses of the rows, in order.
    fn rows(self, shape: Shape) -> impl Iterator<Item = u64> {
        let region = self.region(shape);
        (0..shape.slices).flat_map(move |slice| {
            (0..shape.rows).map(move |row| region.address + slice * region.slice_pitch + row * region.row_pitch)
        })
    }
}

impl Engine {
    /// The side of a copy that a unified address names: device memory when it is known, the program's otherwise.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a device address that is not in use.
    pub fn place_of(&self, address: u64) -> CuResult<Place> {
        if !self.is_device_address(address) {
            return Ok(Place::host(address));
        }
        self.range_of(address)
            .map(|range| Place::device(range.base + (address - range.base)))
            .ok_or(CuError::INVALID_VALUE)
    }

    /// Copies in a stream's order. With `wait` it is done when the call returns, as far as the program can tell.
    ///
    /// # Errors
    /// `INVALID_VALUE` for what does not fit, or what the driver says.
    pub fn copy(&self, stream: &Arc<Stream>, target: Place, source: Place, shape: Shape, wait: bool) -> CuResult {
        let bytes = shape.bytes()?;
        if bytes == 0 {
            return Ok(());
        }
        let target = self.check_place(target, shape)?;
        let source = self.check_place(source, shape)?;
        self.share_before(stream)?;
        self.mark_busy(stream);
        match (target.host, source.host) {
            (false, false) => {
                self.driver.copy_on_device(stream.id, target.region(shape), source.region(shape))?;
                self.share_copied(stream, wait)
            }
            (false, true) => {
                self.upload(stream, target.region(shape), source, shape, bytes)?;
                self.share_copied(stream, wait)
            }
            (true, false) => {
                self.download(stream, target, source.region(shape), shape, bytes, wait)?;
                self.share_copied(stream, wait)
            }
            (true, true) => {
                self.stream_synchronize(stream)?;
                target.rows(shape).zip(source.rows(shape)).try_for_each(|(to, from)| raw::copy(to, from, shape.width))
            }
        }
    }

    /// Checks one side. A host side which is really device memory becomes that: addresses are unified.
    fn check_place(&self, place: Place, shape: Shape) -> CuResult<Place> {
        let extent = place.extent(shape)?;
        let mut place = place;
        if place.host && self.is_device_address(place.address) {
            place.host = false;
        }
        if place.host {
            place.address.checked_add(extent).filter(|_| place.address != 0).ok_or(CuError::INVALID_VALUE)?;
        } else {
            self.check_device(place.address, extent)?;
        }
        Ok(place)
    }

    fn upload(&self, stream: &Stream, target: Region, source: Place, shape: Shape, bytes: u64) -> CuResult {
        self.settle_source(source.address, source.extent(shape)?, stream)?;
        if source.region(shape).is_linear() {
            return raw::with_bytes(source.address, bytes, |data| self.driver.copy_to_device(stream.id, target, data))?;
        }
        let mut packed = Vec::new();
        packed
            .try_reserve_exact(usize::try_from(bytes).map_err(|_| CuError::INVALID_VALUE)?)
            .map_err(|_| CuError::OUT_OF_MEMORY)?;
        for row in source.rows(shape) {
            raw::with_bytes(row, shape.width, |data| packed.extend_from_slice(data))?;
        }
        self.driver.copy_to_device(stream.id, target, &packed)
    }

    fn download(
        &self,
        stream: &Stream,
        target: Place,
        source: Region,
        shape: Shape,
        bytes: u64,
        wait: bool,
    ) -> CuResult {
        let length = usize::try_from(bytes).map_err(|_| CuError::INVALID_VALUE)?;
        if target.region(shape).is_linear() {
            // Into pageable memory CUDA waits too; only pinned memory is promised to stay until the stream is done.
            let wait = wait
                || !self.pinned_for_write(target.address, bytes)
                || !self.begin_download(target.address, bytes, stream);
            let buffer = HostBuffer { pointer: target.address as *mut u8, length };
            return self.driver.copy_to_host(stream.id, buffer, source, wait);
        }
        let mut packed = Vec::new();
        packed.try_reserve_exact(length).map_err(|_| CuError::OUT_OF_MEMORY)?;
        packed.resize(length, 0);
        let buffer = HostBuffer { pointer: packed.as_mut_ptr(), length };
        self.driver.copy_to_host(stream.id, buffer, source, true)?;
        let width = usize::try_from(shape.width).map_err(|_| CuError::INVALID_VALUE)?;
        target.rows(shape).zip(packed.chunks_exact(width)).try_for_each(|(row, data)| raw::write(row, data))
    }

    /// Fills rows of elements of 1, 2 or 4 bytes with a value, in a stream's order.
    ///
    /// # Errors
    /// `INVALID_VALUE` for what does not fit or is not aligned, or what the driver says.
    #[expect(clippy::too_many_arguments, reason = "cuMemsetD2D*Async's argument list")]
    pub fn fill(
        &self,
        stream: &Arc<Stream>,
        address: u64,
        pitch: u64,
        element: u8,
        value: u32,
        count: u64,
        rows: u64,
    ) -> CuResult {
        let size = u64::from(element);
        let width = count.checked_mul(size).ok_or(CuError::INVALID_VALUE)?;
        if width == 0 || rows == 0 {
            return Ok(());
        }
        if !address.is_multiple_of(size) || (rows > 1 && !pitch.is_multiple_of(size)) {
            return Err(CuError::INVALID_VALUE);
        }
        let shape = Shape { width, rows, slices: 1 };
        let place = Place { address, host: false, row_pitch: pitch, slice_pitch: 0 };
        self.check_device(address, place.extent(shape)?)?;
        self.share_before(stream)?;
        self.mark_busy(stream);
        self.driver.fill(stream.id, place.region(shape), element, value)
    }
}
