//! Oversubscription: giving out more than the cards have, because not everybody uses theirs at the same time.
//!
//! Who may rely on it: QoS low and medium. High and critical requests, and those of isolation `hard` (the vendor's own
//! partitions cannot stretch), are *guaranteed*: all of them together never get more than the card itself, whatever
//! the ratio. So for every GPU: everything given out ≤ capacity, and everything guaranteed ≤ the card.

use serde::{Deserialize, Serialize};
use types::{Bytes, Percent, Tflops};

use crate::Amount;

/// How far a pool stretches its cards. Field names and defaults are TensorFusion's, except that nothing is stretched unless
/// it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Oversubscription {
    /// Compute that may be given out, of what the card has: 100 is the card itself, 500 five times as much. Less than 100
    /// counts as 100.
    pub tflops_oversell_ratio: Percent,
    /// Of the node's memory, to which idle VRAM can be moved.
    pub vram_expand_to_host_mem: Percent,
    /// Of the node's disk.
    pub vram_expand_to_host_disk: Percent,
}

impl Default for Oversubscription {
    fn default() -> Self {
        Self {
            tflops_oversell_ratio: Percent::new(100),
            vram_expand_to_host_mem: Percent::new(0),
            vram_expand_to_host_disk: Percent::new(0),
        }
    }
}

/// What a node has besides its GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Host {
    /// Memory.
    pub memory: Bytes,
    /// Disk for data.
    pub disk: Bytes,
    /// GPUs among which both are divided.
    pub gpus: u32,
}

impl Oversubscription {
    /// What may be given out of one card of a node.
    #[must_use]
    pub fn capacity(&self, card: Amount, host: Host) -> Amount {
        let each = |all: Bytes, share: Percent| share.share(all.get()) / u64::from(host.gpus.max(1));
        let expansion = each(host.memory, self.vram_expand_to_host_mem)
            .saturating_add(each(host.disk, self.vram_expand_to_host_disk));
        Amount {
            tflops: Tflops::from_milli(self.tflops_oversell_ratio.share(card.tflops.milli())).max(card.tflops),
            vram: Bytes::new(card.vram.get().saturating_add(expansion)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compute_is_multiplied_and_memory_grows_by_a_share_of_the_hosts() {
        let card = Amount::new(Tflops::new(100), Bytes::from_gib(80));
        let host = Host { memory: Bytes::from_gib(512), disk: Bytes::from_gib(1000), gpus: 8 };
        assert_eq!(Oversubscription::default().capacity(card, host), card);
        let stretched: Oversubscription =
            serde_json::from_str(r#"{"tflopsOversellRatio":500,"vramExpandToHostMem":50,"vramExpandToHostDisk":8}"#)
                .unwrap();
        let capacity = stretched.capacity(card, host);
        assert_eq!(capacity, Amount::new(Tflops::new(500), Bytes::from_gib(80 + 32 + 10)));
        let less = Oversubscription { tflops_oversell_ratio: Percent::new(50), ..Oversubscription::default() };
        assert_eq!(less.capacity(card, Host::default()), card);
    }
}
