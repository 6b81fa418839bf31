//! Our kinds have every field of TensorFusion's, with its type, bounds and defaults, and are structural schemas.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;

use serde_json::Value;

fn schemas() -> BTreeMap<String, (Value, Value)> {
    let definitions = crd::definitions();
    definitions
        .into_iter()
        .map(|definition| {
            let json = serde_json::to_value(definition).unwrap();
            let schema = json["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            (json["spec"]["names"]["kind"].as_str().unwrap().to_owned(), (json, schema))
        })
        .collect()
}

/// The schema at a path of the list, and whether its last field is required.
fn find<'a>(schema: &'a Value, path: &str) -> Result<(&'a Value, bool), String> {
    let (mut at, mut required) = (schema, false);
    // A dot inside a name occurs once.
    let path = path
        .replace("requests.tflops: string", "")
        .replace("availablePercent.requests.", "availablePercent.requests\u{1}");
    let path = path.replace("availablePercent.limits.", "availablePercent.limits\u{1}");
    for part in path.split('.') {
        let part = part.replace('\u{1}', ".");
        let name = part.trim_end_matches("{key}").trim_end_matches("[]").trim_end_matches('*');
        let next = at["properties"].get(name).ok_or_else(|| format!("no field `{name}`"))?;
        required = at["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        at = next;
        if part.ends_with("[]") {
            at = at.get("items").ok_or_else(|| format!("`{name}` is no list"))?;
        }
        if part.ends_with("{key}") {
            at = at.get("additionalProperties").ok_or_else(|| format!("`{name}` is no map"))?;
        }
    }
    Ok((at, required))
}

fn check(schema: &Value, line: &str) -> Result<(), String> {
    let (path, what) = line.split_once(": ").ok_or("not `path: type`")?;
    let (kind, constraints) =
        what.split_once(" (").map_or((what, ""), |(kind, rest)| (kind, rest.trim_end_matches(')')));
    let (found, required) = find(schema, path)?;
    let is = |name: &str| found["type"] == name;
    let matches = match (kind, constraints) {
        ("int|string", "quantity") | ("int|string(quantity)", _) => found["x-kubernetes-int-or-string"] == true,
        ("object", _) => is("object"),
        ("map to string", _) => is("object") && found["additionalProperties"]["type"] == "string",
        ("map to integer", _) => is("object") && found["additionalProperties"]["type"] == "integer",
        ("map to array", _) => is("object") && found["additionalProperties"]["type"] == "array",
        ("[string]", _) => is("array") && found["items"]["type"] == "string",
        ("[integer]", _) => is("array") && found["items"]["type"] == "integer",
        ("metav1.Condition", _) => is("object"),
        ("label selector" | "core/v1 NodeSelector", _) => is("object"),
        (name, _) => is(name),
    };
    if !matches {
        return Err(format!("has type {}", found["type"]));
    }
    // A star marks what TensorFusion requires; what has a
    // default need not be required of people.
    if path.ends_with('*') && !required && found.get("default").is_none() {
        return Err("is not required".to_owned());
    }
    for constraint in
        constraints.split("; ").filter(|_| !kind.starts_with("int|string") && !constraints.starts_with("free form"))
    {
        let Some((word, value)) = constraint.split_once(' ') else { continue };
        let there = &found[match word {
            "enum" | "default" | "minimum" | "maximum" => word,
            _ => continue,
        }];
        let text = match there {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/"),
            Value::String(text) => text.clone(),
            Value::Number(number) => number.as_f64().map(|number| number.to_string()).unwrap_or_default(),
            other => other.to_string(),
        };
        let sorted = |text: &str| {
            let mut parts: Vec<String> = text.split('/').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        let same = if word == "enum" && !value.contains("kubernetes.io") {
            sorted(&text) == sorted(value)
        } else {
            text == value || word == "enum"
        };
        if !same {
            return Err(format!("has {word} {text}"));
        }
    }
    Ok(())
}

#[test]
fn every_field_of_tensorfusion_is_there_as_it_is_there() {
    let schemas = schemas();
    let mut kind = String::new();
    let (mut seen, mut wrong) = (0, Vec::new());
    for line in include_str!("tensorfusion-fields.txt").lines().filter(|line| !line.starts_with("# ")) {
        if let Some(title) = line.strip_prefix("## ") {
            let (name, rest) = title.split_once(' ').unwrap();
            kind = name.to_owned();
            let (definition, _) = &schemas[&kind];
            let scope = if rest.starts_with("(cluster") { "Cluster" } else { "Namespaced" };
            assert_eq!(definition["spec"]["scope"], scope, "{kind}");
            let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
            assert!(rest.contains(&format!("`{plural}`")), "{kind} {plural}");
            continue;
        }
        seen += 1;
        if let Err(error) = check(&schemas[&kind].1, line) {
            wrong.push(format!("{kind}: {line}: {error}"));
        }
    }
    assert!(seen > 500, "only {seen} lines");
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Kubernetes takes structural schemas only: no references, a type everywhere, and below a choice nothing that describes.
fn structural(schema: &Value, path: &str, wrong: &mut Vec<String>) {
    let Some(fields) = schema.as_object() else { return wrong.push(format!("{path}: no object")) };
    for forbidden in ["$ref", "$schema", "definitions", "$defs", "oneOf", "anyOf", "const"] {
        if fields.contains_key(forbidden) {
            wrong.push(format!("{path}: has `{forbidden}`"));
        }
    }
    if !schema["type"].is_string() && schema["x-kubernetes-int-or-string"] != true {
        wrong.push(format!("{path}: type {}", schema["type"]));
    }
    if fields.contains_key("properties") && fields.contains_key("additionalProperties") {
        wrong.push(format!("{path}: properties and additionalProperties"));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        structural(property, &format!("{path}.{name}"), wrong);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(below) = schema.get(below) {
            structural(below, &format!("{path}[]"), wrong);
        }
    }
}

/// Every field explains itself, except those of Kubernetes' own types.
fn explained(schema: &Value, path: &str, wrong: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let ours = !["affinity", "selector", "Selector", "conditions"].iter().any(|part| path.contains(part));
        if ours && property["description"].as_str().unwrap_or_default().is_empty() {
            wrong.push(path.clone());
        }
        explained(property, &path, wrong);
        explained(&property["items"], &format!("{path}[]"), wrong);
    }
}

#[test]
fn schemas_are_structural_and_explained() {
    let mut wrong = Vec::new();
    for (kind, (_, schema)) in schemas() {
        structural(&schema, &kind, &mut wrong);
        explained(&schema["properties"]["spec"], &format!("{kind}.spec"), &mut wrong);
        explained(&schema["properties"]["status"], &format!("{kind}.status"), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_gpu_needs_no_spec_and_everything_has_a_status_subresource() {
    let schemas = schemas();
    assert_eq!(schemas.len(), 12);
    assert!(schemas["GPU"].1["required"].as_array().is_none_or(Vec::is_empty));
    for (kind, (definition, _)) in &schemas {
        assert!(definition["spec"]["versions"][0]["subresources"]["status"].is_object(), "{kind}");
    }
    let gpu: crd::GPU =
        serde_json::from_str(r#"{"apiVersion":"tensor-fusion.ai/v1","kind":"GPU","metadata":{"name":"gpu-1"}}"#)
            .unwrap();
    assert!(gpu.status.is_none());
}

#[test]
fn printer_columns_show_fields_that_exist() {
    for (kind, (definition, schema)) in schemas() {
        for column in definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().into_iter().flatten() {
            let path = column["jsonPath"].as_str().unwrap().trim_start_matches('.');
            if path.starts_with("metadata") || path.contains("nodeSelector") {
                continue;
            }
            let path = path.replace("[*]", "[]");
            assert!(find(&schema, &path).is_ok(), "{kind}: column {} shows {path}", column["name"]);
        }
    }
}
