//! Words that several kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Quantity;

/// Compute and memory of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resource {
    /// Percent of the GPU's compute, 0 to 100, where no TFLOPS are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Quantity>,
    /// Compute in FP16 TFLOPS; `500m` is half a TFLOPS.
    pub tflops: Quantity,
    /// Memory in bytes.
    pub vram: Quantity,
}

impl Resource {
    /// So much compute and memory.
    #[must_use]
    pub fn new(tflops: types::Tflops, vram: types::Bytes) -> Self {
        Self { compute: None, tflops: tflops.into(), vram: vram.into() }
    }
}

/// What is guaranteed, and what may be used at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// At most.
    pub limits: Resource,
    /// Guaranteed.
    pub requests: Resource,
}

/// Who goes first when GPUs are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum Qos {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

impl From<Qos> for types::Qos {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::Low => Self::Low,
            Qos::Medium => Self::Medium,
            Qos::High => Self::High,
            Qos::Critical => Self::Critical,
        }
    }
}

impl From<types::Qos> for Qos {
    fn from(qos: types::Qos) -> Self {
        match qos {
            types::Qos::Low => Self::Low,
            types::Qos::Medium => Self::Medium,
            types::Qos::High => Self::High,
            types::Qos::Critical => Self::Critical,
        }
    }
}

/// How strictly a vGPU is kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "documented variants would make the schema a choice of schemas instead of an enumeration"
)]
pub enum IsolationMode {
    Shared,
    #[default]
    Soft,
    Hard,
    Partitioned,
}
