//! The server that the API server asks about every pod that may want a vGPU.
//!
//! It decides with [`admission`](crate::admission) and writes nothing: what a decision depends on (pools, profiles, how many
//! replicas have a vGPU) is followed beforehand. Bodies are bounded, decisions too, and a panic in one is that one's refusal.
//!
//! - [`review`]: AdmissionReview in, AdmissionReview out. Pure.
//! - [`grey`]: counting replicas for `enabled-replicas`, so that a burst cannot get more than allowed.
//! - [`knowledge`]: pools and profiles, followed.
//! - [`certificate`]: our own authority and certificate, made and replaced in time.

pub mod certificate;
pub mod grey;
pub mod knowledge;
pub mod review;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use serde_json::Value;

use grey::Grey;
use knowledge::Knowledge;

/// An object is at most 1.5 MiB in etcd; a review holds it once, with something around.
const LONGEST_BODY: usize = 4 << 20;
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
    /// Pods asked about, changed, refused; microseconds in all.
    asked: AtomicU64,
    changed: AtomicU64,
    refused: AtomicU64,
    microseconds: AtomicU64,
}

impl Webhook {
    /// Decides one review.
    #[must_use]
    pub fn decide(&self, review: &Value) -> Value {
        let started = Instant::now();
        let answer = review::answer(review, &self.knowledge.settings(), &self.grey, self.leads.load(Ordering::SeqCst));
        self.asked.fetch_add(1, Ordering::Relaxed);
        let counted = match (answer.pointer("/response/allowed"), answer.pointer("/response/patch")) {
            (Some(Value::Bool(false)), _) => Some(&self.refused),
            (_, Some(_)) => Some(&self.changed),
            _ => None,
        };
        if let Some(counter) = counted {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let spent = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(spent, Ordering::Relaxed);
        answer
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

async fn mutate(State(webhook): State<Arc<Webhook>>, Json(review): Json<Value>) -> Response {
    let uid = review.pointer("/request/uid").cloned().unwrap_or_default();
    let decision = tokio::task::spawn_blocking(move || webhook.decide(&review));
    match tokio::time::timeout(LONGEST_DECISION, decision).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(error)) => {
            tracing::error!(%error, "a decision failed");
            Json(review::refusal(&uid, 500, "the decision about this pod failed: see the operator's log"))
                .into_response()
        }
        Err(_) => Json(review::refusal(&uid, 504, "the decision about this pod took too long")).into_response(),
    }
}

/// Serves the webhook for ever.
///
/// # Errors
/// The address cannot be had.
pub async fn serve(address: SocketAddr, tls: RustlsConfig, webhook: Arc<Webhook>) -> std::io::Result<()> {
    axum_server::bind_rustls(address, tls).serve(router(webhook).into_make_service()).await
}
