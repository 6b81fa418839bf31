//! Names of things.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A vGPU's name on its node, for example `vgpu-7`; never used twice.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VgpuId(String);

impl VgpuId {
    /// The name of a node's `number`th vGPU.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self(format!("vgpu-{number}"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for VgpuId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for VgpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
