//! What a vGPU takes of a GPU: compute and memory together.

use serde::{Deserialize, Serialize};
use types::{Bytes, Tflops};

/// Compute and memory of a share, a GPU, a node or a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Amount {
    /// FP16 TFLOPS.
    pub tflops: Tflops,
    /// VRAM.
    pub vram: Bytes,
}

impl Amount {
    /// An amount of both.
    #[must_use]
    pub fn new(tflops: Tflops, vram: Bytes) -> Self {
        Self { tflops, vram }
    }

    /// Whether both parts of `other` fit into this.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.tflops >= other.tflops && self.vram >= other.vram
    }

    /// The sum; `None` when it overflows.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self { tflops: self.tflops.checked_add(other.tflops)?, vram: self.vram.checked_add(other.vram)? })
    }

    /// The difference; `None` when a part would be negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Some(Self { tflops: self.tflops.checked_sub(other.tflops)?, vram: self.vram.checked_sub(other.vram)? })
    }

    /// `count` times this; `None` when it overflows.
    #[must_use]
    pub fn checked_mul(self, count: u32) -> Option<Self> {
        Some(Self {
            tflops: Tflops::from_milli(self.tflops.milli().checked_mul(u64::from(count))?),
            vram: self.vram.checked_mul(u64::from(count))?,
        })
    }

    /// The lesser of both, each part for itself.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self { tflops: self.tflops.min(other.tflops), vram: self.vram.min(other.vram) }
    }

    /// The greater of both, each part for itself.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self { tflops: self.tflops.max(other.tflops), vram: self.vram.max(other.vram) }
    }

    /// The sum, each part at most the largest there is.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self::of_parts(
            self.vram.get().saturating_add(other.vram.get()),
            self.tflops.milli().saturating_add(other.tflops.milli()),
        )
    }

    /// The difference, each part at least nothing.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self { tflops: self.tflops.saturating_sub(other.tflops), vram: self.vram.saturating_sub(other.vram) }
    }

    pub(crate) fn of_parts(vram: u64, tflops_milli: u64) -> Self {
        Self { tflops: Tflops::from_milli(tflops_milli), vram: Bytes::new(vram) }
    }

    pub(crate) fn map(self, change: impl Fn(u64) -> u64) -> Self {
        Self::of_parts(change(self.vram.get()), change(self.tflops.milli()))
    }

    /// How full `capacity` is with this in it, in parts per million: 0.7 × VRAM + 0.3 × TFLOPS, the weights that
    /// TensorFusion's scheduler uses by default. An empty capacity counts as full.
    #[must_use]
    pub fn share_of(self, capacity: Self) -> u32 {
        // In 64 bits where the product fits: a division of 128 bits is a call.
        let part = |used: u64, whole: u64| match (whole, used.checked_mul(1_000_000)) {
            (0, _) => 1_000_000,
            (_, Some(product)) => (product / whole).min(1_000_000),
            (_, None) => {
                let wide = u128::from(used) * 1_000_000 / u128::from(whole);
                u64::try_from(wide).map_or(1_000_000, |share| share.min(1_000_000))
            }
        };
        let vram = part(self.vram.get(), capacity.vram.get());
        let tflops = part(self.tflops.milli(), capacity.tflops.milli());
        u32::try_from((vram * 7 + tflops * 3) / 10).unwrap_or(1_000_000)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} TFLOPS and {}", self.tflops, self.vram)
    }
}
