//! The catalogue of GPU models as the cluster extends it: what we know ourselves, over that what ProviderConfigs say, and over
//! that the ConfigMap `tensor-fusion-sys-public-gpu-info` (TensorFusion's name and fields). Pure.

use std::collections::{BTreeMap, BTreeSet};

use crd::ProviderConfigSpec;
use pool::{Catalogue, Model};
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;
use types::Tflops;

/// The ConfigMap's name, in the system's namespace.
pub(crate) const NAME: &str = "tensor-fusion-sys-public-gpu-info";
/// Its key.
pub(crate) const KEY: &str = "gpu-info.yaml";

/// No card has more, so this is a slip of the pen.
const MOST_TFLOPS: Tflops = Tflops::from_milli(1_000_000_000);

/// Models by who told them.
#[derive(Debug, Default)]
pub(crate) struct Models {
    configured: Vec<Model>,
    providers: BTreeMap<String, Vec<Model>>,
}

impl Models {
    /// The ConfigMap's content, or that there is none.
    pub(crate) fn configure(&mut self, models: Vec<Model>) -> bool {
        let changed = self.configured != models;
        self.configured = models;
        changed
    }

    /// What a ProviderConfig says, or that it is gone.
    pub(crate) fn provide(&mut self, name: &str, models: Option<Vec<Model>>) -> bool {
        let before = match models.clone() {
            Some(models) => self.providers.insert(name.to_owned(), models),
            None => self.providers.remove(name),
        };
        before != models
    }

    /// Everything together.
    pub(crate) fn catalogue(&self) -> Catalogue {
        let mut catalogue = Catalogue::builtin();
        for model in self.providers.values().flatten().chain(&self.configured) {
            catalogue.insert(model.clone());
        }
        catalogue
    }
}

/// Reads the ConfigMap's value.
///
/// # Errors
/// Which entry and field is wrong, and what it says.
pub(crate) fn parse(text: &str) -> Result<Vec<Model>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let entries: Vec<Value> =
        serde_yaml_ng::from_str(text).map_err(|error| format!("`{KEY}` is no list of models: {error}"))?;
    let models: Result<Vec<Model>, String> =
        entries.iter().enumerate().map(|(at, entry)| model(at + 1, entry)).collect();
    distinct(models?)
}

fn model(number: usize, entry: &Value) -> Result<Model, String> {
    let name = entry.get("model").and_then(Value::as_str).unwrap_or_default();
    let place = |field: &str| format!("entry {number} (`{name}`), field {field}");
    let model = Model {
        model: field(entry, "model").map_err(|error| format!("{}: {error}", place("model")))?,
        full_model_name: field(entry, "fullModelName")
            .map_err(|error| format!("{}: {error}", place("fullModelName")))?,
        vendor: field(entry, "vendor").map_err(|error| format!("{}: {error}", place("vendor")))?,
        fp16_tflops: field(entry, "fp16TFlops").map_err(|error| format!("{}: {error}", place("fp16TFlops")))?,
        cost_per_hour: match entry.get("costPerHour") {
            None | Some(Value::Null) => 0.0,
            Some(_) => field(entry, "costPerHour").map_err(|error| format!("{}: {error}", place("costPerHour")))?,
        },
    };
    check(&model).map_err(|(field, error)| format!("{}: {error}", place(field)))?;
    Ok(model)
}

fn field<T: DeserializeOwned>(entry: &Value, name: &str) -> Result<T, String> {
    let value = entry.get(name).ok_or("it is missing")?;
    serde_yaml_ng::from_value(value.clone()).map_err(|error| error.to_string())
}

fn check(model: &Model) -> Result<(), (&'static str, String)> {
    for (field, text) in [("model", &model.model), ("fullModelName", &model.full_model_name), ("vendor", &model.vendor)]
    {
        if text.trim().is_empty() || text.len() > 200 {
            return Err((field, format!("`{text}` is no name: expected 1 to 200 characters")));
        }
    }
    if model.fp16_tflops == Tflops::default() || model.fp16_tflops > MOST_TFLOPS {
        return Err(("fp16TFlops", format!("`{}`: expected more than 0, at most {MOST_TFLOPS}", model.fp16_tflops)));
    }
    if !model.cost_per_hour.is_finite() || model.cost_per_hour < 0.0 {
        return Err(("costPerHour", format!("`{}`: expected US dollars, 0 or more", model.cost_per_hour)));
    }
    Ok(())
}

fn distinct(models: Vec<Model>) -> Result<Vec<Model>, String> {
    let mut seen = BTreeSet::new();
    match models.iter().find(|model| !seen.insert(&model.model)) {
        Some(twice) => Err(format!("field model: `{}` is there twice", twice.model)),
        None => Ok(models),
    }
}

/// Reads the models of a ProviderConfig.
///
/// # Errors
/// Which field is wrong, and what it says.
pub(crate) fn of_provider(spec: &ProviderConfigSpec) -> Result<Vec<Model>, String> {
    let models: Result<Vec<Model>, String> = spec
        .hardware_metadata
        .iter()
        .flatten()
        .enumerate()
        .map(|(at, told)| {
            let place = |field: &str| format!("spec.hardwareMetadata[{at}].{field}");
            let cost = told.cost_per_hour.as_deref().unwrap_or("0");
            let model = Model {
                model: told.model.clone(),
                full_model_name: told.full_model_name.clone(),
                vendor: spec.vendor.clone(),
                fp16_tflops: told.fp16_tflops.tflops().map_err(|error| format!("{}: {error}", place("fp16TFlops")))?,
                cost_per_hour: cost.parse().map_err(|_| format!("{}: `{cost}` is no number", place("costPerHour")))?,
            };
            check(&model).map_err(|(field, error)| format!("{}: {error}", place(field)))?;
            Ok(model)
        })
        .collect();
    distinct(models?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GOOD: &str = "
- {model: X1, fullModelName: Example X1, vendor: Example, costPerHour: 0.5, fp16TFlops: 12.5, maxPartitions: 7}
- {model: T4, fullModelName: Tesla T4, vendor: NVIDIA, fp16TFlops: 66}
";

    #[test]
    fn the_config_map_extends_and_overrules_what_we_know() {
        let mut models = Models::default();
        assert!(models.configure(parse(GOOD).unwrap()));
        assert!(!models.configure(parse(GOOD).unwrap()));
        let catalogue = models.catalogue();
        assert_eq!(catalogue.find("Example X1").unwrap().fp16_tflops, Tflops::from_milli(12_500));
        assert_eq!(catalogue.find("T4").unwrap().fp16_tflops, Tflops::new(66));
        assert!(catalogue.find("H100_SXM").is_some());
        assert_eq!(parse(" \n").unwrap(), Vec::new());
    }

    #[test]
    fn what_cannot_be_is_refused_by_field_and_value() {
        let error = |text: &str| parse(text).unwrap_err();
        assert!(error("a: b").contains("`gpu-info.yaml` is no list of models"));
        let text = error("- {model: X1, fullModelName: Y, vendor: Z, fp16TFlops: lots}");
        assert!(text.starts_with("entry 1 (`X1`), field fp16TFlops: ") && text.contains("lots"), "{text}");
        assert_eq!(
            error("- {model: X1, fullModelName: Y, vendor: Z, fp16TFlops: 0}"),
            "entry 1 (`X1`), field fp16TFlops: `0`: expected more than 0, at most 1000000"
        );
        assert_eq!(
            error("- {model: X1, vendor: Z, fp16TFlops: 1}"),
            "entry 1 (`X1`), field fullModelName: it is missing"
        );
        let negative = error("- {model: X1, fullModelName: Y, vendor: Z, fp16TFlops: 1, costPerHour: -1}");
        assert!(negative.contains("field costPerHour: `-1`"), "{negative}");
        let twice = GOOD.replace("model: T4", "model: X1");
        assert_eq!(error(&twice), "field model: `X1` is there twice");
    }

    #[test]
    fn models_of_a_provider_join() {
        let spec = |tflops: &str| -> ProviderConfigSpec {
            serde_json::from_value(
                json!({"vendor": "MooreThreads", "images": {"middleware": "m"}, "hardwareMetadata": [
                {"model": "S4000", "fullModelName": "MTT S4000", "fp16TFlops": tflops, "costPerHour": "0.9"}]}),
            )
            .unwrap()
        };
        let mut models = Models::default();
        assert!(models.provide("p", Some(of_provider(&spec("100")).unwrap())));
        let catalogue = models.catalogue();
        let model = catalogue.find("MTT S4000").unwrap();
        assert_eq!((model.vendor.as_str(), model.fp16_tflops), ("MooreThreads", Tflops::new(100)));
        assert!(models.provide("p", None));
        assert!(models.catalogue().find("S4000").is_none());
        let error = of_provider(&spec("many")).unwrap_err();
        assert!(error.starts_with("spec.hardwareMetadata[0].fp16TFlops: ") && error.contains("many"), "{error}");
    }
}
