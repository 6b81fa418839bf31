//! Linking.

use cuda::types::{CUlinkState, Host, Name, Out};
use cuda::{CuError, CuResult};

use super::engine::JitOptions;
use super::{front, size};

pub(crate) fn create(count: u32, options: Host, values: Host, state: Out<CUlinkState>) -> CuResult {
    let engine = front()?;
    if state.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let options = JitOptions::read(count, options.address(), values.address())?;
    state.set(CUlinkState(size(engine.link_create(options)?)))
}

#[expect(clippy::too_many_arguments, reason = "C's argument list")]
pub(crate) fn add_data(
    state: CUlinkState,
    kind: u32,
    data: Host,
    bytes: usize,
    name: Name,
    _count: u32,
    _options: Host,
    _values: Host,
) -> CuResult {
    let engine = front()?;
    let link = engine.link(state.0 as u64)?;
    let name = if name.is_null() { "input" } else { name.get()? };
    engine.link_add(&link, kind, name, data.bytes(bytes)?)
}

pub(crate) fn add_file(
    state: CUlinkState,
    kind: u32,
    path: Name,
    _count: u32,
    _options: Host,
    _values: Host,
) -> CuResult {
    let engine = front()?;
    let link = engine.link(state.0 as u64)?;
    engine.link_add(&link, kind, path.get()?, &super::module::read_file(path)?)
}

pub(crate) fn complete(state: CUlinkState, image: Out<Host>, bytes: Out<usize>) -> CuResult {
    let engine = front()?;
    if image.is_null() {
        return Err(CuError::INVALID_VALUE);
    }
    let (address, length) = engine.link_complete(&*engine.link(state.0 as u64)?)?;
    bytes.set_if(size(length));
    image.set(Host(size(address)))
}

pub(crate) fn destroy(state: CUlinkState) -> CuResult {
    front()?.link_destroy(state.0 as u64)
}
