#![allow(non_camel_case_types, reason = "the types keep NVIDIA's names, so that the table reads as the manual does")]
//! C types of the driver API: handles and the structures that implemented functions take.
//!
//! Enumerations are plain `u32`, `CUdevice` is `i32` and `CUdeviceptr` is `u64`: C may pass any number.

pub use crate::args::{CUhostFn, CUoccupancyB2DSize, CUstreamCallback, Host, In, Name, Out, StorageDestructor, Text};

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub usize);

        impl $name {
            /// No object.
            pub const NULL: Self = Self(0);

            /// Whether this is no object.
            #[must_use]
            pub fn is_null(self) -> bool {
                self.0 == 0
            }
        }
    )*};
}

handles! {
    /// A context.
    CUcontext;
    /// A loaded module.
    CUmodule;
    /// A kernel of a module, or a [`CUkernel`] in its place.
    CUfunction;
    /// A library: an image that every context may use.
    CUlibrary;
    /// A kernel of a library.
    CUkernel;
    /// A stream; 0, 1 and 2 are the default streams.
    CUstream;
    /// An event.
    CUevent;
    /// A memory pool.
    CUmemoryPool;
    /// A running link of device code.
    CUlinkState;
    /// An array for textures.
    CUarray;
    /// An array with levels of detail.
    CUmipmappedArray;
    /// A texture of a module.
    CUtexref;
    /// A surface of a module.
    CUsurfref;
    /// A graph.
    CUgraph;
    /// A node of a graph.
    CUgraphNode;
    /// A graph that can be launched.
    CUgraphExec;
    /// A user object, kept alive by graphs.
    CUuserObject;
    /// A context of a part of a device.
    CUgreenCtx;
    /// A description of parts of a device.
    CUdevResourceDesc;
    /// A resource of a graphics library.
    CUgraphicsResource;
    /// Memory from outside CUDA.
    CUexternalMemory;
    /// A semaphore from outside CUDA.
    CUexternalSemaphore;
    /// A registered callback for asynchronous notifications.
    CUasyncCallbackHandle;
    /// A registered callback for log messages.
    CUlogsCallbackHandle;
}

impl CUstream {
    /// The legacy default stream, by its explicit handle.
    pub const LEGACY: Self = Self(1);
    /// The calling thread's default stream.
    pub const PER_THREAD: Self = Self(2);

    /// The stream as functions with per-thread default streams mean it.
    #[must_use]
    pub fn or_per_thread(self) -> Self {
        if self.is_null() { Self::PER_THREAD } else { self }
    }
}

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $($(#[$field_doc])* #[doc = concat!("`", stringify!($field), "` of the manual.")] pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $size, "the size differs from NVIDIA's");
    )*};
}

structures! {
    /// A device's identity.
    CUuuid: 16 { bytes: [u8; 16], }
    /// A launch: see `cuLaunchKernelEx`.
    CUlaunchConfig: 56 {
        grid_dim_x: u32, grid_dim_y: u32, grid_dim_z: u32,
        block_dim_x: u32, block_dim_y: u32, block_dim_z: u32,
        shared_mem_bytes: u32, h_stream: CUstream, attrs: Host, num_attrs: u32,
    }
    /// An attribute of a launch; the value is a union.
    CUlaunchAttribute: 72 { id: u32, pad: u32, value: [u32; 16], }
    /// A kernel of a cooperative launch on several devices.
    CUDA_LAUNCH_PARAMS: 56 {
        function: CUfunction,
        grid_dim_x: u32, grid_dim_y: u32, grid_dim_z: u32,
        block_dim_x: u32, block_dim_y: u32, block_dim_z: u32,
        shared_mem_bytes: u32, h_stream: CUstream, kernel_params: Host,
    }
    /// A copy of rows.
    CUDA_MEMCPY2D: 128 {
        src_x_in_bytes: usize, src_y: usize, src_memory_type: u32, src_host: Host, src_device: u64, src_array: CUarray, src_pitch: usize,
        dst_x_in_bytes: usize, dst_y: usize, dst_memory_type: u32, dst_host: Host, dst_device: u64, dst_array: CUarray, dst_pitch: usize,
        width_in_bytes: usize, height: usize,
    }
    /// A copy of slices of rows.
    CUDA_MEMCPY3D: 200 {
        src_x_in_bytes: usize, src_y: usize, src_z: usize, src_lod: usize, src_memory_type: u32, src_host: Host, src_device: u64,
        src_array: CUarray, reserved0: Host, src_pitch: usize, src_height: usize,
        dst_x_in_bytes: usize, dst_y: usize, dst_z: usize, dst_lod: usize, dst_memory_type: u32, dst_host: Host, dst_device: u64,
        dst_array: CUarray, reserved1: Host, dst_pitch: usize, dst_height: usize,
        width_in_bytes: usize, height: usize, depth: usize,
    }
    /// A copy of slices of rows between contexts.
    CUDA_MEMCPY3D_PEER: 200 {
        src_x_in_bytes: usize, src_y: usize, src_z: usize, src_lod: usize, src_memory_type: u32, src_host: Host, src_device: u64,
        src_array: CUarray, src_context: CUcontext, src_pitch: usize, src_height: usize,
        dst_x_in_bytes: usize, dst_y: usize, dst_z: usize, dst_lod: usize, dst_memory_type: u32, dst_host: Host, dst_device: u64,
        dst_array: CUarray, dst_context: CUcontext, dst_pitch: usize, dst_height: usize,
        width_in_bytes: usize, height: usize, depth: usize,
    }
    /// Where memory lies.
    CUmemLocation: 8 { type_: u32, id: i32, }
    /// Who may access memory, and how.
    CUmemAccessDesc: 12 { location: CUmemLocation, flags: u32, }
    /// What a memory pool is like.
    CUmemPoolProps: 88 {
        alloc_type: u32, handle_types: u32, location: CUmemLocation, win32_security_attributes: Host, max_size: usize, usage: u16,
        gpu_direct_rdma_capable: u8, reserved: [u8; 53],
    }
    /// What physical memory is like.
    CUmemAllocationProp: 32 {
        type_: u32, requested_handle_types: u32, location: CUmemLocation, win32_handle_meta_data: Host,
        compression_type: u8, gpu_direct_rdma_capable: u8, usage: u16, reserved: [u8; 4],
    }
    /// Device memory of another process.
    CUipcMemHandle: 64 { reserved: [u8; 64], }
    /// An event of another process.
    CUipcEventHandle: 64 { reserved: [u8; 64], }
    /// Device properties, as CUDA 2 knew them.
    CUdevprop: 56 {
        max_threads_per_block: i32, max_threads_dim: [i32; 3], max_grid_size: [i32; 3], shared_mem_per_block: i32,
        total_constant_memory: i32, simd_width: i32, mem_pitch: i32, regs_per_block: i32, clock_rate: i32, texture_align: i32,
    }
    /// How many multiprocessors a context wants.
    CUexecAffinityParam: 8 { type_: u32, sm_count: u32, }
    /// How `cuCtxCreate_v4` is to make a context.
    CUctxCreateParams: 24 { exec_affinity_params: Host, num_exec_affinity_params: i32, cig_params: Host, }
    /// A part of a device; the union's member for multiprocessors.
    CUdevResource: 144 {
        type_: u32, internal_padding: [u8; 92],
        sm_count: u32, min_sm_partition_size: u32, sm_coscheduled_alignment: u32, flags: u32, locality_domain_id: u32, oversize: [u8; 20],
        next_resource: Host,
    }
    /// A flat array.
    CUDA_ARRAY_DESCRIPTOR: 24 { width: usize, height: usize, format: u32, num_channels: u32, }
    /// An array of any dimensions.
    CUDA_ARRAY3D_DESCRIPTOR: 40 { width: usize, height: usize, depth: usize, format: u32, num_channels: u32, flags: u32, }
    /// How a batch's copies treat their memory.
    CUmemcpyAttributes: 24 { src_access_order: u32, src_loc_hint: CUmemLocation, dst_loc_hint: CUmemLocation, flags: u32, }
    /// How two nodes of a graph depend on one another.
    CUgraphEdgeData: 8 { from_port: u8, to_port: u8, type_: u8, reserved: [u8; 5], }
    /// One operation on memory in stream order; the value is in the low half for 32 bits.
    CUstreamBatchMemOpParams: 48 { operation: u32, pad: u32, address: u64, value: u64, flags: u32, pad2: u32, alias: u64, reserved: u64, }
}

pub mod nvml;
