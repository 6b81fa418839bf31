//! What is known of GPU models before any is seen.
//!
//! FP16 figures are dense tensor-core TFLOPS from the vendors' data sheets; prices are on-demand US dollars an hour, as
//! TensorFusion's public GPU table gives them. A cluster may extend or overrule the table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::Tflops;

/// One GPU model. Field names are those of TensorFusion's gpu-info entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Short name, for example `H100_SXM`.
    pub model: String,
    /// The name that the driver reports, for example `NVIDIA H100 80GB HBM3`.
    pub full_model_name: String,
    /// Vendor.
    pub vendor: String,
    /// FP16 TFLOPS.
    #[serde(rename = "fp16TFlops")]
    pub fp16_tflops: Tflops,
    /// US dollars an hour.
    #[serde(default)]
    pub cost_per_hour: f64,
}

/// Models by short name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    models: BTreeMap<String, Model>,
}

impl Catalogue {
    /// The models that we know ourselves.
    #[must_use]
    pub fn builtin() -> Self {
        let rows: [(&str, &str, u64, f64); 12] = [
            ("T4", "Tesla T4", 65_000, 0.3),
            ("V100", "Tesla V100-SXM2-32GB", 125_000, 0.55),
            ("A10", "NVIDIA A10", 125_000, 0.6),
            ("A100_SXM_80G", "NVIDIA A100-SXM4-80GB", 312_000, 1.89),
            ("L4", "NVIDIA L4", 121_000, 0.43),
            ("L40S", "NVIDIA L40S", 365_000, 0.86),
            ("RTX4090", "NVIDIA GeForce RTX 4090", 165_160, 0.3),
            ("H20", "NVIDIA H20", 148_000, 1.5),
            ("H100_SXM", "NVIDIA H100 80GB HBM3", 989_000, 2.99),
            ("H200", "NVIDIA H200", 989_000, 3.8),
            ("B200_SXM", "NVIDIA B200", 2_250_000, 5.99),
            ("SOFT", "Tensor Fusion Software GPU", 20_000, 0.0),
        ];
        let mut catalogue = Self::default();
        for (model, full, milli, cost_per_hour) in rows {
            catalogue.insert(Model {
                model: model.to_owned(),
                full_model_name: full.to_owned(),
                vendor: if model == "SOFT" { "TensorFusion" } else { "NVIDIA" }.to_owned(),
                fp16_tflops: Tflops::from_milli(milli),
                cost_per_hour,
            });
        }
        catalogue
    }

    /// Adds a model, or replaces the one of the same short name.
    pub fn insert(&mut self, model: Model) {
        self.models.insert(model.model.clone(), model);
    }

    /// The model of this short or full name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Model> {
        self.models.get(name).or_else(|| self.models.values().find(|model| model.full_model_name == name))
    }

    /// All models in order of their short names.
    pub fn iter(&self) -> impl Iterator<Item = &Model> {
        self.models.values()
    }
}
