//! Why a request finds no place: every GPU's first reason, counted.

use std::collections::BTreeMap;

use crate::Amount;

/// Why one GPU, or one node, was passed over. Ordered as the checks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The request asks for nothing, or for no GPU.
    NothingAsked,
    /// Another pool.
    OtherPool,
    /// Another node was asked for.
    OtherNode,
    /// The node or the GPU takes no new work.
    NotReady,
    /// Another vendor.
    OtherVendor,
    /// Another model.
    OtherModel,
    /// Excluded by index or UUID.
    Excluded,
    /// A request for a whole GPU met one in use, or the GPU is taken whole.
    Exclusive,
    /// Too little VRAM is free.
    Vram,
    /// Too little compute is free.
    Tflops,
    /// Enough is free, but too little of the card is left to guarantee it.
    Guarantee,
    /// Enough is free, but it is kept back for a request that waits.
    Reserved,
    /// The GPU fits, but its node has too few such GPUs.
    TooFewOnNode,
    /// The GPU fits, and its node has enough such GPUs, but they are too far apart.
    TooFar,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::NothingAsked => "nothing was asked for",
            Self::OtherPool => "in another pool",
            Self::OtherNode => "on another node",
            Self::NotReady => "not ready",
            Self::OtherVendor => "of another vendor",
            Self::OtherModel => "of another model",
            Self::Excluded => "excluded by index or UUID",
            Self::Exclusive => "in use where a whole GPU is needed",
            Self::Vram => "not enough VRAM",
            Self::Tflops => "not enough TFLOPS",
            Self::Guarantee => "not enough of the card left to guarantee",
            Self::Reserved => "kept back for a waiting request",
            Self::TooFewOnNode => "too few fitting GPUs on one node",
            Self::TooFar => "the node's fitting GPUs are too far apart",
        }
    }
}

/// No place for a request, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unplaced {
    /// GPUs looked at.
    pub gpus: usize,
    /// GPUs by the first reason that ruled them out.
    pub reasons: BTreeMap<Reason, usize>,
    /// The most VRAM free on any GPU that failed for VRAM only, and that GPU's name.
    pub best_vram: Option<(types::Bytes, String)>,
    /// The most compute free on any GPU that failed for compute only, and that GPU's name.
    pub best_tflops: Option<(types::Tflops, String)>,
    /// What was asked of each GPU.
    pub asked: Amount,
}

impl std::fmt::Display for Unplaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.gpus == 0 {
            return write!(f, "the pool has no GPUs");
        }
        let mut first = true;
        for (reason, count) in &self.reasons {
            if !first {
                write!(f, ", ")?;
            }
            first = false;
            write!(f, "{count} of {}: {}", self.gpus, reason.text())?;
            match (reason, &self.best_vram, &self.best_tflops) {
                (Reason::Vram, Some((free, gpu)), _) => {
                    write!(f, " (asked {}, best free {free} on {gpu})", self.asked.vram)?;
                }
                (Reason::Tflops, _, Some((free, gpu))) => {
                    write!(f, " (asked {}, best free {free} on {gpu})", self.asked.tflops)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl std::error::Error for Unplaced {}
