//! Settings that may change while operators run: the ConfigMap `tensor-fusion-sys-config` in the system's namespace, over what
//! the process was started with. Pure, but for [`complain`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

use crate::Settings;
use crate::allocator::preempt::Scope;
use crate::event::{self, Kind};

/// The ConfigMap's name.
pub(crate) const NAME: &str = "tensor-fusion-sys-config";
/// Its key.
pub(crate) const KEY: &str = "config.yaml";

/// What is set. What is not stays as it was at the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overlay {
    client_image: Option<String>,
    image_pull_policy: Option<String>,
    progressive_migration: Option<bool>,
    preemption: Option<Scope>,
    /// Fields of TensorFusion's, or of nobody's, that are not acted upon.
    pub(crate) ignored: Vec<String>,
}

impl Overlay {
    /// Reads the ConfigMap's value.
    ///
    /// # Errors
    /// Which field is wrong, and what it says.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fields: BTreeMap<String, Value> = if text.trim().is_empty() {
            BTreeMap::new()
        } else {
            serde_yaml_ng::from_str(text).map_err(|error| format!("`{KEY}` is no map of settings: {error}"))?
        };
        let mut overlay = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "clientImage" => overlay.client_image = Some(read(&name, value)?),
                "imagePullPolicy" => overlay.image_pull_policy = Some(read(&name, value)?),
                "progressiveMigration" => overlay.progressive_migration = Some(read(&name, value)?),
                "preemption" => overlay.preemption = Some(read(&name, value)?),
                _ => overlay.ignored.push(name),
            }
        }
        if let Some(image) = overlay.client_image.as_ref().filter(|image| image.trim().is_empty()) {
            return Err(format!("field clientImage: `{image}` is no image"));
        }
        let known = ["Always", "IfNotPresent", "Never"];
        if let Some(policy) = overlay.image_pull_policy.as_deref().filter(|policy| !known.contains(policy)) {
            return Err(format!("field imagePullPolicy: `{policy}`: expected one of {}", known.join(", ")));
        }
        Ok(overlay)
    }

    /// Changes settings as it says.
    pub(crate) fn apply(&self, settings: &mut Settings) {
        if let Some(image) = &self.client_image {
            settings.client_image.clone_from(image);
        }
        if self.image_pull_policy.is_some() {
            settings.image_pull_policy.clone_from(&self.image_pull_policy);
        }
        settings.progressive_migration = self.progressive_migration.unwrap_or(settings.progressive_migration);
        settings.preemption = self.preemption.unwrap_or(settings.preemption);
    }
}

fn read<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    let shown = serde_yaml_ng::to_string(&value).unwrap_or_default();
    serde_yaml_ng::from_value(value).map_err(|error| format!("field {name}: `{}`: {error}", shown.trim()))
}

/// The value of a key of a ConfigMap.
///
/// # Errors
/// It has none.
pub(crate) fn value<'a>(map: &'a ConfigMap, key: &str) -> Result<&'a str, String> {
    let value = map.data.as_ref().and_then(|data| data.get(key));
    value.map(String::as_str).ok_or_else(|| format!("it has no key `{key}`"))
}

/// Tells in the log, and if asked in an event, what is wrong with an object that people write settings in.
pub(crate) fn complain<K>(client: &Client, object: &K, reason: &'static str, text: String, aloud: bool)
where
    K: kube::Resource<DynamicType = ()>,
{
    let regarding = object.object_ref(&());
    tracing::warn!(kind = %K::kind(&()), name = regarding.name, reason, text, "settings");
    if aloud {
        let client = client.clone();
        tokio::spawn(async move { event::publish_about(&client, regarding, Kind::Warning, reason, &text).await });
    }
}

/// The reason of events about settings that cannot be read.
pub(crate) const UNREADABLE: &str = "SettingsUnreadable";
/// The reason of events about settings that are not acted upon.
pub(crate) const IGNORED: &str = "SettingsIgnored";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_changes_and_the_rest_stays() {
        let overlay = Overlay::parse("preemption: namespace\nmetricsTTL: 30d\nprogressiveMigration: true\n").unwrap();
        assert_eq!(overlay.ignored, ["metricsTTL"]);
        let mut settings = Settings { client_image: "mine".to_owned(), ..Settings::default() };
        overlay.apply(&mut settings);
        assert_eq!((settings.client_image.as_str(), settings.progressive_migration), ("mine", true));
        assert_eq!(settings.preemption, Scope::Namespace);
        assert_eq!(Overlay::parse("").unwrap(), Overlay::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_field_and_value() {
        let error = |text: &str| Overlay::parse(text).unwrap_err();
        assert!(error("preemption: maybe").starts_with("field preemption: `maybe`: unknown variant"));
        assert!(error("progressiveMigration: 7").starts_with("field progressiveMigration: `7`: invalid type"));
        assert!(error("imagePullPolicy: Often").contains("`Often`: expected one of Always"));
        assert!(error("clientImage: ' '").starts_with("field clientImage"));
        assert!(error("- 1").starts_with("`config.yaml` is no map of settings"));
        assert_eq!(value(&ConfigMap::default(), "k"), Err("it has no key `k`".to_owned()));
    }
}
