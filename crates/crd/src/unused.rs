//! Fields that we accept for TensorFusion's sake and do not act on: named in a condition, so that nobody believes in them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;

/// Paths below `spec`, by kind. A path of one component means everything below it too; `[]` is every element of a list.
const UNUSED: &[(&str, &[&str])] = &[
    ("GPUNode", &["costPerHour", "cloudVendorParam"]),
    ("GPUNodeClaim", &["."]),
    ("GPUNodeClass", &["."]),
    (
        "GPUPool",
        &[
            "capacityConfig.minResources",
            "capacityConfig.maxResources",
            "capacityConfig.warmResources",
            "capacityConfig.oversubscription.vramExpandToHostMem",
            "capacityConfig.oversubscription.vramExpandToHostDisk",
            "nodeManagerConfig.isolationModeRules",
            "nodeManagerConfig.multiVendorNodeSelector",
            "nodeManagerConfig.nodeProvisioner",
            "nodeManagerConfig.nodeCompaction",
            "nodeManagerConfig.nodePoolRollingUpdatePolicy",
            "qosConfig.pricing",
            "qosConfig.definitions",
            "qosConfig.evictionProtectionPriceRatio",
            "componentConfig.hypervisor",
            "componentConfig.nodeDiscovery",
            "componentConfig.client.operatorEndpoint",
            "componentConfig.client.patchToPod",
            "componentConfig.client.patchToContainer",
            "componentConfig.client.patchToEmbeddedWorkerContainer",
            "componentConfig.client.patchEmbeddedWorkerToPod",
        ],
    ),
    (
        "ProviderConfig",
        &[
            "images",
            "hypervisor",
            "hardwareMetadata.[].costPerHour",
            "hardwareMetadata.[].maxPartitions",
            "hardwareMetadata.[].maxPlacementSlots",
            "hardwareMetadata.[].maxIsolationGroups",
            "hardwareMetadata.[].totalExtendedResources",
            "hardwareMetadata.[].partitionTemplateRefs",
            "hardwareMetadata.[].deviceMount",
            "virtualizationTemplates",
            "inUseResourceNames",
            "devicePluginDetection",
        ],
    ),
    ("SchedulingConfigTemplate", &["placement.gpuFilters", "verticalScalingRules", "reBalancer", "hypervisor"]),
    ("TensorFusionCluster", &["computingVendor"]),
    ("TensorFusionWorkload", PROFILE),
    ("WorkloadProfile", PROFILE),
];

const PROFILE: &[&str] = &["sidecarWorker", "partitionTemplateId", "autoScalingConfig"];

/// The fields of an object's `spec` that are set and not acted upon. Values that are what the schema fills in by default count
/// as not set.
#[must_use]
pub fn unused(kind: &str, spec: &Value) -> Vec<String> {
    let Some((_, paths)) = UNUSED.iter().find(|(of, _)| *of == kind) else { return Vec::new() };
    let set = |path: &&str| -> bool {
        if *path == "." {
            return spec.as_object().is_some_and(|fields| !fields.is_empty());
        }
        let parts: Vec<&str> = path.split('.').collect();
        is_set(path, spec, &parts)
    };
    paths
        .iter()
        .filter(|path| set(path))
        .map(|path| if *path == "." { "spec".to_owned() } else { format!("spec.{path}") })
        .collect()
}

/// Whether there is anything at the rest of a path.
fn is_set(path: &str, value: &Value, rest: &[&str]) -> bool {
    match rest {
        [] => !is_default(path, value),
        ["[]", rest @ ..] => value.as_array().is_some_and(|list| list.iter().any(|one| is_set(path, one, rest))),
        [part, rest @ ..] => value.get(part).is_some_and(|value| is_set(path, value, rest)),
    }
}

fn is_default(path: &str, value: &Value) -> bool {
    let last = path.rsplit('.').next().unwrap_or(path);
    match (last, value) {
        (_, Value::Null | Value::Bool(false)) => true,
        ("vramExpandToHostMem", value) => value == 50,
        ("vramExpandToHostDisk", value) => value == 70,
        ("evictionProtectionPriceRatio", value) => value == "1.2",
        (_, Value::Array(list)) => list.is_empty(),
        (_, Value::Object(fields)) => fields.is_empty(),
        _ => false,
    }
}

/// The condition that says so: `AllFieldsHonored`, false with the names of the fields where some are not acted upon.
#[must_use]
pub fn unused_condition(kind: &str, spec: &Value, generation: Option<i64>, now: Time) -> Condition {
    let fields = unused(kind, spec);
    let all = fields.is_empty();
    Condition {
        type_: "AllFieldsHonored".to_owned(),
        status: if all { "True" } else { "False" }.to_owned(),
        reason: if all { "Honored" } else { "NotImplemented" }.to_owned(),
        message: if all { String::new() } else { format!("set, and not acted upon: {}", fields.join(", ")) },
        observed_generation: generation,
        last_transition_time: now,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_nobody_reads_are_named() {
        let spec = json!({
            "nodeManagerConfig": {"nodeCompaction": {"period": "5m"}},
            "capacityConfig": {"oversubscription": {"tflopsOversellRatio": 200, "vramExpandToHostMem": 50, "vramExpandToHostDisk": 10}},
        });
        assert_eq!(
            unused("GPUPool", &spec),
            ["spec.capacityConfig.oversubscription.vramExpandToHostDisk", "spec.nodeManagerConfig.nodeCompaction"]
        );
        assert_eq!(unused("GPUPool", &json!({"nodeManagerConfig": {}})), Vec::<String>::new());
        assert_eq!(unused("GPUNodeClass", &json!({"osImageType": "Private"})), ["spec"]);
        let models = json!({"hardwareMetadata": [{"model": "A"}, {"model": "B", "maxPartitions": 7}]});
        assert_eq!(unused("ProviderConfig", &models), ["spec.hardwareMetadata.[].maxPartitions"]);
        assert_eq!(unused("WorkloadProfile", &json!({"sidecarWorker": false})), Vec::<String>::new());
    }
}
