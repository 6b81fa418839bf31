//! The loop that watches, decides and writes.

mod bound;
mod facts;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::{Allocation, GPU, GPUPool, GPUResourceQuota, SchedulingConfigTemplate, names};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{mpsc, watch};

use super::claim::{self, Claim, Standing, controller};
use super::ledger::{Ledger, Waiting};
use super::replan::Stuck;
use super::report::{self, Snapshot};
use super::tell::Teller;
use super::{eligible, gang};
use crate::fault;
use crate::follow::{News, follow};

/// Bindings under way at once.
const BINDINGS: usize = 64;
/// The loop looks at what time has changed this often.
const TICK: Duration = Duration::from_millis(500);
/// A binding that did not come about is tried again after so long.
const RETRY: Duration = Duration::from_millis(200);

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
    /// A binding came about, or did not.
    Bound(String, bool),
    /// Try this pod again.
    Retry(String),
    /// How many replicas an owner wants.
    Desired(String, Option<u32>),
}

/// See the module's text.
#[expect(missing_debug_implementations, reason = "a client has none, and nobody prints the loop")]
pub struct Allocator {
    client: Client,
    ledger: Ledger,
    queue: BTreeMap<(std::cmp::Reverse<types::Qos>, i64, String, String), String>,
    waiting: BTreeMap<String, Claim>,
    fresh: BTreeSet<String>,
    /// Something was freed or added: all may be tried again.
    room: bool,
    binding: BTreeSet<String>,
    gone: BTreeSet<String>,
    incomplete: BTreeSet<&'static str>,
    pools: BTreeMap<String, GPUPool>,
    templates: BTreeMap<String, SchedulingConfigTemplate>,
    desired: BTreeMap<String, Option<u32>>,
    /// Owner's UID → members that have a place.
    members: BTreeMap<String, BTreeSet<String>>,
    stuck: Stuck,
    teller: Teller,
    reports: watch::Sender<Arc<Snapshot>>,
    reported: Instant,
    changed: bool,
    sender: mpsc::UnboundedSender<Change>,
}

impl Allocator {
    /// Runs for as long as we lead.
    pub async fn run(client: Client) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        facts::watch_all(&client, &sender);
        let (reports, reported) = watch::channel(Arc::new(Snapshot::default()));
        tokio::spawn(report::write(client.clone(), reported));
        let mut this = Self {
            ledger: Ledger::default(),
            queue: BTreeMap::new(),
            waiting: BTreeMap::new(),
            fresh: BTreeSet::new(),
            room: false,
            binding: BTreeSet::new(),
            gone: BTreeSet::new(),
            incomplete: facts::KINDS.iter().copied().collect(),
            pools: BTreeMap::new(),
            templates: BTreeMap::new(),
            desired: BTreeMap::new(),
            members: BTreeMap::new(),
            stuck: Stuck::default(),
            teller: Teller::new(client.clone()),
            reports,
            reported: Instant::now(),
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
                _ = tick.tick() => this.pass_time(Instant::now()),
            }
            if this.incomplete.is_empty() {
                this.serve(Instant::now());
                this.report(Instant::now());
            }
        }
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Pod(News::Is(pod)) => self.pod(&Arc::new(*pod)),
            Change::Pod(News::Gone(uid)) => self.pod_gone(&uid),
            Change::Bound(uid, done) => self.bound(&uid, done),
            Change::Retry(uid) => drop(self.fresh.insert(uid)),
            Change::Desired(owner, desired) => {
                self.desired.insert(owner, desired);
                self.room = true;
            }
            other => self.fact(other),
        }
    }

    fn pod(&mut self, pod: &Arc<Pod>) {
        let Some(uid) = pod.uid() else { return };
        let standing = claim::standing(pod);
        self.stuck.see(pod, matches!(standing, Standing::Having(..)));
        match standing {
            Standing::Waiting(claim) => {
                self.ask_owner(&claim);
                if !self.waiting.contains_key(&uid) {
                    self.queue.insert(claim::order(&claim), uid.clone());
                }
                self.fresh.insert(uid.clone());
                self.waiting.insert(uid, *claim);
            }
            Standing::Having(allocation, wish) => {
                self.forget(&uid);
                let namespace = pod.namespace().unwrap_or_default();
                if self.ledger.grant(&uid, &namespace, &pod.name_any(), allocation) {
                    self.changed = true;
                }
                if wish.is_some_and(|wish| wish.gang.is_some())
                    && let Some((_, _, owner)) = controller(pod)
                {
                    self.members.entry(owner.to_owned()).or_default().insert(uid);
                }
            }
            Standing::Broken(why) => {
                self.forget(&uid);
                self.teller.waits(pod, "RequestUnreadable", &why, Instant::now());
            }
            Standing::Nothing => self.pod_gone(&uid),
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        self.forget(uid);
        self.stuck.forget(uid);
        self.teller.forget(uid);
        self.members.retain(|_, members| {
            members.remove(uid);
            !members.is_empty()
        });
        if self.binding.contains(uid) {
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
            (self.room, self.changed) = (true, true);
        }
    }

    /// The pod waits no more.
    fn forget(&mut self, uid: &str) {
        self.fresh.remove(uid);
        if let Some(claim) = self.waiting.remove(uid) {
            self.queue.remove(&claim::order(&claim));
        }
    }

    /// Finds places for those that may have one now.
    fn serve(&mut self, now: Instant) {
        if !self.room && self.fresh.is_empty() {
            return;
        }
        let all = std::mem::take(&mut self.room);
        let fresh = std::mem::take(&mut self.fresh);
        let order: Vec<String> = self.queue.values().filter(|uid| all || fresh.contains(*uid)).cloned().collect();
        let mut failed: HashSet<(String, String)> = HashSet::new();
        let mut gangs: BTreeSet<String> = BTreeSet::new();
        for uid in order {
            if self.binding.contains(&uid) {
                continue;
            }
            if self.binding.len() >= BINDINGS {
                // The rest when these are through.
                self.room |= all;
                if fresh.contains(&uid) {
                    self.fresh.insert(uid);
                }
                continue;
            }
            let Some(claim) = self.waiting.get(&uid).cloned() else { continue };
            if let Some(owner) = gang::key(&claim) {
                if gangs.insert(owner.clone()) {
                    self.serve_gang(&owner, &claim, now);
                }
                continue;
            }
            // Where one found nothing, another that asks the same finds nothing either.
            let alike = (!eligible::has_rules(&claim.pod)).then(|| {
                let text = claim::annotation(&claim.pod, names::REQUEST).unwrap_or_default();
                (claim.namespace.clone(), text.to_owned())
            });
            if alike.as_ref().is_some_and(|alike| failed.contains(alike)) && !self.teller.may_tell(&claim.uid, now) {
                continue;
            }
            match self.ledger.place(&claim, self.stuck.avoid(&claim)) {
                Ok(allocation) => self.bind(claim, allocation),
                Err(waiting) => {
                    self.tell_waiting(&claim, &waiting, now);
                    failed.extend(alike);
                }
            }
        }
    }

    fn serve_gang(&mut self, owner: &str, first: &Claim, now: Instant) {
        let members: Vec<Claim> = self
            .queue
            .values()
            .filter(|uid| !self.binding.contains(*uid))
            .filter_map(|uid| self.waiting.get(uid))
            .filter(|claim| gang::key(claim).as_deref() == Some(owner))
            .cloned()
            .collect();
        let coming = self
            .binding
            .iter()
            .filter(|uid| self.waiting.get(*uid).is_some_and(|claim| gang::key(claim).as_deref() == Some(owner)));
        let there = self.members.get(owner).map_or(0, BTreeSet::len) + coming.count();
        let Some(needed) = gang::needed(first, self.desired.get(owner).copied().flatten()) else {
            let why = "its gang names no minimum, and its owner does not say how many replicas there are to be";
            self.tell_waiting(first, &Waiting::Impossible(why.to_owned()), now);
            return;
        };
        let waiting: Vec<&Claim> = members.iter().collect();
        match gang::place(&mut self.ledger, &waiting, there, needed, self.stuck.avoided()) {
            Ok(placed) => {
                for (position, allocation) in placed {
                    if let Some(claim) = members.get(position) {
                        self.bind(claim.clone(), allocation);
                    }
                }
            }
            Err(why) => {
                for claim in &members {
                    self.tell_waiting(claim, &why, now);
                }
            }
        }
    }

    fn tell_waiting(&mut self, claim: &Claim, waiting: &Waiting, now: Instant) {
        if !self.teller.may_tell(&claim.uid, now) {
            return;
        }
        let text = self.ledger.explain(waiting);
        let reason = match waiting {
            Waiting::Room(_) | Waiting::NoNode => "WaitingForGPU",
            Waiting::Quota(_, true) => "WaitingForQuota",
            Waiting::Quota(_, false) => "ExceedsQuota",
            Waiting::Impossible(_) => "CannotBeServed",
            Waiting::Gang(..) => "WaitingForGang",
        };
        tracing::debug!(pod = claim.name, namespace = claim.namespace, reason, text, "a pod waits");
        self.teller.waits(&claim.pod, reason, &text, now);
    }

    fn bind(&mut self, claim: Claim, allocation: Allocation) {
        fault::point("after-place");
        self.changed = true;
        self.binding.insert(claim.uid.clone());
        let (client, sender) = (self.client.clone(), self.sender.clone());
        tokio::spawn(async move {
            let done = bound::bind(&client, &claim.pod, &allocation).await;
            // Nobody listens any more when the loop has ended, and the process with it.
            sender.send(Change::Bound(claim.uid.clone(), done)).ok();
        });
    }

    fn bound(&mut self, uid: &str, done: bool) {
        self.binding.remove(uid);
        let gone = self.gone.remove(uid);
        if gone || !done {
            self.release(uid);
        }
        if gone {
            return;
        }
        let Some(claim) = self.waiting.get(uid).cloned() else { return };
        if done {
            if gang::key(&claim).is_some()
                && let Some((_, _, owner)) = controller(&claim.pod)
            {
                self.members.entry(owner.to_owned()).or_default().insert(uid.to_owned());
            }
            self.forget(uid);
            let got = self.ledger.granted_to(uid).map(describe);
            if let Some(text) = got {
                tracing::info!(pod = claim.name, namespace = claim.namespace, text, "a pod got its GPUs");
                self.teller.says(&claim.pod, "Allocated", &text, Instant::now());
            }
        } else {
            let (sender, uid) = (self.sender.clone(), uid.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(RETRY).await;
                sender.send(Change::Retry(uid)).ok();
            });
        }
        // Others waited for a free binding.
        self.room |= self.binding.len() + 1 == BINDINGS;
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
        // Those that wait hear from us now and then, and try again in case anything was missed.
        self.room |= !self.waiting.is_empty() && self.reported.elapsed() > Duration::from_secs(10);
    }

    fn report(&mut self, now: Instant) {
        let pause = if self.changed { Duration::from_secs(1) } else { Duration::from_secs(30) };
        if now.duration_since(self.reported) < pause {
            return;
        }
        (self.changed, self.reported) = (false, now);
        let snapshot = report::snapshot(&mut self.ledger, &self.pools, self.waiting.len());
        self.reports.send_replace(Arc::new(snapshot));
    }

    /// Finds out how many members a gang is to have.
    fn ask_owner(&mut self, claim: &Claim) {
        let Some((kind, name, uid)) = controller(&claim.pod) else { return };
        if claim.wish.gang.is_none() || self.desired.contains_key(uid) {
            return;
        }
        self.desired.insert(uid.to_owned(), None);
        let (client, sender) = (self.client.clone(), self.sender.clone());
        let (kind, name, uid, namespace) = (kind.to_owned(), name.to_owned(), uid.to_owned(), claim.namespace.clone());
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
