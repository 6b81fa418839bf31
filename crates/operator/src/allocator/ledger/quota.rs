//! What namespaces use, and what they may.

use crd::{Allocation, Phase, QuotaSingle, QuotaTotal, Resource};
use pool::{Amount, Usage};
use types::{Bytes, Tflops};

use super::together::{Part, requested, total};
use super::{Ledger, Waiting};
use crate::admission::{ContainerWish, Wish};
use crate::allocator::claim::Claim;

/// What a pod uses of its namespace's quota.
pub(super) fn usage_of(allocation: &Allocation) -> Usage {
    let limit = |share: &crd::Share| {
        Amount::new(share.tflops_limit.unwrap_or(share.tflops), share.vram_limit.unwrap_or(share.vram))
    };
    Usage { requests: total(allocation, requested), limits: total(allocation, limit), workers: 1 }
}

/// A ceiling of a quota.
fn ceiling(resource: &Resource) -> Result<Amount, Waiting> {
    let unreadable =
        |error: crd::QuantityError| Waiting::Impossible(format!("the namespace's quota cannot be read: {error}"));
    Ok(Amount::new(resource.tflops.tflops().map_err(unreadable)?, resource.vram.bytes().map_err(unreadable)?))
}

/// By how much both together go beyond a ceiling. An amount of zero is no ceiling: TensorFusion's objects must name both parts.
fn over(asked: Amount, used: Amount, most: Amount) -> Amount {
    let mut over = asked.saturating_add(used).saturating_sub(most);
    if most.tflops == Tflops::default() {
        over.tflops = Tflops::default();
    }
    if most.vram == Bytes::default() {
        over.vram = Bytes::default();
    }
    over
}

/// Refuses what goes beyond a ceiling.
fn within(what: &str, asked: Amount, used: Amount, resource: &Resource, later: bool) -> Result<(), Waiting> {
    let most = ceiling(resource)?;
    let over = over(asked, used, most);
    let allowed = match (over.tflops != Tflops::default(), over.vram != Bytes::default()) {
        (true, _) => format!("{} TFLOPS", most.tflops),
        (_, true) => format!("{} of VRAM", most.vram),
        _ => return Ok(()),
    };
    let of = if used == Amount::default() { String::new() } else { format!(", of which {used} are used") };
    Err(Waiting::Quota(format!("the namespace's quota allows {allowed} ({what}){of}, and {asked} are asked"), later))
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

    /// What a claim finds used of its namespace's quotas: also what is kept for others that wait, unless they are of a lower
    /// class.
    fn used_before(&self, claim: &Claim) -> Usage {
        let others = self.kept.iter().filter(|(uid, kept)| {
            **uid != claim.uid && kept.namespace == claim.namespace && kept.qos >= claim.wish.qos
        });
        others.fold(self.used(&claim.namespace), |used, (_, kept)| used.plus(kept.usage))
    }

    fn totals(&self, namespace: &str) -> impl Iterator<Item = &QuotaTotal> {
        self.quotas.get(namespace).into_iter().flatten().filter_map(|(_, spec)| spec.total.as_ref())
    }

    /// Whether every quota of the namespace allows a pod with these containers, were it alone.
    pub(super) fn check_single(&self, claim: &Claim, parts: &[Part]) -> Result<(), Waiting> {
        let quotas = self.quotas.get(&claim.namespace).into_iter().flatten();
        quotas.filter_map(|(_, spec)| spec.single.as_ref()).try_for_each(|single| check_single(single, parts))
    }

    /// Whether every quota of the namespace allows so much more.
    pub(super) fn check_total(&self, claim: &Claim, usage: Usage) -> Result<(), Waiting> {
        let mut totals = self.totals(&claim.namespace).peekable();
        if totals.peek().is_none() {
            return Ok(());
        }
        let used = self.used_before(claim);
        totals.try_for_each(|total| check_total(total, usage, used))
    }

    /// What must be given back in the namespace before its quotas allow so much more.
    pub(super) fn lacks_of_quota(&self, claim: &Claim, usage: Usage) -> Result<Usage, Waiting> {
        let used = self.used_before(claim);
        self.totals(&claim.namespace)
            .try_fold(Usage::default(), |lack, total| Ok(lack.most(lacks(total, usage, used)?)))
    }
}

fn fill(container: &mut ContainerWish, requests: Option<&Resource>, limits: Option<&Resource>) {
    let tflops =
        |resource: Option<&Resource>| resource?.tflops.tflops().ok().filter(|amount| *amount != Tflops::default());
    let vram = |resource: Option<&Resource>| resource?.vram.bytes().ok().filter(|amount| *amount != Bytes::default());
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

/// What a pod of these containers would use. What init containers share is not known yet: they do not count.
pub(super) fn asked_by(parts: &[Part]) -> Usage {
    let most = Amount::new(Tflops::from_milli(u64::MAX), Bytes::new(u64::MAX));
    let later = parts.iter().filter(|part| part.phase != Phase::Init);
    later.fold(Usage { workers: 1, ..Usage::default() }, |usage, part| {
        let many = |amount: Amount| amount.checked_mul(part.request.count).unwrap_or(most);
        usage.plus(Usage { requests: many(part.asked.request), limits: many(limit(part)), workers: 0 })
    })
}

fn check_single(single: &QuotaSingle, parts: &[Part]) -> Result<(), Waiting> {
    for part in parts {
        if let Some(ceiling) = &single.max_requests {
            within("requests of one worker", part.asked.request, Amount::default(), ceiling, false)?;
        }
        if let Some(ceiling) = &single.max_limits {
            within("limits of one worker", limit(part), Amount::default(), ceiling, false)?;
        }
    }
    let counts = |early: bool| {
        let parts = parts.iter().filter(move |part| (part.phase == Phase::Init) == early);
        parts.map(|part| u64::from(part.request.count))
    };
    let gpus = counts(false).fold(0, u64::saturating_add).max(counts(true).max().unwrap_or_default());
    match single.max_gpu_count {
        Some(most) if i64::try_from(gpus).unwrap_or(i64::MAX) > i64::from(most) => Err(Waiting::Quota(
            format!("the namespace's quota allows {most} GPUs to one worker, and {gpus} are asked"),
            false,
        )),
        _ => Ok(()),
    }
}

fn check_total(total: &QuotaTotal, more: Usage, used: Usage) -> Result<(), Waiting> {
    if let Some(most) = total.max_workers
        && workers_over(total, more, used) > 0
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

/// By how many workers both together go beyond a quota.
fn workers_over(total: &QuotaTotal, more: Usage, used: Usage) -> u64 {
    let workers = more.workers.saturating_add(used.workers);
    total.max_workers.map_or(0, |most| workers.saturating_sub(u64::try_from(most).unwrap_or_default()))
}

/// By how much both together go beyond a quota.
fn lacks(total: &QuotaTotal, more: Usage, used: Usage) -> Result<Usage, Waiting> {
    let amount = |asked, used, resource: &Option<Resource>| {
        resource.as_ref().map_or(Ok(Amount::default()), |resource| Ok(over(asked, used, ceiling(resource)?)))
    };
    Ok(Usage {
        requests: amount(more.requests, used.requests, &total.requests)?,
        limits: amount(more.limits, used.limits, &total.limits)?,
        workers: workers_over(total, more, used),
    })
}
