//! What the API server asks, as far as a decision needs it.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A review. What is missing or unknown is no error here: the answer says what is wrong.
#[derive(Debug, Default, Deserialize)]
pub struct Question {
    #[serde(default)]
    request: Request,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    uid: String,
    namespace: Option<String>,
    dry_run: Option<bool>,
    object: Pod,
}

impl Question {
    /// Which answer belongs to it.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.request.uid
    }

    /// The pod's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.request.namespace.as_deref().unwrap_or("default")
    }

    /// Whether nothing is to come of it.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.request.dry_run == Some(true)
    }

    /// The pod, without its status and who wrote what in it.
    #[must_use]
    pub fn pod(&self) -> &Value {
        &self.request.object.0
    }
}

#[derive(Debug, Default)]
struct Pod(Value);

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Without { members: &["status"], inner: &["managedFields"] }).map(Self)
    }
}

/// Reads an object without some of its members, and `metadata` in it without some of its own.
#[derive(Clone, Copy)]
struct Without {
    members: &'static [&'static str],
    inner: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for Without {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Without {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.members.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else if key == "metadata" && !self.inner.is_empty() {
                let value = map.next_value_seed(Self { members: self.inner, inner: &[] })?;
                object.insert(key, value);
            } else {
                object.insert(key, map.next_value()?);
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_decision_needs_is_left_out() {
        let text = r#"{"kind": "AdmissionReview", "request": {"uid": "u", "userInfo": {"groups": ["a"]}, "namespace": "n",
            "object": {"metadata": {"name": "p", "managedFields": [{"a": {}}], "labels": {"managedFields": "stays"}},
                "spec": {"status": 1}, "status": {"phase": "Pending"}}, "oldObject": null, "dryRun": true}}"#;
        let question: Question = serde_json::from_str(text).unwrap();
        assert_eq!((question.uid(), question.namespace(), question.is_dry()), ("u", "n", true));
        let pod = json!({"metadata": {"name": "p", "labels": {"managedFields": "stays"}}, "spec": {"status": 1}});
        assert_eq!(question.pod(), &pod);
    }

    #[test]
    fn a_review_of_nothing_is_read_and_a_review_of_no_object_is_not() {
        let none: Question = serde_json::from_str(r#"{"request": {"uid": "u", "object": null}}"#).unwrap();
        assert_eq!((none.pod(), none.namespace()), (&Value::Null, "default"));
        assert!(serde_json::from_str::<Question>("{}").unwrap().pod().is_null());
        for odd in ["7", r#"{"request": {"object": 7}}"#, r#"{"request": {"object": {"metadata": 7}}}"#, "{"] {
            assert!(serde_json::from_str::<Question>(odd).is_err(), "{odd}");
        }
    }
}
