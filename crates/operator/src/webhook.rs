//! The server that the API server asks about every pod that may want a vGPU.
//!
//! It decides with [`admission`](crate::admission) and writes nothing: what a decision depends on (pools, profiles, how many
//! replicas have a vGPU) is followed beforehand. Bodies are bounded, decisions too, and a panic in one is that one's refusal.
//!
//! - [`review`]: AdmissionReview in, AdmissionReview out. Pure.
//! - [`grey`]: counting replicas for `enabled-replicas`, so that a burst cannot get more than allowed.
//! - [`leader`]: asking the leader, which alone counts.
//! - [`knowledge`]: pools and profiles, followed.
//! - [`certificate`]: our own authority and certificate, made and replaced in time.

pub mod certificate;
pub mod grey;
pub mod knowledge;
pub mod leader;
pub mod review;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::RustlsConfig;

use grey::Grey;
use knowledge::Knowledge;
use leader::{LeaderSeen, PASSED_ON};
use review::{Answer, Question, Verdict};

/// An object is at most 1.5 MiB in etcd; a review holds it once, with something around.
const LONGEST_BODY: usize = 4 << 20;
/// What is no longer than this is answered where it was read.
const SMALL: usize = 64 << 10;
/// A decision takes microseconds. The API server waits longer.
const LONGEST_DECISION: Duration = Duration::from_secs(3);

/// What the server knows and counts.
#[derive(Debug, Default)]
pub struct Webhook {
    /// Pools and profiles.
    pub knowledge: Knowledge,
    /// Replicas.
    pub grey: Grey,
    /// Whether this operator leads.
    pub leads: AtomicBool,
    /// Who leads, where that is another.
    pub leader: LeaderSeen,
    /// Pods asked about, changed, refused; microseconds in all.
    asked: AtomicU64,
    changed: AtomicU64,
    refused: AtomicU64,
    microseconds: AtomicU64,
}

impl Webhook {
    /// Answers one review, as both travel.
    #[must_use]
    pub fn answer(&self, body: &[u8]) -> Vec<u8> {
        self.answered(body).0
    }

    /// The same, and whether the leader is to be asked instead.
    fn answered(&self, body: &[u8]) -> (Vec<u8>, bool) {
        let started = Instant::now();
        let answer = match serde_json::from_slice::<Question>(body) {
            Ok(question) => {
                let settings = self.knowledge.settings();
                // What a pod makes us do wrong is that pod's misfortune alone.
                let decision = || review::answer(&question, &settings, &self.grey, self.leads.load(Ordering::SeqCst));
                std::panic::catch_unwind(AssertUnwindSafe(decision)).unwrap_or_else(|_| {
                    tracing::error!(uid = question.uid(), "a decision failed");
                    let text = "the decision about this pod failed: see the operator's log";
                    Answer::refusal(question.uid(), 500, text)
                })
            }
            Err(error) => Answer::refusal("", 400, format!("this is no review of a pod: {error}")),
        };
        let counted = match answer.verdict() {
            Verdict::Refused { .. } | Verdict::NotLeading => Some(&self.refused),
            Verdict::Changed(..) => Some(&self.changed),
            Verdict::Unchanged => None,
        };
        let text = answer.to_json();
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(counter) = counted {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let spent = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(spent, Ordering::Relaxed);
        (text, answer.is_the_leaders())
    }

    fn metrics(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a process fit a double's 53 bits")]
        let seconds = read(&self.microseconds) as f64 / 1e6;
        format!(
            "# TYPE tensor_fusion_webhook_reviews_total counter\n\
             tensor_fusion_webhook_reviews_total {}\n\
             # TYPE tensor_fusion_webhook_changed_total counter\n\
             tensor_fusion_webhook_changed_total {}\n\
             # TYPE tensor_fusion_webhook_refused_total counter\n\
             tensor_fusion_webhook_refused_total {}\n\
             # TYPE tensor_fusion_webhook_seconds_total counter\n\
             tensor_fusion_webhook_seconds_total {seconds}\n\
             # TYPE tensor_fusion_operator_leads gauge\n\
             tensor_fusion_operator_leads {}\n",
            read(&self.asked),
            read(&self.changed),
            read(&self.refused),
            u8::from(self.leads.load(Ordering::SeqCst)),
        )
    }
}

/// The routes of the webhook itself.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new().route("/mutate", post(mutate)).layer(DefaultBodyLimit::max(LONGEST_BODY)).with_state(webhook)
}

/// The routes for probes and metrics, without TLS.
pub fn probes(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(|State(webhook): State<Arc<Webhook>>| async move {
                if webhook.knowledge.is_complete() && webhook.grey.is_complete() {
                    (StatusCode::OK, "ready")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "pools, profiles and pods are not known yet")
                }
            }),
        )
        .route("/metrics", get(|State(webhook): State<Arc<Webhook>>| async move { webhook.metrics() }))
        .with_state(webhook)
}

async fn mutate(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Bytes) -> Response {
    let (answer, is_the_leaders) = if body.len() <= SMALL {
        webhook.answered(&body)
    } else {
        // So that a pod that is huge makes nobody wait but itself.
        let (of, body) = (Arc::clone(&webhook), body.clone());
        let decision = tokio::task::spawn_blocking(move || of.answered(&body));
        match tokio::time::timeout(LONGEST_DECISION, decision).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            Err(_) => {
                return (StatusCode::GATEWAY_TIMEOUT, "the decision about this pod took too long").into_response();
            }
        }
    };
    if !is_the_leaders || headers.contains_key(PASSED_ON) {
        return json(answer);
    }
    match webhook.leader.ask(&body).await {
        Ok(answer) => json(answer),
        Err(why) => {
            tracing::warn!(why, "the leader could not be asked about a pod");
            json(answer)
        }
    }
}

fn json(text: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// Serves the webhook for ever, on a thread of its own: pods are not to wait for what the operator does besides, and an answer
/// is made in less time than another thread could be woken in.
///
/// # Errors
/// The address cannot be had.
pub async fn serve(address: SocketAddr, tls: RustlsConfig, webhook: Arc<Webhook>) -> std::io::Result<()> {
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("webhook".to_owned()).spawn(move || {
        let served = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            // What is left of a long answer is not to wait for the first part of it to arrive.
            let server = axum_server::bind_rustls(address, tls).map(|tls| tls.acceptor(NoDelayAcceptor::new()));
            runtime.block_on(server.serve(router(webhook).into_make_service()))
        });
        // Nobody hears it when the operator ends.
        end.send(served).ok();
    })?;
    ended.await.unwrap_or_else(|_| Err(std::io::Error::other("the webhook's thread died")))
}
