//! Writing an allocation into its pod, until it is known whether it stands there.

use std::time::Duration;

use crd::{Allocation, names};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};

use crate::allocator::{bind, claim};
use crate::fault;

const PAUSE: Duration = Duration::from_millis(500);

/// Binds a pod. Whether the allocation stands in the pod now; while the API server does not answer, that is not known, and
/// what was taken stays taken. The update carries the version of the pod, so it comes about once at most, and saying it
/// again is safe.
pub(super) async fn bind(client: &Client, pod: &Pod, allocation: &Allocation, hard_percent: Option<u64>) -> bool {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let (name, patch) = (pod.name_any(), bind::patch(pod, allocation, hard_percent));
    let parameters = PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
    fault::point("before-bind");
    loop {
        match api.patch(&name, &parameters, &Patch::Merge(&patch)).await {
            Ok(_) => {
                fault::point("after-bind");
                return true;
            }
            // The pod has changed since: perhaps by this very update, whose answer we did not hear.
            Err(kube::Error::Api(status)) if status.code == 409 => match api.get_opt(&name).await {
                Ok(now) => return now.is_some_and(|now| stands(&now, pod, allocation)),
                Err(error) => tracing::warn!(pod = name, %error, "the pod could not be looked at; trying again"),
            },
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && status.code != 408 && status.code != 429 =>
            {
                if status.code != 404 {
                    tracing::error!(pod = name, message = status.message, "the API server refused a binding");
                }
                return false;
            }
            Err(error) => tracing::warn!(pod = name, %error, "a binding was not answered; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn stands(now: &Pod, then: &Pod, allocation: &Allocation) -> bool {
    let written = claim::annotation(now, names::ALLOCATION).and_then(|text| Allocation::parse(text).ok());
    now.uid() == then.uid() && !claim::is_gated(now) && written.as_ref() == Some(allocation)
}
