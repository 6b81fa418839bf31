//! Random pools and request streams keep every invariant, and every choice is the best by brute force.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use pool::{
    Amount, Gang, Gpu, Inventory, Isolation, NodeIndex, Placement, Request, Strategy, explain, place, place_gang,
};
use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use types::{Bytes, Tflops};

fn amount(tflops: u64, gib: u64) -> Amount {
    Amount::new(Tflops::from_milli(tflops * 1000), Bytes::new(gib << 30))
}

fn inventory(nodes: &[Vec<(u64, u64, bool)>]) -> Inventory {
    let mut inventory = Inventory::new();
    for (position, gpus) in nodes.iter().enumerate() {
        let node = inventory.add_node(&format!("node-{position}")).unwrap();
        for (index, &(tflops, gib, big)) in gpus.iter().enumerate() {
            inventory
                .add_gpu(Gpu {
                    model: if big { "H100_SXM" } else { "T4" }.into(),
                    vendor: "NVIDIA".into(),
                    numa_node: Some(index as u32 / 2),
                    ..Gpu::new(format!("gpu-{position}-{index}"), node, index as u32, amount(tflops, gib))
                })
                .unwrap();
        }
    }
    inventory
}

fn nodes() -> impl Generator<Value = Vec<Vec<(u64, u64, bool)>>> {
    prop::collection::vec(prop::collection::vec((1..40u64, 1..24u64, any::<bool>()), 0..4), 1..5)
}

fn request() -> impl Generator<Value = Request> {
    let strategy =
        prop_oneof![Just(Strategy::CompactFirst), Just(Strategy::LowLoadFirst), Just(Strategy::NodeCompactGPULowLoad)];
    let model = prop::option::of(prop_oneof![Just("T4".to_owned()), Just("H100_SXM".to_owned())]);
    (0..20u64, 0..12u64, 1..4u32, strategy, model, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(tflops, gib, count, strategy, model, one_numa_node, whole)| Request {
            strategy,
            model,
            one_numa_node,
            isolation: if whole { Isolation::Shared } else { Isolation::Soft },
            ..Request::new(amount(tflops, gib), count)
        },
    )
}

/// Whether a GPU could serve the request, written down a second time and differently.
fn could(inventory: &Inventory, gpu: &Gpu, request: &Request) -> bool {
    let whole = request.isolation == Isolation::Shared;
    let asked = request.amount != Amount::default() || whole;
    let free = if whole { gpu.shares == 0 } else { !gpu.exclusive };
    asked
        && free
        && gpu.free.covers(request.amount)
        && request.model.as_ref().is_none_or(|model| *model == gpu.model)
        && inventory.node(gpu.node).is_some()
}

/// Some node has enough fitting GPUs, by trying all.
fn placeable(inventory: &Inventory, request: &Request) -> bool {
    (0..inventory.nodes().len()).any(|node| {
        let fitting: Vec<&Gpu> = inventory
            .gpus()
            .iter()
            .filter(|gpu| gpu.node == NodeIndex(node as u32) && could(inventory, gpu, request))
            .collect();
        if request.one_numa_node && request.count > 1 {
            (0..4)
                .any(|numa| fitting.iter().filter(|gpu| gpu.numa_node == Some(numa)).count() >= request.count as usize)
        } else {
            fitting.len() >= request.count as usize
        }
    })
}

fn best_single(inventory: &Inventory, request: &Request) -> Option<u32> {
    let shares = inventory.gpus().iter().filter(|gpu| could(inventory, gpu, request));
    let shares = shares.map(|gpu| gpu.free.share_of(gpu.capacity));
    if request.strategy == Strategy::CompactFirst { shares.min() } else { shares.max() }
}

fn check(inventory: &Inventory) {
    for gpu in inventory.gpus() {
        assert!(gpu.capacity.covers(gpu.free), "{gpu:?}");
        assert!(!gpu.exclusive || gpu.shares == 1, "{gpu:?}");
        assert!(gpu.shares > 0 || gpu.free == gpu.capacity, "{gpu:?}");
    }
}

proptest! {
    #[test]
    fn a_stream_of_requests_keeps_every_invariant(
        nodes in nodes(),
        steps in prop::collection::vec((request(), any::<prop::sample::Index>(), any::<bool>()), 1..60),
    ) {
        let mut inventory = inventory(&nodes);
        let mut taken: Vec<Placement> = Vec::new();
        for (request, which, release) in steps {
            if release && !taken.is_empty() {
                let placement = taken.swap_remove(which.index(taken.len()));
                inventory.give_back(&placement).unwrap();
            }
            let answer = place(&inventory, &request);
            prop_assert_eq!(answer.is_some(), placeable(&inventory, &request), "{:?}", request);
            prop_assert_eq!(&answer, &place(&inventory, &request));
            let Some(placement) = answer else { continue };
            prop_assert_eq!(placement.gpus.len(), request.count as usize);
            for &gpu in &placement.gpus {
                let gpu = inventory.gpu(gpu).unwrap();
                prop_assert_eq!(gpu.node, placement.node);
                prop_assert!(could(&inventory, gpu, &request));
            }
            if request.count == 1 && request.strategy != Strategy::NodeCompactGPULowLoad {
                let gpu = inventory.gpu(placement.gpus[0]).unwrap();
                prop_assert_eq!(Some(gpu.free.share_of(gpu.capacity)), best_single(&inventory, &request));
            }
            inventory.take(&placement).unwrap();
            taken.push(placement);
            check(&inventory);
        }
        for placement in taken {
            inventory.give_back(&placement).unwrap();
        }
        for gpu in inventory.gpus() {
            prop_assert_eq!(gpu.free, gpu.capacity);
            prop_assert_eq!(gpu.shares, 0);
        }
    }

    #[test]
    fn a_gang_is_placed_whole_or_not_at_all(
        nodes in nodes(),
        members in prop::collection::vec(request(), 1..6),
        minimum in 0..7usize,
    ) {
        let inventory = inventory(&nodes);
        let gang = Gang { members, minimum };
        let before = format!("{inventory:?}");
        if let Ok(placed) = place_gang(&inventory, &gang) {
            prop_assert!(placed.len() >= gang.minimum.min(gang.members.len()));
            let mut trial = inventory.clone();
            for (_, placement) in &placed {
                trial.take(placement).unwrap();
            }
            check(&trial);
        }
        prop_assert_eq!(before, format!("{inventory:?}"));
    }
}

#[test]
fn what_was_not_taken_cannot_be_given_back() {
    let mut inventory = inventory(&[vec![(10, 8, false)]]);
    let placement = place(&inventory, &Request::new(amount(5, 4), 1)).unwrap();
    assert!(inventory.give_back(&placement).is_err());
    inventory.take(&placement).unwrap();
    inventory.give_back(&placement).unwrap();
    assert!(inventory.give_back(&placement).is_err());
    check(&inventory);
}

#[test]
fn a_refusal_says_how_many_gpus_failed_for_what() {
    let inventory = inventory(&[vec![(10, 8, false), (10, 3, false)], vec![(2, 16, false), (10, 16, true)]]);
    let request = Request { model: Some("T4".into()), ..Request::new(amount(5, 9), 1) };
    assert_eq!(place(&inventory, &request), None);
    let text = explain(&inventory, &request).to_string();
    assert_eq!(
        text,
        "1 of 4: of another model, 2 of 4: not enough VRAM (asked 9 GiB, best free 8 GiB on gpu-0-0), \
         1 of 4: not enough TFLOPS (asked 5, best free 2 on gpu-1-0)"
    );
}

#[test]
fn the_simulator_makes_who_does_not_fit_wait_for_who_ends() {
    let trace: pool::Trace = serde_json::from_value(serde_json::json!({
        "nodes": [{"name": "n", "gpus": 2, "tflops": "20", "vram": "8GiB"}],
        "requests": [
            {"name": "long", "seconds": 100, "request": {"vram": "6GiB", "tflops": "5"}},
            {"name": "short", "at": 1, "seconds": 10, "request": {"vram": "6GiB", "tflops": "5"}},
            {"name": "late", "at": 2, "replicas": 2, "request": {"vram": "3GiB", "tflops": "1"}},
            {"name": "never", "at": 3, "request": {"vram": "9GiB"}},
        ],
    }))
    .unwrap();
    let report = pool::simulate(&trace).unwrap();
    let placed: Vec<Option<u64>> = report.outcomes.iter().map(|outcome| outcome.placed).collect();
    assert_eq!(placed, [Some(0), Some(1), Some(11), Some(11), None]);
    assert_eq!((report.placed, report.longest_wait_seconds), (4, 9));
    assert_eq!(report.outcomes[2].gpus, report.outcomes[3].gpus);
    assert!(report.outcomes[4].refused.as_ref().unwrap().contains("not enough VRAM (asked 9 GiB, best free 2 GiB"));
    assert_eq!(report.vram_percent, 37.5);
}
