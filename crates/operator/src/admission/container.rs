//! What a pod's containers say.

use crd::Phase;
use serde_json::Value;
use types::Percent;

/// A container has no more GPUs.
pub(super) const MOST_GPUS: u32 = 128;
/// All of a card.
pub(super) const WHOLE: Percent = Percent::new(100);

/// Containers of a kind (`containers`, `initContainers`) with their names.
pub(super) fn containers<'a>(pod: &'a Value, kind: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let list = pod.get("spec").and_then(|spec| spec.get(kind)).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|container| Some((container.get("name")?.as_str()?, container)))
}

/// All containers that may ask for GPUs, with their names.
pub(super) fn all(pod: &Value) -> impl Iterator<Item = (&str, &Value)> {
    containers(pod, "containers").chain(containers(pod, "initContainers"))
}

/// When a container runs, by its name.
pub(super) fn phase(pod: &Value, name: &str) -> Phase {
    match containers(pod, "initContainers").find(|(of, _)| *of == name) {
        None => Phase::Main,
        Some((_, container)) if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") => {
            Phase::Sidecar
        }
        Some(_) => Phase::Init,
    }
}

/// A resource of a container: from its limits, else from its requests.
pub(super) fn resource<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    let resources = container.get("resources")?;
    let of = |kind: &str| resources.get(kind).and_then(|kind| kind.get(name));
    of("limits").or_else(|| of("requests"))
}
