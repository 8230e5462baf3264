//! How long tasks may wait before a service counts as not well.

use schemars::json_schema;

use crate::manifest::form::{Misfit, Text, schema, table, table_form};
use crate::model::{InvalidQuantity, Percent};

table! {
    /// Pressures above which a question about health counts as failed: how much of the last ten seconds at least one task of the service
    /// waited (`some` and `avg10` of the kernel's pressure stall information), which `nixmoxctl top` shows. At least one key is given.
    #[foreign(
        "mem" => "write `memory`",
        "disk" => "write `io`",
    )]
    pub struct Pressure {
        /// For a CPU.
        #[key(Means("any is well"), Live, "health = { tcp = 80, pressure = { cpu = \"80%\" } }")]
        pub cpu: Percent,

        /// For memory: until some is reclaimed, or what was reclaimed is read back.
        #[key(Means("any is well"), Live, "health = { tcp = 80, pressure = { memory = \"20%\" } }")]
        pub memory: Percent,

        /// For disks and what is like them.
        #[key(Means("any is well"), Live, "health = { tcp = 80, pressure = { io = \"50%\" } }")]
        pub io: Percent,
    }
}

table_form!(Pressure, "a table such as `{ memory = \"20%\" }`");

schema!(Percent, json_schema!({ "type": "string", "pattern": "^[1-9][0-9]?%$", "examples": ["20%"] }));

impl Text for Percent {
    const EXPECTED: &'static str = "a share of time such as `\"20%\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        text.parse().map_err(|error: InvalidQuantity| Misfit::new(error.to_string()))
    }

    fn from_integer(number: u64) -> Option<Result<Self, Misfit>> {
        Some(Err(Misfit::new("a share of time has a `%`").help(format!("write \"{number}%\""))))
    }
}
