//! What matters about who has GPUs when somebody more important wants them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use pool::Holder;
use types::Qos;

use super::{Grant, Ledger};
use crate::admission::Wish;
use crate::allocator::claim::controller;

/// What a pod that has GPUs is, besides what it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// When it was made, since 1970.
    pub created: Duration,
    /// It may not be evicted for so long after that.
    pub protection: Duration,
    /// Kubernetes' priority.
    pub priority: i32,
    /// The owner of its gang, and the minimum that its members name.
    pub gang: Option<(String, Option<u32>)>,
    /// How long it may take to end.
    pub grace: Duration,
    /// When it is gone at the latest, if it is going.
    pub leaves: Option<Duration>,
}

impl Terms {
    /// Of a pod.
    #[must_use]
    pub fn of(pod: &Pod, wish: Option<&Wish>) -> Self {
        let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        let gang = wish.and_then(|wish| wish.gang.as_ref());
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        Self {
            created: Duration::from_secs(u64::try_from(created).unwrap_or_default()),
            protection: Duration::from_secs(wish.and_then(|wish| wish.eviction_protection).unwrap_or_default()),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default(),
            gang: gang.and_then(|gang| Some((controller(pod)?.2.to_owned(), gang.minimum))),
            grace: Duration::from_secs(u64::try_from(grace).unwrap_or_default()),
            leaves: None,
        }
    }
}

impl Grant {
    /// The class of what it has: the same for all of a pod.
    pub(super) fn qos(&self) -> Qos {
        self.allocation.shares().map(|share| share.qos).max().unwrap_or_default()
    }

    fn holder(&self) -> Holder {
        Holder {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            qos: self.qos(),
            placements: self.taken.iter().flatten().cloned().collect(),
            since: self.terms.created,
            protection: self.terms.protection,
            uses: self.usage,
            ..Holder::default()
        }
    }
}

impl Ledger {
    /// Whether anybody has GPUs who gives way to a class. No more than a look.
    #[must_use]
    pub fn has_lesser(&self, qos: Qos) -> bool {
        self.classes.iter().any(|(class, pods)| *class < qos && *pods > 0)
    }

    /// Tells when a pod will be gone, or that it stays.
    pub fn leaves(&mut self, uid: &str, when: Option<Duration>) {
        if let Some(grant) = self.grants.get_mut(uid) {
            grant.terms.leaves = when;
        }
    }

    /// What is known of a pod that has something.
    #[must_use]
    pub fn terms(&self, uid: &str) -> Option<&Terms> {
        self.grants.get(uid).map(|grant| &grant.terms)
    }

    /// Everybody who has GPUs of the inventory: UID, terms, and what the crate `pool` needs to know.
    pub fn holders(&mut self) -> impl Iterator<Item = (&str, &Terms, Holder)> {
        self.refresh();
        self.grants.iter().map(|(uid, grant)| (uid.as_str(), &grant.terms, grant.holder()))
    }

    pub(super) fn count(&mut self, qos: Qos, came: bool) {
        let pods = self.classes.entry(qos).or_default();
        *pods = if came { pods.saturating_add(1) } else { pods.saturating_sub(1) };
    }
}
