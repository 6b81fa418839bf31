//! `tensor-fusion admit`: what the webhook would make of a manifest, with no cluster.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use operator::Settings;
use operator::admission::{Decision, decide};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::{failure::Failed, failure::Outcome, print};

/// Show what the Kubernetes webhook would make of a manifest.
///
/// Prints the pod as it would be admitted, and on standard error the decision and why. Takes pods and whatever holds a pod
/// template (Deployment, Job, StatefulSet, DaemonSet, CronJob); several documents in a file too.
#[derive(Debug, Args)]
pub(crate) struct Admit {
    /// Manifest (YAML or JSON)
    #[arg(short, long)]
    file: PathBuf,

    /// Pools, profiles and images (YAML or JSON); without it one default pool
    #[arg(short, long)]
    settings: Option<PathBuf>,

    /// Namespace of manifests that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,

    /// Replicas of the same owner that have a vGPU already
    #[arg(long, default_value_t = 0)]
    enabled_already: u32,

    /// Print the JSON patch instead of the pod
    #[arg(long)]
    patch: bool,
}

impl Admit {
    pub(crate) fn main(self, as_json: bool) -> Outcome {
        let settings = match &self.settings {
            Some(path) => serde_yaml_ng::from_str(&read(path)?)
                .map_err(|error| Failed::new(format!("`{}` is no settings file: {error}", path.display())))?,
            None => Settings::default(),
        };
        let text = read(&self.file)?;
        let mut refused = false;
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let manifest = Value::deserialize(document)
                .map_err(|error| Failed::new(format!("`{}` is no manifest: {error}", self.file.display())))?;
            if manifest.is_null() {
                continue;
            }
            refused |= self.one(&manifest, &settings, as_json)?;
        }
        Ok(if refused { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }

    /// Decides one document; whether it is refused.
    fn one(&self, manifest: &Value, settings: &Settings, as_json: bool) -> Result<bool, Failed> {
        let kind = manifest.get("kind").and_then(Value::as_str).unwrap_or("manifest");
        let name = manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
        let Some(pod) = pod_of(manifest) else {
            eprintln!("{kind} {name}: no pod and no pod template");
            return Ok(false);
        };
        let namespace = manifest.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(&self.namespace);
        let decision = decide(&pod, namespace, settings, self.enabled_already);
        if as_json {
            let answer = match &decision {
                Ok(Decision::Unchanged(why)) => {
                    json!({"kind": kind, "name": name, "decision": "unchanged", "why": why})
                }
                Ok(changed @ Decision::Changed { wish, patch }) => json!({
                    "kind": kind, "name": name, "decision": "changed", "wish": wish,
                    "pod": changed.after(&pod).map_err(Failed::new)?, "patch": patch,
                }),
                Err(refusal) => json!({"kind": kind, "name": name, "decision": "refused", "why": refusal.to_string()}),
            };
            print::json(&answer)?;
            return Ok(decision.is_err());
        }
        match decision {
            Ok(Decision::Unchanged(why)) => eprintln!("{kind} {name}: unchanged: {why}"),
            Ok(ref changed @ Decision::Changed { ref wish, ref patch }) => {
                eprintln!("{kind} {name}: changed: {}", serde_json::to_string(wish).map_err(Failed::new)?);
                if let Some(warning) = wish.warning() {
                    eprintln!("{kind} {name}: warning: {warning}");
                }
                let document = if self.patch {
                    serde_yaml_ng::to_string(patch)
                } else {
                    serde_yaml_ng::to_string(&changed.after(&pod).map_err(Failed::new)?)
                };
                print::text(&format!("---\n{}", document.map_err(Failed::new)?))?;
            }
            Err(refusal) => {
                eprintln!("{kind} {name}: refused: {refusal}");
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn read(path: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(path).map_err(|error| Failed::new(format!("`{}` cannot be read: {error}", path.display())))
}

/// The pod of a manifest: itself, or made of its template.
fn pod_of(manifest: &Value) -> Option<Value> {
    if manifest.get("kind").and_then(Value::as_str) == Some("Pod") {
        return Some(manifest.clone());
    }
    let template =
        ["/spec/template", "/spec/jobTemplate/spec/template"].iter().find_map(|path| manifest.pointer(path))?;
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod"});
    if let (Some(pod), Some(template)) = (pod.as_object_mut(), template.as_object()) {
        pod.extend(template.clone());
    }
    Some(pod)
}
