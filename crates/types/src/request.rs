//! What a program asks for, and what it is given.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Bytes, Capability, Tflops, Token, Vendor, VgpuId};

/// Who goes first when GPUs are short.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Qos {
    /// Gives way to everybody.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Before medium.
    High,
    /// Gives way to nobody.
    Critical,
}

/// Why text is no QoS class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a QoS class: expected low, medium, high or critical")]
pub struct ParseQosError {
    /// What was given.
    text: String,
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

impl FromStr for Qos {
    type Err = ParseQosError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|qos| qos.to_string() == text)
            .ok_or_else(|| ParseQosError { text: text.to_owned() })
    }
}

/// What a program asks a node for. What is absent is chosen by the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Number of vGPUs, each with the amounts below, each on a GPU of its own.
    #[serde(default = "one")]
    pub gpus: u32,
    /// Memory of each; by default half of what is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram: Option<Bytes>,
    /// Compute of each; by default as much as there is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tflops: Option<Tflops>,
    /// These GPUs and no others, by their identities in any case, in order of the program's device ordinals; as many as
    /// `gpus` says. Whoever names them has decided: compute may be promised beyond what a GPU has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uuids: Vec<String>,
    /// Who goes first.
    #[serde(default)]
    pub qos: Qos,
    /// What a software GPU shall present itself as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<Capability>,
    /// What runs on it, for people.
    #[serde(default)]
    pub program: String,
    /// The process that asks, for people.
    #[serde(default)]
    pub pid: u32,
}

fn one() -> u32 {
    1
}

impl Default for Request {
    fn default() -> Self {
        Self {
            gpus: 1,
            vram: None,
            tflops: None,
            uuids: Vec::new(),
            qos: Qos::default(),
            compute_capability: None,
            program: String::new(),
            pid: 0,
        }
    }
}

/// A granted vGPU: where it is reached and how much it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Its name on the node.
    pub id: VgpuId,
    /// Where its worker listens: `tcp://HOST:PORT` or `unix:///PATH`.
    pub connect: String,
    /// The kind of GPU behind it.
    pub vendor: Vendor,
    /// Indices of the node's GPUs that it lies on, in order of the program's device ordinals.
    pub gpus: Vec<u32>,
    /// Memory on each of them.
    pub vram: Bytes,
    /// Compute on each of them; `None` is no limit.
    pub tflops: Option<Tflops>,
    /// What its programs must show to its worker. Only whoever asked for the vGPU is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_nothing_in_it_is_one_gpu() {
        assert_eq!(serde_json::from_str::<Request>("{}").unwrap(), Request::default());
    }

    #[test]
    fn a_request_takes_amounts_with_units_and_refuses_unknown_fields() {
        let request: Request = serde_json::from_str(r#"{"vram":"4GiB","tflops":"500m","qos":"high"}"#).unwrap();
        assert_eq!(request.vram, Some(Bytes::from_gib(4)));
        assert_eq!(request.tflops, Some(Tflops::from_milli(500)));
        assert_eq!(request.qos, Qos::High);
        assert!(serde_json::from_str::<Request>(r#"{"vran":"4GiB"}"#).unwrap_err().to_string().contains("`vran`"));
    }

    #[test]
    fn qos_classes_are_ordered_and_read() {
        assert!(Qos::Critical > Qos::High && Qos::High > Qos::Medium && Qos::Medium > Qos::Low);
        assert_eq!("critical".parse(), Ok(Qos::Critical));
        let message = "urgent".parse::<Qos>().unwrap_err().to_string();
        assert_eq!(message, "`urgent` is not a QoS class: expected low, medium, high or critical");
    }
}
