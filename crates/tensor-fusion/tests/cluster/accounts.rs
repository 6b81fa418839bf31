//! What was given out, counted from the pods themselves: never more than there is, and never anything that nobody has.

use std::collections::BTreeMap;

use crd::{Allocation, Quantity};
use serde_json::Value;
use types::{Bytes, Tflops};

use super::kubernetes::{PATIENCE, get, list, until};

/// Compute and memory.
type Amount = (Tflops, Bytes);

fn amount(value: &Value) -> Result<Amount, String> {
    let quantity = |name: &str| Quantity(value[name].as_str().unwrap_or("0").to_owned());
    let tflops = quantity("tflops").tflops().map_err(|error| error.to_string())?;
    Ok((tflops, quantity("vram").bytes().map_err(|error| error.to_string())?))
}

fn plus(a: Amount, b: Amount) -> Result<Amount, String> {
    let sum = || Some((a.0.checked_add(b.0)?, a.1.checked_add(b.1)?));
    sum().ok_or_else(|| format!("{a:?} and {b:?} are too much"))
}

/// What live pods hold of each GPU, by their own annotations.
fn held() -> Result<BTreeMap<String, Amount>, String> {
    let mut held = BTreeMap::new();
    for pod in list("pods -A")? {
        let gated = pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
        let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let text = pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].as_str();
        let Some(text) = text.filter(|_| !gated && !over) else { continue };
        let allocation = Allocation::parse(text).map_err(|error| format!("{error}: {text}"))?;
        for share in allocation.shares() {
            let sum = held.entry(share.gpu.clone()).or_default();
            *sum = plus(*sum, (share.tflops, share.vram))?;
        }
    }
    Ok(held)
}

/// No GPU is promised beyond what it has.
pub(crate) fn nothing_twice() -> Result<(), String> {
    let held = held()?;
    for gpu in list("gpus.tensor-fusion.ai")? {
        let name = gpu["metadata"]["name"].as_str().unwrap_or_default();
        let (has, given) = (amount(&gpu["status"]["capacity"])?, held.get(name).copied().unwrap_or_default());
        if given.0 > has.0 || given.1 > has.1 {
            return Err(format!("{name} has {has:?}, and its pods were given {given:?}"));
        }
    }
    Ok(())
}

/// What the GPUs say is free, and what their pods hold, add up to what there is.
pub(crate) fn balanced() -> Result<(), String> {
    until("what is free and what pods hold add up", PATIENCE, || {
        nothing_twice()?;
        let held = held()?;
        for gpu in list("gpus.tensor-fusion.ai")? {
            let name = gpu["metadata"]["name"].as_str().unwrap_or_default();
            let (has, free) = (amount(&gpu["status"]["capacity"])?, amount(&gpu["status"]["available"])?);
            let given = held.get(name).copied().unwrap_or_default();
            if plus(free, given)? != has {
                return Err(format!("{name} has {has:?}, says {free:?} are free, and its pods hold {given:?}"));
            }
        }
        Ok(())
    })
}

/// Nothing is given out.
pub(crate) fn all_free() -> Result<(), String> {
    until("everything is free again", PATIENCE, || {
        let gpus = get("gpus.tensor-fusion.ai")?;
        for gpu in gpus["items"].as_array().into_iter().flatten() {
            if amount(&gpu["status"]["capacity"])? != amount(&gpu["status"]["available"])? {
                return Err(gpu["status"].to_string());
            }
        }
        Ok(())
    })
}
