//! An API server in memory: objects, their versions, watches, evictions. As much of Kubernetes as the operator talks to, over
//! HTTP on the loopback, so that the operator's loops run as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, Uri};
use axum::response::Response;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// What there is.
#[derive(Default)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// Everything that happened: version, type, collection, object.
    history: Vec<(u64, &'static str, String, Value)>,
    /// Pods whose eviction a budget refuses.
    pub(crate) refused: BTreeSet<String>,
    /// Evictions that came about, and those that were only asked about.
    pub(crate) evicted: Vec<String>,
    pub(crate) asked: Vec<String>,
}

/// Collection, namespace, name.
type Key = (String, String, String);
type Shared = Arc<Mutex<Store>>;
type Parameters = HashMap<String, String>;

/// A path of the API, taken apart.
struct Path {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    part: Option<String>,
}

impl Path {
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = parts.split_at(if parts[0] == "api" { 2 } else { 3 });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let at = |index: usize| rest.get(index).map(|part| (*part).to_owned());
        Self { collection: format!("{}/{}", group.join("/"), rest[0]), namespace, name: at(1), part: at(2) }
    }

    fn key(&self) -> Key {
        (self.collection.clone(), self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }

    fn selects(&self, object: &Value, parameters: &Parameters) -> bool {
        let metadata = &object["metadata"];
        let label = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap();
            metadata["labels"][key] == value
        };
        let field = |pair: &str| pair.split_once('=').is_some_and(|(_, value)| metadata["name"] == value);
        let all = |selector: &str, matches: &dyn Fn(&str) -> bool| {
            parameters.get(selector).is_none_or(|text| text.split(',').all(matches))
        };
        self.namespace.as_ref().is_none_or(|namespace| metadata["namespace"] == namespace.as_str())
            && all("labelSelector", &label)
            && all("fieldSelector", &field)
    }
}

impl Store {
    fn put(&mut self, key: Key, mut object: Value, what: &'static str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if let Some(texts) = object.as_object_mut().and_then(|fields| fields.remove("stringData")) {
            for (name, text) in texts.as_object().unwrap() {
                object["data"][name] = json!(ByteString(text.as_str().unwrap().as_bytes().to_vec()));
            }
        }
        self.history.push((self.version, what, key.0.clone(), object.clone()));
        self.objects.insert(key, object.clone());
        object
    }

    fn create(&mut self, mut key: Key, mut object: Value) -> Result<Value, Value> {
        key.2 = object["metadata"]["name"].as_str().unwrap().to_owned();
        if self.objects.contains_key(&key) {
            return Err(status(409, "AlreadyExists", &key.2));
        }
        if !key.1.is_empty() {
            object["metadata"]["namespace"] = key.1.as_str().into();
        }
        object["metadata"]["uid"] = format!("uid-{}-{}", key.2, self.version).into();
        object["metadata"]["creationTimestamp"] = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        object["metadata"]["generation"] = 1.into();
        Ok(self.put(key, object, "ADDED"))
    }

    fn delete(&mut self, key: &Key) -> Result<Value, Value> {
        let object = self.objects.remove(key).ok_or_else(|| status(404, "NotFound", &key.2))?;
        self.version += 1;
        self.history.push((self.version, "DELETED", key.0.clone(), object.clone()));
        Ok(object)
    }

    fn patch(&mut self, path: &Path, patch: &Value, apply: bool) -> Result<Value, Value> {
        let key = path.key();
        let Some(mut object) = self.objects.get(&key).cloned() else {
            if apply && path.part.is_none() {
                return self.create(key, patch.clone());
            }
            return Err(status(404, "NotFound", &key.2));
        };
        let version = &patch["metadata"]["resourceVersion"];
        if version.is_string() && *version != object["metadata"]["resourceVersion"] {
            return Err(status(409, "Conflict", "the object has been modified"));
        }
        json_patch::merge(&mut object, patch);
        Ok(self.put(key, object, "MODIFIED"))
    }

    /// The pod gets a time to end; the test says when it has.
    fn evict(&mut self, path: &Path, body: &Value, parameters: &Parameters) -> Result<Value, Value> {
        let key = Path { part: None, ..Path::of(&format!("/{}", path.collection)) };
        let key = (key.collection, path.namespace.clone().unwrap_or_default(), path.name.clone().unwrap_or_default());
        let Some(mut pod) = self.objects.get(&key).cloned() else { return Err(status(404, "NotFound", &key.2)) };
        assert_eq!(body["deleteOptions"]["preconditions"]["uid"], pod["metadata"]["uid"], "of this very pod");
        let dry = parameters.contains_key("dryRun");
        if dry {
            self.asked.push(key.2.clone());
        }
        if self.refused.contains(&key.2) {
            return Err(status(429, "TooManyRequests", "it would violate the pod's disruption budget"));
        }
        if !dry {
            self.evicted.push(key.2.clone());
            pod["metadata"]["deletionTimestamp"] = pod["metadata"]["creationTimestamp"].clone();
            pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
            self.put(key, pod, "MODIFIED");
        }
        Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}))
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

async fn serve(
    State(store): State<Shared>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    headers: axum::http::HeaderMap,
    body: Bytes,
) -> Response {
    let path = Path::of(uri.path());
    if parameters.get("watch").is_some_and(|watch| watch == "true") {
        return watch(store, path, parameters);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut store = store.lock().unwrap();
    let answer = match (method.as_str(), &path.name) {
        ("GET", Some(name)) => {
            let found = store.objects.get(&path.key()).cloned();
            found.ok_or_else(|| status(404, "NotFound", name))
        }
        ("GET", None) => {
            let all = store.objects.iter().filter(|(key, _)| key.0 == path.collection).map(|(_, object)| object);
            let items: Vec<&Value> = all.filter(|object| path.selects(object, &parameters)).collect();
            Ok(
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": store.version.to_string()}, "items": items}),
            )
        }
        ("POST", Some(_)) => store.evict(&path, &body, &parameters),
        ("POST", None) => store.create(path.key(), body),
        ("PATCH", Some(_)) => {
            let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            store.patch(&path, &body, kind.contains("apply"))
        }
        ("DELETE", Some(_)) => store.delete(&path.key()),
        _ => Err(status(405, "MethodNotAllowed", uri.path())),
    };
    let (code, value) = match answer {
        Ok(value) => (200, value),
        Err(value) => (u16::try_from(value["code"].as_u64().unwrap()).unwrap(), value),
    };
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Body::from(value.to_string()))
        .unwrap()
}

/// Tells what happens from a version on, for ever.
fn watch(store: Shared, path: Path, parameters: Parameters) -> Response {
    let from = parameters.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let stream =
        futures::stream::unfold((store, path, parameters, from), |(store, path, parameters, mut from)| async move {
            loop {
                let mut lines = String::new();
                {
                    let store = store.lock().unwrap();
                    let begin = store.history.partition_point(|one| one.0 <= from);
                    for (_, what, collection, object) in &store.history[begin..] {
                        if *collection == path.collection && path.selects(object, &parameters) {
                            lines.push_str(&json!({"type": what, "object": object}).to_string());
                            lines.push('\n');
                        }
                    }
                    from = store.version;
                }
                if !lines.is_empty() {
                    return Some((Ok::<_, Infallible>(lines), (store, path, parameters, from)));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    Response::builder().header("content-type", "application/json").body(Body::from_stream(stream)).unwrap()
}

/// A cluster of that kind.
pub(crate) struct Cluster {
    store: Shared,
    pub(crate) client: kube::Client,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        // What the operator logs is shown for tests that fail.
        tracing_subscriber::fmt().with_test_writer().with_env_filter("error,operator=debug").try_init().ok();
        rustls::crypto::ring::default_provider().install_default().ok();
        let store = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&store));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
        // As the operator does.
        config.default_retry = false;
        Self { store, client: kube::Client::try_from(config).unwrap() }
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    pub(crate) fn add(&self, path: &str, object: Value) -> Value {
        self.store().create(Path::of(path).key(), object).unwrap()
    }

    pub(crate) fn change(&self, path: &str, patch: &Value) {
        self.store().patch(&Path::of(path), patch, false).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        self.store().delete(&Path::of(path).key()).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.store().objects.get(&Path::of(path).key()).cloned()
    }

    pub(crate) fn all(&self, path: &str) -> Vec<Value> {
        let path = Path::of(path);
        let store = self.store();
        let all = store.objects.iter().filter(|(key, _)| key.0 == path.collection);
        all.map(|(_, object)| object.clone()).filter(|object| path.selects(object, &HashMap::new())).collect()
    }

    /// The texts of events about an object, by reason.
    pub(crate) fn events(&self, name: &str, reason: &str) -> Vec<String> {
        let all = self.all("/apis/events.k8s.io/v1/events");
        let about = all.iter().filter(|event| event["regarding"]["name"] == name && event["reason"] == reason);
        about.map(|event| event["note"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is(self) {
            assert!(started.elapsed() < Duration::from_secs(90), "in vain: {what}; events: {:#?}", self.told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn told(&self) -> Vec<String> {
        let all = self.all("/apis/events.k8s.io/v1/events");
        all.iter().map(|one| format!("{}: {} {}", one["regarding"]["name"], one["reason"], one["note"])).collect()
    }
}
