//! Who leads: a Lease, as Kubernetes' own parts use it.
//!
//! Whether another's lease has run out is judged by our own clock from when we last saw it renewed, never by the times written in it,
//! so clocks may differ. Who cannot renew in time ends: the next leader starts from what stands in the cluster.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// Name of the Lease.
pub const NAME: &str = "tensor-fusion-operator";
/// A lease that was not renewed for so long has run out.
const DURATION: Duration = Duration::from_secs(20);
/// The leader gives up when it could not renew for so long: before others may think so.
const DEADLINE: Duration = Duration::from_secs(14);
const PAUSE: Duration = Duration::from_secs(2);

/// Annotation of the Lease: where the leader answers the webhook.
const ADDRESS: &str = "tensor-fusion.ai/webhook";

/// Who may lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name, which no other has.
    pub identity: String,
    /// Where others reach its webhook, if they do.
    pub address: Option<SocketAddr>,
}

/// Waits until we lead. Tells where the leader is as long as it is another.
pub async fn lead(
    client: &Client,
    namespace: &str,
    candidate: &Candidate,
    tell: impl Fn(Option<SocketAddr>),
) -> Leader {
    let identity = candidate.identity.as_str();
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mut seen: Option<(LeaseSpec, Instant)> = None;
    loop {
        match attempt(&api, candidate, &mut seen, &tell).await {
            Ok(true) => {
                tracing::info!(identity, "this operator leads now");
                tell(None);
                return Leader { api, identity: identity.to_owned() };
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the lease could not be looked at"),
        }
        tokio::time::sleep(PAUSE / 2).await;
    }
}

async fn attempt(
    api: &Api<Lease>,
    candidate: &Candidate,
    seen: &mut Option<(LeaseSpec, Instant)>,
    tell: impl Fn(Option<SocketAddr>),
) -> Result<bool, kube::Error> {
    let identity = candidate.identity.as_str();
    let Some(mut lease) = api.get_opt(NAME).await? else {
        let mut lease = Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            spec: Some(spec(identity, 0)),
        };
        write(&mut lease, candidate.address);
        return settled(api.create(&PostParams::default(), &lease).await);
    };
    let there = lease.spec.clone().unwrap_or_default();
    let ours = there.holder_identity.as_deref() == Some(identity);
    let free = there.holder_identity.as_deref().unwrap_or_default().is_empty();
    if !ours && !free {
        let address = lease.metadata.annotations.as_ref().and_then(|all| all.get(ADDRESS));
        tell(address.and_then(|text| text.parse().ok()));
        match seen {
            Some((known, since)) if *known == there => {
                if since.elapsed() < DURATION {
                    return Ok(false);
                }
            }
            _ => {
                *seen = Some((there, Instant::now()));
                return Ok(false);
            }
        }
    }
    lease.spec = Some(spec(identity, there.lease_transitions.unwrap_or_default() + i32::from(!ours)));
    write(&mut lease, candidate.address);
    settled(api.replace(NAME, &PostParams::default(), &lease).await)
}

/// Writes where the leader is.
fn write(lease: &mut Lease, address: Option<SocketAddr>) {
    let annotations = lease.metadata.annotations.get_or_insert_default();
    match address {
        Some(address) => annotations.insert(ADDRESS.to_owned(), address.to_string()),
        None => annotations.remove(ADDRESS),
    };
}

/// Another was quicker: no failure.
fn settled(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives the lease back if it is ours, so that the next leader need not wait until it has run out.
pub async fn resign(client: &Client, namespace: &str, identity: &str) {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let give_back = async {
        let mut lease = api.get(NAME).await?;
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_deref() == Some(identity)
        {
            spec.holder_identity = None;
            api.replace(NAME, &PostParams::default(), &lease).await?;
        }
        Ok::<(), kube::Error>(())
    };
    match tokio::time::timeout(PAUSE, give_back).await {
        Ok(Ok(())) => tracing::info!(identity, "this operator leads no more"),
        Ok(Err(error)) => tracing::warn!(%error, "the lease could not be given back"),
        Err(_) => tracing::warn!("the lease could not be given back in time"),
    }
}

fn spec(identity: &str, transitions: i32) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// Leadership, as long as it is renewed.
#[derive(Debug)]
pub struct Leader {
    api: Api<Lease>,
    identity: String,
}

impl Leader {
    /// Renews until that fails for too long or another leads.
    pub async fn keep(self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < DEADLINE {
            tokio::time::sleep(PAUSE).await;
            let renewal = tokio::time::timeout(DEADLINE.saturating_sub(renewed.elapsed()), self.renew());
            match renewal.await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::error!("another operator leads");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                Err(_) => tracing::warn!("the lease could not be renewed in time"),
            }
        }
        tracing::error!("the lease ran out");
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let mut lease = self.api.get(NAME).await?;
        let there = lease.spec.clone().unwrap_or_default();
        if there.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        let acquired = there.acquire_time.clone();
        lease.spec = Some(LeaseSpec {
            acquire_time: acquired,
            ..spec(&self.identity, there.lease_transitions.unwrap_or_default())
        });
        // Written over by somebody else just now: look again, and see who leads.
        settled(self.api.replace(NAME, &PostParams::default(), &lease).await).map(|_| true)
    }
}
