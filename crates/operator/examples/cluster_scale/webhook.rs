//! Questions as the API server asks them: over TLS, on connections that stay open, at a steady rate whatever the answers take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::names;
use k8s_openapi::api::core::v1::Secret;
use kube::client::Body;
use kube::{Api, Client, Config};
use operator::webhook::certificate::SECRET;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::{Failure, WEBHOOK, pods};

const RATE: u32 = 1_000;
const SECONDS: u32 = 10;

/// The 99th percentiles of answers about pods that ask, and of answers to a path that there is not.
pub(crate) async fn time(client: &Client) -> Result<(Duration, Duration), Failure> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), names::SYSTEM_NAMESPACE);
    let secret = secrets.get(SECRET).await?;
    let authority = secret.data.as_ref().and_then(|data| data.get("ca.crt")).ok_or("the Secret has no ca.crt")?;
    let mut config = Config::new(format!("https://{WEBHOOK}").parse()?);
    let authorities: Result<Vec<Vec<u8>>, _> =
        CertificateDer::pem_slice_iter(&authority.0).map(|one| one.map(|one| one.to_vec())).collect();
    config.root_cert = Some(authorities?);
    let webhook = Client::try_from(config)?;
    // Connections, and whatever else is made on first use.
    ask(&webhook, "/mutate", RATE).await?;
    let empty = ask(&webhook, "/nothing", RATE * SECONDS).await?;
    let asked = ask(&webhook, "/mutate", RATE * SECONDS).await?;
    Ok((asked, empty))
}

async fn ask(webhook: &Client, path: &'static str, count: u32) -> Result<Duration, Failure> {
    let bodies: Vec<Arc<Vec<u8>>> =
        (0..8).map(|number| serde_json::to_vec(&review(number)).map(Arc::new)).collect::<Result<_, _>>()?;
    let start = Instant::now() + Duration::from_millis(10);
    let mut answers = Vec::new();
    for number in 0..count {
        let due = start + Duration::from_secs(1) * number / RATE;
        tokio::time::sleep_until(due.into()).await;
        let (webhook, body) = (webhook.clone(), Arc::clone(&bodies[number as usize % bodies.len()]));
        answers.push(tokio::spawn(async move {
            let request = axum::http::Request::post(path)
                .header("content-type", "application/json")
                .body(Body::from(body.as_ref().clone()))?;
            let answer = webhook.send(request).await?;
            let right = match path {
                "/mutate" => {
                    let answer: Value = serde_json::from_slice(&answer.into_body().collect_bytes().await?)?;
                    answer.pointer("/response/patch").is_some()
                }
                _ => answer.status() == 404,
            };
            let spent = Instant::now().saturating_duration_since(due);
            if right { Ok(spent) } else { Err(Failure::from(format!("a wrong answer from {path}"))) }
        }));
    }
    let mut times = Vec::with_capacity(answers.len());
    for answer in answers {
        times.push(answer.await??);
    }
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().ok_or_else(|| "nobody was asked".into())
}

fn review(number: usize) -> Value {
    let uid = format!("00000000-0000-0000-0000-{number:012}");
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": uid, "namespace": crate::PLACE, "operation": "CREATE", "object": pods::wish("asked", number)},
    })
}
