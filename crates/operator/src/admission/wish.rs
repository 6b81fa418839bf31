//! Reading a pod's wish, in whichever dialect it is written.
//!
//! Keys and meanings are those of TensorFusion (annotations under its domain, amounts for each GPU, requests taken from limits
//! where absent) and of HAMi (`nvidia.com/gpu` cards per container, `gpumem` in MiB and `gpucores` in percent of each card).
//! What those projects ignore in silence (an amount that does not parse) is refused here.

use std::str::FromStr;

use crd::Phase;
use pool::{Isolation, Strategy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{Bytes, Qos, Tflops};

use super::{Refusal, annotation, containers, label};
use crate::{Profile, Settings, duration};

/// Which dialect a wish was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// TensorFusion's annotations.
    TensorFusion,
    /// HAMi's resource names.
    Hami,
    /// Plain `nvidia.com/gpu`, under progressive migration.
    Native,
}

/// Where the GPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On the pod's own node.
    Local,
    /// Anywhere; the pod reaches it over the network.
    Remote,
}

/// What one container gets: the same amount of each of its GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerWish {
    /// Container.
    pub name: String,
    /// When it runs.
    #[serde(default, skip_serializing_if = "Phase::is_main")]
    pub phase: Phase,
    /// GPUs.
    pub gpus: u32,
    /// Guaranteed compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tflops_request: Option<Tflops>,
    /// Highest compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tflops_limit: Option<Tflops>,
    /// Percent of each card's compute, where no TFLOPS are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_percent: Option<u32>,
    /// Guaranteed memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram_request: Option<Bytes>,
    /// Highest memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram_limit: Option<Bytes>,
    /// Percent of each card's memory, where no amount is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram_percent: Option<u32>,
}

/// A pod's wish, the same for all dialects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// How it was written.
    pub dialect: Dialect,
    /// Pool.
    pub pool: String,
    /// Where.
    pub mode: Mode,
    /// QoS.
    pub qos: Qos,
    /// Isolation.
    pub isolation: Isolation,
    /// Placement, where the pod names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Positions on the node.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub indices: Vec<u32>,
    /// HAMi's lists.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub only_types: Vec<String>,
    /// See `only_types`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_types: Vec<String>,
    /// See `only_types`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub only_uuids: Vec<String>,
    /// See `only_types`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_uuids: Vec<String>,
    /// All GPUs of a container on one NUMA node.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub one_numa_node: bool,
    /// Containers that get GPUs.
    pub containers: Vec<ContainerWish>,
    /// Only so many replicas of the owner get a vGPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_replicas: Option<u32>,
    /// Replicas of the owner are placed together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gang: Option<GangWish>,
    /// Seconds after the pod was made in which nobody may evict it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub eviction_protection: Option<u64>,
}

/// Replicas that are placed together or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GangWish {
    /// At least so many; absent for all that the owner wants.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub minimum: Option<u32>,
    /// Seconds after which it gives up waiting for members or room; absent for never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout: Option<u64>,
}

/// HAMi's resource names and the plain one. All but the first are no resources of any node, so they must leave the pod.
pub(super) const RESOURCES: [&str; 5] = [
    "nvidia.com/gpu",
    "nvidia.com/gpumem",
    "nvidia.com/gpumem-percentage",
    "nvidia.com/gpucores",
    "nvidia.com/priority",
];

const MOST_GPUS: u32 = 128;

/// The wish of a pod, or `None` when it has none.
pub(super) fn read(pod: &Value, namespace: &str, settings: &Settings) -> Result<Option<Wish>, Refusal> {
    let reader = Reader { pod, domain: &settings.domain };
    let asked = label(pod, &format!("{}/enabled", settings.domain)) == Some("true")
        || reader.text("enabled").is_some_and(|text| text == "true");
    let fractions =
        names(pod).any(|container| RESOURCES.iter().skip(1).any(|name| resource(container, name).is_some()));
    let cards = names(pod).any(|container| resource(container, "nvidia.com/gpu").is_some());
    let dialect =
        if asked && !(fractions && reader.text("vram-limit").is_none() && reader.text("vram-request").is_none()) {
            Dialect::TensorFusion
        } else if fractions {
            Dialect::Hami
        } else if cards && settings.progressive_migration {
            Dialect::Native
        } else {
            return Ok(None);
        };
    let profile = reader.profile(namespace, settings)?;
    let pool = reader.pool(&profile, settings)?;
    let pool_settings = settings.pools.get(&pool).cloned().unwrap_or_default();
    let containers = match dialect {
        Dialect::TensorFusion => reader.annotated(&profile)?,
        Dialect::Hami | Dialect::Native => by_resources(pod, dialect)?,
    };
    let equal = containers.iter().all(|one| {
        one.tflops_request == one.tflops_limit && one.vram_request == one.vram_limit && one.vram_limit.is_some()
    });
    let qos = match (reader.parsed::<Qos>("qos")?.or(profile.qos), hami_priority(pod)?) {
        (Some(qos), _) | (None, Some(qos)) => qos,
        (None, None) if equal && dialect == Dialect::TensorFusion => Qos::High,
        (None, None) => pool_settings.qos.unwrap_or_default(),
    };
    let local = reader.flag("is-local-gpu")?.or(profile.local).or(pool_settings.local).unwrap_or(true);
    let list = |key: &str| -> Vec<String> {
        let text = annotation(pod, key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    Ok(Some(Wish {
        dialect,
        mode: if local { Mode::Local } else { Mode::Remote },
        qos,
        isolation: reader.isolation(dialect)?,
        strategy: hami_strategy(pod)?,
        model: reader.text("gpu-model").map(str::to_owned).or(profile.gpu_model),
        vendor: reader.text("vendor").map(str::to_owned).or(profile.vendor),
        indices: reader.indices()?,
        only_types: list("nvidia.com/use-gputype"),
        not_types: list("nvidia.com/nouse-gputype"),
        only_uuids: list("nvidia.com/use-gpuuuid"),
        not_uuids: list("nvidia.com/nouse-gpuuuid"),
        one_numa_node: annotation(pod, "nvidia.com/numa-bind") == Some("true"),
        enabled_replicas: reader.parsed("enabled-replicas")?,
        gang: reader.gang()?,
        eviction_protection: reader.seconds("eviction-protection")?.filter(|&seconds| seconds > 0),
        containers,
        pool,
    }))
}

/// All containers that may ask for GPUs.
fn names(pod: &Value) -> impl Iterator<Item = &Value> {
    containers(pod, "containers").chain(containers(pod, "initContainers")).map(|(_, container)| container)
}

/// When a container runs, by its name.
fn phase(pod: &Value, name: &str) -> Phase {
    match containers(pod, "initContainers").find(|(of, _)| *of == name) {
        None => Phase::Main,
        Some((_, container)) if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") => {
            Phase::Sidecar
        }
        Some(_) => Phase::Init,
    }
}

/// A resource of a container: from its limits, else from its requests.
fn resource<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    let resources = container.get("resources")?;
    let of = |kind: &str| resources.get(kind).and_then(|kind| kind.get(name));
    of("limits").or_else(|| of("requests"))
}

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

/// HAMi's and plain resources: every container that names one.
fn by_resources(pod: &Value, dialect: Dialect) -> Result<Vec<ContainerWish>, Refusal> {
    let mut wishes = Vec::new();
    for (name, container) in containers(pod, "containers").chain(containers(pod, "initContainers")) {
        let number = |resource_name: &str, most: u64| -> Result<Option<u64>, Refusal> {
            let value = resource(container, resource_name);
            Ok(value.map(|value| whole(name, resource_name, value, most)).transpose()?.filter(|&number| number > 0))
        };
        let gpus = number("nvidia.com/gpu", u64::from(MOST_GPUS))?;
        let mebibytes = number("nvidia.com/gpumem", 1 << 31)?;
        let percent = number("nvidia.com/gpumem-percentage", 100)?;
        let cores = number("nvidia.com/gpucores", u64::from(u32::MAX))?.map(|cores| cores.min(100));
        if gpus.is_none() && mebibytes.is_none() && percent.is_none() && cores.is_none() {
            continue;
        }
        let vram = mebibytes.map(Bytes::from_mib);
        // HAMi: a card without an amount of memory is a whole card, and then also all its cores unless some are named.
        let vram_percent = if vram.is_some() { None } else { Some(percent.unwrap_or(100)) };
        let exclusive = dialect == Dialect::Native || vram_percent == Some(100);
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        wishes.push(ContainerWish {
            name: name.to_owned(),
            phase: phase(pod, name),
            gpus: narrow(gpus.unwrap_or(1)),
            tflops_request: None,
            tflops_limit: None,
            compute_percent: cores.map(narrow).or(exclusive.then_some(100)),
            vram_request: vram,
            vram_limit: vram,
            vram_percent: vram_percent.map(narrow),
        });
    }
    Ok(wishes)
}

fn hami_priority(pod: &Value) -> Result<Option<Qos>, Refusal> {
    let mut qos = None;
    for (name, container) in containers(pod, "containers") {
        if let Some(value) = resource(container, "nvidia.com/priority") {
            qos = Some(match whole(name, "nvidia.com/priority", value, u64::from(u32::MAX))? {
                0 => Qos::High,
                _ => Qos::Low,
            });
        }
    }
    Ok(qos)
}

fn hami_strategy(pod: &Value) -> Result<Option<Strategy>, Refusal> {
    let key = "hami.io/gpu-scheduler-policy";
    let Some(text) = annotation(pod, key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let mut strategy = None;
    for part in text.split(',').map(str::trim) {
        match part {
            "binpack" => strategy = strategy.or(Some(Strategy::CompactFirst)),
            "spread" => strategy = strategy.or(Some(Strategy::LowLoadFirst)),
            "numa" | "mutex" | "topology-aware" => {}
            _ => {
                let allowed = "binpack, spread, numa, mutex, topology-aware, or several with commas";
                return Err(Refusal::new(format!("annotation {key}"), part, allowed));
            }
        }
    }
    Ok(strategy)
}

struct Reader<'a> {
    pod: &'a Value,
    domain: &'a str,
}

impl<'a> Reader<'a> {
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.domain)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        annotation(self.pod, &self.key(name)).map(str::trim).filter(|text| !text.is_empty())
    }

    fn refuse(&self, name: &str, value: &str, allowed: impl Into<String>) -> Refusal {
        Refusal::new(format!("annotation {}", self.key(name)), value, allowed)
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| self.refuse(name, text, error.to_string()))
    }

    /// A length of time in seconds, rounded up.
    fn seconds(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let length = duration::parse(text).map_err(|error| self.refuse(name, text, error.to_string()))?;
        Ok(Some(length.as_secs().saturating_add(u64::from(length.subsec_nanos() > 0))))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.refuse(name, other, "true or false")),
        }
    }

    fn profile(&self, namespace: &str, settings: &Settings) -> Result<Profile, Refusal> {
        let Some(name) = self.text("workload-profile") else { return Ok(Profile::default()) };
        let profile = settings.profiles.get(&format!("{namespace}/{name}"));
        profile.cloned().ok_or_else(|| {
            self.refuse("workload-profile", name, format!("the name of a WorkloadProfile in namespace {namespace}"))
        })
    }

    fn pool(&self, profile: &Profile, settings: &Settings) -> Result<String, Refusal> {
        let known = || settings.pools.keys().cloned().collect::<Vec<_>>().join(", ");
        match self.text("gpupool").map(str::to_owned).or_else(|| profile.pool_name.clone()) {
            Some(name) if settings.pools.contains_key(&name) => Ok(name),
            Some(name) => Err(self.refuse("gpupool", &name, format!("one of the pools: {}", known()))),
            None => {
                let default = settings.pools.iter().find(|(_, pool)| pool.default).map(|(name, _)| name.clone());
                let allowed = || format!("no pool is the default, so name one of: {}", known());
                default.ok_or_else(|| self.refuse("gpupool", "", allowed()))
            }
        }
    }

    fn isolation(&self, dialect: Dialect) -> Result<Isolation, Refusal> {
        match self.text("isolation") {
            None if dialect == Dialect::Native => Ok(Isolation::Shared),
            None | Some("soft") => Ok(Isolation::Soft),
            Some("shared") => Ok(Isolation::Shared),
            Some("hard") => Ok(Isolation::Hard),
            Some(other) => Err(self.refuse("isolation", other, "shared, soft or hard")),
        }
    }

    fn gang(&self) -> Result<Option<GangWish>, Refusal> {
        let minimum = self.parsed::<u32>("gang-min-members")?;
        let timeout = self.seconds("gang-timeout")?.filter(|&seconds| seconds > 0);
        if self.flag("gang-enabled")? != Some(true) {
            return Ok(None);
        }
        if minimum == Some(1) {
            return Err(self.refuse("gang-min-members", "1", "0 for all replicas, or at least 2"));
        }
        let owners = self.pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        if !owners.is_some_and(|owners| owners.iter().any(|owner| owner.get("controller") == Some(&Value::Bool(true))))
        {
            return Err(self.refuse(
                "gang-enabled",
                "true",
                "on pods of a controller (ReplicaSet, StatefulSet, Job) only",
            ));
        }
        Ok(Some(GangWish { minimum: minimum.filter(|&minimum| minimum > 0), timeout }))
    }

    fn indices(&self) -> Result<Vec<u32>, Refusal> {
        let Some(text) = self.text("gpu-indices") else { return Ok(Vec::new()) };
        let parse = |part: &str| part.trim().parse().map_err(|_| part.to_owned());
        let indices: Result<Vec<u32>, String> = text.split(',').map(parse).collect();
        indices.map_err(|part| self.refuse("gpu-indices", &part, "positions from 0, separated by commas"))
    }

    /// An amount and its twin: the request is taken from the limit where absent, and may not exceed it.
    fn pair<T>(&self, of: &str, request: Option<T>, limit: Option<T>) -> Result<(Option<T>, Option<T>), Refusal>
    where
        T: FromStr + Copy + PartialOrd + std::fmt::Display,
        T::Err: std::fmt::Display,
    {
        let limit = self.parsed(&format!("{of}-limit"))?.or(limit);
        let request = self.parsed(&format!("{of}-request"))?.or(request).or(limit);
        match (request, limit) {
            (Some(asked), Some(most)) if asked > most => {
                let name = format!("{of}-request");
                Err(self.refuse(&name, &asked.to_string(), format!("at most the limit, {most}")))
            }
            pair => Ok(pair),
        }
    }

    /// The wish in annotations, for the containers that it names.
    fn annotated(&self, profile: &Profile) -> Result<Vec<ContainerWish>, Refusal> {
        let (tflops_request, tflops_limit) = self.pair("tflops", profile.tflops_request, profile.tflops_limit)?;
        let (vram_request, vram_limit) = self.pair("vram", profile.vram_request, profile.vram_limit)?;
        let (percent, _) = self.pair::<u32>("compute-percent", None, None)?;
        if let Some(percent) = percent.filter(|percent| *percent > 100) {
            return Err(self.refuse("compute-percent-request", &percent.to_string(), "a percentage from 0 to 100"));
        }
        let indices = u32::try_from(self.indices()?.len()).ok().filter(|&count| count > 0);
        let gpus = self.parsed("gpu-count")?.or(indices).or(profile.gpu_count).unwrap_or(1);
        if !(1..=MOST_GPUS).contains(&gpus) {
            return Err(self.refuse("gpu-count", &gpus.to_string(), format!("a number from 1 to {MOST_GPUS}")));
        }
        let nothing = tflops_request.is_none() && vram_request.is_none() && percent.is_none();
        if nothing && self.text("isolation") != Some("shared") {
            return Err(self.refuse("vram-limit", "", "an amount of VRAM or compute is needed, or isolation `shared`"));
        }
        let named: Vec<&str> = match self.text("inject-container") {
            Some(text) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
            None => containers(self.pod, "containers").map(|(name, _)| name).collect(),
        };
        if self.text("inject-container").is_none() && named.len() > 1 {
            let allowed =
                format!("the pod has several containers, so name those that get the GPU: {}", named.join(", "));
            return Err(self.refuse("inject-container", "", allowed));
        }
        let wish = |name: &&str| ContainerWish {
            name: (*name).to_owned(),
            phase: phase(self.pod, name),
            gpus,
            tflops_request,
            tflops_limit,
            compute_percent: if tflops_request.is_some() { None } else { percent },
            vram_request,
            vram_limit,
            vram_percent: None,
        };
        Ok(named.iter().map(wish).collect())
    }
}
