//! The node's HTTP interface, JSON in and out.
//!
//! | call | does |
//! |---|---|
//! | `GET /v1/node` | who serves here |
//! | `GET /v1/gpus` | the GPUs and what is allocated on them |
//! | `GET /v1/vgpus` | the vGPUs and who uses them |
//! | `POST /v1/vgpus` | grants a vGPU (`types::Request` → `types::Lease`) |
//! | `POST /v1/vgpus?hold` | the same; it lives as long as the connection, whose answer is a line of JSON per `types::Event` |
//! | `DELETE /v1/vgpus/{id}` | takes one back; answers when nothing is left of it |
//! | `POST /v1/stop` | ends the node; only on the Unix socket |
//! | `GET /metrics` | Prometheus |
//!
//! Refusals are a `types::Failure` with a fitting status.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{self, Path, Query, State, rejection::JsonRejection},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::Deserialize;
use tokio::sync::Notify;
use types::{Event, Failure, NodeInfo, Request, Token, VgpuId};

use crate::{
    metrics,
    node::{Held, Node, NodeError},
};

/// What the interface serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// The node.
    pub node: Arc<Node>,
    /// Who it is.
    pub info: NodeInfo,
    /// Is told when the node shall end.
    pub stop: Arc<Notify>,
}

/// The interface for other machines: no way to end the node, and only for those who show the token, if there is one.
pub fn remote(served: Served, token: Option<Token>) -> Router {
    let Some(token) = token else { return common(served) };
    let token = Arc::new(token);
    common(served).layer(middleware::from_fn(move |request: extract::Request, next: Next| {
        let token = Arc::clone(&token);
        async move {
            let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
            if shown.is_some_and(|shown| token.matches(shown)) {
                return next.run(request).await;
            }
            let error = "the token is missing or wrong".to_owned();
            let hint = Some("give the node's token with `--token-file FILE` or in `TENSOR_FUSION_TOKEN`".to_owned());
            (StatusCode::UNAUTHORIZED, Json(Failure { error, hint })).into_response()
        }
    }))
}

fn common(served: Served) -> Router {
    Router::new()
        .route("/v1/node", get(|State(served): State<Served>| async move { Json(served.info) }))
        .route("/v1/gpus", get(|State(served): State<Served>| async move { Json(served.node.gpus()) }))
        .route("/v1/vgpus", get(|State(served): State<Served>| async move { Json(served.node.vgpus().await) }))
        .route("/v1/vgpus", post(grant))
        .route("/v1/vgpus/{id}", delete(remove))
        .route("/metrics", get(prometheus))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing here: expected a path below `/v1`") })
        .with_state(served)
}

/// The interface for this machine.
pub fn local(served: Served) -> Router {
    let stop = Arc::clone(&served.stop);
    let end = move || async move {
        stop.notify_one();
        StatusCode::ACCEPTED
    };
    Router::new().route("/v1/stop", post(end)).merge(common(served))
}

#[derive(Deserialize)]
struct Options {
    hold: Option<String>,
}

async fn grant(
    State(served): State<Served>,
    Query(options): Query<Options>,
    request: Result<Json<Request>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(error) => return refusal(error.status(), &error.body_text()),
    };
    // In a task of its own: a client that hangs up meanwhile must not leave a half-made vGPU. What the task returns to
    // nobody is given back.
    let granting = tokio::spawn(async move { served.node.hold(request).await });
    match granting.await {
        Ok(Ok(held)) if options.hold.is_some() => events(held),
        Ok(Ok(held)) => (StatusCode::CREATED, Json(held.keep())).into_response(),
        Ok(Err(error)) => error.into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// The holder's view: granted, and lost if that comes. The vGPU goes when the holder hangs up.
fn events(held: Held) -> Response {
    let granted = Event::Granted(held.lease.clone());
    let stream = Lines { next: Some(granted), lost: false, held };
    let body = Body::from_stream(stream);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

struct Lines {
    next: Option<Event>,
    /// The last word was said. The answer stays open: a vGPU that failed is shown until its holder hangs up.
    lost: bool,
    held: Held,
}

impl futures_core::Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if self.lost {
            return std::task::Poll::Pending;
        }
        let event = match self.next.take() {
            Some(event) => Some(event),
            None => std::task::ready!(self.held.events.poll_recv(context)),
        };
        self.lost = matches!(event, Some(Event::Lost { .. }));
        let line = event.and_then(|event| serde_json::to_string(&event).ok());
        std::task::Poll::Ready(line.map(|line| Ok(Bytes::from(line + "\n"))))
    }
}

async fn remove(State(served): State<Served>, Path(id): Path<String>) -> Response {
    match served.node.remove(&VgpuId::from(id.as_str())).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn prometheus(State(served): State<Served>) -> impl IntoResponse {
    let vgpus = served.node.vgpus().await;
    let text = metrics::text(&served.node.gpus(), &vgpus, served.node.counters());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(Failure { error: error.to_owned(), hint: None })).into_response()
}

impl IntoResponse for NodeError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unplaced(crate::allocate::Unplaced::Full { .. }) => StatusCode::CONFLICT,
            Self::Unplaced(_) => StatusCode::BAD_REQUEST,
            Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::TakenAway { .. } => StatusCode::CONFLICT,
            Self::Worker { .. } | Self::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Failure::from(&self))).into_response()
    }
}
