//! What happened in a simulation.

use serde::Serialize;
use types::Qos;

use crate::{Gpu, Inventory, Placement};

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Every replica in the order of arrival.
    pub outcomes: Vec<Outcome>,
    /// Replicas placed.
    pub placed: usize,
    /// Percent of all capacity that is given out at the end: VRAM and compute.
    pub vram_percent: f64,
    /// See `vram_percent`.
    pub tflops_percent: f64,
    /// Percent of the free VRAM that lies on GPUs which are partly used, at the end.
    pub fragmentation_percent: f64,
    /// Mean over time from the first arrival to the last event, of `vram_percent`.
    pub mean_vram_percent: f64,
    /// The same, of `tflops_percent`.
    pub mean_tflops_percent: f64,
    /// The same, of `fragmentation_percent`.
    pub mean_fragmentation_percent: f64,
    /// From the first arrival to the last event.
    pub seconds: u64,
    /// Evictions.
    pub evictions: usize,
    /// Mean and longest wait of the placed, in seconds.
    pub mean_wait_seconds: f64,
    /// See `mean_wait_seconds`.
    pub longest_wait_seconds: u64,
    /// The same by QoS class, highest first, of those that asked.
    pub classes: Vec<ClassReport>,
}

/// What became of one QoS class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassReport {
    /// The class.
    pub qos: Qos,
    /// Replicas that came.
    pub asked: usize,
    /// Replicas placed.
    pub placed: usize,
    /// Evictions of such.
    pub evictions: usize,
    /// Mean wait of the placed until they were first placed, in seconds.
    pub mean_wait_seconds: f64,
    /// Half of them waited no longer.
    pub median_wait_seconds: u64,
    /// 99 of 100 waited no longer.
    pub p99_wait_seconds: u64,
    /// See `mean_wait_seconds`.
    pub longest_wait_seconds: u64,
}

/// What became of one replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Name, with the replica's number where there are several.
    pub name: String,
    /// Class.
    pub qos: Qos,
    /// When it came, in seconds.
    pub arrived: u64,
    /// When it was first placed.
    pub placed: Option<u64>,
    /// When it ended.
    pub ended: Option<u64>,
    /// Its GPUs, the last ones that it had.
    pub gpus: Vec<String>,
    /// How often it was evicted.
    pub evicted: u32,
    /// Why it was refused when it came, or is waiting still.
    pub refused: Option<String>,
}

/// What is given out, kept up to date as it changes, and its sums over time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    capacity: [f64; 2],
    used: [f64; 2],
    /// Free VRAM on GPUs that are partly used.
    torn: f64,
    /// Percent × seconds: VRAM, compute, fragmentation.
    sums: [f64; 3],
    last: Option<u64>,
    first: u64,
}

impl Gauge {
    pub(super) fn new(inventory: &Inventory) -> Self {
        let sum = |of: &dyn Fn(&Gpu) -> u64| inventory.gpus().iter().map(|gpu| of(gpu) as f64).sum();
        let capacity = [sum(&|gpu| gpu.capacity.vram.get()), sum(&|gpu| gpu.capacity.tflops.milli())];
        Self { capacity, ..Self::default() }
    }

    /// Time passes; before anything changes.
    pub(super) fn pass(&mut self, now: u64) {
        let last = *self.last.get_or_insert_with(|| {
            self.first = now;
            now
        });
        let seconds = now.saturating_sub(last) as f64;
        let values = self.values();
        for (sum, value) in self.sums.iter_mut().zip(values) {
            *sum += value * seconds;
        }
        self.last = Some(now);
    }

    /// Counts the GPUs of a placement in (after a change) or out (before it).
    pub(super) fn count(&mut self, inventory: &Inventory, placement: &Placement, into: bool) {
        let sign = if into { 1.0 } else { -1.0 };
        for gpu in placement.gpus.iter().filter_map(|&gpu| inventory.gpu(gpu)) {
            let used = gpu.capacity.saturating_sub(gpu.free);
            self.used[0] += sign * used.vram.get() as f64;
            self.used[1] += sign * used.tflops.milli() as f64;
            self.torn += if gpu.shares > 0 { sign * gpu.free.vram.get() as f64 } else { 0.0 };
        }
    }

    fn values(&self) -> [f64; 3] {
        let percent = |part: f64, of: f64| if of > 0.0 { 100.0 * part / of } else { 0.0 };
        [
            percent(self.used[0], self.capacity[0]),
            percent(self.used[1], self.capacity[1]),
            percent(self.torn, self.capacity[0] - self.used[0]),
        ]
    }

    pub(super) fn report(&self, outcomes: Vec<Outcome>) -> Report {
        let all: Vec<&Outcome> = outcomes.iter().collect();
        let total = class(Qos::default(), &all);
        let of_class = |qos: Qos| outcomes.iter().filter(|one| one.qos == qos).collect::<Vec<_>>();
        let classes = [Qos::Critical, Qos::High, Qos::Medium, Qos::Low].map(|qos| (qos, of_class(qos)));
        let classes = classes.iter().filter(|(_, of)| !of.is_empty()).map(|(qos, of)| class(*qos, of)).collect();
        let seconds = self.last.unwrap_or(0).saturating_sub(self.first);
        let now = self.values();
        let mean = |which: usize| if seconds > 0 { self.sums[which] / seconds as f64 } else { now[which] };
        Report {
            placed: total.placed,
            vram_percent: now[0],
            tflops_percent: now[1],
            fragmentation_percent: now[2],
            mean_vram_percent: mean(0),
            mean_tflops_percent: mean(1),
            mean_fragmentation_percent: mean(2),
            seconds,
            evictions: total.evictions,
            mean_wait_seconds: total.mean_wait_seconds,
            longest_wait_seconds: total.longest_wait_seconds,
            classes,
            outcomes,
        }
    }
}

fn class(qos: Qos, outcomes: &[&Outcome]) -> ClassReport {
    let mut waits: Vec<u64> = outcomes.iter().filter_map(|one| Some(one.placed?.saturating_sub(one.arrived))).collect();
    waits.sort_unstable();
    let at = |percent: usize| waits.get((waits.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
    ClassReport {
        qos,
        asked: outcomes.len(),
        placed: waits.len(),
        evictions: outcomes.iter().map(|one| one.evicted as usize).sum(),
        mean_wait_seconds: waits.iter().sum::<u64>() as f64 / waits.len().max(1) as f64,
        median_wait_seconds: at(50),
        p99_wait_seconds: at(99),
        longest_wait_seconds: at(100),
    }
}
