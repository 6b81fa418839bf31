//! Fields that are set and not acted upon, told in a condition of the object that sets them (`AllFieldsHonored`).
//!
//! Pools tell it with the rest of their status; here are the kinds that have no controller of their own.

use std::collections::BTreeMap;

use crd::unused_condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

/// Kind and plural.
const KINDS: &[(&str, &str)] = &[
    ("GPUNodeClaim", "gpunodeclaims"),
    ("GPUNodeClass", "gpunodeclasses"),
    ("ProviderConfig", "providerconfigs"),
    ("SchedulingConfigTemplate", "schedulingconfigtemplates"),
    ("WorkloadProfile", "workloadprofiles"),
];
/// A manager of its own, so that it takes nothing from others.
const MANAGER: &str = "tensor-fusion-operator-fields";

/// Tells for as long as we lead.
pub(crate) async fn run(client: Client) {
    let kinds = KINDS.iter().map(|(kind, plural)| tell(client.clone(), kind, plural));
    futures::future::join_all(kinds).await;
}

async fn tell(client: Client, kind: &'static str, plural: &'static str) {
    use futures::StreamExt as _;

    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(crd::GROUP, crd::VERSION, kind), plural);
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut told: BTreeMap<String, Value> = BTreeMap::new();
    let stream = watcher(all, Config::default()).default_backoff();
    futures::pin_mut!(stream);
    while let Some(event) = stream.next().await {
        let object = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => object,
            Ok(_) => continue,
            Err(error) => {
                tracing::debug!(kind, %error, "the watch was interrupted; it goes on");
                continue;
            }
        };
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        if told.get(&uid) == Some(&spec) {
            continue;
        }
        let condition = unused_condition(kind, &spec, object.metadata.generation, Time(Timestamp::now()));
        let there = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let same =
            |one: &Value| one["type"] == condition.type_.as_str() && one["message"] == condition.message.as_str();
        if there.is_some_and(|all| all.iter().any(same)) {
            told.insert(uid, spec);
            continue;
        }
        let patch = json!({
            "apiVersion": format!("{}/{}", crd::GROUP, crd::VERSION), "kind": kind,
            "metadata": {"name": object.name_any()}, "status": {"conditions": [condition]},
        });
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        match api.patch_status(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch)).await {
            Ok(_) => drop(told.insert(uid, spec)),
            Err(error) => tracing::warn!(kind, name = object.name_any(), %error, "a condition could not be written"),
        }
    }
}
