//! AdmissionReview in, AdmissionReview out.
//!
//! Of the question only what a decision needs is read, and the answer is written at once: a review is a few kilobytes, of which
//! most is who wrote what and who asks, and building all of it as values would cost more than deciding.

mod question;

use crd::names;
use k8s_openapi::ByteString;
use serde::Serialize;
use serde_json::Value;

use super::grey::{Grey, Room};
use crate::Settings;
use crate::admission::{Decision, Refusal, decide_as};

pub use question::Question;

/// Annotation that tells the pod of a review when it comes by in the watch.
pub const COUNTER_KEY: &str = "pod-counter-key";

const NOT_LEADING: &str = "this operator does not lead, and only the leader counts replicas: ask again";

/// What the API server is answered.
#[derive(Debug)]
pub struct Answer {
    uid: String,
    verdict: Verdict,
}

/// What becomes of the pod.
#[derive(Debug)]
pub enum Verdict {
    /// It stays as it is.
    Unchanged,
    /// It is changed by this JSON patch, and its author is told this.
    Changed(ByteString, Option<String>),
    /// It is not made, for only the leader could say more.
    NotLeading,
    /// It is not made.
    Refused {
        /// As of HTTP.
        code: u16,
        /// Why.
        message: String,
    },
}

impl Answer {
    /// An answer that refuses the pod.
    #[must_use]
    pub fn refusal(uid: &str, code: u16, message: impl Into<String>) -> Self {
        Self { uid: uid.to_owned(), verdict: Verdict::Refused { code, message: message.into() } }
    }

    /// Whether only the leader could have said more.
    #[must_use]
    pub fn is_the_leaders(&self) -> bool {
        matches!(self.verdict, Verdict::NotLeading)
    }

    /// What becomes of the pod.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The answer as it travels.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut response = Response {
            uid: &self.uid,
            allowed: true,
            warnings: Vec::new(),
            patch_type: None,
            patch: None,
            status: None,
        };
        let refused = match &self.verdict {
            Verdict::Unchanged => None,
            Verdict::Changed(patch, warning) => {
                response.patch_type = Some("JSONPatch");
                response.patch = Some(patch);
                response.warnings.extend(warning.as_deref());
                None
            }
            Verdict::Refused { code, message } => Some((*code, message.as_str())),
            Verdict::NotLeading => Some((429, NOT_LEADING)),
        };
        if let Some((code, message)) = refused {
            let reason = match code {
                422 => "Invalid",
                429 => "TooManyRequests",
                400 => "BadRequest",
                _ => "InternalError",
            };
            response.allowed = false;
            response.status = Some(Status { status: "Failure", code, reason, message });
        }
        let review = Review { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response };
        // Strings, numbers and names that are strings: nothing that could fail.
        serde_json::to_vec(&review).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
}

/// Answers a review. Nothing is written anywhere but in `grey`, and there not on a dry run.
#[must_use]
pub fn answer(question: &Question, settings: &Settings, grey: &Grey, leads: bool) -> Answer {
    let (uid, pod) = (question.uid(), question.pod());
    let verdict = if pod.is_object() { decided(question, settings, grey, leads) } else { Err(no_pod()) };
    Answer {
        uid: uid.to_owned(),
        verdict: verdict.unwrap_or_else(|(code, message)| Verdict::Refused { code, message }),
    }
}

type Refused = (u16, String);

fn no_pod() -> Refused {
    (400, "the review holds no pod".to_owned())
}

fn decided(question: &Question, settings: &Settings, grey: &Grey, leads: bool) -> Result<Verdict, Refused> {
    let (uid, pod) = (question.uid(), question.pod());
    let invalid = |refused: Refusal| (422, refused.to_string());
    unforged(pod).map_err(invalid)?;
    let decide = |there: u32| decide_as(pod, question.namespace(), settings, there, uid).map_err(invalid);
    let limit = format!("{}/enabled-replicas", settings.domain);
    let limited = pod.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(limit).is_some());
    // A number that cannot be read is refused before anything is counted.
    let (wish, mut patch) = match decide(0)? {
        Decision::Changed { wish, patch } if limited => (wish, patch),
        decision => return verdict(&decision),
    };
    let Some(owner) = controller(pod) else {
        let text = "annotation enabled-replicas: the pod has no controller whose replicas could be counted";
        return Err((422, text.to_owned()));
    };
    if !leads {
        return Ok(Verdict::NotLeading);
    }
    let enabled = wish.enabled_replicas.unwrap_or(u32::MAX);
    match grey.reserve(&owner, uid, enabled, question.is_dry()) {
        Room::Full(there) => verdict(&decide(there)?),
        Room::Free => {
            patch.0.push(annotate(&names::key(COUNTER_KEY), uid));
            written(&patch, wish.warning())
        }
        Room::Unknown => Err((429, "the pods that there are, are not known yet: ask again".to_owned())),
    }
}

fn verdict(decision: &Decision) -> Result<Verdict, Refused> {
    match decision {
        Decision::Unchanged(_) => Ok(Verdict::Unchanged),
        Decision::Changed { patch, wish } => written(patch, wish.warning()),
    }
}

fn written(patch: &json_patch::Patch, warning: Option<String>) -> Result<Verdict, Refused> {
    serde_json::to_vec(patch)
        .map(|text| Verdict::Changed(ByteString(text), warning))
        .map_err(|error| (500, format!("the patch of this pod could not be written: {error}")))
}

/// Writes an annotation into a pod that has some.
fn annotate(key: &str, value: &str) -> json_patch::PatchOperation {
    let path = json_patch::jsonptr::PointerBuf::from_tokens(["metadata", "annotations", key]);
    json_patch::PatchOperation::Add(json_patch::AddOperation { path, value: value.into() })
}

/// A pod that is made may not claim to have been given something: only the allocator writes that, later.
fn unforged(pod: &Value) -> Result<(), Refusal> {
    let Some(annotations) = pod.pointer("/metadata/annotations").and_then(Value::as_object) else { return Ok(()) };
    for key in [names::ALLOCATION, names::GPU_IDS, names::CONTAINER_GPUS, names::HARD_SM_PERCENT] {
        if let Some(value) = annotations.get(key) {
            let value = value.as_str().unwrap_or_default();
            return Err(Refusal::new(format!("annotation {key}"), value, "only the allocator writes it"));
        }
    }
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    let gated =
        gates.is_some_and(|gates| gates.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(names::GATE)));
    let request = names::REQUEST;
    if annotations.contains_key(request) && !gated {
        return Err(Refusal::new(
            format!("annotation {request}"),
            "",
            "only the webhook writes it, together with the gate",
        ));
    }
    Ok(())
}

fn controller(pod: &Value) -> Option<String> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    owner.get("uid")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
