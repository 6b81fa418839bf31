//! HAMi's dialect: cards per container, memory and cores of each card, by [names](super::vendor) of resources, and policies by
//! annotations.

use pool::Strategy;
use serde_json::Value;
use types::{Percent, Qos};

use super::container::{self, MOST_GPUS, WHOLE, all, phase, resource};
use super::vendor::{FAMILIES, Family, NVIDIA};
use super::wish::{ContainerWish, Dialect};
use super::{Refusal, annotation};

fn whole(container: &str, name: &str, value: &Value, most: u64) -> Result<u64, Refusal> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let scaled = text.strip_suffix('k').map(|head| head.parse::<u64>().ok().and_then(|head| head.checked_mul(1000)));
    let number = scaled.unwrap_or_else(|| text.parse::<u64>().ok());
    number.filter(|&number| number <= most).ok_or_else(|| {
        Refusal::new(
            format!("container `{container}`, resource {name}"),
            text,
            format!("a whole number from 0 to {most}"),
        )
    })
}

/// The family of cards of which a pod asks for parts, if it does.
pub(super) fn family(pod: &Value) -> Result<Option<Family>, Refusal> {
    let mut found: Option<(Family, &str)> = None;
    for (_, container) in all(pod) {
        for family in FAMILIES {
            let Some(name) = family.made_up().find(|name| resource(container, name).is_some()) else { continue };
            match found {
                Some((before, other)) if before.count != family.count => {
                    let allowed = format!("cards of one kind for each pod, and it names {other} too");
                    return Err(Refusal::new("resources of the pod", name, allowed));
                }
                _ => found = Some((family, name)),
            }
        }
    }
    Ok(found.map(|(family, _)| family))
}

/// Every container that names a resource of the family.
pub(super) fn containers(pod: &Value, family: Family, dialect: Dialect) -> Result<Vec<ContainerWish>, Refusal> {
    let mut wishes = Vec::new();
    for (name, container) in all(pod) {
        let number = |resource_name: &str, most: u64| -> Result<Option<u64>, Refusal> {
            let value = resource(container, resource_name);
            Ok(value.map(|value| whole(name, resource_name, value, most)).transpose()?.filter(|&number| number > 0))
        };
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let named = |resource_name: Option<&str>, most: u64| resource_name.map_or(Ok(None), |name| number(name, most));
        let gpus = number(family.count, u64::from(MOST_GPUS))?;
        let memory = number(family.memory, (1 << 31) / family.mebibytes)?;
        let percent = named(family.percentage, 100)?.map(|percent| Percent::new(narrow(percent)));
        let cores = named(family.cores, u64::from(u32::MAX))?.map(|cores| Percent::new(narrow(cores.min(100))));
        if gpus.is_none() && memory.is_none() && percent.is_none() && cores.is_none() {
            continue;
        }
        let vram = memory.and_then(|number| family.memory(number));
        // HAMi: a card without an amount of memory is a whole card, and then also all its cores unless some are named.
        let vram_percent = if vram.is_some() { None } else { Some(percent.unwrap_or(WHOLE)) };
        let exclusive = dialect == Dialect::Native || vram_percent == Some(WHOLE);
        wishes.push(ContainerWish {
            name: name.to_owned(),
            phase: phase(pod, name),
            gpus: narrow(gpus.unwrap_or(1)),
            tflops_request: None,
            tflops_limit: None,
            compute_percent: cores.or(exclusive.then_some(WHOLE)),
            compute_percent_limit: None,
            vram_request: vram,
            vram_limit: vram,
            vram_percent,
        });
    }
    Ok(wishes)
}

/// The class that a pod names as a resource.
pub(super) fn priority(pod: &Value) -> Result<Option<Qos>, Refusal> {
    let (mut qos, resource_name) = (None, NVIDIA.priority.unwrap_or_default());
    for (name, container) in container::containers(pod, "containers") {
        if let Some(value) = resource(container, resource_name) {
            qos = Some(match whole(name, resource_name, value, u64::from(u32::MAX))? {
                0 => Qos::High,
                _ => Qos::Low,
            });
        }
    }
    Ok(qos)
}

/// What HAMi's annotations say about the choice of cards.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) strategy: Option<Strategy>,
    pub(super) near: bool,
    /// Of what is said, what is not acted upon.
    pub(super) ignored: Vec<String>,
}

const NODE: &str = "hami.io/node-scheduler-policy";
const GPU: &str = "hami.io/gpu-scheduler-policy";

impl Policy {
    /// Where one of the two is absent, HAMi's default holds: nodes are filled (`binpack`), their cards are not (`spread`).
    pub(super) fn read(pod: &Value) -> Result<Self, Refusal> {
        let said = |key: &str| annotation(pod, key).map(str::trim).filter(|text| !text.is_empty());
        let mut policy = Self::default();
        let node = said(NODE);
        if let Some(other) = node.filter(|text| !matches!(*text, "binpack" | "spread")) {
            return Err(Refusal::new(format!("annotation {NODE}"), other, "binpack or spread"));
        }
        let (mut gpu, mut alone) = (None, false);
        for part in said(GPU).into_iter().flat_map(|text| text.split(',')).map(str::trim) {
            match part {
                "binpack" | "spread" => gpu = gpu.or(Some(part)),
                "numa" | "topology-aware" => policy.near = true,
                "mutex" => alone = true,
                _ => {
                    let allowed = "binpack, spread, numa, mutex, topology-aware, or several with commas";
                    return Err(Refusal::new(format!("annotation {GPU}"), part, allowed));
                }
            }
        }
        policy.strategy = match (node, gpu) {
            _ if alone => Some(Strategy::Mutex),
            (None, None) => None,
            (Some("spread"), Some("binpack")) => {
                policy.ignored.push(format!("annotation {GPU}: binpack on nodes that are spread"));
                Some(Strategy::LowLoadFirst)
            }
            (Some("spread"), _) => Some(Strategy::LowLoadFirst),
            (_, Some("binpack")) => Some(Strategy::CompactFirst),
            _ => Some(Strategy::NodeCompactGPULowLoad),
        };
        if said("hami.io/device-scoring-weights").is_some() {
            policy.ignored.push("annotation hami.io/device-scoring-weights".to_owned());
        }
        if said("nvidia.com/vgpu-mode").is_some_and(|mode| !mode.contains("hami-core")) {
            policy.ignored.push("annotation nvidia.com/vgpu-mode".to_owned());
        }
        Ok(policy)
    }
}
