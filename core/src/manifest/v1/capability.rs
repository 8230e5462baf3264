//! Capabilities by name (capabilities(7)).

use schemars::json_schema;

use crate::manifest::diagnostic::did_you_mean;
use crate::manifest::form::{Misfit, Text, schema};

/// The name of a capability, such as `CAP_NET_ADMIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(pub &'static str);

/// Every capability of Linux up to 6.12, in the order of their numbers (`include/uapi/linux/capability.h`).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

schema!(Capability, json_schema!({ "type": "string", "enum": NAMES.as_slice() }));

impl Text for Capability {
    const EXPECTED: &'static str = "a capability such as `\"CAP_NET_ADMIN\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        if let Some(name) = NAMES.iter().find(|name| **name == text) {
            return Ok(Self(name));
        }
        let upper = text.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let misfit = Misfit::new(format!("unknown capability `{text}`"));
        Err(match did_you_mean(&full, NAMES) {
            Some(name) => misfit.help(format!("did you mean `{name}`?")),
            None if full == "CAP_ALL" => misfit.help("name each one that the service needs"),
            None => misfit.help("capabilities(7) has their names"),
        })
    }
}
