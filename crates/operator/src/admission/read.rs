//! Reading a pod's wish, in whichever dialect it is written.
//!
//! Keys and meanings are those of TensorFusion (annotations under its domain, amounts for each GPU, requests taken from limits
//! where absent) and of [HAMi](hami).
//! What those projects ignore in silence (an amount that does not parse) is refused here.

use std::str::FromStr;

use pool::Isolation;
use serde_json::Value;
use types::{Percent, Qos};

use super::container::{MOST_GPUS, WHOLE, all, containers, phase, resource};
use super::hami;
use super::vendor::NVIDIA;
use super::wish::{ContainerWish, Dialect, GangWish, Mode, Wish};
use super::{Refusal, annotation, label};
use crate::{Profile, Settings, duration};

/// The wish of a pod, or `None` when it has none.
pub(super) fn read(pod: &Value, namespace: &str, settings: &Settings) -> Result<Option<Wish>, Refusal> {
    let reader = Reader { pod, domain: &settings.domain };
    let asked = label(pod, &format!("{}/enabled", settings.domain)) == Some("true")
        || reader.text("enabled").is_some_and(|text| text == "true");
    let fractions = hami::family(pod)?;
    let cards = all(pod).any(|(_, container)| resource(container, NVIDIA.count).is_some());
    let dialect = if asked
        && !(fractions.is_some() && reader.text("vram-limit").is_none() && reader.text("vram-request").is_none())
    {
        Dialect::TensorFusion
    } else if fractions.is_some() {
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
        Dialect::TensorFusion => reader.annotated(&profile, reader.workload()?.is_some())?,
        Dialect::Hami | Dialect::Native => hami::containers(pod, fractions.unwrap_or(NVIDIA), dialect)?,
    };
    let family = fractions.filter(|family| dialect == Dialect::Hami && family.vendor != NVIDIA.vendor);
    let equal = containers.iter().all(|one| {
        one.tflops_request == one.tflops_limit && one.vram_request == one.vram_limit && one.vram_limit.is_some()
    });
    let qos = match (reader.parsed::<Qos>("qos")?.or(profile.qos), hami::priority(pod)?) {
        (Some(qos), _) | (None, Some(qos)) => qos,
        (None, None) if equal && dialect == Dialect::TensorFusion => Qos::High,
        (None, None) => pool_settings.qos.unwrap_or_default(),
    };
    let workload = reader.workload()?;
    let local = match &workload {
        Some(name) if reader.flag("is-local-gpu")? == Some(true) => {
            let allowed = format!("false, for the workers of workload `{name}` are elsewhere");
            return Err(reader.refuse("is-local-gpu", "true", allowed));
        }
        Some(_) => false,
        None => reader.flag("is-local-gpu")?.or(profile.local).or(pool_settings.local).unwrap_or(true),
    };
    let template = reader.template(local)?.or(profile.worker_pod_template.clone().filter(|_| !local));
    let list = |key: &str| -> Vec<String> {
        let text = annotation(pod, key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let hami = hami::Policy::read(pod)?;
    let mut ignored = reader.ignored()?;
    ignored.extend(hami.ignored);
    Ok(Some(Wish {
        dialect,
        mode: if local { Mode::Local } else { Mode::Remote },
        qos,
        isolation: reader.isolation(dialect)?,
        strategy: hami.strategy,
        model: reader
            .text("gpu-model")
            .or(family.and_then(|family| family.model))
            .map(str::to_owned)
            .or(profile.gpu_model),
        vendor: reader.text("vendor").or(family.map(|family| family.vendor)).map(str::to_owned).or(profile.vendor),
        indices: reader.indices()?,
        only_types: list("nvidia.com/use-gputype"),
        not_types: list("nvidia.com/nouse-gputype"),
        only_uuids: list("nvidia.com/use-gpuuuid"),
        not_uuids: list("nvidia.com/nouse-gpuuuid"),
        one_numa_node: annotation(pod, "nvidia.com/numa-bind") == Some("true"),
        near: hami.near,
        enabled_replicas: reader.parsed("enabled-replicas")?,
        gang: reader.gang()?,
        eviction_protection: reader.seconds("eviction-protection")?.filter(|&seconds| seconds > 0),
        replicas: profile.replicas.filter(|_| !local && workload.is_none()),
        workload,
        worker_pod_template: template,
        ignored,
        containers,
        pool,
    }))
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

    /// A part of something, as a quantity of percent: `12.5`, `500m`.
    fn percent(&self, name: &str) -> Result<Option<Percent>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let percent = crd::Quantity(text.to_owned()).percent();
        percent.map(Some).map_err(|_| self.refuse(name, text, "a percentage from 0 to 100"))
    }

    /// What TensorFusion knows and we do not act upon yet.
    fn ignored(&self) -> Result<Vec<String>, Refusal> {
        let said = |name: &&str| self.text(name).is_some();
        let mut keys: Vec<&str> =
            ["partition-id", "autoscale-target", "disable-features"].into_iter().filter(said).collect();
        for name in ["sidecar-worker", "autoscale"] {
            if self.flag(name)? == Some(true) {
                keys.push(name);
            }
        }
        let mut ignored: Vec<String> = keys.into_iter().map(|name| format!("annotation {}", self.key(name))).collect();
        let port = self.key("host-port");
        if label(self.pod, &port).is_some() {
            ignored.push(format!("label {port}"));
        }
        Ok(ignored)
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

    /// The workload that is to serve the pod.
    fn workload(&self) -> Result<Option<String>, Refusal> {
        for key in ["selected-workload", "workload"] {
            let Some(name) = self.text(key) else { continue };
            let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
            if name.len() > 63 || !name.bytes().all(good) {
                return Err(self.refuse(key, name, "the name of a TensorFusionWorkload of the pod's own namespace"));
            }
            return Ok(Some(name.to_owned()));
        }
        Ok(None)
    }

    /// What workers are made of, as YAML or JSON of a PodTemplateSpec.
    fn template(&self, local: bool) -> Result<Option<Value>, Refusal> {
        let key = "worker-pod-template";
        let Some(text) = self.text(key) else { return Ok(None) };
        if local {
            return Err(self.refuse(key, text, "in remote mode only, for locally there are no worker pods"));
        }
        let wrong = |why: String| self.refuse(key, text, format!("a PodTemplateSpec as YAML or JSON: {why}"));
        let template: Value = serde_yaml_ng::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let checked: Result<k8s_openapi::api::core::v1::PodTemplateSpec, _> = serde_json::from_value(template.clone());
        match checked {
            Ok(_) if template.get("spec").is_some() || template.get("metadata").is_some() => Ok(Some(template)),
            Ok(_) => Err(wrong("it has neither `spec` nor `metadata`".to_owned())),
            // The least that a pod must have is ours.
            Err(error) if error.to_string().contains("missing field `containers`") => Ok(Some(template)),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    fn indices(&self) -> Result<Vec<u32>, Refusal> {
        let Some(text) = self.text("gpu-indices") else { return Ok(Vec::new()) };
        let parse = |part: &str| part.trim().parse().map_err(|_| part.to_owned());
        let indices: Result<Vec<u32>, String> = text.split(',').map(parse).collect();
        indices.map_err(|part| self.refuse("gpu-indices", &part, "positions from 0, separated by commas"))
    }

    /// An amount and its twin: the request is taken from the limit where absent, and may not exceed it.
    fn pair<T>(
        &self,
        of: &str,
        read: impl Fn(&str) -> Result<Option<T>, Refusal>,
        (request, limit): (Option<T>, Option<T>),
    ) -> Result<(Option<T>, Option<T>), Refusal>
    where
        T: Copy + PartialOrd + std::fmt::Display,
    {
        let name = format!("{of}-request");
        let limit = read(&format!("{of}-limit"))?.or(limit);
        let request = read(&name)?.or(request).or(limit);
        match (request, limit) {
            (Some(asked), Some(most)) if asked > most => {
                Err(self.refuse(&name, &asked.to_string(), format!("at most the limit, {most}")))
            }
            pair => Ok(pair),
        }
    }

    /// Whether each card is to be the pod's alone.
    fn is_dedicated(&self, profile: &Profile) -> Result<bool, Refusal> {
        let dedicated = self.flag("dedicated-gpu")? == Some(true);
        if dedicated && self.text("gpu-model").is_none() && profile.gpu_model.is_none() {
            return Err(self.refuse("dedicated-gpu", "true", "together with the annotation gpu-model"));
        }
        Ok(dedicated)
    }

    /// The wish in annotations, for the containers that it names.
    fn annotated(&self, profile: &Profile, elsewhere: bool) -> Result<Vec<ContainerWish>, Refusal> {
        let of_profile = (profile.tflops_request, profile.tflops_limit);
        let (mut tflops_request, mut tflops_limit) = self.pair("tflops", |name| self.parsed(name), of_profile)?;
        let of_profile = (profile.vram_request, profile.vram_limit);
        let (mut vram_request, mut vram_limit) = self.pair("vram", |name| self.parsed(name), of_profile)?;
        let of_profile = (profile.compute_percent_request, profile.compute_percent_limit);
        let (mut percent, mut percent_limit) = self.pair("compute-percent", |name| self.percent(name), of_profile)?;
        let mut vram_percent = None;
        if self.is_dedicated(profile)? {
            (tflops_request, tflops_limit, vram_request, vram_limit) = (None, None, None, None);
            (percent, percent_limit, vram_percent) = (Some(WHOLE), None, Some(WHOLE));
        }
        if tflops_request.is_some() {
            (percent, percent_limit) = (None, None);
        }
        let indices = u32::try_from(self.indices()?.len()).ok().filter(|&count| count > 0);
        let gpus = self.parsed("gpu-count")?.or(indices).or(profile.gpu_count).unwrap_or(1);
        if !(1..=MOST_GPUS).contains(&gpus) {
            return Err(self.refuse("gpu-count", &gpus.to_string(), format!("a number from 1 to {MOST_GPUS}")));
        }
        let nothing = tflops_request.is_none() && vram_request.is_none() && percent.is_none();
        // The workers of a workload have what that says.
        if nothing && !elsewhere && self.text("isolation") != Some("shared") {
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
            compute_percent: percent,
            compute_percent_limit: percent_limit.filter(|limit| Some(*limit) != percent),
            vram_request,
            vram_limit,
            vram_percent,
        };
        Ok(named.iter().map(wish).collect())
    }
}
