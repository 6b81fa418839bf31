//! Pods, cards and ledgers for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use pool::Amount;
use serde_json::{Value, json};
use types::{Bytes, Tflops};

use super::{Card, Ledger, NodeFacts};
use crate::Settings;
use crate::admission::{Decision, decide};
use crate::allocator::Standing;
use crate::allocator::claim::{Claim, standing};

pub(in crate::allocator) fn card(node: &str, index: u32, gib: u64) -> Card {
    Card {
        node: node.to_owned(),
        index,
        model: "SOFT".to_owned(),
        vendor: "TensorFusion".to_owned(),
        amount: Amount::new(Tflops::new(20), Bytes::from_gib(gib)),
        ready: true,
        ..Card::default()
    }
}

/// Two nodes with two cards of 8 GiB and 20 TFLOPS each.
pub(in crate::allocator) fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for (name, node, index) in [("gpu-a0", "a", 0), ("gpu-a1", "a", 1), ("gpu-b0", "b", 0), ("gpu-b1", "b", 1)] {
        ledger.set_card(name, Some(card(node, index, 8)));
    }
    for node in ["a", "b"] {
        ledger.set_node(node, Some(NodeFacts { ready: true, ..NodeFacts::default() }));
    }
    ledger
}

/// A pod as the webhook would leave it, and as a claim.
pub(in crate::allocator) fn claim_of(uid: &str, annotations: Value, spec: Value) -> Claim {
    let pod = json!({
        "metadata": {"name": uid, "namespace": "ns", "uid": uid, "labels": {"tensor-fusion.ai/enabled": "true"},
            "annotations": annotations, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "owner", "controller": true}]},
        "spec": spec,
    });
    let decision = decide(&pod, "ns", &Settings::default(), 0).unwrap();
    assert!(matches!(decision, Decision::Changed { .. }), "{pod}");
    let pod: Pod = serde_json::from_value(decision.after(&pod).unwrap()).unwrap();
    match standing(&Arc::new(pod)) {
        Standing::Waiting(claim) => *claim,
        other => panic!("{other:?}"),
    }
}

pub(in crate::allocator) fn asks(uid: &str, vram: &str, tflops: &str) -> Claim {
    let annotations = json!({"tensor-fusion.ai/vram-limit": vram, "tensor-fusion.ai/tflops-limit": tflops});
    claim_of(uid, annotations, json!({"containers": [{"name": "main"}]}))
}

/// The same of a class.
pub(in crate::allocator) fn asks_as(uid: &str, vram: &str, qos: &str) -> Claim {
    let annotations =
        json!({"tensor-fusion.ai/vram-limit": vram, "tensor-fusion.ai/tflops-limit": "1", "tensor-fusion.ai/qos": qos});
    claim_of(uid, annotations, json!({"containers": [{"name": "main"}]}))
}

/// What every GPU has free, in GiB.
pub(in crate::allocator) fn free(ledger: &mut Ledger) -> Vec<u64> {
    ledger.inventory().gpus().iter().map(|gpu| gpu.free.vram.get() >> 30).collect()
}
