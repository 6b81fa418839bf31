//! Which GPU a request goes to, or why none. Pure: the node asks, and acts on the answer.
//!
//! Memory is never promised twice. TFLOPS are promised up to what a GPU has; a request without TFLOPS takes what the
//! others leave and is always welcome. Among the GPUs that fit, the one with the most free memory wins, so that
//! programs which say nothing get as much as there is to have.

use types::{Bytes, Gpu, Request, Tflops};

/// What a request is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Indices of the GPUs, in order of preference.
    pub gpus: Vec<u32>,
    /// Memory on each of them.
    pub vram: Bytes,
    /// Compute on each of them, where that was asked for.
    pub tflops: Option<Tflops>,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unplaced {
    /// Nothing was asked for.
    #[error("`{gpus}` is not a number of GPUs: expected 1 to 16")]
    Count {
        /// What was asked for.
        gpus: u32,
    },
    /// A vGPU without memory is of no use.
    #[error("`{vram}` of VRAM is too little: expected at least 1 MiB")]
    TooLittle {
        /// What was asked for.
        vram: Bytes,
    },
    /// The node is too small.
    #[error("this node has {has} GPU{}, `{asked}` were asked for", if *has == 1 { "" } else { "s" })]
    TooMany {
        /// What was asked for.
        asked: u32,
        /// What there is.
        has: usize,
    },
    /// A GPU was named that is not here.
    #[error("there is no GPU `{uuid}` on this node: it has {has}")]
    Unknown {
        /// What was asked for.
        uuid: String,
        /// What there is.
        has: String,
    },
    /// GPUs were named, but not as many as were asked for, or one twice.
    #[error("{named} different GPUs are named, `{asked}` were asked for")]
    Named {
        /// Number of GPUs that were asked for.
        asked: u32,
        /// Number of different GPUs that were named.
        named: usize,
    },
    /// GPUs are full, or too small.
    #[error("{} {what} free: {state}", if *asked == 1 { "no GPU has".to_owned() } else { format!("fewer than {asked} GPUs have") })]
    Full {
        /// Number of GPUs that were asked for.
        asked: u32,
        /// What each of them should have.
        what: String,
        /// What each of them has.
        state: String,
    },
}

impl Unplaced {
    /// What helps.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Count { .. } | Self::TooMany { .. } | Self::Unknown { .. } | Self::Named { .. } => {
                "`tensor-fusion gpu ls` shows the GPUs of this node"
            }
            Self::TooLittle { .. } => "ask with a unit, as in `--vram 512MiB`",
            Self::Full { .. } => "`tensor-fusion ps` shows who holds what; ask for less, or stop something",
        }
    }
}

const LEAST: Bytes = Bytes::from_mib(1);

/// Chooses GPUs for a request.
///
/// # Errors
/// Why the request cannot be served now, naming what is free where.
pub fn place(gpus: &[Gpu], request: &Request) -> Result<Placement, Unplaced> {
    if request.gpus == 0 || request.gpus > 16 {
        return Err(Unplaced::Count { gpus: request.gpus });
    }
    let count = request.gpus as usize;
    if count > gpus.len() {
        return Err(Unplaced::TooMany { asked: request.gpus, has: gpus.len() });
    }
    if let Some(vram) = request.vram.filter(|vram| *vram < LEAST) {
        return Err(Unplaced::TooLittle { vram });
    }
    let least = request.vram.unwrap_or(LEAST);
    if !request.uuids.is_empty() {
        let chosen = named(gpus, request)?;
        if chosen.iter().any(|gpu| gpu.vram_free() < least) {
            let chosen: Vec<Gpu> = chosen.into_iter().cloned().collect();
            return Err(full(&chosen, &Request { tflops: None, ..request.clone() }, least));
        }
        return Ok(placed(&chosen, request));
    }
    let mut fitting: Vec<&Gpu> =
        gpus.iter().filter(|gpu| gpu.vram_free() >= least && compute_fits(gpu, request.tflops)).collect();
    fitting.sort_by_key(|gpu| (std::cmp::Reverse(gpu.vram_free()), gpu.vgpus, gpu.index));
    if fitting.len() < count {
        return Err(full(gpus, request, least));
    }
    fitting.truncate(count);
    let vram = request.vram.unwrap_or_else(|| default_vram(fitting.iter().map(|gpu| gpu.vram_free()).min()));
    let mut chosen: Vec<u32> = fitting.iter().map(|gpu| gpu.index).collect();
    chosen.sort_unstable();
    Ok(Placement { gpus: chosen, vram, tflops: request.tflops })
}

/// The GPUs that a request names, whatever is free on them: somebody who sees more than this node has decided.
///
/// # Errors
/// No such GPUs.
pub fn decided(gpus: &[Gpu], request: &Request) -> Result<Placement, Unplaced> {
    Ok(placed(&named(gpus, request)?, request))
}

fn named<'a>(gpus: &'a [Gpu], request: &Request) -> Result<Vec<&'a Gpu>, Unplaced> {
    let mut chosen: Vec<&Gpu> = Vec::new();
    for uuid in &request.uuids {
        let gpu = gpus.iter().find(|gpu| gpu.uuid.eq_ignore_ascii_case(uuid)).ok_or_else(|| {
            let has: Vec<&str> = gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
            Unplaced::Unknown { uuid: uuid.clone(), has: has.join(", ") }
        })?;
        if !chosen.iter().any(|other| other.index == gpu.index) {
            chosen.push(gpu);
        }
    }
    if chosen.is_empty() || chosen.len() != request.gpus as usize || request.uuids.len() != chosen.len() {
        return Err(Unplaced::Named { asked: request.gpus, named: chosen.len() });
    }
    Ok(chosen)
}

fn placed(chosen: &[&Gpu], request: &Request) -> Placement {
    let vram = request.vram.unwrap_or_else(|| default_vram(chosen.iter().map(|gpu| gpu.vram_free()).min()));
    Placement { gpus: chosen.iter().map(|gpu| gpu.index).collect(), vram, tflops: request.tflops }
}

fn compute_fits(gpu: &Gpu, tflops: Option<Tflops>) -> bool {
    match (gpu.tflops_free(), tflops) {
        (Some(free), Some(asked)) => asked <= free,
        _ => true,
    }
}

/// Half of what is free, in whole MiB: the next program that says nothing gets something too.
fn default_vram(free: Option<Bytes>) -> Bytes {
    let half_in_mib = (free.unwrap_or_default().get() / 2) >> 20;
    Bytes::from_mib(half_in_mib.max(1))
}

fn full(gpus: &[Gpu], request: &Request, least: Bytes) -> Unplaced {
    let mut wanted = vec![format!("{least}")];
    wanted.extend(request.tflops.map(|tflops| format!("{tflops} TFLOPS")));
    let state = |gpu: &Gpu| {
        let mut text = format!("GPU {} has {} of {}", gpu.index, gpu.vram_free(), gpu.vram);
        if let (Some(_), Some(free), Some(all)) = (request.tflops, gpu.tflops_free(), gpu.tflops) {
            text.push_str(&format!(" and {free} of {all} TFLOPS"));
        }
        text
    };
    Unplaced::Full {
        asked: request.gpus,
        what: wanted.join(" and "),
        state: gpus.iter().map(state).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use types::{Capability, Vendor};

    use super::*;

    fn gpu(index: u32, vram: Bytes, allocated: Bytes) -> Gpu {
        Gpu {
            index,
            uuid: format!("GPU-{index}"),
            name: "a card".to_owned(),
            vendor: Vendor::Software,
            compute_capability: Capability { major: 12, minor: 0 },
            numa_node: None,
            vram,
            vram_allocated: allocated,
            tflops: Some(Tflops::new(20)),
            tflops_allocated: Tflops::ZERO,
            vgpus: 0,
        }
    }

    fn ask(vram: &str) -> Request {
        Request { vram: Some(vram.parse().unwrap()), ..Request::default() }
    }

    #[test]
    fn the_gpu_with_the_most_free_memory_wins() {
        let gpus = [gpu(0, Bytes::from_gib(8), Bytes::from_gib(6)), gpu(1, Bytes::from_gib(8), Bytes::from_gib(1))];
        assert_eq!(place(&gpus, &ask("2GiB")).unwrap().gpus, [1]);
    }

    #[test]
    fn memory_is_granted_to_the_last_byte_and_not_beyond() {
        let gpus = [gpu(0, Bytes::from_gib(8), Bytes::from_gib(6))];
        assert_eq!(place(&gpus, &ask("2GiB")).unwrap().vram, Bytes::from_gib(2));
        assert!(place(&gpus, &ask("2147483649")).is_err());
    }

    #[test]
    fn a_refusal_says_what_is_free_where() {
        let gpus = [gpu(0, Bytes::from_gib(8), Bytes::new(5_261_334_938))];
        let refusal = place(&gpus, &ask("9GiB")).unwrap_err();
        assert_eq!(refusal.to_string(), "no GPU has 9 GiB free: GPU 0 has 3.1 GiB of 8 GiB");
        let request = Request { tflops: Some(Tflops::new(30)), ..ask("1GiB") };
        let refusal = place(&gpus, &request).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "no GPU has 1 GiB and 30 TFLOPS free: GPU 0 has 3.1 GiB of 8 GiB and 20 of 20 TFLOPS"
        );
    }

    #[test]
    fn compute_is_promised_up_to_what_there_is_and_requests_without_it_are_welcome() {
        let mut full = gpu(0, Bytes::from_gib(8), Bytes::ZERO);
        full.tflops_allocated = Tflops::new(15);
        let with = |tflops| Request { tflops: Some(Tflops::new(tflops)), ..ask("1GiB") };
        assert!(place(std::slice::from_ref(&full), &with(5)).is_ok());
        assert!(place(std::slice::from_ref(&full), &with(6)).is_err());
        assert_eq!(place(&[full], &ask("1GiB")).unwrap().tflops, None);
    }

    #[test]
    fn a_request_without_amounts_gets_half_of_what_is_free() {
        let gpus = [gpu(0, Bytes::from_gib(8), Bytes::from_gib(4))];
        assert_eq!(place(&gpus, &Request::default()).unwrap().vram, Bytes::from_gib(2));
        let full = [gpu(0, Bytes::from_gib(8), Bytes::from_gib(8))];
        assert!(place(&full, &Request::default()).is_err());
    }

    #[test]
    fn several_gpus_are_different_gpus() {
        let gpus = [gpu(0, Bytes::from_gib(8), Bytes::ZERO), gpu(1, Bytes::from_gib(8), Bytes::from_gib(2))];
        let two = |vram: &str| Request { gpus: 2, ..ask(vram) };
        assert_eq!(place(&gpus, &two("6GiB")).unwrap().gpus, [0, 1]);
        assert_eq!(
            place(&gpus, &two("7GiB")).unwrap_err().to_string(),
            "fewer than 2 GPUs have 7 GiB free: GPU 0 has 8 GiB of 8 GiB, GPU 1 has 6 GiB of 8 GiB"
        );
        let three = Request { gpus: 3, ..Request::default() };
        assert_eq!(place(&gpus, &three).unwrap_err().to_string(), "this node has 2 GPUs, `3` were asked for");
        assert!(place(&gpus, &Request { gpus: 0, ..Request::default() }).is_err());
        assert!(place(&gpus, &ask("1")).is_err());
    }

    #[test]
    fn named_gpus_are_taken_in_their_order_and_whatever_compute_is_left() {
        let mut gpus = [gpu(0, Bytes::from_gib(8), Bytes::ZERO), gpu(1, Bytes::from_gib(8), Bytes::from_gib(6))];
        gpus[1].tflops_allocated = Tflops::new(20);
        let name = |uuids: &[&str], vram| Request {
            gpus: uuids.len() as u32,
            uuids: uuids.iter().map(|uuid| (*uuid).to_owned()).collect(),
            tflops: Some(Tflops::new(10)),
            ..ask(vram)
        };
        assert_eq!(place(&gpus, &name(&["gpu-1", "GPU-0"], "1GiB")).unwrap().gpus, [1, 0]);
        let refused = |request: &Request| place(&gpus, request).unwrap_err().to_string();
        assert_eq!(refused(&name(&["gpu-1"], "3GiB")), "no GPU has 3 GiB free: GPU 1 has 2 GiB of 8 GiB");
        assert_eq!(refused(&name(&["gpu-7"], "1GiB")), "there is no GPU `gpu-7` on this node: it has GPU-0, GPU-1");
        assert_eq!(refused(&name(&["gpu-1", "GPU-1"], "1GiB")), "1 different GPUs are named, `2` were asked for");
    }
}
