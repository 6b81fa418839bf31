//! Asking the leader: it alone counts replicas for `enabled-replicas`, and the API server may have sent a review to another.
//!
//! The leader's address stands in the Lease that it holds. It is asked over TLS, by our own authority and the Service's name, and
//! once: whoever is asked by another operator asks nobody.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Request, Uri};
use kube::{Client, Config};

/// Header of a review that another operator has passed on.
pub const PASSED_ON: &str = "tensor-fusion-passed-on";
/// The API server waits longer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where the leader is, and how it is known.
#[derive(Debug, Default)]
pub struct LeaderSeen {
    inner: Mutex<Inner>,
}

#[derive(Clone, Default)]
struct Inner {
    address: Option<SocketAddr>,
    /// DER of the authorities, and the name that the leader's certificate has.
    trusted: Option<(Vec<Vec<u8>>, String)>,
    client: Option<Client>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("address", &self.address).finish_non_exhaustive()
    }
}

impl LeaderSeen {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader listens here.
    pub fn is_at(&self, address: Option<SocketAddr>) {
        let mut inner = self.inner();
        if inner.address != address {
            (inner.address, inner.client) = (address, None);
        }
    }

    /// By what it is known.
    pub fn is_known_by(&self, authorities: Vec<Vec<u8>>, name: &str) {
        let mut inner = self.inner();
        let trusted = Some((authorities, name.to_owned()));
        if inner.trusted != trusted {
            (inner.trusted, inner.client) = (trusted, None);
        }
    }

    fn client(&self) -> Result<Client, String> {
        let mut inner = self.inner();
        if let Some(client) = &inner.client {
            return Ok(client.clone());
        }
        let address = inner.address.ok_or("it is not known where the leader is")?;
        let (authorities, name) = inner.trusted.clone().ok_or("it is not known by what the leader is known")?;
        let url: Uri = format!("https://{address}").parse().map_err(|_| format!("`{address}` makes no URL"))?;
        let mut config = Config::new(url);
        (config.root_cert, config.tls_server_name) = (Some(authorities), Some(name));
        (config.connect_timeout, config.read_timeout) = (Some(PATIENCE), Some(PATIENCE));
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        inner.client = Some(client.clone());
        Ok(client)
    }

    /// The leader's answer to a review.
    ///
    /// # Errors
    /// It cannot be had: why.
    pub async fn ask(&self, review: &[u8]) -> Result<Vec<u8>, String> {
        let request = Request::post("/mutate").header("content-type", "application/json").header(PASSED_ON, "1");
        let request = request.body(review.to_vec()).map_err(|error| error.to_string())?;
        let client = self.client()?;
        let answer = tokio::time::timeout(PATIENCE, client.request_text(request)).await;
        match answer {
            Ok(Ok(text)) => Ok(text.into_bytes()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::super::{Webhook, certificate, serve};
    use super::*;

    /// A webhook that listens, and by what it is known.
    async fn listening(leads: bool) -> (Arc<Webhook>, SocketAddr, Vec<Vec<u8>>) {
        rustls::crypto::ring::default_provider().install_default().ok();
        let webhook = Arc::new(Webhook::default());
        webhook.leads.store(leads, Ordering::SeqCst);
        webhook.grey.complete();
        let made = certificate::Certificate::make(&["operator".to_owned()], Timestamp::now().as_second()).unwrap();
        let tls = certificate::tls(&made).await.unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        tokio::spawn(serve(address, tls, Arc::clone(&webhook)));
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (webhook, address, made.authorities())
    }

    fn review(uid: &str) -> Vec<u8> {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "owner", "controller": true});
        let annotations = json!({"tensor-fusion.ai/vram-limit": "1Gi", "tensor-fusion.ai/enabled-replicas": "1"});
        let pod = json!({
            "metadata": {"name": uid, "labels": {"tensor-fusion.ai/enabled": "true"}, "annotations": annotations, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "main"}]},
        });
        json!({"request": {"uid": uid, "namespace": "ns", "object": pod}}).to_string().into_bytes()
    }

    #[tokio::test]
    async fn who_does_not_lead_asks_the_leader_once() {
        let (_leader, at, authorities) = listening(true).await;
        let (other, address, known) = listening(false).await;
        let ask = LeaderSeen::default();
        assert!(ask.ask(&review("0")).await.unwrap_err().contains("not known where"));
        ask.is_at(Some(address));
        ask.is_known_by(known.clone(), "operator");
        let answer = |answer: Vec<u8>| serde_json::from_slice::<Value>(&answer).unwrap()["response"].clone();
        // What was passed on is not passed on again: nobody asks in a circle.
        other.leader.is_at(Some(address));
        other.leader.is_known_by(known.clone(), "operator");
        let refused = answer(ask.ask(&review("1")).await.unwrap());
        assert_eq!((&refused["allowed"], &refused["status"]["code"]), (&json!(false), &json!(429)));
        // The first gets its vGPU, whoever of the operators is asked; the second is one too many.
        other.leader.is_at(Some(at));
        other.leader.is_known_by(authorities, "operator");
        let through = |uid: &'static str| {
            let mut config = Config::new(format!("https://{address}").parse().unwrap());
            (config.root_cert, config.tls_server_name) = (Some(known.clone()), Some("operator".to_owned()));
            async move {
                let client = Client::try_from(config).unwrap();
                let request = Request::post("/mutate").body(review(uid)).unwrap();
                answer(client.request_text(request).await.unwrap().into_bytes())
            }
        };
        let first = through("2").await;
        assert!(first["allowed"] == true && first["patch"].is_string(), "{first}");
        let second = through("3").await;
        assert!(second["allowed"] == true && second.get("patch").is_none(), "{second}");
        // Somebody else at the leader's address is not believed.
        other.leader.is_known_by(known.clone(), "operator");
        assert_eq!(through("4").await["status"]["code"], 429);
    }
}
