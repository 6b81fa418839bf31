//! From objects to what the ledger needs to know of them.

use crd::{GPU, GPUPool, GpuPhase, PlacementMode, SchedulingConfigTemplate, TensorFusionWorkload, UsedBy, names};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use pool::{Amount, Model, Strategy};
use tokio::sync::mpsc;
use types::Percent;

use super::{Allocator, Change, pods, watch_kind};
use crate::allocator::eligible::NodeFacts;
use crate::allocator::holders::Holders;
use crate::allocator::ledger::{Card, Ledger, PoolPolicy};
use crate::configuration;
use crate::follow::{News, path};
use crate::models::{self, Models};

/// What must be known before anything is decided.
pub(super) const KINDS: &[&str] =
    &["pods", "gpus", "nodes", "pools", "templates", "quotas", "models", "providers", "holders"];

/// A GPU as its object says, before the catalogue has its word.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    card: Card,
    /// The names by which the catalogue may know it.
    names: [Option<String>; 2],
    /// A device plugin gives it out, and a pod can have all of it.
    pub(super) plugin: bool,
    /// The pod that holds it for us.
    pub(super) held_by: Option<String>,
}

pub(super) fn watch_all(client: &Client, namespace: &str, sender: &mpsc::UnboundedSender<Change>) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let named = Config::default().fields(&format!("metadata.name={}", models::NAME));
    watch_kind(maps, named, sender, ResourceExt::name_any, Change::Models);
    watch_kind(Api::all(client.clone()), Config::default(), sender, ResourceExt::name_any, Change::Provider);
    let (api, config) = pods(client);
    watch_kind(api, config, sender, |pod| pod.uid().unwrap_or_default(), Change::Pod);
    watch_kind(Api::all(client.clone()), Config::default(), sender, |gpu: &GPU| gpu.name_any(), Change::Card);
    watch_kind(Api::all(client.clone()), Config::default(), sender, ResourceExt::name_any, Change::Node);
    watch_kind(Api::all(client.clone()), Config::default(), sender, ResourceExt::name_any, Change::Pool);
    watch_kind(Api::all(client.clone()), Config::default(), sender, ResourceExt::name_any, Change::Template);
    watch_kind(Api::all(client.clone()), Config::default(), sender, path, Change::Quota);
    let held = Config::default().labels(&format!("{}={}", names::COMPONENT, names::CARD_HOLDER));
    watch_kind(Api::namespaced(client.clone(), namespace), held, sender, ResourceExt::name_any, Change::Holder);
}

impl Allocator {
    /// Hears of anything but a pod.
    pub(super) fn fact(&mut self, change: Change) {
        let changed = match change {
            Change::Pod(News::Complete) => self.complete("pods"),
            Change::Holder(news) => self.holder(&news),
            Change::Card(News::Complete) => self.complete("gpus"),
            Change::Node(News::Complete) => self.complete("nodes"),
            Change::Pool(News::Complete) => self.complete("pools"),
            Change::Template(News::Complete) => self.complete("templates"),
            Change::Quota(News::Complete) => self.complete("quotas"),
            Change::Models(News::Complete) => self.complete("models"),
            Change::Provider(News::Complete) => self.complete("providers"),
            Change::Models(News::Is(map)) => {
                let told = configuration::value(&map, models::KEY).and_then(models::parse);
                self.told(&*map, told, |this, told| this.configure(told))
            }
            Change::Models(News::Gone(_)) => self.models.configure(Vec::new()) && self.look_up(),
            Change::Provider(News::Is(provider)) => {
                let (name, told) = (provider.name_any(), models::of_provider(&provider.spec));
                self.told(&*provider, told, |this, told| this.provide(&name, Some(told)))
            }
            Change::Provider(News::Gone(name)) => self.models.provide(&name, None) && self.look_up(),
            Change::Card(News::Is(gpu)) => self.card(&gpu.name_any(), seen(&gpu)),
            Change::Card(News::Gone(name)) => self.card(&name, None),
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
            Change::Pod(_)
            | Change::Bound(..)
            | Change::Retry(_)
            | Change::Desired(..)
            | Change::Refused(_)
            | Change::Stays(_) => false,
        };
        if changed {
            self.queue.all_again();
            self.changed = true;
        }
    }

    /// A GPU. Its status changes often, what we need of it seldom.
    fn card(&mut self, name: &str, seen: Option<Seen>) -> bool {
        if self.seen.get(name) == seen.as_ref() {
            return false;
        }
        let card = seen.as_ref().map(|seen| known(seen, &self.ledger, &self.holders));
        if let Some(card) = card.as_ref().filter(|card| card.amount.tflops == types::Tflops::default()) {
            let hint = format!("ConfigMap {} may say what it has", models::NAME);
            tracing::warn!(
                gpu = name,
                model = card.model,
                hint,
                "a GPU has no known compute: percents of it are nothing"
            );
        }
        self.foreign.remove(name);
        match seen {
            Some(seen) => {
                if seen.plugin || seen.held_by.is_some() {
                    self.foreign.insert(name.to_owned());
                }
                self.seen.insert(name.to_owned(), seen);
            }
            None => drop(self.seen.remove(name)),
        }
        self.ledger.set_card(name, card)
    }

    /// Takes in models, or complains about what cannot be read: then those of before stay. Whether anything changed.
    fn told<K: kube::Resource<DynamicType = ()>>(
        &mut self,
        object: &K,
        told: Result<Vec<Model>, String>,
        take: impl FnOnce(&mut Models, Vec<Model>) -> bool,
    ) -> bool {
        match told {
            Ok(told) => take(&mut self.models, told) && self.look_up(),
            Err(why) => {
                let text = format!("{why}; the models of before stay");
                configuration::complain(&self.client, object, configuration::UNREADABLE, text, true);
                false
            }
        }
    }

    /// Looks all GPUs up in the catalogue again.
    fn look_up(&mut self) -> bool {
        let mut changed = self.ledger.set_catalogue(self.models.catalogue());
        for (name, seen) in &self.seen {
            let card = known(seen, &self.ledger, &self.holders);
            changed |= self.ledger.set_card(name, Some(card));
        }
        changed
    }

    /// Tells the ledger anew of the cards that a device plugin gives out. Whether anything changed.
    pub(super) fn look_at_foreign(&mut self) -> bool {
        let mut changed = false;
        for name in &self.foreign {
            let Some(seen) = self.seen.get(name) else { continue };
            let card = known(seen, &self.ledger, &self.holders);
            changed |= self.ledger.set_card(name, Some(card));
        }
        changed
    }

    pub(super) fn complete(&mut self, kind: &'static str) -> bool {
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

/// A GPU, as far as its object says enough.
fn seen(gpu: &GPU) -> Option<Seen> {
    let status = gpu.status.as_ref()?;
    let tflops = status.capacity.tflops.tflops().ok().filter(|amount| *amount != types::Tflops::default());
    let links = status.nv_link.as_ref().and_then(|links| links.peers.as_ref());
    let card = Card {
        node: status.node_selector.get(names::HOSTNAME)?.clone(),
        index: u32::try_from(status.index.unwrap_or_default()).unwrap_or_default(),
        pool: gpu.labels().get(names::POOL).cloned(),
        model: status.gpu_model.clone(),
        vendor: status.vendor.clone(),
        numa_node: status.numa_node.and_then(|node| u32::try_from(node).ok()),
        amount: Amount::new(tflops.unwrap_or_default(), status.capacity.vram.bytes().ok()?),
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
    };
    Some(Seen {
        card,
        names: [Some(status.gpu_model.clone()), status.model.clone()],
        plugin: gpu.annotations().get(names::DEVICE_PLUGIN).is_some_and(|how| how == names::WHOLE),
        held_by: gpu.annotations().get(names::HELD_BY).cloned(),
    })
}

/// The card, ready if nobody else may have it, with the catalogue's short name of its model, and the catalogue's compute where its object tells none.
fn known(seen: &Seen, ledger: &Ledger, holders: &Holders) -> Card {
    let mut card = seen.card.clone();
    card.ready &= seen.held_by.as_ref().is_none_or(|holder| holders.serves(holder));
    if let Some(model) = seen.names.iter().flatten().find_map(|name| ledger.catalogue().find(name)) {
        card.model.clone_from(&model.model);
        if card.amount.tflops == types::Tflops::default() {
            card.amount.tflops = model.fp16_tflops;
        }
    }
    card
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
        "TensorFusionWorkload" => Api::<TensorFusionWorkload>::namespaced(client.clone(), namespace)
            .get(name)
            .await
            .map(|owner| owner.spec.replicas),
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
