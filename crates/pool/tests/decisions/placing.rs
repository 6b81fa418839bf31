//! Where requests go.

use pool::{
    Amount, Gpu, GpuIndex, Inventory, Isolation, NodeIndex, Placement, Quota, QuotaLimits, Reason, Request, Strategy,
    explain, place,
};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use types::{Bytes, Qos, Tflops};

use crate::{amount, check, could, enough_on, inventory, is_whole, nodes, request};

/// The key and the position of the best answer by trying all: of the GPU for a single one, else of the node.
fn best(inventory: &Inventory, request: &Request) -> Option<(u64, u32)> {
    let by_node = request.count > 1
        || request.near
        || matches!(request.strategy, Strategy::NodeCompactGPULowLoad | Strategy::Mutex);
    let keyed: Vec<(u64, u32)> = if by_node {
        let nodes = (0..inventory.nodes().len() as u32).map(NodeIndex);
        nodes.filter_map(|node| Some((enough_on(inventory, node, request)?, node.0))).collect()
    } else {
        let gpus = (0..).zip(inventory.gpus()).filter(|(_, gpu)| could(inventory, gpu, request));
        gpus.map(|(index, gpu)| (u64::from(gpu.open().share_of(gpu.capacity)), index)).collect()
    };
    let most = request.strategy == Strategy::LowLoadFirst;
    keyed.into_iter().min_by_key(|&(key, item)| (if most { u64::MAX - key } else { key }, item))
}

proptest! {
    #[test]
    fn a_stream_of_requests_keeps_every_invariant_and_gets_the_best_answers(
        nodes in nodes(),
        steps in prop::collection::vec((request(), any::<prop::sample::Index>(), 0..8u32), 1..60),
    ) {
        let mut inventory = inventory(&nodes);
        let (mut taken, mut kept): (Vec<Placement>, Vec<Placement>) = (Vec::new(), Vec::new());
        for (request, which, also) in steps {
            match also {
                0..=2 if !taken.is_empty() => {
                    inventory.give_back(&taken.swap_remove(which.index(taken.len()))).unwrap();
                }
                3 if !kept.is_empty() => inventory.unreserve(&kept.swap_remove(which.index(kept.len()))).unwrap(),
                4 if !inventory.gpus().is_empty() => {
                    let gpu = GpuIndex(which.index(inventory.gpus().len()) as u32);
                    let ready = inventory.gpu(gpu).unwrap().ready;
                    inventory.set_ready(gpu, !ready).unwrap();
                }
                5 => {
                    let node = NodeIndex(which.index(inventory.nodes().len()) as u32);
                    let ready = inventory.node(node).unwrap().ready;
                    inventory.set_node_ready(node, !ready).unwrap();
                }
                _ => {}
            }
            let answer = place(&inventory, &request);
            let best = best(&inventory, &request);
            prop_assert_eq!(answer.is_some(), best.is_some(), "{:?} {:?}", request, best);
            prop_assert_eq!(&answer, &place(&inventory, &request));
            let why = explain(&inventory, &request);
            prop_assert_eq!(why.reasons.values().sum::<usize>(), inventory.gpus().len());
            let Some(placement) = answer else { continue };
            prop_assert_eq!(placement.gpus.len(), request.count as usize);
            prop_assert!(placement.gpus.is_sorted());
            for &gpu in &placement.gpus {
                let gpu = inventory.gpu(gpu).unwrap();
                prop_assert_eq!(gpu.node, placement.node);
                prop_assert!(could(&inventory, gpu, &request));
            }
            // With some nodes named, a tie between GPUs goes to the lower node, which is the same.
            let by_node = request.count > 1 || request.near
                || matches!(request.strategy, Strategy::NodeCompactGPULowLoad | Strategy::Mutex);
            let chosen = if by_node { placement.node.0 } else { placement.gpus[0].0 };
            prop_assert_eq!(best.map(|best| best.1), Some(chosen), "{:?}", request);
            if also == 7 {
                inventory.reserve(&placement).unwrap();
                kept.push(placement);
                continue;
            }
            inventory.take(&placement).unwrap();
            prop_assert_eq!(inventory.gpu(placement.gpus[0]).unwrap().exclusive, is_whole(&request));
            taken.push(placement);
            check(&inventory);
        }
        for placement in taken {
            inventory.give_back(&placement).unwrap();
        }
        for gpu in inventory.gpus() {
            prop_assert_eq!(gpu.free, gpu.capacity);
            prop_assert_eq!(gpu.guaranteed, Amount::default());
            prop_assert_eq!(gpu.shares, 0);
        }
    }

    #[test]
    fn quotas_are_never_exceeded_and_releases_are_exact(
        total in (0..100u64, 0..60u64),
        workers in 0..8u32,
        single in (1..20u64, 1..12u64, 1..4u32),
        steps in prop::collection::vec((request(), any::<prop::sample::Index>(), any::<bool>()), 1..60),
    ) {
        let limits = QuotaLimits {
            total: Some(amount(total.0, total.1)),
            workers: Some(workers),
            single: Some(amount(single.0, single.1)),
            single_count: Some(single.2),
            default: None,
        };
        let mut quota = Quota::new(limits);
        let mut charged: Vec<Request> = Vec::new();
        for (request, which, release) in steps {
            if release && !charged.is_empty() {
                quota.release(&charged.swap_remove(which.index(charged.len()))).unwrap();
            }
            let sum = |requests: &[Request]| {
                requests.iter().fold((0, 0), |sum, request| {
                    let count = u64::from(request.count);
                    (sum.0 + request.amount.tflops.milli() * count, sum.1 + request.amount.vram.get() * count)
                })
            };
            let with = sum(&[&charged[..], std::slice::from_ref(&request)].concat());
            let allowed = with.0 <= total.0 * 1000 && with.1 <= total.1 << 30
                && charged.len() < workers as usize
                && request.count <= single.2
                && request.amount.tflops <= Tflops::new(single.0) && request.amount.vram <= Bytes::from_gib(single.1);
            prop_assert_eq!(quota.charge(&request).is_ok(), allowed);
            if allowed {
                charged.push(request);
            }
            let used = sum(&charged);
            prop_assert_eq!((quota.used().tflops.milli(), quota.used().vram.get()), used);
        }
        for request in &charged {
            quota.release(request).unwrap();
        }
        prop_assert_eq!(quota.used(), Amount::default());
        prop_assert!(quota.release(&Request::new(amount(1, 1), 1)).is_err());
    }
}

#[test]
fn what_was_not_taken_cannot_be_given_back() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1)]]);
    let placement = place(&inventory, &Request::new(amount(5, 4), 1)).unwrap();
    assert!(inventory.give_back(&placement).is_err());
    inventory.take(&placement).unwrap();
    inventory.give_back(&placement).unwrap();
    assert!(inventory.give_back(&placement).is_err());
    check(&inventory);
}

#[test]
fn a_refusal_says_how_many_gpus_failed_for_what() {
    let inventory =
        inventory(&[vec![(10, 8, false, 1), (10, 3, false, 1)], vec![(2, 16, false, 1), (10, 16, true, 1)]]);
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
fn what_is_guaranteed_never_exceeds_the_card_whatever_the_ratio() {
    let mut inventory = inventory(&[vec![(10, 8, false, 3)]]);
    let of = |qos: Qos| Request { qos, ..Request::new(amount(6, 3), 1) };
    for _ in 0..3 {
        inventory.take(&place(&inventory, &of(Qos::Medium)).unwrap()).unwrap();
    }
    assert_eq!(place(&inventory, &of(Qos::Medium)), None, "30 TFLOPS and 10 GiB are given out as 18 and 9");
    let small = |qos: Qos, tflops: u64| Request { qos, ..Request::new(amount(tflops, 0), 1) };
    let high = place(&inventory, &small(Qos::High, 7)).unwrap();
    assert!(high.guaranteed);
    inventory.take(&high).unwrap();
    let refused = small(Qos::Critical, 4);
    assert_eq!(place(&inventory, &refused), None);
    assert_eq!(explain(&inventory, &refused).to_string(), "1 of 1: not enough of the card left to guarantee");
    assert!(place(&inventory, &small(Qos::Low, 4)).is_some());
    let stale = Placement { amount: amount(4, 0), ..high };
    assert!(inventory.take(&stale).is_err());
    check(&inventory);
}

#[test]
fn mutex_takes_an_idle_gpu_and_keeps_others_away() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1), (10, 8, false, 1)]]);
    inventory.take(&place(&inventory, &Request::new(amount(1, 1), 1)).unwrap()).unwrap();
    let mutex = Request { strategy: Strategy::Mutex, ..Request::new(amount(1, 1), 1) };
    let alone = place(&inventory, &mutex).unwrap();
    assert_eq!(alone.gpus, [GpuIndex(1)]);
    inventory.take(&alone).unwrap();
    assert_eq!(place(&inventory, &mutex), None);
    assert_eq!(explain(&inventory, &mutex).reasons.get(&Reason::Exclusive), Some(&2));
    let share = place(&inventory, &Request::new(amount(1, 1), 1)).unwrap();
    assert_eq!(share.gpus, [GpuIndex(0)]);
    assert_eq!(place(&inventory, &Request::new(amount(1, 1), 2)), None);
}

#[test]
fn a_node_with_two_models_gives_both_to_who_asks_for_none() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1), (40, 20, true, 1)], vec![(40, 20, true, 1)]]);
    let two = |model: Option<&str>| Request { model: model.map(str::to_owned), ..Request::new(amount(5, 5), 2) };
    assert_eq!(place(&inventory, &two(None)).unwrap().gpus, [GpuIndex(0), GpuIndex(1)]);
    assert_eq!(place(&inventory, &two(Some("T4"))), None);
    let node = inventory.find_node("node-1").unwrap();
    let card = amount(80, 80);
    inventory.add_gpu(Gpu { model: "H100_SXM".into(), ..Gpu::new("late", node, 1, card) }).unwrap();
    assert_eq!(place(&inventory, &two(Some("H100_SXM"))).unwrap().node, node);
    let isolated = Request { isolation: Isolation::Shared, only_uuids: vec!["late".into()], ..Request::default() };
    assert_eq!(place(&inventory, &isolated).unwrap().gpus, [inventory.find_gpu("late").unwrap()]);
}

#[test]
fn a_placement_that_names_a_gpu_twice_is_taken_whole_or_not_at_all() {
    let mut inventory = inventory(&[vec![(10, 8, false, 1)]]);
    let once = place(&inventory, &Request::new(amount(6, 2), 1)).unwrap();
    let twice = Placement { gpus: vec![GpuIndex(0), GpuIndex(0)], ..once.clone() };
    assert!(inventory.take(&twice).is_err());
    assert!(inventory.take(&Placement { gpus: vec![GpuIndex(0), GpuIndex(9)], ..once }).is_err());
    assert_eq!(inventory.gpu(GpuIndex(0)).unwrap().free, amount(10, 8));
    check(&inventory);
}
