//! Random pools and request streams keep every invariant, and every choice is the best by brute force.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod gangs;
mod nominating;
mod placing;
mod preempting;
mod simulating;
mod topology;

use pool::{Amount, Gpu, Inventory, Isolation, NodeIndex, Request, Strategy};
use proptest::prelude::{Just, any, prop, prop_oneof};
use proptest::strategy::Strategy as Generator;
use types::{Bytes, Qos, Tflops};

fn amount(tflops: u64, gib: u64) -> Amount {
    Amount::new(Tflops::new(tflops), Bytes::from_gib(gib))
}

/// A card: TFLOPS, GiB, whether it is of the bigger model, and by how much its compute is oversubscribed.
type Card = (u64, u64, bool, u64);

fn inventory(nodes: &[Vec<Card>]) -> Inventory {
    let mut inventory = Inventory::new();
    for (position, gpus) in nodes.iter().enumerate() {
        let node = inventory.add_node(&format!("node-{position}")).unwrap();
        for (index, &(tflops, gib, big, ratio)) in gpus.iter().enumerate() {
            inventory
                .add_gpu(Gpu {
                    model: if big { "H100_SXM" } else { "T4" }.into(),
                    vendor: "NVIDIA".into(),
                    numa_node: Some(index as u32 / 2),
                    capacity: amount(tflops * ratio, gib + ratio - 1),
                    ..Gpu::new(format!("gpu-{position}-{index}"), node, index as u32, amount(tflops, gib))
                })
                .unwrap();
        }
    }
    inventory
}

fn nodes() -> impl Generator<Value = Vec<Vec<Card>>> {
    let card = (1..40u64, 1..24u64, any::<bool>(), prop_oneof![Just(1), Just(1), 2..4u64]);
    prop::collection::vec(prop::collection::vec(card, 0..5), 1..5)
}

fn qos() -> impl Generator<Value = Qos> {
    prop_oneof![Just(Qos::Low), Just(Qos::Medium), Just(Qos::High), Just(Qos::Critical)]
}

fn request() -> impl Generator<Value = Request> {
    let strategy = prop_oneof![
        Just(Strategy::CompactFirst),
        Just(Strategy::LowLoadFirst),
        Just(Strategy::NodeCompactGPULowLoad),
        Just(Strategy::Mutex)
    ];
    let model = prop::option::of(prop_oneof![Just("T4".to_owned()), Just("H100_SXM".to_owned())]);
    let nodes = prop::option::weighted(0.1, 0..4u32);
    let rare = (prop::bool::weighted(0.1), prop::bool::weighted(0.2), nodes, prop::bool::weighted(0.1));
    (0..20u64, 0..12u64, 1..4u32, strategy, model, rare, qos()).prop_map(
        |(tflops, gib, count, strategy, model, (whole, one_numa_node, node, near), qos)| Request {
            strategy,
            model,
            one_numa_node,
            near,
            qos,
            nodes: node.map(|node| format!("node-{node}")).into_iter().collect(),
            isolation: if whole { Isolation::Shared } else { Isolation::Soft },
            ..Request::new(amount(tflops, gib), count)
        },
    )
}

fn is_whole(request: &Request) -> bool {
    request.isolation == Isolation::Shared || request.strategy == Strategy::Mutex
}

/// Whether a GPU could serve the request, written down a second time and differently.
fn could(inventory: &Inventory, gpu: &Gpu, request: &Request) -> bool {
    let whole = is_whole(request);
    let asked = request.amount != Amount::default() || whole;
    let sure = matches!(request.qos, Qos::High | Qos::Critical);
    let room = if whole {
        gpu.shares == 0 && gpu.reserved == Amount::default() && gpu.card.covers(request.amount)
    } else {
        let left = |of: Amount, taken: Amount| of.checked_sub(taken).is_some_and(|left| left.covers(request.amount));
        !gpu.exclusive
            && left(gpu.free, gpu.reserved)
            && (!sure || left(gpu.card, gpu.guaranteed.saturating_add(gpu.reserved_guarantee)))
    };
    let node = inventory.node(gpu.node).unwrap();
    let named = request.nodes.is_empty() || request.nodes.contains(&node.name);
    asked && room && named && request.model.as_ref().is_none_or(|model| *model == gpu.model) && gpu.ready && node.ready
}

/// The GPUs of a node that could serve the request, if there are enough near each other.
fn enough_on(inventory: &Inventory, node: NodeIndex, request: &Request) -> Option<u64> {
    let of_node: Vec<&Gpu> = inventory.gpus().iter().filter(|gpu| gpu.node == node).collect();
    let fitting: Vec<&&Gpu> = of_node.iter().filter(|gpu| could(inventory, gpu, request)).collect();
    let count = request.count as usize;
    let enough = if request.one_numa_node && count > 1 {
        (0..4).any(|numa| fitting.iter().filter(|gpu| gpu.numa_node == Some(numa)).count() >= count)
    } else {
        fitting.len() >= count
    };
    let usable = of_node.iter().filter(|gpu| gpu.ready && !gpu.exclusive);
    enough.then(|| usable.map(|gpu| u64::from(gpu.open().share_of(gpu.capacity))).sum())
}

/// Every GPU gives out no more than it may.
fn check(inventory: &Inventory) {
    for gpu in inventory.gpus() {
        assert!(gpu.capacity.covers(gpu.free), "{gpu:?}");
        assert!(gpu.card.covers(gpu.guaranteed), "{gpu:?}");
        assert!(!gpu.exclusive || gpu.shares == 1, "{gpu:?}");
        assert!(gpu.shares > 0 || (gpu.free == gpu.capacity && gpu.guaranteed == Amount::default()), "{gpu:?}");
    }
}
