//! What namespaces use, and what they may.

use crd::{Allocation, GPUResourceQuotaSpec, Phase, Resource};
use pool::Amount;

use super::together::{Part, requested, total};
use super::{Ledger, Waiting};
use crate::admission::{ContainerWish, Wish};

/// What a namespace uses.
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
    /// Of a pod.
    #[must_use]
    pub fn of(allocation: &Allocation) -> Self {
        let limit = |share: &crd::Share| {
            Amount::new(share.tflops_limit.unwrap_or(share.tflops), share.vram_limit.unwrap_or(share.vram))
        };
        Self { requests: total(allocation, requested), limits: total(allocation, limit), workers: 1 }
    }

    /// Of a pod of these containers, before it has GPUs.
    pub(super) fn asked_by(parts: &[Part]) -> Self {
        asked_by(parts).0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.requests = plus(self.requests, other.requests);
        self.limits = plus(self.limits, other.limits);
        self.workers = self.workers.saturating_add(other.workers);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.limits = self.limits.saturating_sub(other.limits);
        self.workers = self.workers.saturating_sub(other.workers);
    }
}

fn plus(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap_or(Amount::new(types::Tflops::from_milli(u64::MAX), types::Bytes::new(u64::MAX)))
}

/// A ceiling. An amount of zero is no ceiling: TensorFusion's objects must name both parts.
fn within(what: &str, asked: Amount, used: Amount, ceiling: &Resource, later: bool) -> Result<(), Waiting> {
    let sum = plus(asked, used);
    let unreadable =
        |error: crd::QuantityError| Waiting::Impossible(format!("the namespace's quota cannot be read: {error}"));
    let tflops = ceiling.tflops.tflops().map_err(unreadable)?;
    let vram = ceiling.vram.bytes().map_err(unreadable)?;
    let of = if used == Amount::default() { String::new() } else { format!(", of which {used} are used") };
    if tflops != types::Tflops::default() && sum.tflops > tflops {
        return Err(Waiting::Quota(
            format!("the namespace's quota allows {tflops} TFLOPS ({what}){of}, and {asked} are asked"),
            later,
        ));
    }
    if vram != types::Bytes::default() && sum.vram > vram {
        return Err(Waiting::Quota(
            format!("the namespace's quota allows {vram} of VRAM ({what}){of}, and {asked} are asked"),
            later,
        ));
    }
    Ok(())
}

impl Ledger {
    /// The wish with the namespace's defaults where it asks for nothing.
    pub(super) fn with_defaults(&self, namespace: &str, wish: &Wish) -> Wish {
        let mut wish = wish.clone();
        for spec in self.quotas.get(namespace).into_iter().flat_map(|quotas| quotas.values()) {
            let Some(single) = &spec.single else { continue };
            for container in &mut wish.containers {
                fill(container, single.default_requests.as_ref(), single.default_limits.as_ref());
            }
        }
        wish
    }

    /// Whether every quota of the namespace allows one more pod with these containers. What init containers share is not
    /// known yet: they count for themselves only.
    pub(super) fn check_quotas(&self, namespace: &str, parts: &[Part]) -> Result<(), Waiting> {
        let Some(quotas) = self.quotas.get(namespace).filter(|quotas| !quotas.is_empty()) else { return Ok(()) };
        let used = self.used(namespace);
        for spec in quotas.values() {
            check(spec, parts, used)?;
        }
        Ok(())
    }

    /// Whether every quota of the namespace allows so much more.
    pub(super) fn check_usage(&self, namespace: &str, usage: Usage) -> Result<(), Waiting> {
        let used = self.used(namespace);
        for total in self.quotas.get(namespace).into_iter().flatten().filter_map(|(_, spec)| spec.total.as_ref()) {
            check_total(total, usage, used)?;
        }
        Ok(())
    }
}

fn fill(container: &mut ContainerWish, requests: Option<&Resource>, limits: Option<&Resource>) {
    let tflops = |resource: Option<&Resource>| {
        resource?.tflops.tflops().ok().filter(|amount| *amount != types::Tflops::default())
    };
    let vram =
        |resource: Option<&Resource>| resource?.vram.bytes().ok().filter(|amount| *amount != types::Bytes::default());
    if container.tflops_request.is_none() && container.compute_percent.is_none() {
        container.tflops_request = tflops(requests).or(tflops(limits));
        container.tflops_limit = container.tflops_limit.or(tflops(limits));
    }
    if container.vram_request.is_none() && container.vram_percent.is_none() {
        container.vram_request = vram(requests).or(vram(limits));
        container.vram_limit = container.vram_limit.or(vram(limits));
    }
}

/// The most that one GPU of a container may use.
fn limit(part: &Part) -> Amount {
    let asked = &part.asked;
    Amount::new(asked.tflops_limit.unwrap_or(asked.request.tflops), asked.vram_limit.unwrap_or(asked.request.vram))
}

/// What a pod of these containers would use, and of how many GPUs. Init containers do not count: see `check_quotas`.
fn asked_by(parts: &[Part]) -> (Usage, u64) {
    let (mut usage, mut gpus) = (Usage { workers: 1, ..Usage::default() }, 0_u64);
    for part in parts.iter().filter(|part| part.phase != Phase::Init) {
        let count = part.request.count;
        let many = |amount: Amount| {
            amount.checked_mul(count).unwrap_or_else(|| {
                plus(amount, Amount::new(types::Tflops::from_milli(u64::MAX), types::Bytes::new(u64::MAX)))
            })
        };
        usage.requests = plus(usage.requests, many(part.asked.request));
        usage.limits = plus(usage.limits, many(limit(part)));
        gpus = gpus.saturating_add(u64::from(count));
    }
    (usage, gpus)
}

fn check(spec: &GPUResourceQuotaSpec, parts: &[Part], used: Usage) -> Result<(), Waiting> {
    let (usage, gpus) = asked_by(parts);
    let mut early = 0;
    for part in parts {
        let (asked, limit) = (&part.asked, limit(part));
        if part.phase == Phase::Init {
            early = early.max(u64::from(part.request.count));
        }
        if let Some(single) = &spec.single {
            if let Some(ceiling) = &single.max_requests {
                within("requests of one worker", asked.request, Amount::default(), ceiling, false)?;
            }
            if let Some(ceiling) = &single.max_limits {
                within("limits of one worker", limit, Amount::default(), ceiling, false)?;
            }
        }
    }
    let gpus = gpus.max(early);
    if let Some(most) = spec.single.as_ref().and_then(|single| single.max_gpu_count)
        && i64::try_from(gpus).unwrap_or(i64::MAX) > i64::from(most)
    {
        return Err(Waiting::Quota(
            format!("the namespace's quota allows {most} GPUs to one worker, and {gpus} are asked"),
            false,
        ));
    }
    spec.total.as_ref().map_or(Ok(()), |total| check_total(total, usage, used))
}

fn check_total(total: &crd::QuotaTotal, more: Usage, used: Usage) -> Result<(), Waiting> {
    if let Some(most) = total.max_workers
        && i64::try_from(used.workers).unwrap_or(i64::MAX) >= i64::from(most)
    {
        return Err(Waiting::Quota(
            format!("the namespace's quota allows {most} workers, and has {}", used.workers),
            most > 0,
        ));
    }
    if let Some(ceiling) = &total.requests {
        within("requests", more.requests, used.requests, ceiling, true)?;
    }
    if let Some(ceiling) = &total.limits {
        within("limits", more.limits, used.limits, ceiling, true)?;
    }
    Ok(())
}
