//! Copies and fills of strided regions, in the driver's terms: runs of bytes and planes of rows.

#![expect(unsafe_code, reason = "calls into a vendor's library")]

use std::ffi::c_void;

use cuda::{CuError, CuResult, HostBuffer, Region};

use super::api::{Api, Copy2d, Handle, Side, check};

const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// Rows with a common distance: what the driver copies in one call.
#[derive(Clone, Copy)]
struct Plane {
    offset: u64,
    rows: u64,
}

/// The planes of a region, or of two regions of one shape; offsets are in slices.
fn planes(region: &Region) -> (Vec<Plane>, bool) {
    // Single rows in many slices are one plane whose pitch is the slice pitch.
    if region.rows == 1 && region.slices > 1 {
        return (vec![Plane { offset: 0, rows: region.slices }], true);
    }
    ((0..region.slices).map(|offset| Plane { offset, rows: region.rows }).collect(), false)
}

fn device_side(region: &Region, plane: Plane, across: bool) -> CuResult<Side> {
    let address = plane.offset.checked_mul(region.slice_pitch).and_then(|offset| offset.checked_add(region.address));
    let device = address.ok_or(CuError::INVALID_VALUE)?;
    let pitch = if across { region.slice_pitch } else { region.row_pitch } as usize;
    Ok(Side { x: 0, y: 0, kind: DEVICE, host: std::ptr::null_mut(), device, array: std::ptr::null_mut(), pitch })
}

fn host_side(pointer: *mut u8, region: &Region, plane: Plane) -> Side {
    let offset = plane.offset * region.rows * region.width;
    let host = pointer.wrapping_add(offset as usize).cast::<c_void>();
    Side { x: 0, y: 0, kind: HOST, host, device: 0, array: std::ptr::null_mut(), pitch: region.width as usize }
}

fn is_empty(region: &Region) -> bool {
    region.width == 0 || region.rows == 0 || region.slices == 0
}

fn copy_planes(
    api: &Api,
    stream: Handle,
    shape: &Region,
    sides: impl Fn(Plane, bool) -> CuResult<(Side, Side)>,
) -> CuResult {
    let (planes, across) = planes(shape);
    for plane in planes {
        let (target, source) = sides(plane, across)?;
        let copy = Copy2d { source, target, width: shape.width as usize, height: plane.rows as usize };
        // SAFETY: the description is valid for the call; the driver checks device addresses, and host memory is as long
        // as the region's bytes.
        check(unsafe { (api.copy_2d)(&raw const copy, stream) })?;
    }
    Ok(())
}

/// Host bytes to the device.
pub(super) fn to_device(api: &Api, stream: Handle, target: &Region, data: &[u8]) -> CuResult {
    if is_empty(target) {
        return Ok(());
    }
    if target.is_linear() {
        // SAFETY: the bytes are valid for the call, which takes them.
        return check(unsafe { (api.copy_to_device)(target.address, data.as_ptr().cast(), data.len(), stream) });
    }
    let pointer = data.as_ptr().cast_mut();
    copy_planes(api, stream, target, |plane, across| {
        Ok((device_side(target, plane, across)?, host_side(pointer, target, plane)))
    })
}

/// Device to host.
pub(super) fn to_host(api: &Api, stream: Handle, target: HostBuffer, source: &Region) -> CuResult {
    if is_empty(source) {
        return Ok(());
    }
    if source.is_linear() {
        // SAFETY: the maker of the buffer promises that it stays valid until the stream is synchronized.
        return check(unsafe { (api.copy_to_host)(target.pointer.cast(), source.address, target.length, stream) });
    }
    copy_planes(api, stream, source, |plane, across| {
        Ok((host_side(target.pointer, source, plane), device_side(source, plane, across)?))
    })
}

/// Device to device.
pub(super) fn on_device(api: &Api, stream: Handle, target: &Region, source: &Region) -> CuResult {
    if is_empty(target) {
        return Ok(());
    }
    if target.is_linear() && source.is_linear() {
        let bytes = target.bytes().ok_or(CuError::INVALID_VALUE)? as usize;
        // SAFETY: the driver checks the addresses.
        return check(unsafe { (api.copy_on_device)(target.address, source.address, bytes, stream) });
    }
    copy_planes(api, stream, target, |plane, across| {
        Ok((device_side(target, plane, across)?, device_side(source, plane, across)?))
    })
}

/// A pattern of 1, 2 or 4 bytes.
pub(super) fn fill(api: &Api, stream: Handle, target: &Region, element: u8, value: u32) -> CuResult {
    if !matches!(element, 1 | 2 | 4) || !target.width.is_multiple_of(u64::from(element)) {
        return Err(CuError::INVALID_VALUE);
    }
    if is_empty(target) {
        return Ok(());
    }
    if target.is_linear() {
        let (address, count) =
            (target.address, (target.bytes().ok_or(CuError::INVALID_VALUE)? / u64::from(element)) as usize);
        // SAFETY: the driver checks the addresses.
        return check(unsafe {
            match element {
                1 => (api.fill_8)(address, value as u8, count, stream),
                2 => (api.fill_16)(address, value as u16, count, stream),
                _ => (api.fill_32)(address, value, count, stream),
            }
        });
    }
    let width = (target.width / u64::from(element)) as usize;
    let (planes, across) = planes(target);
    for plane in planes {
        let Side { device, pitch, .. } = device_side(target, plane, across)?;
        let rows = plane.rows as usize;
        // SAFETY: the driver checks the addresses.
        check(unsafe {
            match element {
                1 => (api.fill_2d_8)(device, pitch, value as u8, width, rows, stream),
                2 => (api.fill_2d_16)(device, pitch, value as u16, width, rows, stream),
                _ => (api.fill_2d_32)(device, pitch, value, width, rows, stream),
            }
        })?;
    }
    Ok(())
}
