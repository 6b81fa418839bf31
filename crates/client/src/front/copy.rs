//! Copies.

use std::sync::Arc;

use cuda::types::{
    CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUDA_MEMCPY3D_PEER, CUcontext, CUmemcpyAttributes, CUstream, Host, In, Out,
};
use cuda::{CuError, CuResult};

use super::engine::{Engine, Place, Shape, Stream};
use super::front;

fn default_stream(engine: &Engine) -> CuResult<Arc<Stream>> {
    engine.stream(crate::ffi::default_stream().0 as u64)
}

fn stream(engine: &Engine, stream: CUstream) -> CuResult<Arc<Stream>> {
    engine.stream(stream.0 as u64)
}

/// Copies bytes between addresses of any kind; waits like a synchronous copy when no stream is given.
fn linear(target: Side, source: Side, bytes: usize, on: Option<CUstream>) -> CuResult {
    let engine = front()?;
    let queue = match on {
        Some(handle) => stream(engine, handle)?,
        None => default_stream(engine)?,
    };
    let (target, source) = (target.place(engine, bytes)?, source.place(engine, bytes)?);
    engine.copy(&queue, target, source, Shape::linear(bytes as u64), on.is_none())
}

/// One side of a linear copy.
#[derive(Clone, Copy)]
enum Side {
    Device(u64),
    Host(Host),
    /// Whatever the address says.
    Unified(u64),
}

impl Side {
    fn place(self, engine: &Engine, bytes: usize) -> CuResult<Place> {
        match self {
            Side::Device(address) => Ok(Place::device(address)),
            Side::Host(memory) => Ok(Place::host(memory.address())),
            Side::Unified(address) if bytes == 0 => Ok(Place::host(address)),
            Side::Unified(address) => engine.place_of(address),
        }
    }
}

pub(crate) fn any(target: u64, source: u64, bytes: usize) -> CuResult {
    linear(Side::Unified(target), Side::Unified(source), bytes, None)
}

pub(crate) fn any_async(target: u64, source: u64, bytes: usize, stream: CUstream) -> CuResult {
    linear(Side::Unified(target), Side::Unified(source), bytes, Some(stream))
}

pub(crate) fn to_device(target: u64, source: Host, bytes: usize) -> CuResult {
    linear(Side::Device(target), Side::Host(source), bytes, None)
}

pub(crate) fn to_device_async(target: u64, source: Host, bytes: usize, stream: CUstream) -> CuResult {
    linear(Side::Device(target), Side::Host(source), bytes, Some(stream))
}

pub(crate) fn to_host(target: Host, source: u64, bytes: usize) -> CuResult {
    linear(Side::Host(target), Side::Device(source), bytes, None)
}

pub(crate) fn to_host_async(target: Host, source: u64, bytes: usize, stream: CUstream) -> CuResult {
    linear(Side::Host(target), Side::Device(source), bytes, Some(stream))
}

pub(crate) fn on_device(target: u64, source: u64, bytes: usize) -> CuResult {
    linear(Side::Device(target), Side::Device(source), bytes, None)
}

pub(crate) fn on_device_async(target: u64, source: u64, bytes: usize, stream: CUstream) -> CuResult {
    linear(Side::Device(target), Side::Device(source), bytes, Some(stream))
}

fn check_contexts(target: CUcontext, source: CUcontext) -> CuResult {
    let engine = front()?;
    for context in [target, source] {
        engine.context_or_current(context.0 as u64)?.life()?;
    }
    Ok(())
}

pub(crate) fn peer(target: u64, to: CUcontext, source: u64, from: CUcontext, bytes: usize) -> CuResult {
    check_contexts(to, from)?;
    on_device(target, source, bytes)
}

pub(crate) fn peer_async(
    target: u64,
    to: CUcontext,
    source: u64,
    from: CUcontext,
    bytes: usize,
    stream: CUstream,
) -> CuResult {
    check_contexts(to, from)?;
    on_device_async(target, source, bytes, stream)
}

/// One side of a copy of rows or slices, as C describes it.
#[derive(Clone, Copy)]
struct Block {
    kind: u32,
    host: Host,
    device: u64,
    pitch: usize,
    /// Rows from one slice to the next.
    height: usize,
    x: usize,
    y: usize,
    z: usize,
}

impl Block {
    fn place(self, engine: &Engine, shape: Shape) -> CuResult<Place> {
        let (base, host) = match self.kind {
            1 => (self.host.address(), true),
            2 => (self.device, false),
            4 => {
                let place = engine.place_of(self.device)?;
                (place.address, place.host)
            }
            // Arrays are not supported yet.
            3 => return Err(CuError::NOT_SUPPORTED),
            _ => return Err(CuError::INVALID_VALUE),
        };
        let row_pitch = if self.pitch == 0 { shape.width } else { self.pitch as u64 };
        let height = if self.height == 0 { shape.rows } else { self.height as u64 };
        let beyond = (self.x as u64).checked_add(shape.width).is_none_or(|end| end > row_pitch);
        if self.pitch != 0 && (shape.rows > 1 || shape.slices > 1) && beyond {
            return Err(CuError::INVALID_VALUE);
        }
        let slice_pitch = row_pitch.checked_mul(height).ok_or(CuError::INVALID_VALUE)?;
        let offset = slice_pitch
            .checked_mul(self.z as u64)
            .zip(row_pitch.checked_mul(self.y as u64))
            .and_then(|(slices, rows)| slices.checked_add(rows)?.checked_add(self.x as u64)?.checked_add(base))
            .ok_or(CuError::INVALID_VALUE)?;
        Ok(Place { address: offset, host, row_pitch, slice_pitch })
    }
}

fn blocks(target: Block, source: Block, shape: Shape, on: Option<CUstream>) -> CuResult {
    let engine = front()?;
    let queue = match on {
        Some(handle) => stream(engine, handle)?,
        None => default_stream(engine)?,
    };
    if shape.width == 0 || shape.rows == 0 || shape.slices == 0 {
        return Ok(());
    }
    let (target, source) = (target.place(engine, shape)?, source.place(engine, shape)?);
    engine.copy(&queue, target, source, shape, on.is_none())
}

fn rows_on(copy: In<CUDA_MEMCPY2D>, on: Option<CUstream>) -> CuResult {
    let copy = copy.get()?;
    let target = Block {
        kind: copy.dst_memory_type,
        host: copy.dst_host,
        device: copy.dst_device,
        pitch: copy.dst_pitch,
        height: 0,
        x: copy.dst_x_in_bytes,
        y: copy.dst_y,
        z: 0,
    };
    let source = Block {
        kind: copy.src_memory_type,
        host: copy.src_host,
        device: copy.src_device,
        pitch: copy.src_pitch,
        height: 0,
        x: copy.src_x_in_bytes,
        y: copy.src_y,
        z: 0,
    };
    let shape = Shape { width: copy.width_in_bytes as u64, rows: copy.height as u64, slices: 1 };
    blocks(target, source, shape, on)
}

pub(crate) fn rows(copy: In<CUDA_MEMCPY2D>) -> CuResult {
    rows_on(copy, None)
}

pub(crate) fn rows_async(copy: In<CUDA_MEMCPY2D>, stream: CUstream) -> CuResult {
    rows_on(copy, Some(stream))
}

macro_rules! slices_on {
    ($copy:expr, $on:expr) => {{
        let copy = $copy;
        if copy.src_lod != 0 || copy.dst_lod != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        let target = Block {
            kind: copy.dst_memory_type,
            host: copy.dst_host,
            device: copy.dst_device,
            pitch: copy.dst_pitch,
            height: copy.dst_height,
            x: copy.dst_x_in_bytes,
            y: copy.dst_y,
            z: copy.dst_z,
        };
        let source = Block {
            kind: copy.src_memory_type,
            host: copy.src_host,
            device: copy.src_device,
            pitch: copy.src_pitch,
            height: copy.src_height,
            x: copy.src_x_in_bytes,
            y: copy.src_y,
            z: copy.src_z,
        };
        let shape = Shape { width: copy.width_in_bytes as u64, rows: copy.height as u64, slices: copy.depth as u64 };
        blocks(target, source, shape, $on)
    }};
}

pub(crate) fn slices(copy: In<CUDA_MEMCPY3D>) -> CuResult {
    slices_on!(copy.get()?, None)
}

pub(crate) fn slices_async(copy: In<CUDA_MEMCPY3D>, stream: CUstream) -> CuResult {
    slices_on!(copy.get()?, Some(stream))
}

pub(crate) fn slices_peer(copy: In<CUDA_MEMCPY3D_PEER>) -> CuResult {
    let copy = copy.get()?;
    check_contexts(copy.dst_context, copy.src_context)?;
    slices_on!(copy, None)
}

pub(crate) fn slices_peer_async(copy: In<CUDA_MEMCPY3D_PEER>, stream: CUstream) -> CuResult {
    let copy = copy.get()?;
    check_contexts(copy.dst_context, copy.src_context)?;
    slices_on!(copy, Some(stream))
}

/// The attributes are hints about order and place: copying in order is always allowed.
#[expect(clippy::too_many_arguments, reason = "C's argument list")]
pub(crate) fn batch(
    targets: In<u64>,
    sources: In<u64>,
    sizes: In<usize>,
    count: usize,
    _attributes: Out<CUmemcpyAttributes>,
    _starts: Out<usize>,
    attribute_count: usize,
    stream: CUstream,
) -> CuResult {
    if count == 0 || attribute_count == 0 || attribute_count > count || stream.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    (0..count).try_for_each(|position| {
        any_async(targets.get_at(position)?, sources.get_at(position)?, sizes.get_at(position)?, stream)
    })
}

#[expect(clippy::too_many_arguments, reason = "C's argument list")]
pub(crate) fn batch_with_index(
    targets: In<u64>,
    sources: In<u64>,
    sizes: In<usize>,
    count: usize,
    _attributes: Out<CUmemcpyAttributes>,
    _starts: Out<usize>,
    attribute_count: usize,
    failed: Out<usize>,
    stream: CUstream,
) -> CuResult {
    if count == 0 || attribute_count == 0 || attribute_count > count || stream.is_null() {
        failed.set_if(usize::MAX);
        return Err(CuError::INVALID_VALUE);
    }
    (0..count).try_for_each(|position| {
        any_async(targets.get_at(position)?, sources.get_at(position)?, sizes.get_at(position)?, stream)
            .inspect_err(|_| failed.set_if(position))
    })
}

pub(crate) fn with_attributes(
    target: u64,
    source: u64,
    bytes: usize,
    _attributes: Out<CUmemcpyAttributes>,
    stream: CUstream,
) -> CuResult {
    any_async(target, source, bytes, stream)
}
