//! Writing into a pod without copying it: what is to change, as operations of a JSON patch (RFC 6902), in the order in which they
//! are written down.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde_json::{Map, Value};

/// See the module's text. Paths are in the form of RFC 6901.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<PatchOperation>);

impl Edits {
    /// Sets members of the object at a path, which holds `there` so far.
    pub(super) fn set(&mut self, path: &str, there: Option<&Value>, members: Vec<(&str, Value)>) {
        match there.and_then(Value::as_object) {
            Some(object) => {
                for (key, value) in members {
                    if object.get(key) != Some(&value) {
                        self.add(&format!("{path}/{}", escaped(key)), value);
                    }
                }
            }
            None => {
                let object: Map<String, Value> =
                    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                self.add(path, Value::Object(object));
            }
        }
    }

    /// Appends elements to the list at a path, which holds `there` so far: those whose `key` no element of it has.
    pub(super) fn append(&mut self, path: &str, there: Option<&Value>, key: &str, mut elements: Vec<Value>) {
        match there {
            Some(Value::Array(list)) => {
                elements.retain(|element| !list.iter().any(|one| one.get(key) == element.get(key)));
                for element in elements {
                    self.add(&format!("{path}/-"), element);
                }
            }
            None | Some(Value::Null) if !elements.is_empty() => self.add(path, Value::Array(elements)),
            // No list of a pod: the API server refuses it, and says so better than we can.
            _ => {}
        }
    }

    /// Puts an element before all others of a list, unless one has its `key`. What is written about the others goes before this.
    pub(super) fn put_first(&mut self, path: &str, there: Option<&Value>, key: &str, element: Value) {
        match there {
            Some(Value::Array(list)) if list.iter().any(|one| one.get(key) == element.get(key)) => {}
            Some(Value::Array(_)) => self.add(&format!("{path}/0"), element),
            there => self.append(path, there, key, vec![element]),
        }
    }

    /// Takes a member away, which is there.
    pub(super) fn remove(&mut self, path: &str, key: &str) {
        if let Ok(path) = PointerBuf::parse(format!("{path}/{}", escaped(key))) {
            self.0.push(PatchOperation::Remove(RemoveOperation { path }));
        }
    }

    fn add(&mut self, path: &str, value: Value) {
        // Paths are ours: they begin with a slash, and what comes from a pod is only ever an index.
        if let Ok(path) = PointerBuf::parse(path.to_owned()) {
            self.0.push(PatchOperation::Add(AddOperation { path, value }));
        }
    }
}

impl From<Edits> for Patch {
    fn from(edits: Edits) -> Self {
        Self(edits.0)
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(before: &Value, write: impl FnOnce(&mut Edits)) -> Value {
        let (mut edits, mut after) = (Edits::default(), before.clone());
        write(&mut edits);
        json_patch::patch(&mut after, &Patch::from(edits)).unwrap();
        after
    }

    #[test]
    fn objects_and_lists_are_made_where_there_are_none() {
        let before = json!({"there": {"a/b~c": 1}, "list": [{"name": "x"}], "nothing": null, "odd": 5});
        let after = after(&before, |edits| {
            edits.set("/there", before.get("there"), vec![("a/b~c", json!(2)), ("d", json!(3))]);
            edits.set("/new", None, vec![("e", json!(4))]);
            edits.append(
                "/list",
                before.get("list"),
                "name",
                vec![json!({"name": "x", "new": 1}), json!({"name": "y"})],
            );
            edits.append("/nothing", before.get("nothing"), "name", vec![json!({"name": "z"})]);
            edits.append("/odd", before.get("odd"), "name", vec![json!({"name": "z"})]);
        });
        let expected = json!({
            "there": {"a/b~c": 2, "d": 3}, "new": {"e": 4}, "list": [{"name": "x"}, {"name": "y"}],
            "nothing": [{"name": "z"}], "odd": 5,
        });
        assert_eq!(after, expected);
    }

    #[test]
    fn the_first_of_a_list_is_put_there_once_and_members_are_taken_away() {
        let before = json!({"list": [{"name": "x"}], "amounts": {"a/b": 1, "c": 2}});
        let write = |before: &Value| {
            after(before, |edits| {
                edits.put_first("/list", before.get("list"), "name", json!({"name": "first"}));
                edits.put_first("/none", before.get("none"), "name", json!({"name": "first"}));
            })
        };
        let once = write(&before);
        assert_eq!(once["list"], json!([{"name": "first"}, {"name": "x"}]));
        assert_eq!(once["none"], json!([{"name": "first"}]));
        assert_eq!(write(&once), once);
        let less = after(&before, |edits| edits.remove("/amounts", "a/b"));
        assert_eq!(less["amounts"], json!({"c": 2}));
    }
}
