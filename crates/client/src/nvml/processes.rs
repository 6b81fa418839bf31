//! Processes on a device.

use cuda::ProcessUsage;
use cuda::types::Out;
use cuda::types::nvml::{
    nvmlDevice_t, nvmlProcessDetail_v1_t, nvmlProcessDetailList_t, nvmlProcessInfo_v1_t, nvmlProcessInfo_v2_t,
};

use super::{Device, NvmlError, NvmlResult, device::version};

/// What NVML puts where a device has no instances.
const NO_INSTANCE: u32 = u32::MAX;

/// Fills an array of `count` places and says how many processes there are; too few places are an error that says so too.
fn fill<T>(
    processes: &[ProcessUsage],
    count: Out<u32>,
    infos: Out<T>,
    make: impl Fn(&ProcessUsage) -> T,
) -> NvmlResult {
    let room = count.get()? as usize;
    count.set(u32::try_from(processes.len()).unwrap_or(u32::MAX))?;
    if room < processes.len() {
        return Err(NvmlError::INSUFFICIENT_SIZE);
    }
    for (position, process) in processes.iter().enumerate() {
        infos.set_at(position, make(process))?;
    }
    Ok(())
}

/// `nvmlDeviceGetComputeRunningProcesses`
pub(crate) fn compute_v1(device: nvmlDevice_t, count: Out<u32>, infos: Out<nvmlProcessInfo_v1_t>) -> NvmlResult {
    let processes = Device::of(device)?.usage()?.processes;
    fill(&processes, count, infos, |process| nvmlProcessInfo_v1_t {
        pid: process.pid,
        used_gpu_memory: process.used_memory,
    })
}

/// `nvmlDeviceGetComputeRunningProcesses_v2` and `_v3`
pub(crate) fn compute(device: nvmlDevice_t, count: Out<u32>, infos: Out<nvmlProcessInfo_v2_t>) -> NvmlResult {
    let processes = Device::of(device)?.usage()?.processes;
    fill(&processes, count, infos, |process| nvmlProcessInfo_v2_t {
        pid: process.pid,
        used_gpu_memory: process.used_memory,
        gpu_instance_id: NO_INSTANCE,
        compute_instance_id: NO_INSTANCE,
    })
}

/// Graphics and MPS processes: there are none.
pub(crate) fn none<T>(device: nvmlDevice_t, count: Out<u32>, _infos: Out<T>) -> NvmlResult {
    Device::of(device)?;
    Ok(count.set(0)?)
}

/// `nvmlDeviceGetRunningProcessDetailList`
pub(crate) fn details(device: nvmlDevice_t, list: Out<nvmlProcessDetailList_t>) -> NvmlResult {
    let processes = Device::of(device)?.usage()?.processes;
    let mut asked = list.get()?;
    if asked.version != version::<nvmlProcessDetailList_t>(1) {
        return Err(NvmlError::ARGUMENT_VERSION_MISMATCH);
    }
    // Mode 0 is compute; the others have no processes here.
    let processes = if asked.mode == 0 { processes } else { Vec::new() };
    let room = asked.num_proc_array_entries as usize;
    asked.num_proc_array_entries = u32::try_from(processes.len()).unwrap_or(u32::MAX);
    list.set(asked)?;
    if room < processes.len() {
        return Err(NvmlError::INSUFFICIENT_SIZE);
    }
    let entries = asked.proc_array.out::<nvmlProcessDetail_v1_t>();
    for (position, process) in processes.iter().enumerate() {
        entries.set_at(
            position,
            nvmlProcessDetail_v1_t {
                pid: process.pid,
                used_gpu_memory: process.used_memory,
                gpu_instance_id: NO_INSTANCE,
                compute_instance_id: NO_INSTANCE,
                used_gpu_cc_protected_memory: 0,
            },
        )?;
    }
    Ok(())
}
