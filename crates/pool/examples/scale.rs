//! Places 100,000 requests on 10,000 nodes of 8 GPUs, gives half back at random and fills again; prints for each strategy
//! decisions a second and the slowest hundredth (best of three rounds; one request of 20 is for 2 to 7 GPUs), beside a plain
//! scan of all GPUs in the same run, so that a busy machine tells something too. Time on the processor counts where Linux
//! tells it, so that what else the machine does matters less. `make bench` makes a table of it; by hand
//! `cargo run --release -p pool --example scale`.

use std::time::{Duration, Instant};

use pool::{Amount, Gpu, GpuIndex, Inventory, InventoryError, Placement, Request, Strategy, place};
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

/// Nanoseconds on the processor so far, or `None` where that is not told.
fn on_processor() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

/// What one round of decisions took.
struct Round {
    placed: usize,
    rate: f64,
    slow: Duration,
}

fn fill(
    inventory: &mut Inventory,
    random: &mut Random,
    strategy: Strategy,
    wanted: usize,
    taken: &mut Vec<Placement>,
) -> Round {
    let requests: Vec<Request> = (0..wanted).map(|_| request(random, strategy)).collect();
    let mut times = Vec::with_capacity(wanted);
    let (before, clock, start) = (taken.len(), on_processor(), Instant::now());
    for request in &requests {
        let start = Instant::now();
        let answer = place(inventory, request);
        if let Some(placement) = answer
            && inventory.take(&placement).is_ok()
        {
            taken.push(placement);
        }
        times.push(start.elapsed());
    }
    let spent = match (clock, on_processor()) {
        (Some(clock), Some(now)) => Duration::from_nanos(now - clock),
        _ => start.elapsed(),
    };
    times.sort_unstable();
    let slow = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Round { placed: taken.len() - before, rate: wanted as f64 / spent.as_secs_f64(), slow }
}

/// The same answer for one GPU by looking at all of them: what the index is measured against.
fn scan(inventory: &Inventory, request: &Request) -> Option<GpuIndex> {
    let fitting = (0..)
        .zip(inventory.gpus())
        .filter(|(_, gpu)| gpu.ready && !gpu.exclusive && gpu.free.covers(request.amount) && gpu.pool == "default");
    fitting.min_by_key(|(_, gpu)| gpu.free.share_of(gpu.capacity)).map(|(index, _)| GpuIndex(index))
}

fn scans(inventory: &Inventory, random: &mut Random) -> f64 {
    const WANTED: usize = 100;
    let requests: Vec<Request> = (0..WANTED).map(|_| request(random, Strategy::CompactFirst)).collect();
    let (clock, start) = (on_processor(), Instant::now());
    let found = requests.iter().filter(|request| scan(inventory, request).is_some()).count();
    let spent = match (clock, on_processor()) {
        (Some(clock), Some(now)) => Duration::from_nanos(now - clock),
        _ => start.elapsed(),
    };
    std::hint::black_box(found);
    WANTED as f64 / spent.as_secs_f64()
}

/// Memory of this process in MiB: `VmHWM:` the most so far, `VmRSS:` now.
fn memory(what: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// A line of the table, as JSON. Written by hand: this crate depends on nothing that could.
#[expect(clippy::print_stdout, reason = "what `make bench` reads")]
fn row(name: &str, unit: &str, ours: f64, reference: f64, bound: f64, at_least: bool) {
    println!(
        r#"{{"name":"{name}","unit":"{unit}","ours":{ours:.3},"reference":{reference:.3},"bound":{bound},"at_least":{at_least}}}"#
    );
}

fn main() -> Result<(), InventoryError> {
    // What a plain list of the same GPUs takes: the reference for memory.
    let list: Vec<Gpu> = inventory()?.gpus().to_vec();
    let plain_memory = memory("VmRSS:");
    drop(list);
    for strategy in [Strategy::CompactFirst, Strategy::LowLoadFirst, Strategy::NodeCompactGPULowLoad] {
        let mut best: [Option<Round>; 2] = [None, None];
        let mut plain: f64 = 0.0;
        for _ in 0..3 {
            let (mut inventory, mut random, mut taken) = (inventory()?, Random(0x9e37_79b9_7f4a_7c15), Vec::new());
            let first = fill(&mut inventory, &mut random, strategy, 100_000, &mut taken);
            let keep = taken.len() / 2;
            while taken.len() > keep {
                let which = usize::try_from(random.below(taken.len() as u64)).unwrap_or(0);
                inventory.give_back(&taken.swap_remove(which))?;
            }
            plain = plain.max(scans(&inventory, &mut random));
            let again = fill(&mut inventory, &mut random, strategy, keep, &mut taken);
            for (best, round) in best.iter_mut().zip([first, again]) {
                if best.as_ref().is_none_or(|best| round.rate > best.rate) {
                    *best = Some(round);
                }
            }
        }
        for (what, round) in
            ["100,000 requests", "half given back at random, filled again"].iter().zip(best.into_iter().flatten())
        {
            let placed = round.placed;
            let name = format!("placement {strategy:?}, {what}, {placed} placed (reference: a plain scan)");
            row(&name, "decisions/s", round.rate, plain, 50_000.0, true);
            let slow = round.slow.as_secs_f64() * 1e6;
            row(&format!("placement {strategy:?}, {what}, 99th percentile"), "us", slow, 1e6 / plain, 1000.0, false);
        }
    }
    if let (Some(peak), Some(list)) = (memory("VmHWM:"), plain_memory) {
        row("placement, memory (reference: a plain list of the same GPUs)", "MiB", peak, list, 2048.0, false);
    }
    Ok(())
}
