//! From objects to what the ledger needs to know of them.

use crd::{GPU, GPUPool, GpuPhase, PlacementMode, SchedulingConfigTemplate, UsedBy, names};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use pool::{Amount, Catalogue, Strategy};
use tokio::sync::mpsc;
use types::Percent;

use super::{Allocator, Change, pods, watch_kind};
use crate::allocator::eligible::NodeFacts;
use crate::allocator::ledger::{Card, PoolPolicy};
use crate::follow::News;

/// What must be known before anything is decided.
pub(super) const KINDS: &[&str] = &["pods", "gpus", "nodes", "pools", "templates", "quotas"];

pub(super) fn watch_all(client: &Client, sender: &mpsc::UnboundedSender<Change>) {
    let (api, config) = pods(client);
    watch_kind(api, config, sender, |pod| pod.uid().unwrap_or_default(), Change::Pod);
    watch_kind(Api::all(client.clone()), Config::default(), sender, |gpu: &GPU| gpu.name_any(), Change::Card);
    watch_kind(Api::all(client.clone()), Config::default(), sender, ResourceExt::name_any, Change::Node);
    watch_kind(Api::all(client.clone()), Config::default(), sender, ResourceExt::name_any, Change::Pool);
    watch_kind(Api::all(client.clone()), Config::default(), sender, ResourceExt::name_any, Change::Template);
    let path =
        |quota: &crd::GPUResourceQuota| format!("{}/{}", quota.namespace().unwrap_or_default(), quota.name_any());
    watch_kind(Api::all(client.clone()), Config::default(), sender, path, Change::Quota);
}

impl Allocator {
    /// Hears of anything but a pod.
    pub(super) fn fact(&mut self, change: Change) {
        let changed = match change {
            Change::Pod(News::Complete) => self.complete("pods"),
            Change::Card(News::Complete) => self.complete("gpus"),
            Change::Node(News::Complete) => self.complete("nodes"),
            Change::Pool(News::Complete) => self.complete("pools"),
            Change::Template(News::Complete) => self.complete("templates"),
            Change::Quota(News::Complete) => self.complete("quotas"),
            Change::Card(News::Is(gpu)) => self.ledger.set_card(&gpu.name_any(), card(&gpu)),
            Change::Card(News::Gone(name)) => self.ledger.set_card(&name, None),
            Change::Node(News::Is(node)) => self.ledger.set_node(&node.name_any(), Some(NodeFacts::of(&node))),
            Change::Node(News::Gone(name)) => self.ledger.set_node(&name, None),
            Change::Pool(News::Is(pool)) => {
                let name = pool.name_any();
                self.pools.insert(name.clone(), *pool);
                self.policy(&name)
            }
            Change::Pool(News::Gone(name)) => {
                self.pools.remove(&name);
                self.ledger.set_pool(&name, None)
            }
            Change::Template(News::Is(template)) => {
                self.templates.insert(template.name_any(), *template);
                self.policies()
            }
            Change::Template(News::Gone(name)) => {
                self.templates.remove(&name);
                self.policies()
            }
            Change::Quota(News::Is(quota)) => {
                self.ledger.set_quota(&quota.namespace().unwrap_or_default(), &quota.name_any(), Some(quota.spec))
            }
            Change::Quota(News::Gone(path)) => {
                path.split_once('/').is_some_and(|(namespace, name)| self.ledger.set_quota(namespace, name, None))
            }
            Change::Pod(_) | Change::Bound(..) | Change::Retry(_) | Change::Desired(..) | Change::Refused(_) => false,
        };
        if changed {
            self.queue.all_again();
            self.changed = true;
        }
    }

    fn complete(&mut self, kind: &'static str) -> bool {
        if self.incomplete.remove(kind) && self.incomplete.is_empty() {
            tracing::info!(
                gpus = self.ledger.cards().count(),
                pods = self.ledger.granted().count(),
                "everything is known"
            );
        }
        true
    }

    fn policies(&mut self) -> bool {
        let names: Vec<String> = self.pools.keys().cloned().collect();
        let mut changed = false;
        for name in &names {
            changed |= self.policy(name);
        }
        changed
    }

    fn policy(&mut self, name: &str) -> bool {
        let policy = self.pools.get(name).map(|pool| policy(pool, &self.templates));
        self.ledger.set_pool(name, policy)
    }
}

fn policy(pool: &GPUPool, templates: &std::collections::BTreeMap<String, SchedulingConfigTemplate>) -> PoolPolicy {
    let oversubscription = pool.spec.capacity_config.as_ref().and_then(|config| config.oversubscription.as_ref());
    let ratio = oversubscription.and_then(|config| config.tflops_oversell_ratio);
    let template = pool.spec.scheduling_config_template.as_ref().and_then(|name| templates.get(name));
    PoolPolicy {
        oversell: ratio.and_then(|ratio| Percent::try_from(f64::from(ratio)).ok()),
        strategy: template.map(|template| match template.spec.placement.mode {
            PlacementMode::CompactFirst => Strategy::CompactFirst,
            PlacementMode::LowLoadFirst => Strategy::LowLoadFirst,
            PlacementMode::NodeCompactGPULowLoad => Strategy::NodeCompactGPULowLoad,
        }),
        nodes: pool.spec.node_manager_config.node_selector.clone(),
    }
}

/// A card, as far as its object says enough.
fn card(gpu: &GPU) -> Option<Card> {
    let status = gpu.status.as_ref()?;
    let known = Catalogue::builtin();
    let model = known.find(&status.gpu_model).or_else(|| known.find(status.model.as_deref()?));
    let tflops = status.capacity.tflops.tflops().ok().filter(|amount| *amount != types::Tflops::default());
    let links = status.nv_link.as_ref().and_then(|links| links.peers.as_ref());
    Some(Card {
        node: status.node_selector.get(names::HOSTNAME)?.clone(),
        index: u32::try_from(status.index.unwrap_or_default()).unwrap_or_default(),
        pool: gpu.labels().get(names::POOL).cloned(),
        model: model.map_or_else(|| status.gpu_model.clone(), |model| model.model.clone()),
        vendor: status.vendor.clone(),
        numa_node: status.numa_node.and_then(|node| u32::try_from(node).ok()),
        amount: Amount::new(
            tflops.or(model.map(|model| model.fp16_tflops)).unwrap_or_default(),
            status.capacity.vram.bytes().ok()?,
        ),
        ready: status.phase == GpuPhase::Running && status.used_by != Some(UsedBy::NvidiaDevicePlugin),
        links: links
            .into_iter()
            .flatten()
            .map(|peer| {
                let lanes = peer.link_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
                let speed = peer.bandwidth.and_then(|speed| u64::try_from(speed).ok()).unwrap_or_default();
                (peer.peer_uuid.to_lowercase(), lanes, speed)
            })
            .collect(),
    })
}

/// How many replicas an owner of pods wants.
pub(super) async fn desired(client: &Client, kind: &str, namespace: &str, name: &str) -> Option<u32> {
    let result = match kind {
        "ReplicaSet" => {
            Api::<ReplicaSet>::namespaced(client.clone(), namespace).get(name).await.map(|owner| owner.spec.replicas)
        }
        "StatefulSet" => {
            Api::<StatefulSet>::namespaced(client.clone(), namespace).get(name).await.map(|owner| owner.spec.replicas)
        }
        "Job" => Api::<Job>::namespaced(client.clone(), namespace)
            .get(name)
            .await
            .map(|owner| owner.spec.and_then(|spec| spec.parallelism)),
        _ => Ok(None),
    };
    match result {
        Ok(replicas) => replicas.and_then(|replicas| u32::try_from(replicas).ok()),
        Err(error) => {
            tracing::warn!(kind, namespace, name, %error, "a gang's owner could not be asked");
            None
        }
    }
}
