//! C types of NVML: handles and the structures that implemented functions take.

use super::Host;

handles! {
    /// A device: its position plus one.
    nvmlDevice_t;
}

structures! {
    /// Where a device sits on the bus.
    nvmlPciInfo_t: 68 {
        bus_id_legacy: [u8; 16], domain: u32, bus: u32, device: u32, pci_device_id: u32, pci_sub_system_id: u32, bus_id: [u8; 32],
    }
    /// The same with a version.
    nvmlPciInfoExt_t: 64 {
        version: u32, domain: u32, bus: u32, device: u32, pci_device_id: u32, pci_sub_system_id: u32, base_class: u32,
        sub_class: u32, bus_id: [u8; 32],
    }
    /// Memory in bytes.
    nvmlMemory_t: 24 { total: u64, free: u64, used: u64, }
    /// Memory in bytes, with what the driver keeps.
    nvmlMemory_v2_t: 40 { version: u32, total: u64, reserved: u64, free: u64, used: u64, }
    /// Percent of the last period.
    nvmlUtilization_t: 8 { gpu: u32, memory: u32, }
    /// A process on a device, as first defined.
    nvmlProcessInfo_v1_t: 16 { pid: u32, used_gpu_memory: u64, }
    /// A process on a device.
    nvmlProcessInfo_v2_t: 24 { pid: u32, used_gpu_memory: u64, gpu_instance_id: u32, compute_instance_id: u32, }
    /// A process in a list of details.
    nvmlProcessDetail_v1_t: 32 {
        pid: u32, used_gpu_memory: u64, gpu_instance_id: u32, compute_instance_id: u32, used_gpu_cc_protected_memory: u64,
    }
    /// A list of process details, filled in by NVML.
    nvmlProcessDetailList_t: 24 { version: u32, mode: u32, num_proc_array_entries: u32, proc_array: Host, }
}

/// The name that the current header gives to the newest process structure.
pub type nvmlProcessInfo_t = nvmlProcessInfo_v2_t;
