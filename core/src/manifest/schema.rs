//! JSON Schemas of the file form, for TOML language servers.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::form::{Table, table_schema};
use super::v1::{Service, StackFile};

/// Returns the JSON Schema (draft 7, as language servers know it) of a stack file.
#[must_use]
pub fn stack_schema() -> Value {
    root::<StackFile>("NixMox stack file")
}

/// Returns the JSON Schema (draft 7) of an included file: a service at the root.
#[must_use]
pub fn service_schema() -> Value {
    let mut schema = root::<Service>("NixMox service file");
    let format = stack_schema().pointer("/properties/format").cloned();
    if let (Some(properties), Some(format)) = (schema.pointer_mut("/properties"), format)
        && let Some(properties) = properties.as_object_mut()
    {
        properties.insert("format".to_owned(), format);
    }
    schema
}

fn root<T: Table>(title: &str) -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let mut schema = table_schema::<T>(&mut generator);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(title));
    schema.to_value()
}
