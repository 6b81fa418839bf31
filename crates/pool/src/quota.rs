//! Quotas: what a namespace may have in all, and in one request.

use serde::{Deserialize, Serialize};

use crate::{Amount, Request};

/// The ceilings of one namespace. `None` is no ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaLimits {
    /// Of everything together.
    pub total: Option<Amount>,
    /// Workers.
    pub workers: Option<u32>,
    /// Of each GPU of one request.
    pub single: Option<Amount>,
    /// GPUs of one request.
    pub single_count: Option<u32>,
    /// What a request gets that asks for none.
    pub default: Option<Amount>,
}

/// A namespace's ceilings and what it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quota {
    /// The ceilings.
    pub limits: QuotaLimits,
    used: Amount,
    workers: u32,
}

/// What counts against a namespace's quota: of one pod, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Guaranteed.
    pub requests: Amount,
    /// Allowed.
    pub limits: Amount,
    /// Pods with GPUs.
    pub workers: u64,
}

impl Usage {
    /// Of one worker whose limits are what it requests.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let most = Amount::of_parts(u64::MAX, u64::MAX);
        let amount = request.amount.checked_mul(request.count).unwrap_or(most);
        Self { requests: amount, limits: amount, workers: 1 }
    }

    /// Both together, each part at most the largest there is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            limits: self.limits.saturating_add(other.limits),
            workers: self.workers.saturating_add(other.workers),
        }
    }

    /// What is left without the other, each part at least nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            limits: self.limits.saturating_sub(other.limits),
            workers: self.workers.saturating_sub(other.workers),
        }
    }

    /// The greater of both, each part for itself.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            requests: self.requests.most(other.requests),
            limits: self.limits.most(other.limits),
            workers: self.workers.max(other.workers),
        }
    }

    /// Whether every part of the other fits into this.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.requests.covers(other.requests) && self.limits.covers(other.limits) && self.workers >= other.workers
    }
}

/// A request goes beyond a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// One request is too large; waiting does not help.
    #[error("{asked} of each GPU is more than the {allowed} that one request may have")]
    Single {
        /// Asked.
        asked: Amount,
        /// Allowed.
        allowed: Amount,
    },
    /// One request asks for too many GPUs; waiting does not help.
    #[error("{asked} GPUs are more than the {allowed} that one request may have")]
    SingleCount {
        /// Asked.
        asked: u32,
        /// Allowed.
        allowed: u32,
    },
    /// All together would be too much; it fits when others end.
    #[error("{asked} more would exceed the namespace's {allowed}, of which {used} are used")]
    Total {
        /// Asked.
        asked: Amount,
        /// Allowed.
        allowed: Amount,
        /// Used.
        used: Amount,
    },
    /// Too many workers; it fits when others end.
    #[error("the namespace has {used} workers, and may have {allowed}")]
    Workers {
        /// Allowed.
        allowed: u32,
        /// Used.
        used: u32,
    },
    /// More was given back than charged.
    #[error("{given} given back where {used} are used")]
    NotCharged {
        /// Given back.
        given: Amount,
        /// Used.
        used: Amount,
    },
    /// An amount beyond what numbers hold.
    #[error("{0} GPUs of this amount are more than can be counted")]
    Overflow(u32),
}

impl QuotaError {
    /// Whether the same request may fit later.
    #[must_use]
    pub fn may_fit_later(self) -> bool {
        matches!(self, Self::Total { .. } | Self::Workers { .. })
    }
}

impl Quota {
    /// A quota of which nothing is used.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// What is used.
    #[must_use]
    pub fn used(&self) -> Amount {
        self.used
    }

    /// The request with the quota's defaults where it asks for nothing.
    #[must_use]
    pub fn with_defaults(&self, mut request: Request) -> Request {
        if let Some(default) = self.limits.default {
            if request.amount.tflops == types::Tflops::default() {
                request.amount.tflops = default.tflops;
            }
            if request.amount.vram == types::Bytes::default() {
                request.amount.vram = default.vram;
            }
        }
        request
    }

    /// Charges one worker's request.
    ///
    /// # Errors
    /// A ceiling would be exceeded; then nothing is charged.
    pub fn charge(&mut self, request: &Request) -> Result<(), QuotaError> {
        if let Some(allowed) = self.limits.single.filter(|single| !single.covers(request.amount)) {
            return Err(QuotaError::Single { asked: request.amount, allowed });
        }
        if let Some(allowed) = self.limits.single_count.filter(|&allowed| request.count > allowed) {
            return Err(QuotaError::SingleCount { asked: request.count, allowed });
        }
        let asked = request.amount.checked_mul(request.count).ok_or(QuotaError::Overflow(request.count))?;
        let used = self.used.checked_add(asked).ok_or(QuotaError::Overflow(request.count))?;
        if let Some(allowed) = self.limits.total.filter(|total| !total.covers(used)) {
            return Err(QuotaError::Total { asked, allowed, used: self.used });
        }
        if let Some(allowed) = self.limits.workers.filter(|&allowed| self.workers >= allowed) {
            return Err(QuotaError::Workers { allowed, used: self.workers });
        }
        self.used = used;
        self.workers += 1;
        Ok(())
    }

    /// What must be given back before a request can be charged.
    #[must_use]
    pub fn lacks(&self, request: &Request) -> Usage {
        let more = Usage::of(request);
        let total = self.limits.total.map(|allowed| self.used.saturating_add(more.requests).saturating_sub(allowed));
        let workers = self.limits.workers.map(|allowed| (u64::from(self.workers) + 1).saturating_sub(allowed.into()));
        Usage { requests: total.unwrap_or_default(), limits: Amount::default(), workers: workers.unwrap_or_default() }
    }

    /// Gives back what a request was charged.
    ///
    /// # Errors
    /// It was never charged.
    pub fn release(&mut self, request: &Request) -> Result<(), QuotaError> {
        let given = request.amount.checked_mul(request.count).ok_or(QuotaError::Overflow(request.count))?;
        let left = self.used.checked_sub(given).filter(|_| self.workers > 0);
        self.used = left.ok_or(QuotaError::NotCharged { given, used: self.used })?;
        self.workers -= 1;
        Ok(())
    }
}
