//! What the webhook makes of a pod: a pure function of the pod, the settings and a count.
//!
//! It reads a wish ([`read`]) in any of the three dialects (TensorFusion's annotations, HAMi's resource names for any [`vendor`], plain
//! `nvidia.com/gpu`), and writes it into the pod in one canonical form ([`inject`]): an annotation with the request, a scheduling
//! gate that the allocator lifts, and the client library. It writes nothing else anywhere, so asking twice is the same as
//! asking once, and a failure of the webhook leaves nothing behind.

mod container;
mod edit;
mod hami;
mod inject;
mod read;
mod vendor;
mod wish;

use crd::names;
use json_patch::{Patch, PatchError};
use serde_json::Value;

pub use inject::url_key;
pub use wish::{ContainerWish, Dialect, GangWish, Mode, Wish};

use crate::Settings;

/// A wish that cannot be granted as it stands: what was said where, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: `{value}` is not allowed: {allowed}")]
pub struct Refusal {
    /// Annotation, label or field.
    pub place: String,
    /// What it said, cut to 80 characters.
    pub value: String,
    /// What would be right.
    pub allowed: String,
}

impl Refusal {
    pub(crate) fn new(place: impl Into<String>, value: impl std::fmt::Display, allowed: impl Into<String>) -> Self {
        let cut = |text: String, length: usize| match text.char_indices().nth(length) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        };
        let (value, allowed) = (cut(value.to_string(), 80), cut(allowed.into(), 240));
        Self { place: place.into(), value, allowed }
    }
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing: it did not ask, or is done already. The text says which.
    Unchanged(&'static str),
    /// It gets what it asks for.
    Changed {
        /// The wish as understood.
        wish: Box<Wish>,
        /// What is written into it (RFC 6902).
        patch: Patch,
    },
}

impl Decision {
    /// The pod that becomes of the one that was asked about.
    ///
    /// # Errors
    /// Another pod was asked about.
    pub fn after(&self, before: &Value) -> Result<Value, PatchError> {
        let mut pod = before.clone();
        if let Self::Changed { patch, .. } = self {
            json_patch::patch(&mut pod, patch)?;
        }
        Ok(pod)
    }
}

/// Decides what becomes of a pod. `enabled_already` counts the replicas of the same owner that have been given a vGPU, for
/// the annotation `enabled-replicas`.
///
/// # Errors
/// The pod asks, but for something that cannot be.
pub fn decide(pod: &Value, namespace: &str, settings: &Settings, enabled_already: u32) -> Result<Decision, Refusal> {
    decide_as(pod, namespace, settings, enabled_already, "00000000")
}

/// The same, with something that no other pod has (the UID of the review), of which the Secret of a remote client is named.
///
/// # Errors
/// The pod asks, but for something that cannot be.
pub fn decide_as(
    pod: &Value,
    namespace: &str,
    settings: &Settings,
    enabled_already: u32,
    unique: &str,
) -> Result<Decision, Refusal> {
    let domain = &settings.domain;
    if annotation(pod, names::REQUEST).is_some() {
        return Ok(Decision::Unchanged("the pod has its request already"));
    }
    if label(pod, &format!("{domain}/enabled")) == Some("false") || label(pod, "hami.io/webhook") == Some("ignore") {
        return Ok(Decision::Unchanged("the pod asks to be left alone"));
    }
    let Some(wish) = read::read(pod, namespace, settings)? else {
        return Ok(Decision::Unchanged("the pod asks for no GPU of ours"));
    };
    if wish.enabled_replicas.is_some_and(|enabled| enabled_already >= enabled) {
        return Ok(Decision::Unchanged("as many replicas as `enabled-replicas` allows have a vGPU already"));
    }
    let patch = inject::inject(pod, &wish, settings, unique)?;
    Ok(Decision::Changed { wish: Box::new(wish), patch })
}

fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

fn label<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod.get("metadata")?.get("labels")?.get(key)?.as_str()
}
