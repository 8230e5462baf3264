//! The stack file, `nixmox.toml`.

use std::borrow::Cow;

use schemars::json_schema;

use super::{FORMAT, Limits, Service};
use crate::manifest::form::{Form, List, Map, Misfit, Reader, Text, Value, schema, table, table_form, unsigned};
use crate::model::{AddressPool, InvalidName, Owner, StackName};

table! {
    /// The stack file, `nixmox.toml`: a stack and its services.
    pub struct StackFile {
        /// The format of the file. A later format has another number and is refused by a program that does not know
        /// it.
        #[key(Refused, None, "format = 1")]
        pub format: Format,

        /// What the services have in common.
        #[key(Refused, PerKey, "stack = { name = \"cloud\" }")]
        pub stack: Stack,

        /// The services of this file, each under its name: `[services.NAME]`. The name is the container's name and
        /// its host name: 1 to 63 characters from `a-z`, `0-9` and `-`, starting and ending with a letter or a
        /// digit, and not a number. With `adopt = true` it is the name of the container that is there, in which
        /// `A-Z` and `_` may occur too.
        #[key(Means("no service but those of `include`"), PerKey, "[services.postgres]\nsystem = \".#postgres\"")]
        pub services: Map<Service>,
    }
}

table! {
    /// What the services of a stack have in common.
    #[foreign("names" => "write `name`", "subnet" => "write `address_pool`")]
    pub struct Stack {
        /// The stack's name, unique on the host: 1 to 63 characters from `a-z`, `0-9` and `-`, starting with a
        /// letter or a digit. A stack of another name is another stack.
        #[key(Refused, Restart, "name = \"cloud\"")]
        pub name: StackName,

        /// Further files, each with one service, as paths relative to this file; `*` stands for any part of one
        /// name, `**` for any number of folders, not followed through links. An included file has the keys of a
        /// service at its root, and the service is named after the file's folder, so that a service is a folder that
        /// can be copied.
        #[key(Default("[]"), None, "include = [\"services/*/service.toml\"]")]
        pub include: List<String>,

        /// The range of IPv4 addresses that private networks are numbered from, with a prefix from /8 to /29. An
        /// address that is assigned stays with its service, in a range that was changed too, until it is out of the
        /// range.
        #[key(Default("\"10.233.0.0/16\""), Restart, "address_pool = \"10.233.0.0/16\"")]
        pub address_pool: AddressPool,

        /// What the stack as a whole may use: its budget. The limits are those of a service's `limits`, put on the slice in
        /// which all containers of the stack run, adopted ones left out. `memory_min` and `memory_low` are at least what
        /// its services are protected with.
        #[key(Means("no limits"), Live, "limits = { memory_max = \"4G\", cpu_quota = \"300%\" }")]
        pub limits: Limits,

        /// Who declares this stack where no person writes this file, such as the option of NixOS that it comes from. As long as
        /// it is up, `up` with another file and `down` are refused, and name it.
        #[key(Means("whoever runs `nixmoxctl up`"), None, "owner = \"services.nixmox.stacks.cloud\"")]
        pub owner: Owner,
    }
}

/// The number of the format, always 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format;

schema!(Format, json_schema!({ "type": "integer", "enum": [FORMAT] }));

impl Form for Format {
    fn expected() -> Cow<'static, str> {
        format!("`{FORMAT}`").into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        // Another number was refused before anything was read.
        let known = unsigned(value) == Some(Ok(u64::from(FORMAT)));
        if !known {
            reader.mismatch::<Self>(value);
        }
        known.then_some(Self)
    }
}

table_form!(Stack, "a table such as `[stack]` with `name = \"cloud\"`");

schema!(Owner, json_schema!({ "type": "string", "minLength": 1, "maxLength": 255 }));

impl Text for Owner {
    const EXPECTED: &'static str = "an option of NixOS such as `\"services.nixmox.stacks.cloud\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        text.parse().map_err(|error: InvalidName| Misfit::new(error.to_string()))
    }
}

schema!(StackName, json_schema!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$" }));

impl Text for StackName {
    const EXPECTED: &'static str = "a name such as `\"cloud\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        text.parse().map_err(|error: InvalidName| {
            let named: String =
                text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let named = named.trim_matches('-').get(..63).unwrap_or(named.trim_matches('-')).to_owned();
            let misfit = Misfit::new(error.to_string());
            if named.parse::<Self>().is_ok() { misfit.help(format!("for example `{named}`")) } else { misfit }
        })
    }
}
