//! Pods that hold cards for us where a device plugin gives cards out.
//!
//! The kubelet may give a plugin's card to any pod that asks for one, so the only way to have it for vGPUs is to ask as well: a
//! pod of ours that does nothing asks for a card, the stock scheduler finds it a node, the kubelet gives it a card, and the
//! node's agent says which ([`names::HELD_BY`]). One is made for each pod that waits and could use a card of a plugin's, and
//! deleted when nobody has had anything of its cards for a while; so plain pods and vGPUs share a fleet, and no card is given out
//! by two at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crd::names;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::bind;
use super::claim::{self, Claim};
use crate::Settings;

/// A card that nobody uses is given back after so long.
const IDLE: Duration = Duration::from_secs(20);
/// So many wait for a card at once.
const MOST: usize = 8;
/// Of those that wait, so many are looked at at once.
const LOOKED_AT: usize = 256;
/// One that was asked for is seen by then, and has its card if there is one.
const SEEN: Duration = Duration::from_secs(10);
/// Annotation: the UID of the pod that it was made for.
const FOR: &str = "tensor-fusion.ai/held-for";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    /// The UID of the pod that it was made for.
    claim: String,
    /// It has a node, so soon a card.
    has_node: bool,
    leaves: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pods: BTreeMap<String, Holder>,
    /// Pods that wait for room, by UID, since when.
    wanting: BTreeMap<String, Instant>,
    asked: BTreeMap<String, Instant>,
    idle: BTreeMap<String, Instant>,
    /// Those that we give back.
    returning: BTreeSet<String>,
}

impl Holders {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// A pod waits for room, or does not any more.
    pub(super) fn want(&mut self, uid: &str, wants: bool, now: Instant) {
        if wants {
            self.wanting.entry(uid.to_owned()).or_insert(now);
        } else {
            self.wanting.remove(uid);
        }
    }

    /// Whether a pod has not waited long enough to know that no card is to be had for it.
    pub(super) fn is_fresh(&self, uid: &str, now: Instant) -> bool {
        self.wanting.get(uid).is_none_or(|since| now.saturating_duration_since(*since) < SEEN)
    }

    /// Sees a holder. Whether anything changed for its cards.
    pub(super) fn see(&mut self, pod: &Pod) -> bool {
        let name = pod.name_any();
        let spec = pod.spec.as_ref();
        let over = claim::is_finished(pod);
        let holder = Holder {
            claim: pod.annotations().get(FOR).cloned().unwrap_or_default(),
            has_node: spec.is_some_and(|spec| spec.node_name.is_some()),
            leaves: pod.metadata.deletion_timestamp.is_some() || over,
        };
        self.asked.remove(&name);
        self.pods.insert(name, holder.clone()).as_ref() != Some(&holder)
    }

    /// A holder is gone. Whether anything changed for its cards.
    pub(super) fn gone(&mut self, name: &str) -> bool {
        self.idle.remove(name);
        self.returning.remove(name);
        self.pods.remove(name).is_some()
    }

    /// Whether what a holder has may be used.
    pub(super) fn serves(&self, name: &str) -> bool {
        self.pods.get(name).is_some_and(|holder| !holder.leaves) && !self.returning.contains(name)
    }

    /// Of those that wait, in order, the ones for which a holder is to be made. `nodes` tells where it could find a card.
    pub(super) fn missing<'a>(
        &mut self,
        waiting: impl Iterator<Item = &'a Claim>,
        nodes: impl Fn(&Claim) -> Vec<String>,
        now: Instant,
    ) -> Vec<(&'a Claim, Vec<String>)> {
        self.asked.retain(|_, at| now.saturating_duration_since(*at) < SEEN);
        let waits = self.pods.values().filter(|holder| !holder.has_node && !holder.leaves).count();
        let room = MOST.saturating_sub(waits + self.asked.len());
        let mut missing = Vec::new();
        for claim in waiting.filter(|claim| self.wanting.contains_key(&claim.uid)).take(LOOKED_AT) {
            if missing.len() >= room {
                break;
            }
            let name = name(&claim.uid);
            if self.pods.contains_key(&name) || self.asked.contains_key(&name) {
                continue;
            }
            let nodes = nodes(claim);
            if !nodes.is_empty() {
                missing.push((claim, nodes));
            }
        }
        for (claim, _) in &missing {
            self.asked.insert(name(&claim.uid), now);
        }
        missing
    }

    /// Those that are to go: the one they were made for waits no more, and nobody uses what they have, or they have nothing yet.
    /// From now on their cards are not used.
    pub(super) fn superfluous(&mut self, is_used: impl Fn(&str) -> bool, now: Instant) -> Vec<String> {
        let mut going = Vec::new();
        for (name, holder) in &self.pods {
            if holder.leaves || self.returning.contains(name) {
                continue;
            }
            if self.wanting.contains_key(&holder.claim) || is_used(name) {
                self.idle.remove(name);
                continue;
            }
            let since = *self.idle.entry(name.clone()).or_insert(now);
            if !holder.has_node || now.saturating_duration_since(since) >= IDLE {
                going.push(name.clone());
            }
        }
        self.returning.extend(going.iter().cloned());
        going
    }

    /// One that was to go could not be deleted.
    pub(super) fn stays(&mut self, name: &str) {
        self.returning.remove(name);
    }
}

fn name(uid: &str) -> String {
    format!("tensor-fusion-card-{uid}")
}

/// The most cards of a container of the claim: so many are held on one node.
fn count(claim: &Claim) -> u32 {
    claim.wish.containers.iter().map(|container| container.gpus).max().unwrap_or(1)
}

/// A pod that holds cards for a claim on one of these nodes.
pub(super) fn pod(claim: &Claim, nodes: &[String], settings: &Settings) -> Value {
    // Terms are alternatives.
    let terms: Vec<Value> = nodes.iter().map(|node| json!({"matchFields": [bind::only(node)]})).collect();
    let mut container = json!({
        "name": names::CARD_HOLDER,
        "image": settings.client_image,
        "command": ["/tensor-fusion", "hold"],
        "resources": {
            "limits": {(names::NVIDIA_GPU): count(claim).to_string(), "memory": "32Mi"},
            "requests": {"cpu": "1m", "memory": "8Mi"},
        },
    });
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(&claim.uid),
            "labels": {(names::COMPONENT): names::CARD_HOLDER},
            "annotations": {(FOR): claim.uid},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
            "containers": [container],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::ledger::testing::asks;
    use super::*;

    fn holder(uid: &str, node: Option<&str>) -> Pod {
        let mut pod = pod(&asks(uid, "1Gi", "1"), &["n1".to_owned()], &Settings::default());
        pod["spec"]["nodeName"] = json!(node);
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn one_is_made_for_each_that_waits_and_could_use_a_card_and_goes_when_it_is_idle() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut holders = Holders::default();
        let claims = [asks("a", "1Gi", "1"), asks("b", "1Gi", "1"), asks("c", "1Gi", "1")];
        let nodes = |claim: &Claim| if claim.uid == "b" { Vec::new() } else { vec!["n1".to_owned()] };
        assert!(holders.missing(claims.iter(), nodes, start).is_empty(), "nobody waits for room");
        for claim in &claims {
            holders.want(&claim.uid, true, start);
        }
        let missing: Vec<String> =
            holders.missing(claims.iter(), nodes, start).into_iter().map(|(claim, _)| claim.uid.clone()).collect();
        assert_eq!(missing, ["a", "c"]);
        assert!(holders.missing(claims.iter(), nodes, after(5)).is_empty(), "they were asked for");
        let name = name("a");
        assert!(!holders.serves(&name));
        assert!(holders.see(&holder("a", None)) && !holders.see(&holder("a", None)));
        assert!(holders.see(&holder("a", Some("n1"))) && holders.serves(&name));
        assert!(holders.superfluous(|_| false, after(100)).is_empty(), "it is still wanted");
        holders.want("a", false, start);
        assert!(holders.superfluous(|_| true, after(100)).is_empty(), "its card is used");
        assert!(holders.superfluous(|_| false, after(200)).is_empty());
        assert_eq!(holders.superfluous(|_| false, after(220)), [name.as_str()]);
        assert!(!holders.serves(&name) && holders.superfluous(|_| false, after(300)).is_empty());
        holders.stays(&name);
        assert!(holders.serves(&name));
        // One that still waits for a card goes at once.
        holders.see(&holder("c", None));
        assert!(holders.is_fresh("c", after(9)) && !holders.is_fresh("c", after(10)) && holders.is_fresh("new", start));
        holders.want("c", false, start);
        assert_eq!(holders.superfluous(|other| other == name, after(301)), [super::name("c")]);
        assert!(holders.gone(&name) && !holders.serves(&name));
    }

    #[test]
    fn it_asks_for_as_many_cards_as_its_pod_does() {
        let mut claim = asks("a", "1Gi", "1");
        claim.wish.containers[0].gpus = 3;
        let pod = pod(&claim, &["n1".to_owned(), "n2".to_owned()], &Settings::default());
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "3");
        let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(terms["nodeSelectorTerms"][1]["matchFields"][0]["values"], json!(["n2"]));
        let typed: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(typed.labels()["tensor-fusion.ai/component"], "card-holder");
    }
}
