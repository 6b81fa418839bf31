//! Pods that the scheduler cannot bind after all: the node that we chose has GPUs, and no processors or memory left.
//!
//! A gate cannot be put back, and a required node not be taken back. So a pod that has a controller is deleted, and its successor is
//! placed elsewhere; one that has none only gets an event, for nobody would make it anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::names;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};

use super::claim::{self, Claim, controller};
use super::tell::Teller;
use crate::fault;

/// The scheduler gets so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// A node is not tried again for pods of the same owner for so long.
const AVOID: Duration = Duration::from_secs(300);

/// Pods that the scheduler refuses, and nodes that were tried in vain.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    pods: BTreeMap<String, (Arc<Pod>, Instant)>,
    avoided: BTreeMap<String, Vec<String>>,
    until: Vec<(Instant, String, String)>,
}

impl Stuck {
    /// Sees a pod. Since when it is stuck is told by our own clock.
    pub(super) fn see(&mut self, pod: &Arc<Pod>, has: bool) {
        let Some(uid) = pod.uid() else { return };
        if has && is_unschedulable(pod) {
            let since = self.pods.get(&uid).map_or_else(Instant::now, |(_, since)| *since);
            self.pods.insert(uid, (Arc::clone(pod), since));
        } else {
            self.pods.remove(&uid);
        }
    }

    pub(super) fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// The pods that have been stuck for too long, each once, with their nodes.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Arc<Pod>, String)> {
        for (_, owner, node) in self.until.extract_if(.., |(until, ..)| *until <= now) {
            if let Some(nodes) = self.avoided.get_mut(&owner) {
                nodes.retain(|one| *one != node);
            }
        }
        let due: Vec<Arc<Pod>> = self
            .pods
            .extract_if(.., |_, (_, since)| now.duration_since(*since) >= PATIENCE)
            .map(|(_, (pod, _))| pod)
            .collect();
        due.into_iter()
            .map(|pod| {
                let allocation =
                    claim::annotation(&pod, names::ALLOCATION).and_then(|text| crd::Allocation::parse(text).ok());
                let node = allocation.unwrap_or_default().node;
                if let Some((_, _, owner)) = controller(&pod) {
                    self.avoided.entry(owner.to_owned()).or_default().push(node.clone());
                    self.until.push((now + AVOID, owner.to_owned(), node.clone()));
                }
                (pod, node)
            })
            .collect()
    }

    /// Nodes that were tried in vain for the claim's owner.
    pub(super) fn avoid(&self, claim: &Claim) -> &[String] {
        avoided_for(claim, &self.avoided)
    }

    /// The same for all owners.
    pub(super) fn avoided(&self) -> &BTreeMap<String, Vec<String>> {
        &self.avoided
    }
}

/// Of the nodes to avoid by owner, those of the claim's owner.
pub(super) fn avoided_for<'a>(claim: &Claim, avoided: &'a BTreeMap<String, Vec<String>>) -> &'a [String] {
    controller(&claim.pod).and_then(|(_, _, owner)| avoided.get(owner)).map(Vec::as_slice).unwrap_or_default()
}

fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|one| {
            one.type_ == "PodScheduled" && one.status == "False" && one.reason.as_deref() == Some("Unschedulable")
        })
}

/// Tells on the pod what is the matter.
pub(super) fn tell(teller: &mut Teller, pod: &Pod, node: &str, has_owner: bool, now: Instant) {
    let end = if has_owner {
        "it is deleted, so that its successor is placed elsewhere"
    } else {
        "it has no controller that would make it anew, so it keeps its GPUs and waits"
    };
    let text = format!("the scheduler cannot bind the pod to node {node}, where its GPUs are; {end}");
    teller.waits(pod, "CannotBeBound", &text, now);
}

/// Deletes the pod, if it is still the same.
pub(super) async fn evict(client: Client, pod: Arc<Pod>) {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let same = Preconditions { uid: pod.uid(), resource_version: None };
    fault::point("before-evict");
    let parameters = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    match api.delete(&pod.name_any(), &parameters).await {
        Ok(_) => {
            tracing::info!(pod = pod.name_any(), namespace = pod.namespace(), "deleted a pod that could not be bound")
        }
        Err(error) => tracing::warn!(pod = pod.name_any(), %error, "a pod that cannot be bound could not be deleted"),
    }
    fault::point("after-evict");
}
