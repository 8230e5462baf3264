//! A range of addresses as text: `10.233.0.0/16`; and a single IPv4 address.

use std::net::Ipv4Addr;

use schemars::json_schema;

use crate::manifest::form::{Misfit, Text, schema};
use crate::model::{AddressPool, InvalidPool};

schema!(AddressPool, json_schema!({ "type": "string", "pattern": "^[0-9.]+/([89]|1[0-9]|2[0-8])$" }));

impl Text for AddressPool {
    const EXPECTED: &'static str = "a range of addresses such as `\"10.233.0.0/16\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        let pool: Self = text.parse().map_err(|error: InvalidPool| {
            let misfit = Misfit::new(error.to_string());
            match &error {
                InvalidPool::Form(_) => misfit,
                InvalidPool::Prefix(_) => misfit.help("a /16 has room for thousands of containers"),
                InvalidPool::HostBits { range, .. } => misfit.help(format!("write \"{range}\"")),
            }
        })?;
        let network = pool.network();
        // 100.64.0.0/10 is the shared address space of RFC 6598.
        let shared =
            network.octets().first() == Some(&100) && network.octets().get(1).is_some_and(|b| b & 0xc0 == 64);
        if network.is_private() || shared {
            return Ok(pool);
        }
        let misfit = Misfit::new(format!("{pool} is not a private range of addresses"));
        Err(misfit.help("take a part of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10"))
    }
}

impl Text for Ipv4Addr {
    const EXPECTED: &'static str = "an IPv4 address such as `\"10.233.7.2\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        text.parse().map_err(|_| Misfit::new(format!("`{text}` is not an IPv4 address")))
    }
}
