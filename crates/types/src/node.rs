//! What a node tells about itself: its GPUs, the vGPUs on them and who uses those.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Capability, Lease, Qos, Tflops, VgpuId};

/// A kind of GPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// The software GPU: PTX on the processor.
    Software,
    /// NVIDIA, through its `libcuda.so.1`.
    Nvidia,
}

impl std::fmt::Display for Vendor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Software => "software",
            Self::Nvidia => "nvidia",
        })
    }
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Version of the program that serves it.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since 1970 when it started.
    pub since: u64,
    /// Where else than on its Unix socket it serves: `tcp://HOST:PORT`.
    pub listening: Option<String>,
}

/// One GPU of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gpu {
    /// Its position on the node, from 0.
    pub index: u32,
    /// Its identity, as NVML writes it: `GPU-…`.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// Its kind.
    pub vendor: Vendor,
    /// Its compute capability.
    pub compute_capability: Capability,
    /// The NUMA node that it is next to; `None` when that is not known, or there is one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// All its memory.
    pub vram: Bytes,
    /// The part of it that vGPUs hold.
    pub vram_allocated: Bytes,
    /// All its compute; `None` when that is not known.
    pub tflops: Option<Tflops>,
    /// The part of it that vGPUs have asked for.
    pub tflops_allocated: Tflops,
    /// Number of vGPUs on it.
    pub vgpus: u32,
}

impl Gpu {
    /// The memory that no vGPU holds.
    #[must_use]
    pub fn vram_free(&self) -> Bytes {
        self.vram.saturating_sub(self.vram_allocated)
    }

    /// The compute that no vGPU has asked for; `None` when the GPU's compute is not known.
    #[must_use]
    pub fn tflops_free(&self) -> Option<Tflops> {
        self.tflops.map(|tflops| tflops.saturating_sub(self.tflops_allocated))
    }
}

/// The state of a vGPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VgpuState {
    /// Its worker is coming up.
    Starting,
    /// Programs can use it.
    Running,
    /// Its worker died by itself; nothing is left of it.
    Failed,
}

impl std::fmt::Display for VgpuState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Failed => "failed",
        })
    }
}

/// One vGPU of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vgpu {
    /// Where it is reached and how much it is.
    #[serde(flatten)]
    pub lease: Lease,
    /// Who goes first.
    pub qos: Qos,
    /// Whether it can be used.
    pub state: VgpuState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Its worker's process.
    pub worker_pid: Option<u32>,
    /// What asked for it.
    pub program: String,
    /// The process that asked for it, on its machine.
    pub pid: u32,
    /// Seconds since 1970 when it was granted.
    pub since: u64,
    /// Memory in use, of all its devices.
    pub vram_used: Bytes,
    /// The processes that use it.
    pub processes: Vec<Process>,
}

/// A process on a vGPU.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its id, on the machine that it runs on.
    pub pid: u32,
    /// What it is.
    pub program: String,
    /// Memory that it holds.
    pub vram_used: Bytes,
}

/// What the holder of a vGPU is told while it holds it, one line of JSON each.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Here it is. Comes first.
    Granted(Lease),
    /// Its worker died, or the vGPU was taken away. Comes last.
    Lost {
        /// The vGPU.
        id: VgpuId,
        /// Why.
        reason: String,
    },
}

/// A refusal, with what helps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
