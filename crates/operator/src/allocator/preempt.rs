//! Who has to go so that somebody of a higher class gets GPUs. Pure: the crate `pool` chooses, the [loop](super::run) evicts.
//!
//! Beyond what `pool` knows, nobody goes who is of a higher Kubernetes priority than the one who waits, and nobody whose
//! eviction was refused a moment ago (a PodDisruptionBudget's word); a pod that says `preemptionPolicy: Never` preempts nobody.
//! Where a quota refuses a pod, those of its namespace go, wherever they are, who give back what lacks; room made there is
//! kept with its part of the quota.
//!
//! What is decided is not written down: while victims end, the place is [kept](Ledger::keep_for), and an operator that starts
//! in between sees them leave, and that they make the room, so it evicts no others.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pool::{Budgets, Holder, Lack, Membership, Placement, Unpreempted};
use serde::{Deserialize, Serialize};
use types::Qos;

use super::claim::Claim;
use super::ledger::Ledger;
use super::replan::avoided_for;

/// Among whom pods may look for victims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All pods.
    #[default]
    Cluster,
    /// Those of their own namespace.
    Namespace,
    /// None: nobody is evicted.
    Never,
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cluster" => Ok(Self::Cluster),
            "namespace" => Ok(Self::Namespace),
            "never" => Ok(Self::Never),
            other => Err(format!("`{other}` is not among whom victims may be: expected cluster, namespace or never")),
        }
    }
}

/// A pod that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its class.
    pub qos: Qos,
}

/// Where a pod finds room, and who has to go for that.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// To be kept for it.
    pub placements: Vec<Placement>,
    /// Nobody where those who leave anyway make the room.
    pub victims: Vec<Victim>,
}

/// What a plan depends on besides the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Among whom.
    pub scope: Scope,
    /// Since 1970.
    pub now: Duration,
    /// Pods whose eviction was refused lately.
    pub spared: &'a BTreeMap<String, Duration>,
    /// Members that gangs need which name no minimum, by owner.
    pub desired: &'a BTreeMap<String, usize>,
    /// Nodes that were tried in vain, by owner.
    pub avoid: &'a BTreeMap<String, Vec<String>>,
}

/// Finds out who has to go for a claim that has found no room, or that its namespace's quota refuses. Changes nothing.
///
/// # Errors
/// Nobody may, or it would not help; `None` where nobody is asked at all.
pub fn plan(ledger: &mut Ledger, claim: &Claim, rules: &Rules<'_>) -> Result<Plan, Option<Unpreempted>> {
    plan_with(ledger, claim, rules, &BTreeSet::new())
}

/// The same for a gang, of which `needed` more are to get room: by the position among its members that wait, in order. What it
/// finds is kept for them.
///
/// # Errors
/// There is no room for so many. Then nothing is kept.
pub fn plan_gang(
    ledger: &mut Ledger,
    members: &[&Claim],
    needed: usize,
    rules: &Rules<'_>,
) -> Result<Vec<(usize, Plan)>, Option<Unpreempted>> {
    let (mut plans, mut going) = (Vec::new(), BTreeSet::new());
    let mut refused = None;
    for (position, claim) in members.iter().enumerate() {
        if plans.len() >= needed {
            break;
        }
        if ledger.place(claim, avoided_for(claim, rules.avoid)).is_ok() {
            ledger.keep_instead(claim);
            plans.push((position, Plan { placements: Vec::new(), victims: Vec::new() }));
            continue;
        }
        match plan_with(ledger, claim, rules, &going) {
            Ok(plan) => {
                ledger.keep_for(claim, &plan.placements);
                going.extend(plan.victims.iter().map(|victim| victim.uid.clone()));
                plans.push((position, plan));
            }
            Err(why) => refused = refused.or(why),
        }
    }
    if plans.len() >= needed {
        return Ok(plans);
    }
    for claim in members {
        ledger.end_kept(&claim.uid);
    }
    Err(refused)
}

fn plan_with(
    ledger: &mut Ledger,
    claim: &Claim,
    rules: &Rules<'_>,
    going: &BTreeSet<String>,
) -> Result<Plan, Option<Unpreempted>> {
    let never = claim.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never");
    if never || rules.scope == Scope::Never {
        return Err(None);
    }
    let options = ledger.requests(claim, avoided_for(claim, rules.avoid)).map_err(|_| None)?;
    let (uids, holders) = holders(ledger, claim, rules, going);
    let mut best: Option<pool::Preemption> = None;
    let mut refused = None;
    for (requests, usage) in options {
        let lack = Lack { namespace: &claim.namespace, usage };
        let budgets = Budgets::default();
        match pool::preempt_within_quota(ledger.inventory(), &holders, &requests, lack, &budgets, rules.now) {
            Ok(found) if best.as_ref().is_none_or(|best| found.cost < best.cost) => best = Some(found),
            Ok(_) => {}
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    let best = best.ok_or(refused)?;
    let victim = |position: &usize| {
        let (uid, holder) = (uids.get(*position)?, holders.get(*position)?);
        Some(Victim {
            uid: uid.clone(),
            namespace: holder.namespace.clone(),
            name: holder.name.clone(),
            qos: holder.qos,
        })
    };
    Ok(Plan { victims: best.victims.iter().filter_map(victim).collect(), placements: best.placements })
}

/// Everybody who has GPUs, with what the rules say about them.
fn holders(
    ledger: &mut Ledger,
    claim: &Claim,
    rules: &Rules<'_>,
    going: &BTreeSet<String>,
) -> (Vec<String>, Vec<Holder>) {
    let priority = claim.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    let mut gangs: BTreeMap<String, (usize, Option<u32>, Vec<usize>)> = BTreeMap::new();
    let (mut uids, mut holders) = (Vec::new(), Vec::new());
    for (uid, terms, mut holder) in ledger.holders() {
        let leaves = terms.leaves.map_or(going.contains(uid), |when| when > rules.now);
        let elsewhere = rules.scope == Scope::Namespace && holder.namespace != claim.namespace;
        // Who should be gone by now and is not will not be moved by another request.
        let stuck = terms.leaves.is_some_and(|when| when <= rules.now);
        let spared = rules.spared.get(uid).is_some_and(|until| *until > rules.now);
        if elsewhere || stuck || spared || terms.priority > priority {
            holder.protection = Duration::MAX;
        }
        holder.leaving = leaves;
        if let Some((owner, minimum)) = &terms.gang
            && !leaves
        {
            let gang = gangs.entry(owner.clone()).or_default();
            gang.0 += 1;
            gang.1 = *minimum;
            gang.2.push(holders.len());
        }
        uids.push(uid.to_owned());
        holders.push(holder);
    }
    for (number, (owner, (there, minimum, members))) in gangs.into_iter().enumerate() {
        let minimum = minimum.map(|minimum| minimum as usize).or(rules.desired.get(&owner).copied());
        // Where nobody says how many it needs, it needs all that it has.
        let membership = Membership { gang: number, spare: there.saturating_sub(minimum.unwrap_or(there)) };
        for member in members {
            if let Some(holder) = holders.get_mut(member) {
                holder.gang = Some(membership);
            }
        }
    }
    (uids, holders)
}
