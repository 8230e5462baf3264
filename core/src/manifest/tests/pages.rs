//! The schema and the reference page agree with the types and with what is accepted.

use serde_json::Value;

use super::examples::{CLOUD, OLLAMA};
use super::{Files, stack};
use crate::manifest::v1::{
    Gpu, Health, Limits, Mount, Network, Offload, Pressure, Restart, Service, Stack, StackFile, Tmpfs,
};
use crate::manifest::{Absence, Key, Table, reference, service_schema, stack_schema};

/// Every table with its path in the schema of a stack file.
fn tables() -> Vec<(&'static str, &'static [Key])> {
    let service = "/properties/services/additionalProperties";
    let inside = |path: &str| -> &'static str { format!("{service}/properties/{path}").leak() };
    vec![
        ("", StackFile::KEYS),
        ("/properties/stack", Stack::KEYS),
        (service, Service::KEYS),
        (inside("health"), Health::KEYS),
        (inside("health/properties/pressure"), Pressure::KEYS),
        (inside("limits"), Limits::KEYS),
        ("/properties/stack/properties/limits", Limits::KEYS),
        (inside("network"), Network::KEYS),
        (inside("mounts/items/anyOf/1"), Mount::KEYS),
        (inside("tmpfs/items/anyOf/1"), Tmpfs::KEYS),
        (inside("restart/anyOf/1"), Restart::KEYS),
        (inside("gpu"), Gpu::KEYS),
        (inside("offload"), Offload::KEYS),
    ]
}

/// Counts the objects with fixed keys in a schema.
fn objects(schema: &Value) -> usize {
    let own = usize::from(schema.get("properties").is_some_and(|properties| properties.get("type").is_none()));
    let inside = match schema {
        Value::Object(object) => object.values().map(objects).sum(),
        Value::Array(items) => items.iter().map(objects).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    };
    own + inside
}

/// A validator for the part of JSON Schema that ours uses, patterns aside.
fn accepts(schema: &Value, value: &Value) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("{value} {why} {schema}"));
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let fits = choices.iter().any(|choice| accepts(choice, value).is_ok());
        return if fits { Ok(()) } else { refuse("fits none of") };
    }
    let of_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        _ => panic!("a type: {schema}"),
    };
    if !of_type || schema.get("enum").is_some_and(|words| !words.as_array().unwrap().contains(value)) {
        return refuse("is not a");
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let number = value.as_f64();
    if number.zip(bound("minimum")).is_some_and(|(number, least)| number < least)
        || number.zip(bound("maximum")).is_some_and(|(number, most)| number > most)
    {
        return refuse("is out of the range of");
    }
    for item in value.as_array().into_iter().flatten() {
        accepts(&schema["items"], item)?;
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        match (schema.pointer(&format!("/properties/{key}")), schema.get("additionalProperties")) {
            (Some(schema), _) => accepts(schema, inner)?,
            (None, Some(schema)) if schema.is_object() => accepts(schema, inner)?,
            (None, _) => return refuse(&format!("has the key {key}, unlike")),
        }
    }
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if value.get(key.as_str().unwrap()).is_none() {
            return refuse(&format!("has no {key}, unlike"));
        }
    }
    Ok(())
}

fn json(toml: &str) -> Value {
    serde_json::to_value(toml.parse::<toml::Table>().unwrap()).unwrap()
}

#[test]
fn the_schema_has_the_keys_of_every_table_and_no_others() {
    let schema = stack_schema();
    for (path, keys) in tables() {
        let table = schema.pointer(path).unwrap_or_else(|| panic!("{path}"));
        let mut known: Vec<&str> = keys.iter().map(|key| key.name).collect();
        known.sort_unstable();
        let properties: Vec<&String> = table["properties"].as_object().unwrap().keys().collect();
        assert_eq!(properties, known, "{path}");
        assert_eq!(table["additionalProperties"], Value::Bool(false), "{path}");
    }
    assert_eq!(objects(&schema), tables().len(), "a table is missing in this test");
}

#[test]
fn the_schema_accepts_what_the_reader_accepts() {
    assert_eq!(accepts(&stack_schema(), &json(CLOUD)), Ok(()));
    assert_eq!(accepts(&service_schema(), &json(OLLAMA)), Ok(()));
    assert_eq!(accepts(&service_schema(), &json("format = 1\nsystem = '.#x'\n")), Ok(()));
    assert!(accepts(&service_schema(), &json("systen = '.#x'\n")).is_err());
    assert!(accepts(&stack_schema(), &json("format = 1\n")).is_err());
    assert!(accepts(&service_schema(), &json("health = { tcp = 70000 }\n")).is_err());
    assert!(accepts(&service_schema(), &json("kind = 'jib'\n")).is_err());
}

/// The text of a stack in which a key stands as in its example.
fn around(path: &str, key: &Key, line: &str) -> String {
    let head = "format = 1\nstack.name = \"cloud\"\n";
    let table = path.rsplit("/properties/").next().unwrap_or_default();
    match path {
        "" => match key.name {
            "format" => format!("{line}\nstack.name = \"cloud\""),
            "stack" => format!("format = 1\n{line}"),
            _ => format!("{head}{line}"),
        },
        "/properties/stack" if key.name == "name" => format!("format = 1\n[stack]\n{line}"),
        "/properties/stack" => format!("format = 1\n[stack]\nname = \"cloud\"\n{line}"),
        _ => {
            // What else the example's service needs.
            let beside = match (table, key.name) {
                (_, "system" | "adopt") => "",
                ("mounts/items/anyOf/1", "source") | ("tmpfs/items/anyOf/1", "size") => "target = \"/x\"",
                ("mounts/items/anyOf/1", "target") => "source = \"/x\"",
                ("mounts/items/anyOf/1", _) => "source = \"/x\"\ntarget = \"/x\"",
                ("gpu", "vram_min") => "vram = \"10G\"",
                ("offload", key) if key != "engine" => "engine = \"ollama\"",
                _ => "",
            };
            let others = "[services.postgres]\nsystem = \".#p\"";
            let system = if matches!(key.name, "system" | "adopt") { "" } else { "system = \".#a\"" };
            let inner = match table {
                "mounts/items/anyOf/1" => "[[services.a.mounts]]",
                "tmpfs/items/anyOf/1" => "[[services.a.tmpfs]]",
                "gpu" => "[services.a.gpu]",
                "offload" => "gpu.vram = \"8G\"\n[services.a.offload]",
                _ => "",
            };
            format!("{head}{others}\n[services.a]\n{system}\n{inner}\n{beside}\n{line}")
        }
    }
}

#[test]
fn every_example_of_a_key_is_accepted_and_fits_the_schema() {
    for (path, key) in tables().into_iter().flat_map(|(path, keys)| keys.iter().map(move |key| (path, key))) {
        let text = around(path, key, key.example);
        let resolved = Files { stack: &text, included: &[] }.resolve();
        assert!(resolved.is_ok(), "{path} {}:\n{text}\n{resolved:#?}", key.name);
        assert_eq!(accepts(&stack_schema(), &json(&text)), Ok(()), "{text}");
    }
}

#[test]
fn a_default_that_is_written_out_changes_nothing() {
    for (path, key) in tables().into_iter().flat_map(|(path, keys)| keys.iter().map(move |key| (path, key))) {
        let Absence::Default(default) = key.absence else { continue };
        let table = path.rsplit("/properties/").next().unwrap_or_default();
        // A health check asks something, a bridge is not private.
        let (line, without) = match table.split('/').next().unwrap_or_default() {
            "health" => {
                (format!("health = {{ tcp = 80, {} = {default} }}", key.name), "health = { tcp = 80 }".to_owned())
            }
            table @ ("network" | "restart") => (format!("{table}.{} = {default}", key.name), String::new()),
            _ => (format!("{} = {default}", key.name), String::new()),
        };
        let adopt = key.name == "adopt";
        let text = |line: &str| {
            around(path, key, line).replace(
                "[services.a]\n\n",
                if adopt { "[services.a]\nsystem = \".#a\"\n" } else { "[services.a]\n\n" },
            )
        };
        let (with, without) = (stack(&text(&line)), stack(&text(&without)));
        let services = |stack: &crate::manifest::Stack| -> Vec<_> {
            stack
                .services
                .iter()
                .map(|declared| {
                    let mut service = declared.service.clone();
                    service.origin = crate::model::Origin::default();
                    service
                })
                .collect()
        };
        assert_eq!(services(&with), services(&without), "{path} {}", key.name);
        assert_eq!((with.address_pool, &with.limits), (without.address_pool, &without.limits));
    }
}

#[test]
fn the_reference_page_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifest.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == reference(), "run: UPDATE_REFERENCE=1 cargo test -p nixmox-core the_reference_page");
}

#[test]
fn the_reference_page_has_every_key_and_what_it_costs() {
    let page = reference();
    for (path, keys) in tables() {
        let table = path.rsplit("/properties/").next().unwrap_or_default().split('/').next().unwrap_or_default();
        let prefix = match table {
            "" | "services" => String::new(),
            "pressure" => "health.pressure.".to_owned(),
            table => format!("{table}."),
        };
        for key in keys {
            assert!(page.contains(&format!("\n### `{prefix}{}`\n", key.name)), "{path} {}", key.name);
        }
    }
}
