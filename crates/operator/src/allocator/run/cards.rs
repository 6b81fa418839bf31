//! Getting cards from device plugins for pods that wait, and giving them back.

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};

use super::{Allocator, Change};
use crate::Settings;
use crate::allocator::claim::Claim;
use crate::allocator::{eligible, holders};
use crate::follow::News;

impl Allocator {
    /// Hears of a pod that holds cards. Whether anything changed for them.
    pub(super) fn holder(&mut self, news: &News<Pod>) -> bool {
        let changed = match news {
            News::Is(pod) => self.holders.see(pod),
            News::Gone(name) => self.holders.gone(name),
            News::Complete => return self.complete("holders"),
        };
        changed && self.look_at_foreign()
    }

    /// Makes holders for those that wait, and ends those that nobody needs.
    pub(super) fn hold_cards(&mut self, settings: &Settings, now: Instant) {
        if self.holders.is_empty() && self.foreign.is_empty() {
            return;
        }
        let mut holders = std::mem::take(&mut self.holders);
        for (claim, nodes) in holders.missing(self.queue.in_order(), |claim| self.plugin_nodes(claim), now) {
            self.make_holder(claim, &nodes, settings);
        }
        let busy = self.foreign.iter().filter(|card| !self.ledger.is_idle(card));
        let used: BTreeSet<&str> = busy.filter_map(|card| self.seen.get(card)?.held_by.as_deref()).collect();
        let going = holders.superfluous(|name| used.contains(name), now);
        self.holders = holders;
        for name in &going {
            tracing::info!(holder = name, "nobody uses what it holds, so it is given back");
            let (client, namespace, name, sender) =
                (self.client.clone(), self.namespace.clone(), name.clone(), self.sender.clone());
            tokio::spawn(async move {
                let api: Api<Pod> = Api::namespaced(client, &namespace);
                match api.delete(&name, &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => {
                        tracing::warn!(holder = name, %error, "a holder could not be deleted");
                        sender.send(Change::Stays(name)).ok();
                    }
                }
            });
        }
        if !going.is_empty() {
            self.look_at_foreign();
        }
    }

    /// Whether a claim is to wait for a card of a plugin's before others are evicted for it.
    pub(super) fn may_get_card(&self, claim: &Claim, now: Instant) -> bool {
        !self.foreign.is_empty()
            && self.ledger.kept_for(&claim.uid).is_none()
            && self.holders.is_fresh(&claim.uid, now)
            && !self.plugin_nodes(claim).is_empty()
    }

    /// Nodes of the claim's pool with cards of a device plugin's that could serve it.
    fn plugin_nodes(&self, claim: &Claim) -> Vec<String> {
        let wish = &claim.wish;
        let suits = |card: &crate::allocator::ledger::Card| {
            let large = wish.containers.iter().all(|container| {
                container.vram_request.is_none_or(|vram| vram <= card.amount.vram)
                    && container.tflops_request.is_none_or(|tflops| tflops <= card.amount.tflops)
            });
            let model = wish.model.as_ref().and_then(|model| self.ledger.catalogue().find(model));
            let model = model.map(|model| model.model.clone()).or_else(|| wish.model.clone());
            large
                && model.is_none_or(|model| model == card.model)
                && wish.vendor.as_ref().is_none_or(|vendor| *vendor == card.vendor)
        };
        let mut nodes: Vec<String> = self
            .foreign
            .iter()
            .filter(|name| self.seen.get(*name).is_some_and(|seen| seen.plugin))
            .filter_map(|name| self.ledger.card(name))
            .filter(|card| self.ledger.pool_of(card) == wish.pool && suits(card))
            .map(|card| card.node.clone())
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|name| self.ledger.node(name).is_none_or(|facts| eligible::may_run(&claim.pod, name, facts)));
        nodes
    }

    fn make_holder(&self, claim: &Claim, nodes: &[String], settings: &Settings) {
        let pod = holders::pod(claim, nodes, settings);
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        tracing::info!(
            pod = claim.name,
            namespace = claim.namespace,
            "a card is asked for where a device plugin has them"
        );
        tokio::spawn(async move {
            let api: Api<Pod> = Api::namespaced(client, &namespace);
            let pod: Pod = match serde_json::from_value(pod) {
                Ok(pod) => pod,
                Err(error) => return tracing::error!(%error, "a holder is no pod"),
            };
            match api.create(&PostParams::default(), &pod).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => tracing::warn!(holder = pod.name_any(), %error, "a holder could not be made"),
            }
        });
    }
}
