//! Evicting pods through the API that heeds PodDisruptionBudgets.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Change;
use crate::allocator::claim::Claim;
use crate::allocator::preempt::Victim;
use crate::event::{self, Kind};
use crate::fault;

const PAUSE: Duration = Duration::from_millis(500);
/// So often an eviction that is not answered is tried again.
const TRIES: usize = 20;

/// An eviction that may not be.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Pods that wait for it.
    pub(super) pods: Vec<String>,
    /// Who stays.
    pub(super) victim: String,
    /// It, and those that were not asked to go any more.
    pub(super) untouched: Vec<String>,
    /// In words.
    pub(super) why: String,
}

/// What is done for whom, for people.
pub(super) fn describe(victims: &[Victim], node: &str) -> String {
    let names: Vec<String> =
        victims.iter().map(|one| format!("{}/{} ({})", one.namespace, one.name, one.qos)).collect();
    format!("evicting {} to make room on node {node}", names.join(", "))
}

/// Evicts victims for a claim. Where one may not be evicted the loop is told, and the others stay as far as they can.
pub(super) async fn evict(
    client: Client,
    claim: Claim,
    pods: Vec<String>,
    victims: Vec<Victim>,
    sender: mpsc::UnboundedSender<Change>,
) {
    let refuse = |position: usize, why: String| {
        let rest = victims.get(position..).unwrap_or_default();
        let Some(victim) = rest.first() else { return };
        let why = format!("{}/{} may not be evicted: {why}", victim.namespace, victim.name);
        tracing::info!(pod = claim.name, namespace = claim.namespace, why, "an eviction was refused");
        let untouched = rest.iter().map(|one| one.uid.clone()).collect();
        let refused = Refused { pods: pods.clone(), victim: victim.uid.clone(), untouched, why };
        // Nobody listens any more when the loop has ended, and the process with it.
        sender.send(Change::Refused(refused)).ok();
    };
    // Of several, none goes for nothing: all are asked about first.
    if victims.len() > 1 {
        for (position, victim) in victims.iter().enumerate() {
            if let Err(why) = attempt(&client, victim, true).await {
                let order = victims.iter().skip(position).chain(victims.iter().take(position));
                let untouched = order.map(|one| one.uid.clone()).collect();
                let why = format!("{}/{} may not be evicted: {why}", victim.namespace, victim.name);
                let refused = Refused { pods, victim: victim.uid.clone(), untouched, why };
                sender.send(Change::Refused(refused)).ok();
                return;
            }
        }
    }
    for (position, victim) in victims.iter().enumerate() {
        fault::point("before-preempt");
        if let Err(why) = attempt(&client, victim, false).await {
            refuse(position, why);
            return;
        }
        fault::point("after-preempt");
        let text = format!(
            "evicted for {}/{}, which is of class {} and takes its place; this pod is of class {}",
            claim.namespace, claim.name, claim.wish.qos, victim.qos
        );
        tracing::info!(pod = victim.name, namespace = victim.namespace, text, "a pod was evicted");
        event::publish(&client, &pod(victim), Kind::Warning, "Preempted", &text).await;
    }
}

/// As much of a pod as an event needs.
fn pod(victim: &Victim) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(victim.name.clone());
    pod.metadata.namespace = Some(victim.namespace.clone());
    pod.metadata.uid = Some(victim.uid.clone());
    pod
}

/// The body of an eviction: of this very pod, not of a successor of its name.
fn body(victim: &Victim) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": victim.name, "namespace": victim.namespace},
        "deleteOptions": {"preconditions": {"uid": victim.uid}},
    })
}

/// Evicts a pod, or only finds out whether it may be. One that is gone is evicted.
async fn attempt(client: &Client, victim: &Victim, dry_run: bool) -> Result<(), String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &victim.namespace);
    let body = body(victim);
    let parameters = PostParams { dry_run, ..PostParams::default() };
    let mut last = String::new();
    for _ in 0..TRIES {
        let answer: Result<Value, kube::Error> =
            api.create_subresource("eviction", &victim.name, &parameters, &body).await;
        match answer {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return Ok(()),
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => return Err(status.message.clone()),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Qos;

    #[test]
    fn an_eviction_is_of_this_very_pod_and_is_told_in_words() {
        let victim = Victim { uid: "u".into(), namespace: "ns".into(), name: "p".into(), qos: Qos::Low };
        assert_eq!(body(&victim)["deleteOptions"]["preconditions"]["uid"], "u");
        let reference: k8s_openapi::api::core::v1::ObjectReference = kube::Resource::object_ref(&pod(&victim), &());
        assert_eq!((reference.kind.as_deref(), reference.uid.as_deref()), (Some("Pod"), Some("u")));
        assert_eq!(describe(&[victim], "n1"), "evicting ns/p (low) to make room on node n1");
    }
}
