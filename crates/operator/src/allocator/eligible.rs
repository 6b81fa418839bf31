//! The nodes that a pod may run on by its own rules: node selector, required node affinity, taints. The scheduler knows more
//! (processors, memory, spreading); what only it knows is handled when it refuses ([`replan`](super::replan)).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

/// What is known of a Kubernetes node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away.
    pub taints: Vec<Taint>,
    /// Its kubelet answers, and it is not cordoned.
    pub ready: bool,
}

impl NodeFacts {
    /// Of a node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.is_none_or(|all| all.iter().all(|one| one.type_ != "Ready" || one.status == "True"));
        let taints = spec.taints.unwrap_or_default();
        Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: taints.into_iter().filter(|taint| taint.effect != "PreferNoSchedule").collect(),
            ready: ready && !spec.unschedulable.unwrap_or_default(),
        }
    }
}

/// Whether a pod says anything about nodes.
#[must_use]
pub fn has_rules(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_selector.as_ref().is_some_and(|selector| !selector.is_empty()) || terms(pod).is_some()
}

/// Whether a pod may run on a node.
#[must_use]
pub fn may_run(pod: &Pod, name: &str, node: &NodeFacts) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key) == Some(value));
    let affine = terms(pod).is_none_or(|terms| terms.iter().any(|term| matches(term, name, &node.labels)));
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    selected && affine && node.taints.iter().all(|taint| tolerations.iter().any(|one| tolerates(one, taint)))
}

/// Whether a selector of nodes matches one. An empty list of terms matches nothing, as in Kubernetes.
#[must_use]
pub fn selects(terms: &[NodeSelectorTerm], name: &str, labels: &BTreeMap<String, String>) -> bool {
    terms.iter().any(|term| matches(term, name, labels))
}

fn terms(pod: &Pod) -> Option<&[NodeSelectorTerm]> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
}

fn matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|one| holds(one, labels.get(&one.key).map(String::as_str)))
        && fields.iter().all(|one| holds(one, (one.key == "metadata.name").then_some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let numbers = || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect);
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let same = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && ((key.is_empty() && exists) || (key == taint.key && (exists || same)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn node(labels: serde_json::Value, taints: serde_json::Value) -> NodeFacts {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        NodeFacts::of(
            &serde_json::from_value(
                json!({"metadata": {"labels": labels}, "spec": {"taints": taints}, "status": ready}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn selectors_affinity_and_taints_decide_together() {
        let gpu =
            node(json!({"zone": "a", "cores": "64"}), json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]));
        let plain = pod(json!({"containers": []}));
        assert!(!may_run(&plain, "n1", &gpu) && !has_rules(&plain));
        let tolerant = json!([{"key": "gpu", "operator": "Equal", "value": "yes"}]);
        assert!(may_run(&pod(json!({"containers": [], "tolerations": tolerant})), "n1", &gpu));
        let zone = |zone: &str| pod(json!({"containers": [], "tolerations": tolerant, "nodeSelector": {"zone": zone}}));
        assert!(may_run(&zone("a"), "n1", &gpu) && !may_run(&zone("b"), "n1", &gpu));
        let affine = |terms: serde_json::Value| {
            pod(json!({"containers": [], "tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}))
        };
        let big = json!({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["32"]}]});
        let named = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]});
        assert!(may_run(&affine(json!([big])), "n1", &gpu));
        assert!(!may_run(&affine(json!([named])), "n1", &gpu) && may_run(&affine(json!([named])), "n2", &gpu));
        assert!(may_run(&affine(json!([named, big])), "n1", &gpu));
        assert!(!may_run(&affine(json!([{}])), "n1", &gpu));
    }

    #[test]
    fn cordoned_and_silent_nodes_are_not_ready() {
        let facts = |spec: serde_json::Value, ready: &str| {
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            NodeFacts::of(&serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": status})).unwrap())
        };
        assert!(facts(json!({}), "True").ready);
        assert!(!facts(json!({}), "Unknown").ready);
        assert!(!facts(json!({"unschedulable": true}), "True").ready);
    }
}
