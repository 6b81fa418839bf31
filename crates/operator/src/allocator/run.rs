//! The loop that watches, decides and writes.

mod bound;
mod cards;
mod evict;
mod facts;
mod feed;
mod room;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::{Allocation, GPU, GPUPool, GPUResourceQuota, ProviderConfig, SchedulingConfigTemplate, names};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{mpsc, watch};

use super::claim::{self, Claim, Standing, controller};
use super::gangs::Gangs;
use super::holders::Holders;
use super::ledger::{Ledger, Terms};
use super::queue::Queue;
use super::replan::Stuck;
use super::report::{self, Snapshot};
use super::tell::Teller;
use crate::fault;
use crate::follow::{News, follow};
use crate::models::Models;
use crate::webhook::Webhook;
use room::Making;

/// Bindings under way at once.
const BINDINGS: usize = 64;
/// The loop looks at what time has changed this often.
const TICK: Duration = Duration::from_millis(500);
/// A binding that did not come about is tried again after so long.
const RETRY: Duration = Duration::from_millis(200);
/// Those that wait try again this often, in case anything was missed.
const AGAIN: Duration = Duration::from_secs(10);

/// Something that the loop hears of.
#[derive(Debug)]
pub(crate) enum Change {
    /// A pod, by UID.
    Pod(News<Pod>),
    /// A GPU.
    Card(News<GPU>),
    /// A node.
    Node(News<Node>),
    /// A pool.
    Pool(News<GPUPool>),
    /// A template that pools name.
    Template(News<SchedulingConfigTemplate>),
    /// A quota.
    Quota(News<GPUResourceQuota>),
    /// A pod that holds cards.
    Holder(News<Pod>),
    /// Such a pod could not be deleted.
    Stays(String),
    /// Models of GPUs.
    Models(News<ConfigMap>),
    /// Models of GPUs.
    Provider(News<ProviderConfig>),
    /// A binding came about, or did not.
    Bound(String, bool),
    /// Try this pod again.
    Retry(String),
    /// How many replicas an owner wants.
    Desired(String, Option<u32>),
    /// An eviction was refused.
    Refused(evict::Refused),
}

/// See the module's text.
#[expect(missing_debug_implementations, reason = "a client has none, and nobody prints the loop")]
pub struct Allocator {
    client: Client,
    /// The operator's own.
    namespace: String,
    ledger: Ledger,
    queue: Queue,
    gangs: Gangs,
    making: Making,
    holders: Holders,
    /// What the catalogue of GPUs is made of, and the GPUs that it is asked about.
    models: Models,
    seen: BTreeMap<String, facts::Seen>,
    /// Of these, the ones that a device plugin gives out, to others or to us.
    foreign: BTreeSet<String>,
    /// Bindings under way, by UID.
    binding: BTreeMap<String, Claim>,
    gone: BTreeSet<String>,
    incomplete: BTreeSet<&'static str>,
    pools: BTreeMap<String, GPUPool>,
    templates: BTreeMap<String, SchedulingConfigTemplate>,
    stuck: Stuck,
    teller: Teller,
    reports: watch::Sender<Arc<Snapshot>>,
    reported: Instant,
    retried: Instant,
    changed: bool,
    sender: mpsc::UnboundedSender<Change>,
}

impl Allocator {
    /// Runs for as long as we lead.
    pub async fn run(client: Client, namespace: String, webhook: Arc<Webhook>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        facts::watch_all(&client, &namespace, &sender);
        let (reports, reported) = watch::channel(Arc::new(Snapshot::default()));
        tokio::spawn(report::write(client.clone(), reported));
        let now = Instant::now();
        let mut this = Self {
            namespace,
            ledger: Ledger::default(),
            holders: Holders::default(),
            queue: Queue::default(),
            gangs: Gangs::default(),
            making: Making::new(webhook.knowledge.settings().preemption, now),
            models: Models::default(),
            seen: BTreeMap::new(),
            foreign: BTreeSet::new(),
            binding: BTreeMap::new(),
            gone: BTreeSet::new(),
            incomplete: facts::KINDS.iter().copied().collect(),
            pools: BTreeMap::new(),
            templates: BTreeMap::new(),
            stuck: Stuck::default(),
            teller: Teller::new(client.clone()),
            reports,
            reported: now,
            retried: now,
            changed: true,
            sender,
            client,
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = receiver.recv() => {
                    let Some(change) = change else { return };
                    this.hear(change);
                    while let Ok(change) = receiver.try_recv() {
                        this.hear(change);
                    }
                }
                _ = tick.tick() => {
                    let settings = webhook.knowledge.settings();
                    this.making.set_scope(settings.preemption);
                    this.pass_time(Instant::now());
                    if this.incomplete.is_empty() {
                        this.hold_cards(&settings, Instant::now());
                    }
                }
            }
            if this.incomplete.is_empty() {
                this.serve(Instant::now());
                this.report(Instant::now());
            }
        }
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Pod(News::Is(pod)) => self.pod(&Arc::new(*pod), Instant::now()),
            Change::Pod(News::Gone(uid)) => self.pod_gone(&uid),
            Change::Bound(uid, done) => self.bound(&uid, done),
            Change::Retry(uid) => self.queue.again(&uid),
            Change::Desired(owner, desired) => {
                self.gangs.wants(&owner, desired);
                self.gang_again(&owner);
            }
            Change::Refused(refused) => self.refused(refused),
            Change::Stays(name) => {
                self.holders.stays(&name);
                self.look_at_foreign();
            }
            other => self.fact(other),
        }
    }

    fn pod(&mut self, pod: &Arc<Pod>, now: Instant) {
        let Some(uid) = pod.uid() else { return };
        let standing = claim::standing(pod);
        self.stuck.see(pod, matches!(standing, Standing::Having(..)));
        match standing {
            Standing::Waiting(claim) => {
                if let Some(owner) = super::gang::key(&claim)
                    && !self.binding.contains_key(&uid)
                {
                    self.gangs.waits(&claim, claim::order(&claim), now);
                    self.gang_again(&owner);
                    self.ask_owner(pod, now);
                }
                self.queue.waits(*claim, now);
            }
            Standing::Having(allocation, wish) => {
                self.waits_no_more(&uid);
                let mut terms = Terms::of(pod, wish.as_deref());
                terms.leaves = self.leaves(pod, now);
                let namespace = pod.namespace().unwrap_or_default();
                if self.ledger.grant(&uid, &namespace, &pod.name_any(), allocation, terms) {
                    self.changed = true;
                }
                if wish.is_some_and(|wish| wish.gang.is_some())
                    && let Some((_, _, owner)) = controller(pod)
                {
                    self.gangs.has(&uid, owner);
                    self.ask_owner(pod, now);
                }
            }
            Standing::Broken(why) => {
                self.waits_no_more(&uid);
                self.teller.waits(pod, "RequestUnreadable", &why, now);
            }
            Standing::Nothing => self.pod_gone(&uid),
        }
    }

    /// When a pod that is being deleted is gone at the latest. The clock of whoever deleted it may be another.
    fn leaves(&self, pod: &Pod, now: Instant) -> Option<Duration> {
        pod.metadata.deletion_timestamp.as_ref()?;
        let known = pod.uid().and_then(|uid| self.ledger.terms(&uid)?.leaves);
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
        Some(known.unwrap_or(self.making.until(Duration::from_secs(u64::try_from(grace).unwrap_or_default()), now)))
    }

    fn pod_gone(&mut self, uid: &str) {
        self.waits_no_more(uid);
        self.stuck.forget(uid);
        self.teller.forget(uid);
        self.gangs.gone(uid);
        if self.binding.contains_key(uid) {
            self.gone.insert(uid.to_owned());
        } else {
            self.release(uid);
        }
    }

    fn release(&mut self, uid: &str) {
        if self.ledger.has(uid) {
            fault::point("before-release");
            self.ledger.release(uid);
            fault::point("after-release");
            self.queue.all_again();
            self.changed = true;
        }
    }

    /// The pod waits no more.
    fn waits_no_more(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.holders.want(uid, false, Instant::now());
        self.making.forget(uid);
        if self.ledger.end_kept(uid) {
            self.queue.all_again();
        }
    }

    /// A gang is to have a turn.
    fn gang_again(&mut self, owner: &str) {
        self.queue.gang_again(owner);
        if let Some(member) = self.gangs.waiting(owner).first() {
            self.queue.again(member);
        }
    }

    /// What only time changes.
    fn pass_time(&mut self, now: Instant) {
        for (pod, node) in self.stuck.due(now) {
            let has_owner = controller(&pod).is_some();
            super::replan::tell(&mut self.teller, &pod, &node, has_owner, now);
            if has_owner {
                tokio::spawn(super::replan::evict(self.client.clone(), pod));
            }
        }
        for owner in self.gangs.due(now) {
            self.gang_again(&owner);
        }
        self.keep_time(now);
        // Those that wait hear from us now and then, and try again in case anything was missed.
        if self.queue.len() > 0 && now.duration_since(self.retried) > AGAIN {
            self.retried = now;
            self.queue.all_again();
        }
    }

    fn report(&mut self, now: Instant) {
        // While much is bound the API server has better to do than to hear of it at once.
        let busy = self.binding.len() > BINDINGS / 4;
        let pause = match (self.changed, busy) {
            (true, false) => Duration::from_secs(1),
            (true, true) => Duration::from_secs(5),
            (false, _) => Duration::from_secs(30),
        };
        if now.duration_since(self.reported) < pause {
            return;
        }
        (self.changed, self.reported) = (false, now);
        let snapshot = report::snapshot(&mut self.ledger, &self.pools, self.queue.len());
        self.reports.send_replace(Arc::new(snapshot));
    }

    /// Finds out how many members a gang is to have.
    fn ask_owner(&mut self, pod: &Pod, now: Instant) {
        let Some((kind, name, uid)) = controller(pod) else { return };
        if !self.gangs.ask(uid, now) {
            return;
        }
        let (client, sender) = (self.client.clone(), self.sender.clone());
        let (kind, name, uid) = (kind.to_owned(), name.to_owned(), uid.to_owned());
        let namespace = pod.namespace().unwrap_or_default();
        tokio::spawn(async move {
            let desired = facts::desired(&client, &kind, &namespace, &name).await;
            sender.send(Change::Desired(uid, desired)).ok();
        });
    }
}

fn describe(allocation: &Allocation) -> String {
    let parts: Vec<String> = allocation
        .containers
        .iter()
        .map(|(name, shares)| {
            let shares: Vec<String> = shares
                .iter()
                .map(|share| format!("{} TFLOPS and {} of {}", share.tflops, share.vram, share.gpu))
                .collect();
            format!("{name}: {}", shares.join(", "))
        })
        .collect();
    format!("on node {}: {}", allocation.node, parts.join("; "))
}

fn pods(client: &Client) -> (Api<Pod>, Config) {
    (Api::all(client.clone()), Config::default().labels(&format!("{}=true", names::ENABLED)))
}

/// Follows one kind, and tells the loop.
fn watch_kind<K>(
    api: Api<K>,
    config: Config,
    sender: &mpsc::UnboundedSender<Change>,
    key: impl Fn(&K) -> String + Send + Sync + 'static,
    change: impl Fn(News<K>) -> Change + Send + Sync + 'static,
) where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Default,
{
    let sender = sender.clone();
    tokio::spawn(async move {
        follow(api, config, key, |news| drop(sender.send(change(news)))).await;
    });
}
