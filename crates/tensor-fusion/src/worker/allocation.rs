//! A worker in a pod of its own, which serves clients on other nodes: what it serves stands in its pod's annotation, which it finds
//! in its environment.

use crd::Allocation;
use hypervisor::kubernetes::plan;
use types::Request;

use crate::failure::Failed;

/// The allocation of the pod, as its annotation has it.
const ALLOCATION: &str = "TENSOR_FUSION_ALLOCATION";
/// The container of the pod that this worker runs in.
const CONTAINER: &str = "TENSOR_FUSION_CONTAINER_NAME";

/// What this worker's container was given; `None` where this is no such pod.
pub(super) fn given() -> Result<Option<Request>, Failed> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match variable(ALLOCATION) {
        Some(text) => read(&text, variable(CONTAINER).as_deref()).map(Some),
        // A pod whose annotation is missing must not serve a whole GPU.
        None if std::env::var_os(ALLOCATION).is_some() => Err(Failed::new(format!("`{ALLOCATION}` is empty"))
            .hint("it is the pod's annotation `tensor-fusion.ai/allocation`, which the operator writes")),
        None => Ok(None),
    }
}

fn read(text: &str, container: Option<&str>) -> Result<Request, Failed> {
    let allocation =
        Allocation::parse(text).map_err(|error| Failed::new(format!("`{ALLOCATION}` is not understood: {error}")))?;
    let names: Vec<&str> = allocation.containers.keys().map(String::as_str).collect();
    let container = match (container, names.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => {
            return Err(Failed::new(format!("`{CONTAINER}` is not set: expected one of {}", names.join(", "))));
        }
    };
    let request = allocation.containers.get(container).and_then(|shares| plan::request(shares));
    request.ok_or_else(|| {
        Failed::new(format!("`{ALLOCATION}` gives nothing to container `{container}`, only to: {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use types::{Bytes, Tflops};

    use super::*;

    const TEXT: &str =
        r#"{"node":"n1","containers":{"worker":[{"gpu":"gpu-a","tflops":10.0,"vram":4294967296,"qos":"medium"}]}}"#;

    #[test]
    fn a_worker_serves_what_its_container_was_given() {
        for container in [None, Some("worker")] {
            let request = read(TEXT, container).unwrap();
            assert_eq!((request.vram, request.tflops), (Some(Bytes::from_gib(4)), Some(Tflops::new(10))));
            assert_eq!(request.uuids, ["gpu-a"]);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let wrong = |text: &str, container| format!("{:?}", read(text, container).unwrap_err());
        assert!(wrong("junk", None).contains("`TENSOR_FUSION_ALLOCATION` is not understood"));
        assert!(wrong(TEXT, Some("main")).contains("gives nothing to container `main`, only to: worker"));
        assert!(wrong(r#"{"node":"n1","containers":{}}"#, None).contains("`TENSOR_FUSION_CONTAINER_NAME` is not set"));
    }
}
