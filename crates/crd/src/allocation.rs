//! What the allocator decided for a pod: the one record of it, kept in the pod's own annotation, so that it lives and dies with the
//! pod and nobody keeps a second copy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{Bytes, Qos, Tflops};

/// Value of the annotation [`names::ALLOCATION`](crate::names::ALLOCATION).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// Name of the node.
    pub node: String,
    /// What each container has, in order of its device ordinals. Containers without GPUs are absent.
    pub containers: BTreeMap<String, Vec<Share>>,
    /// When containers run that are no main ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, Phase>,
}

/// When a container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// With the other main ones, until the pod ends.
    #[default]
    Main,
    /// An init container that always restarts: as long as the pod.
    Sidecar,
    /// An ordinary init container: it has ended before main ones start, and before the next one does.
    Init,
}

impl Phase {
    /// Whether this is a main container.
    #[must_use]
    pub fn is_main(&self) -> bool {
        *self == Self::Main
    }
}

/// A part of one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Name of the GPU object: the UUID in lower case.
    pub gpu: String,
    /// Guaranteed compute. A number of TFLOPS.
    pub tflops: Tflops,
    /// Guaranteed memory. A number of bytes.
    pub vram: Bytes,
    /// Highest compute, where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tflops_limit: Option<Tflops>,
    /// Highest memory, where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_limit: Option<Bytes>,
    /// Who goes first.
    #[serde(default)]
    pub qos: Qos,
    /// By the card itself, not by oversubscription.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guaranteed: bool,
    /// The GPU is this container's alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
}

impl Allocation {
    /// Reads the annotation of a pod.
    ///
    /// # Errors
    /// The text is no allocation.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Every GPU in it once, ascending.
    #[must_use]
    pub fn gpus(&self) -> Vec<&str> {
        let mut gpus: Vec<&str> = self.containers.values().flatten().map(|share| share.gpu.as_str()).collect();
        gpus.sort_unstable();
        gpus.dedup();
        gpus
    }

    /// When a container runs.
    #[must_use]
    pub fn phase(&self, container: &str) -> Phase {
        self.phases.get(container).copied().unwrap_or_default()
    }

    /// Every share.
    pub fn shares(&self) -> impl Iterator<Item = &Share> {
        self.containers.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_reads_as_the_contract_writes_it() {
        let text =
            r#"{"node":"n1","containers":{"main":[{"gpu":"gpu-1","tflops":10.0,"vram":4294967296,"qos":"medium"}]}}"#;
        let allocation = Allocation::parse(text).unwrap();
        assert_eq!(allocation.gpus(), ["gpu-1"]);
        let share = allocation.shares().next().unwrap();
        assert_eq!(
            (share.tflops, share.vram, share.qos),
            (Tflops::from_milli(10_000), Bytes::from_gib(4), Qos::Medium)
        );
        assert_eq!(Allocation::parse(&serde_json::to_string(&allocation).unwrap()).unwrap(), allocation);
    }
}
