//! Which GPUs of a node are taken together.

use pool::{Gpu, GpuIndex, Inventory, NodeIndex, Reason, Request, Tier, explain, place};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use crate::amount;

/// One node of eight GPUs on two NUMA nodes, with links.
fn node(links: &[(u32, u32, u64)]) -> Inventory {
    let mut inventory = Inventory::new();
    let node = inventory.add_node("n").unwrap();
    for index in 0..8 {
        let gpu = Gpu::new(format!("g{index}"), node, index, amount(10, 8));
        inventory.add_gpu(Gpu { numa_node: Some(index / 4), ..gpu }).unwrap();
    }
    for &(a, b, megabytes) in links {
        inventory.link(GpuIndex(a), GpuIndex(b), 1, megabytes).unwrap();
    }
    inventory
}

fn near(count: u32) -> Request {
    Request { near: true, ..Request::new(amount(1, 1), count) }
}

fn gpus(inventory: &Inventory, request: &Request) -> Option<Vec<u32>> {
    Some(place(inventory, request)?.gpus.iter().map(|gpu| gpu.0).collect())
}

#[test]
fn near_takes_linked_gpus_before_those_of_one_numa_node() {
    let inventory = node(&[(1, 5, 100), (2, 6, 300)]);
    assert_eq!(gpus(&inventory, &near(2)), Some(vec![2, 6]));
    assert_eq!(gpus(&inventory, &near(3)), Some(vec![0, 1, 3]), "one NUMA node, and no link is cut in two");
}

#[test]
fn a_single_gpu_is_taken_where_its_links_are_missed_least() {
    let inventory = node(&[(0, 1, 100), (1, 2, 100), (3, 4, 50), (5, 6, 100), (6, 7, 100)]);
    assert_eq!(gpus(&inventory, &near(1)), Some(vec![3]));
    assert_eq!(gpus(&inventory, &Request::new(amount(1, 1), 1)), Some(vec![0]));
}

#[test]
fn a_bound_refuses_and_says_why() {
    let inventory = node(&[(0, 4, 100), (0, 5, 100)]);
    let linked = |count: u32| Request { farthest: Some(Tier::Linked), ..Request::new(amount(1, 1), count) };
    assert_eq!(gpus(&inventory, &linked(2)), Some(vec![0, 4]));
    assert_eq!(place(&inventory, &linked(3)), None);
    let why = explain(&inventory, &linked(3));
    assert_eq!(why.reasons.get(&Reason::TooFar), Some(&8));
    assert_eq!(why.to_string(), "8 of 8: the node's fitting GPUs are too far apart");
    let numa = |count: u32| Request { farthest: Some(Tier::SameNuma), ..Request::new(amount(1, 1), count) };
    assert_eq!(gpus(&inventory, &numa(4)), Some(vec![0, 1, 2, 3]));
    assert_eq!(place(&inventory, &numa(5)), None);
}

#[test]
fn unknown_places_are_the_farthest() {
    let mut inventory = Inventory::new();
    let node = inventory.add_node("n").unwrap();
    for index in 0..3 {
        inventory.add_gpu(Gpu::new(format!("g{index}"), node, index, amount(10, 8))).unwrap();
    }
    assert_eq!(gpus(&inventory, &near(2)), Some(vec![0, 1]));
    let known = Request { farthest: Some(Tier::CrossNuma), ..near(2) };
    assert_eq!(place(&inventory, &known), None);
    assert!(inventory.link(GpuIndex(0), GpuIndex(0), 1, 1).is_err());
    inventory.link(GpuIndex(2), GpuIndex(1), 1, 1).unwrap();
    assert_eq!(gpus(&inventory, &known), Some(vec![1, 2]));
}

#[test]
fn large_nodes_are_searched_by_growing_sets() {
    let mut inventory = Inventory::new();
    let node = inventory.add_node("n").unwrap();
    for index in 0..32 {
        let gpu = Gpu::new(format!("g{index}"), node, index, amount(10, 8));
        inventory.add_gpu(Gpu { numa_node: Some(index % 4), ..gpu }).unwrap();
    }
    let request = Request { one_numa_node: true, ..near(8) };
    assert_eq!(gpus(&inventory, &request), Some((0..8).map(|one| one * 4).collect()));
    assert_eq!(place(&inventory, &Request { one_numa_node: true, ..near(9) }), None);
}

proptest! {
    #[test]
    fn the_nearest_set_is_found(
        links in prop::collection::vec((0..8u32, 0..8u32, 1..4u64), 0..12),
        busy in prop::collection::vec(any::<bool>(), 8),
        count in 2..5u32,
    ) {
        let mut inventory = node(&links.iter().copied().filter(|link| link.0 != link.1).collect::<Vec<_>>());
        for (gpu, _) in (0..).zip(&busy).filter(|(_, busy)| **busy) {
            inventory.set_ready(GpuIndex(gpu), false).unwrap();
        }
        let known = &inventory.node(NodeIndex(0)).unwrap().links;
        let pair = |a: u32, b: u32| match known.iter().find(|link| (link.a.0, link.b.0) == (a.min(b), a.max(b))) {
            Some(link) => (0, link.megabytes),
            None => (if a / 4 == b / 4 { 1 } else { 2 }, 0),
        };
        let sets = (0u32..256).filter(|set| set.count_ones() == count);
        let free = sets.map(|set| (0..8).filter(|at| set >> at & 1 == 1).collect::<Vec<u32>>())
            .filter(|set| set.iter().all(|&gpu| !busy[gpu as usize]));
        let score = |set: &Vec<u32>| {
            let pairs = set.iter().flat_map(|&a| set.iter().filter(move |&&b| b > a).map(move |&b| (a, b)));
            let (mut tier, mut inside) = (0, 0);
            pairs.for_each(|(a, b)| { tier = tier.max(pair(a, b).0); inside += pair(a, b).1 });
            (tier, u64::MAX - inside)
        };
        let best = free.map(|set| score(&set)).min();
        prop_assert_eq!(gpus(&inventory, &near(count)).as_ref().map(score), best);
    }
}
