//! The operator as one process: every replica answers the webhook, one leads and allocates.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::allocator::Allocator;
use crate::leader::Candidate;
use crate::webhook::{self, Webhook, certificate, knowledge};
use crate::{Settings, cluster, fields, leader, remote};

/// How long the webhook goes on after the operator was asked to end.
const FAREWELL: Duration = Duration::from_secs(3);

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of the system: Lease, Secret, Service.
    pub namespace: String,
    /// Name of this process, which no other operator has.
    pub identity: String,
    /// Where the webhook listens.
    pub webhook: SocketAddr,
    /// The address by which other operators reach it.
    pub address: Option<IpAddr>,
    /// Where probes and metrics are answered.
    pub probes: SocketAddr,
    /// What admission starts from.
    pub settings: Settings,
    /// Name of the Service that the API server reaches the webhook by.
    pub service: String,
    /// Further names of the webhook's certificate: for a webhook that is reached by address.
    pub names: Vec<String>,
}

/// The operator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No way to the API server.
    #[error("the API server cannot be reached: {0}")]
    Client(#[from] kube::Error),
    /// About certificates.
    #[error(transparent)]
    Certificate(#[from] certificate::CertificateError),
    /// An address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no threads.
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
    /// No signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// Another leads, so this process must not go on deciding.
    #[error("this operator does not lead any more; it ends, and starts anew as one that waits")]
    Deposed,
}

/// Runs until something ends that must not end, on a runtime of its own.
///
/// # Errors
/// What ended.
pub fn run(options: Options) -> Result<(), OperatorError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(OperatorError::Runtime)?;
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), OperatorError> {
    // One provider of cryptography, whatever else is linked; a second try finds it there.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = client().await?;
    let webhook = Arc::new(Webhook::default());
    webhook.knowledge.set_base(options.settings.clone());
    let listen = |address: SocketAddr| move |source: std::io::Error| OperatorError::Listen { address, source };

    let probes = tokio::net::TcpListener::bind(options.probes).await.map_err(listen(options.probes))?;
    let routes = webhook::probes(Arc::clone(&webhook));
    tokio::spawn(async move { axum::serve(probes, routes).await });
    knowledge::follow_all(&client, &options.namespace, &webhook);

    let service = &options.service;
    let mut names = vec![format!("{service}.{}.svc", options.namespace), service.clone()];
    names.extend(options.names.iter().cloned());
    let shown = patiently(|| certificate::ensure(&client, &options.namespace, &names, false)).await;
    let tls = certificate::tls(&shown).await?;
    webhook.leader.is_known_by(shown.authorities(), service);
    let (leads, known) = (Arc::clone(&webhook), (Arc::clone(&webhook), service.clone()));
    let keep = certificate::keep(
        client.clone(),
        options.namespace.clone(),
        names,
        tls.clone(),
        shown,
        move || leads.leads.load(Ordering::SeqCst),
        move |now| known.0.leader.is_known_by(now.authorities(), &known.1),
    );
    tokio::spawn(keep);
    let mut terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signals)?;
    let mut server = pin!(webhook::serve(options.webhook, tls, Arc::clone(&webhook)));
    tracing::info!(webhook = %options.webhook, probes = %options.probes, "the operator serves");

    let leading = async {
        let address = options.address.map(|address| SocketAddr::new(address, options.webhook.port()));
        let candidate = Candidate { identity: options.identity.clone(), address };
        let leader = leader::lead(&client, &options.namespace, &candidate, |at| webhook.leader.is_at(at)).await;
        webhook.leads.store(true, Ordering::SeqCst);
        tokio::select! {
            () = leader.keep() => {}
            () = Allocator::run(client.clone(), options.namespace.clone(), Arc::clone(&webhook)) => {}
            () = fields::run(client.clone()) => {}
            () = cluster::run(client.clone()) => {}
            () = remote::run(client.clone(), Arc::clone(&webhook)) => {}
        }
        webhook.leads.store(false, Ordering::SeqCst);
    };
    tokio::select! {
        result = &mut server => return result.map_err(listen(options.webhook)),
        () = leading => return Err(OperatorError::Deposed),
        _ = terminate.recv() => {}
    }
    tracing::info!("asked to end");
    if webhook.leads.load(Ordering::SeqCst) {
        leader::resign(&client, &options.namespace, &options.identity).await;
    }
    // Until the API server knows that we go it sends us pods, which would be refused if nobody answered.
    match tokio::time::timeout(FAREWELL, server).await {
        Ok(result) => result.map_err(listen(options.webhook)),
        Err(_) => Ok(()),
    }
}

/// The way to the API server. What it refuses for now we hear at once: an eviction that a budget refuses is answered like a
/// server that is busy, and each part of us knows itself what to do then.
async fn client() -> Result<Client, kube::Error> {
    let mut config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    Client::try_from(config)
}

/// The API server may start after us.
async fn patiently<T, F, E>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let mut pause = Duration::from_millis(200);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, "not yet; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}
