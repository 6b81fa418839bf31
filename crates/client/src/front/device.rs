//! Devices: everything is answered from what opening the driver brought.

use cuda::types::{CUdevprop, CUuuid, Host, In, Name, Out, Text};
use cuda::{CuError, CuResult, DeviceInfo};

use super::{front, ordinal, size};

/// The last `CUdevice_attribute` of the CUDA version that we speak.
const LAST_ATTRIBUTE: u32 = 161;

/// Attributes that say what calls can do, and so depend on this front end rather than on the device.
fn ours(number: u32) -> Option<i32> {
    Some(match number {
        // Overlap, unified addressing, stream priorities, pinning host memory, memory pools.
        15 | 41 | 78 | 99 | 115 => 1,
        // Mapped host memory, managed memory.
        19 | 83 => i32::from(front().ok()?.can_share_memory()),
        // Pageable access, access while kernels run, stream memory operations, multi-device cooperative launch.
        86 | 88 | 89 | 91..=94 | 96 | 98 | 100 | 101 | 122 | 123 => 0,
        // Virtual memory management, exported handles, compression, RDMA, sparse and deferred arrays, IPC, tensor maps,
        // function pointers, multicast, decompression, host pools.
        102..=105 | 107 | 110 | 112..=114 | 116..=119 | 121 | 124 | 125 | 127..=129 | 132 => 0,
        135..=138 | 141..=146 | 149 | 151..=159 | 161 => 0,
        // There is no NUMA node.
        131 | 134 => -1,
        _ => return None,
    })
}

fn attribute(device: &DeviceInfo, number: u32) -> CuResult<i32> {
    if number == 0 || number > LAST_ATTRIBUTE {
        return Err(CuError::INVALID_VALUE);
    }
    // What the device does not know it does not have.
    Ok(ours(number).or_else(|| device.attribute(number)).unwrap_or(0))
}

fn info(device: i32) -> CuResult<&'static DeviceInfo> {
    front()?.device(ordinal(device)?)
}

pub(crate) fn get(device: Out<i32>, number: i32) -> CuResult {
    info(number)?;
    device.set(number)
}

pub(crate) fn count(count: Out<i32>) -> CuResult {
    count.set(i32::try_from(front()?.device_count()).unwrap_or(0))
}

pub(crate) fn name(name: Text, length: i32, device: i32) -> CuResult {
    let length = usize::try_from(length).map_err(|_| CuError::INVALID_VALUE)?;
    name.set(length, &info(device)?.name)
}

pub(crate) fn uuid(uuid: Out<CUuuid>, device: i32) -> CuResult {
    uuid.set(CUuuid { bytes: info(device)?.uuid })
}

pub(crate) fn luid(_luid: Text, _node_mask: Out<u32>, device: i32) -> CuResult {
    info(device)?;
    // Only Windows has LUIDs.
    Err(CuError::NOT_SUPPORTED)
}

pub(crate) fn total_memory(bytes: Out<usize>, device: i32) -> CuResult {
    bytes.set(size(info(device)?.total_memory))
}

pub(crate) fn get_attribute(value: Out<i32>, number: u32, device: i32) -> CuResult {
    value.set(attribute(info(device)?, number)?)
}

pub(crate) fn compute_capability(major: Out<i32>, minor: Out<i32>, device: i32) -> CuResult {
    let info = info(device)?;
    major.set(attribute(info, 75)?)?;
    minor.set(attribute(info, 76)?)
}

pub(crate) fn properties(properties: Out<CUdevprop>, device: i32) -> CuResult {
    let info = info(device)?;
    let get = |number| attribute(info, number);
    properties.set(CUdevprop {
        max_threads_per_block: get(1)?,
        max_threads_dim: [get(2)?, get(3)?, get(4)?],
        max_grid_size: [get(5)?, get(6)?, get(7)?],
        shared_mem_per_block: get(8)?,
        total_constant_memory: get(9)?,
        simd_width: get(10)?,
        mem_pitch: get(11)?,
        regs_per_block: get(12)?,
        clock_rate: get(13)?,
        texture_align: get(14)?,
    })
}

pub(crate) fn pci_bus_id(id: Text, length: i32, device: i32) -> CuResult {
    let length = usize::try_from(length).map_err(|_| CuError::INVALID_VALUE)?;
    id.set(length, &short_bus_id(&info(device)?.pci_bus_id))
}

/// CUDA writes the domain with four digits, NVML with eight.
fn short_bus_id(id: &str) -> String {
    match id.split_once(':') {
        Some((domain, rest)) if domain.len() > 4 => {
            format!("{}:{rest}", domain.get(domain.len() - 4..).unwrap_or(domain))
        }
        _ => id.to_owned(),
    }
}

/// Domain, bus, device and function of a bus id in one of its forms: `[domain:]bus:device[.function]`.
fn bus_numbers(id: &str) -> Option<[u32; 4]> {
    let (place, function) = id.split_once('.').unwrap_or((id, "0"));
    let mut parts = place.rsplit(':');
    let device = u32::from_str_radix(parts.next()?, 16).ok()?;
    let bus = u32::from_str_radix(parts.next()?, 16).ok()?;
    let domain = u32::from_str_radix(parts.next().unwrap_or("0"), 16).ok()?;
    Some([domain, bus, device, u32::from_str_radix(function, 16).ok()?])
}

pub(crate) fn by_pci_bus_id(device: Out<i32>, id: Name) -> CuResult {
    let engine = front()?;
    let wanted = bus_numbers(id.get()?).ok_or(CuError::INVALID_VALUE)?;
    let position = engine.driver().info().devices.iter().position(|info| bus_numbers(&info.pci_bus_id) == Some(wanted));
    let position = position.ok_or(CuError::INVALID_DEVICE)?;
    device.set(i32::try_from(position).map_err(|_| CuError::INVALID_DEVICE)?)
}

pub(crate) fn can_access_peer(can: Out<i32>, device: i32, peer: i32) -> CuResult {
    can.set(i32::from(front()?.can_access_peer(ordinal(device)?, ordinal(peer)?)?))
}

pub(crate) fn p2p_attribute(value: Out<i32>, number: u32, device: i32, peer: i32) -> CuResult {
    let can = front()?.can_access_peer(ordinal(device)?, ordinal(peer)?)?;
    if device == peer || !matches!(number, 1..=5) {
        return Err(CuError::INVALID_VALUE);
    }
    value.set(if number == 2 { i32::from(can) } else { 0 })
}

pub(crate) fn exec_affinity_support(supported: Out<i32>, _kind: u32, device: i32) -> CuResult {
    info(device)?;
    supported.set(0)
}

pub(crate) fn texture_1d_linear_max_width(width: Out<usize>, _format: u32, _channels: u32, device: i32) -> CuResult {
    let most = attribute(info(device)?, 69)?;
    width.set(usize::try_from(most).unwrap_or(0))
}

pub(crate) fn host_atomics(capabilities: Out<u32>, operations: In<u32>, count: u32, device: i32) -> CuResult {
    info(device)?;
    no_atomics(capabilities, operations, count)
}

pub(crate) fn p2p_atomics(capabilities: Out<u32>, operations: In<u32>, count: u32, device: i32, peer: i32) -> CuResult {
    info(device)?;
    info(peer)?;
    no_atomics(capabilities, operations, count)
}

fn no_atomics(capabilities: Out<u32>, operations: In<u32>, count: u32) -> CuResult {
    if operations.is_null() || count == 0 {
        return Err(CuError::INVALID_VALUE);
    }
    (0..count as usize).try_for_each(|position| capabilities.set_at(position, 0))
}

pub(crate) fn graph_memory(device: i32, number: u32, value: Host) -> CuResult {
    info(device)?;
    // No graph holds memory.
    if number > 3 { Err(CuError::INVALID_VALUE) } else { value.out::<u64>().set(0) }
}

pub(crate) fn graph_memory_set(device: i32, number: u32, _value: Host) -> CuResult {
    info(device)?;
    // Only the high-water marks can be set, to what they are.
    if matches!(number, 1 | 3) { Ok(()) } else { Err(CuError::INVALID_VALUE) }
}

pub(crate) fn graph_memory_trim(device: i32) -> CuResult {
    info(device).map(drop)
}

pub(crate) fn flush_rdma_writes(_target: u32, _scope: u32) -> CuResult {
    front()?;
    Err(CuError::NOT_SUPPORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_ids_are_understood_in_all_their_forms() {
        assert_eq!(bus_numbers("0000:01:00.0"), bus_numbers("00000000:01:00.0"));
        assert_eq!(bus_numbers("01:00"), Some([0, 1, 0, 0]));
        assert_eq!(bus_numbers("nonsense"), None);
        assert_eq!(short_bus_id("00000000:01:00.0"), "0000:01:00.0");
    }
}
