//! What must hold before a service is started: a list of names, or a table of conditions.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use crate::manifest::form::{Form, Located, Misfit, Reader, Text, Value, schema, word_schema};
use crate::model::{Condition, ContainerName, StackName};

/// The dependencies of a service, in the order of the file; not yet checked for duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies(pub Vec<Dependency>);

/// One dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The service that is depended on.
    pub on: Located<ServiceRef>,
    /// What it must have reached.
    pub condition: Located<Condition>,
    /// Whether the condition was written, not implied by a list.
    pub explicit: bool,
}

/// The name of a service of this stack, or of another one as `STACK/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRef {
    /// The other stack; `None`: this one.
    pub stack: Option<StackName>,
    /// The service.
    pub name: ContainerName,
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stack {
            None => write!(f, "{}", self.name),
            Some(stack) => write!(f, "{stack}/{}", self.name),
        }
    }
}

schema!(
    ServiceRef,
    json_schema!({ "type": "string", "pattern": "^([a-z0-9][a-z0-9-]*/)?[A-Za-z0-9][A-Za-z0-9_-]*$" })
);

impl Text for ServiceRef {
    const EXPECTED: &'static str = "the name of a service, such as `\"postgres\"` or `\"other-stack/postgres\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        let invalid = |error: crate::model::InvalidName| {
            Misfit::new(error.to_string())
                .help("for example `postgres`, or `STACK/postgres` for one of another stack")
        };
        let (stack, name) = match text.split_once('/') {
            None => (None, text),
            Some((stack, name)) => (Some(stack.parse().map_err(invalid)?), name),
        };
        Ok(Self { stack, name: name.parse().map_err(invalid)? })
    }
}

impl JsonSchema for Dependencies {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Dependencies".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = ServiceRef::json_schema(generator);
        json_schema!({
            "anyOf": [
                { "type": "array", "items": name },
                { "type": "object", "additionalProperties": word_schema::<Condition>() }
            ],
            "examples": [["postgres"], { "postgres": "healthy" }]
        })
    }
}

impl Form for Dependencies {
    fn expected() -> Cow<'static, str> {
        "a list of names such as `[\"postgres\"]`, or a table such as `{ postgres = \"healthy\" }`".into()
    }

    fn values() -> Vec<(&'static str, &'static str)> {
        Condition::values()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Array(names) => {
                let dependency = |name: &Value<'_>| {
                    let on = Located::<ServiceRef>::read(name, reader)?;
                    let condition = Located { value: Condition::Started, span: on.span.clone() };
                    Some(Dependency { on, condition, explicit: false })
                };
                Some(Self(names.iter().filter_map(dependency).collect()))
            }
            DeValue::Table(table) => {
                let mut dependencies: Vec<_> = table
                    .iter()
                    .filter_map(|(key, value)| {
                        let on = match ServiceRef::from_text(key.get_ref()) {
                            Ok(on) => Some(Located { value: on, span: key.span() }),
                            Err(misfit) => {
                                let error = reader.error(&key.span(), misfit.message);
                                reader.report(error.help_if(misfit.help));
                                None
                            }
                        };
                        let condition = Located::read(value, reader);
                        Some(Dependency { on: on?, condition: condition?, explicit: true })
                    })
                    .collect();
                dependencies.sort_by_key(|dependency| dependency.on.span.start);
                Some(Self(dependencies))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                reader.mismatch::<Self>(value);
                None
            }
        }
    }
}
