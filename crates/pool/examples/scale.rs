//! Places 100,000 requests on 10,000 nodes of 8 GPUs, gives half back at random and fills again; prints decisions a second
//! and the slowest hundredth for each strategy. Run: `cargo run --release -p pool --example scale`.

use std::time::{Duration, Instant};

use pool::{Amount, Gpu, Inventory, InventoryError, Placement, Request, Strategy, place};
use types::{Bytes, Tflops};

/// A small deterministic generator (xorshift), so that runs compare.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn inventory() -> Result<Inventory, InventoryError> {
    let mut inventory = Inventory::new();
    let card = Amount::new(Tflops::new(365), Bytes::from_gib(48));
    for position in 0..10_000 {
        let node = inventory.add_node(&format!("node-{position}"))?;
        for index in 0..8 {
            inventory.add_gpu(Gpu {
                model: if position % 3 == 0 { "H100_SXM" } else { "L40S" }.to_owned(),
                vendor: "NVIDIA".to_owned(),
                numa_node: Some(index / 4),
                ..Gpu::new(format!("gpu-{position}-{index}"), node, index, card)
            })?;
        }
    }
    Ok(inventory)
}

fn request(random: &mut Random, strategy: Strategy) -> Request {
    let amount = Amount::new(Tflops::new(20 + random.below(300)), Bytes::from_gib(2 + random.below(38)));
    let count = if random.below(20) == 0 { 2 + u32::try_from(random.below(6)).unwrap_or(0) } else { 1 };
    Request { strategy, ..Request::new(amount, count) }
}

fn fill(
    inventory: &mut Inventory,
    random: &mut Random,
    strategy: Strategy,
    wanted: usize,
) -> (Vec<Placement>, Vec<Duration>) {
    let (mut taken, mut times) = (Vec::new(), Vec::new());
    for _ in 0..wanted {
        let request = request(random, strategy);
        let start = Instant::now();
        let answer = place(inventory, &request);
        if let Some(placement) = answer
            && inventory.take(&placement).is_ok()
        {
            taken.push(placement);
        }
        times.push(start.elapsed());
    }
    (taken, times)
}

#[expect(clippy::print_stdout, reason = "a table for people")]
fn report(what: &str, strategy: Strategy, placed: usize, mut times: Vec<Duration>) {
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    println!(
        "{strategy:?} {what}: {placed} of {} placed, {:.0} decisions/s, p99 {:.1} us",
        times.len(),
        times.len() as f64 / total.as_secs_f64(),
        p99.as_secs_f64() * 1e6
    );
}

fn main() -> Result<(), InventoryError> {
    for strategy in [Strategy::CompactFirst, Strategy::LowLoadFirst, Strategy::NodeCompactGPULowLoad] {
        let mut inventory = inventory()?;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut taken, times) = fill(&mut inventory, &mut random, strategy, 100_000);
        report("fill", strategy, taken.len(), times);
        let keep = taken.len() / 2;
        while taken.len() > keep {
            let which = usize::try_from(random.below(taken.len() as u64)).unwrap_or(0);
            inventory.give_back(&taken.swap_remove(which))?;
        }
        let (again, times) = fill(&mut inventory, &mut random, strategy, keep);
        report("fill again", strategy, again.len(), times);
    }
    Ok(())
}
