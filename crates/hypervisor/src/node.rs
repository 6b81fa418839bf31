//! The one owner of what a node has granted.
//!
//! What is free is never stored: it is what the GPUs have, less what the vGPUs that are alive hold. A vGPU's memory
//! counts from the moment it is reserved until nothing is left of its worker.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot, watch};
use types::{Bytes, Event, Failure, Gpu, Lease, Request, Tflops, Token, Vgpu, VgpuId, VgpuState};

use crate::{
    allocate::{self, Unplaced},
    provider::Devices,
    state::{State, Store},
    worker::{Launcher, Spec, Status, StatusLine},
};

/// Seconds since 1970; the seam for tests.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no room.
    #[error(transparent)]
    Unplaced(#[from] Unplaced),
    /// There was room, but the worker did not come up.
    #[error("`{id}` cannot be started: {reason}")]
    Worker {
        /// The vGPU.
        id: VgpuId,
        /// Why.
        reason: String,
    },
    /// No such vGPU.
    #[error("there is no vGPU `{id}` on this node")]
    Unknown {
        /// What was asked for.
        id: VgpuId,
    },
    /// The operating system has no randomness for its token.
    #[error("`/dev/urandom` cannot be read")]
    Random(#[source] std::io::Error),
    /// It was taken away while it was being started.
    #[error("`{id}` was taken away while it was starting")]
    TakenAway {
        /// The vGPU.
        id: VgpuId,
    },
}

impl From<&NodeError> for Failure {
    fn from(error: &NodeError) -> Self {
        let hint = match error {
            NodeError::Unplaced(unplaced) => Some(unplaced.hint()),
            NodeError::Unknown { .. } => Some("`tensor-fusion ps` lists the vGPUs of this node"),
            NodeError::Worker { .. } | NodeError::Random(_) | NodeError::TakenAway { .. } => None,
        };
        Self { error: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

/// What a node is made of.
#[derive(Clone)]
pub struct Parts {
    /// The GPUs.
    pub devices: Devices,
    /// What starts workers.
    pub launcher: Arc<dyn Launcher>,
    /// What time it is.
    pub clock: Clock,
    /// Where workers listen: `tcp://HOST:0`.
    pub listen: String,
    /// The folder for state and the workers' logs; it exists.
    pub folder: PathBuf,
}

/// Counters since the node started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Requests that were granted.
    pub granted: u64,
    /// Requests that were refused, or whose worker did not come up.
    pub refused: u64,
    /// Workers that ended by themselves.
    pub died: u64,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("devices", &self.devices).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// How a vGPU is offered to its programs.
struct Offer {
    listen: String,
    token: Option<Token>,
    /// Somebody else has decided; there is nothing to refuse.
    decided: bool,
}

struct Entry {
    /// Without its token, which only its holder is told.
    vgpu: Vgpu,
    /// Dropping or sending ends the worker.
    stop: Option<oneshot::Sender<()>>,
    status: Option<StatusLine>,
    events: Option<mpsc::UnboundedSender<Event>>,
    /// It shall go; nobody need be told.
    leaving: bool,
    /// True once nothing is left of it.
    gone: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    vgpus: BTreeMap<VgpuId, Entry>,
    counters: Counters,
}

/// A node.
pub struct Node {
    parts: Parts,
    store: Store,
    inner: Mutex<Inner>,
    vgpus: watch::Sender<usize>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("devices", &self.parts.devices).finish_non_exhaustive()
    }
}

/// A vGPU that lives as long as this value.
#[derive(Debug)]
pub struct Held {
    /// The vGPU.
    pub lease: Lease,
    /// What happens to it.
    pub events: mpsc::UnboundedReceiver<Event>,
    node: Option<Arc<Node>>,
}

impl Held {
    /// Lets the vGPU live until [`Node::remove`].
    #[must_use]
    pub fn keep(mut self) -> Lease {
        self.node = None;
        self.lease.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            node.dismiss(&self.lease.id);
        }
    }
}

impl Node {
    /// A node that holds nothing yet.
    ///
    /// # Errors
    /// The state of an earlier run cannot be read.
    pub fn new(parts: Parts) -> std::io::Result<Arc<Self>> {
        let store = Store::in_folder(&parts.folder);
        let earlier = store.load()?;
        for lost in &earlier.vgpus {
            tracing::info!(vgpu = %lost.lease.id, "given out by the node's earlier process");
        }
        let inner = Inner { next: earlier.next, ..Inner::default() };
        let node = Arc::new(Self { parts, store, inner: Mutex::new(inner), vgpus: watch::Sender::new(0) });
        node.save(&node.lock());
        Ok(node)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of vGPUs, for whoever waits for it to change.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<usize> {
        self.vgpus.subscribe()
    }

    /// Counters since the node started.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// The node's GPUs with what is allocated on them.
    #[must_use]
    pub fn gpus(&self) -> Vec<Gpu> {
        self.gpus_of(&self.lock())
    }

    fn gpus_of(&self, inner: &Inner) -> Vec<Gpu> {
        let devices = &self.parts.devices;
        let gpu = |(index, found): (usize, &crate::provider::Found)| {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let mut gpu = Gpu {
                index,
                uuid: found.uuid.clone(),
                name: found.name.clone(),
                vendor: devices.vendor,
                compute_capability: found.compute_capability,
                numa_node: found.numa_node,
                vram: found.vram,
                vram_allocated: Bytes::ZERO,
                tflops: found.tflops,
                tflops_allocated: Tflops::ZERO,
                vgpus: 0,
            };
            let alive = inner.vgpus.values().map(|entry| &entry.vgpu).filter(|vgpu| vgpu.state != VgpuState::Failed);
            for vgpu in alive.filter(|vgpu| vgpu.lease.gpus.contains(&index)) {
                gpu.vgpus += 1;
                gpu.vram_allocated = gpu.vram_allocated.checked_add(vgpu.lease.vram).unwrap_or(gpu.vram);
                let tflops = vgpu.lease.tflops.unwrap_or_default();
                gpu.tflops_allocated = gpu.tflops_allocated.checked_add(tflops).unwrap_or_default();
            }
            gpu
        };
        devices.found.iter().enumerate().map(gpu).collect()
    }

    /// The node's vGPUs, with what their workers say of them.
    pub async fn vgpus(&self) -> Vec<Vgpu> {
        let known: Vec<(Vgpu, Option<StatusLine>)> =
            self.lock().vgpus.values().map(|entry| (entry.vgpu.clone(), entry.status.clone())).collect();
        let mut vgpus = Vec::with_capacity(known.len());
        for (mut vgpu, line) in known {
            if let (VgpuState::Running, Some(line)) = (vgpu.state, line) {
                let Status { vram_used, processes } = line.ask().await.unwrap_or_default();
                vgpu.vram_used = vram_used;
                vgpu.processes = processes;
            }
            vgpus.push(vgpu);
        }
        vgpus.sort_by_key(|vgpu| vgpu.since);
        vgpus
    }

    /// Grants a vGPU that lives as long as the answer.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn hold(self: &Arc<Self>, request: Request) -> Result<Held, NodeError> {
        let mut bytes = [0; 16];
        let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        random.map_err(NodeError::Random)?;
        // Other users of the machine reach the port too.
        let offer = Offer { listen: self.parts.listen.clone(), token: Some(Token::from_random(bytes)), decided: false };
        self.offer(request, offer).await
    }

    /// Grants a vGPU on the GPUs that the request names, because somebody who knows more has decided so; its worker
    /// listens where it is told, and serves whoever gets there.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn hold_decided(self: &Arc<Self>, request: Request, listen: String) -> Result<Held, NodeError> {
        self.offer(request, Offer { listen, token: None, decided: true }).await
    }

    async fn offer(self: &Arc<Self>, request: Request, offer: Offer) -> Result<Held, NodeError> {
        let (sender, events) = mpsc::unbounded_channel();
        let lease = self.grant(request, offer, sender).await?;
        Ok(Held { lease, events, node: Some(Arc::clone(self)) })
    }

    async fn grant(
        self: &Arc<Self>,
        request: Request,
        offer: Offer,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Lease, NodeError> {
        let spec = self.reserve(&request, offer, events)?;
        let (id, token) = (spec.id.clone(), spec.token.clone());
        let running = match self.parts.launcher.start(spec).await {
            Ok(running) => running,
            Err(reason) => {
                let mut inner = self.lock();
                inner.counters.refused += 1;
                self.forget(&mut inner, &id);
                return Err(NodeError::Worker { id, reason });
            }
        };
        let lease = {
            let mut inner = self.lock();
            inner.counters.granted += 1;
            let entry = inner.vgpus.get_mut(&id).ok_or_else(|| NodeError::Unknown { id: id.clone() })?;
            entry.vgpu.state = VgpuState::Running;
            entry.vgpu.worker_pid = Some(running.pid);
            entry.vgpu.lease.connect = running.connect;
            entry.status = Some(running.status);
            let lease = Lease { token, ..entry.vgpu.lease.clone() };
            if entry.leaving {
                drop(running.stop);
            } else {
                entry.stop = Some(running.stop);
            }
            self.save(&inner);
            lease
        };
        let this = Arc::clone(self);
        let (ended, watched) = (running.ended, id.clone());
        tokio::spawn(async move {
            let reason = ended.await.unwrap_or_else(|_| "its worker is lost".to_owned());
            this.ended(&watched, reason);
        });
        if self.lock().vgpus.get(&id).is_none_or(|entry| entry.leaving) {
            return Err(NodeError::TakenAway { id });
        }
        Ok(lease)
    }

    /// Decides, and takes the room before anybody else can.
    fn reserve(
        &self,
        request: &Request,
        offer: Offer,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Spec, NodeError> {
        let mut inner = self.lock();
        let gpus = self.gpus_of(&inner);
        let placement =
            match if offer.decided { allocate::decided(&gpus, request) } else { allocate::place(&gpus, request) } {
                Ok(placement) => placement,
                Err(refusal) => {
                    inner.counters.refused += 1;
                    return Err(refusal.into());
                }
            };
        inner.next += 1;
        let id = VgpuId::numbered(inner.next);
        let lease = Lease {
            id: id.clone(),
            connect: String::new(),
            vendor: self.parts.devices.vendor,
            gpus: placement.gpus.clone(),
            vram: placement.vram,
            tflops: placement.tflops,
            token: None,
        };
        let vgpu = Vgpu {
            lease,
            qos: request.qos,
            state: VgpuState::Starting,
            failure: None,
            worker_pid: None,
            program: request.program.clone(),
            pid: request.pid,
            since: (self.parts.clock)(),
            vram_used: Bytes::ZERO,
            processes: Vec::new(),
        };
        let gone = watch::Sender::new(false);
        let entry = Entry { vgpu, stop: None, status: None, events: Some(events), leaving: false, gone };
        inner.vgpus.insert(id.clone(), entry);
        self.save(&inner);
        Ok(Spec {
            log: self.parts.folder.join(format!("{id}.log")),
            id,
            listen: offer.listen,
            token: offer.token,
            driver: self.parts.devices.driver.clone(),
            gpus: placement.gpus,
            vram: placement.vram,
            tflops: placement.tflops,
            compute_capability: request.compute_capability,
        })
    }

    /// A worker has ended and nothing is left of it.
    fn ended(&self, id: &VgpuId, reason: String) {
        let mut inner = self.lock();
        let Some(entry) = inner.vgpus.get_mut(id) else { return };
        if entry.leaving {
            self.forget(&mut inner, id);
            return;
        }
        tracing::warn!(vgpu = %id, %reason, "a vGPU is lost");
        entry.vgpu.state = VgpuState::Failed;
        entry.vgpu.worker_pid = None;
        entry.vgpu.failure = Some(reason.clone());
        entry.stop = None;
        entry.status = None;
        if let Some(events) = entry.events.take() {
            // Nobody is left to be told when the holder has just gone.
            drop(events.send(Event::Lost { id: id.clone(), reason }));
        }
        inner.counters.died += 1;
        self.save(&inner);
    }

    /// Takes a vGPU away, without waiting until nothing is left of it.
    fn dismiss(&self, id: &VgpuId) -> Option<watch::Receiver<bool>> {
        let mut inner = self.lock();
        let entry = inner.vgpus.get_mut(id)?;
        let gone = entry.gone.subscribe();
        entry.leaving = true;
        drop(entry.stop.take());
        if entry.vgpu.state == VgpuState::Failed {
            self.forget(&mut inner, id);
        }
        Some(gone)
    }

    fn forget(&self, inner: &mut Inner, id: &VgpuId) {
        if let Some(entry) = inner.vgpus.remove(id) {
            entry.gone.send_replace(true);
            // The log of a worker that failed is in its failure; that of any other is of no use any more.
            if let Err(error) = std::fs::remove_file(self.parts.folder.join(format!("{id}.log"))) {
                tracing::debug!(vgpu = %id, %error, "no log to remove");
            }
        }
        self.save(inner);
    }

    /// Takes a vGPU away and waits until nothing is left of it.
    ///
    /// # Errors
    /// There is no such vGPU.
    pub async fn remove(&self, id: &VgpuId) -> Result<(), NodeError> {
        let mut gone = self.dismiss(id).ok_or_else(|| NodeError::Unknown { id: id.clone() })?;
        // The sender is dropped with the entry, which is as good as gone.
        drop(gone.wait_for(|gone| *gone).await);
        Ok(())
    }

    /// Ends the workers that an earlier process left, but those that listen at one of these.
    ///
    /// # Errors
    /// They cannot be reached.
    pub async fn keep_only(&self, listen: BTreeSet<String>) -> Result<(), String> {
        self.parts.launcher.keep_only(listen).await
    }

    /// Takes all vGPUs away and waits until nothing is left of them.
    pub async fn remove_all(&self) {
        let ids: Vec<VgpuId> = self.lock().vgpus.keys().cloned().collect();
        let leaving: Vec<watch::Receiver<bool>> = ids.iter().filter_map(|id| self.dismiss(id)).collect();
        for mut gone in leaving {
            drop(gone.wait_for(|gone| *gone).await);
        }
    }

    fn save(&self, inner: &Inner) {
        self.vgpus.send_if_modified(|count| std::mem::replace(count, inner.vgpus.len()) != inner.vgpus.len());
        let vgpus = inner.vgpus.values().map(|entry| entry.vgpu.clone()).collect();
        if let Err(error) = self.store.save(&State { next: inner.next, vgpus }) {
            tracing::warn!(%error, "the node's state cannot be written");
        }
    }
}

#[cfg(test)]
mod tests;
