//! The table of floors: who may not use what, and why.

/// What a module and everything in it may not use. Paths are of modules, crates or items; a path bans all below it.
pub(crate) struct Floor {
    /// The module that the rule is about.
    pub(crate) module: &'static str,
    /// What it never uses.
    pub(crate) never: &'static [&'static str],
    /// What of that it may use all the same.
    pub(crate) except: &'static [&'static str],
    /// Modules below it that the rule is not about.
    pub(crate) except_in: &'static [&'static str],
    /// The reason, for the one who breaks it.
    pub(crate) why: &'static str,
}

/// The adapters and simulators of the host; the module above them is only the seam.
const HOSTS: &[&str] = &["nixmox_agent::host::live", "nixmox_agent::host::fake"];

/// Every rule.
pub(crate) const FLOORS: &[Floor] = &[
    Floor {
        module: "nixmox_core",
        never: &[
            "nixmox_api",
            "nixmox_agent",
            "nixmoxctl",
            "tokio",
            "zbus",
            "zlink",
            "nix",
            "procfs",
            "tracing",
            "std::env",
            "std::fs",
            "std::io",
            "std::os",
            "std::process",
            "std::thread",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::ToSocketAddrs",
            "std::net::UdpSocket",
            "std::time::Instant",
            "std::time::SystemTime",
            "std::time::UNIX_EPOCH",
        ],
        except: &[],
        except_in: &[],
        why: "core decides: values in, values out, no IO, no clock, no threads",
    },
    Floor {
        module: "nixmox_api",
        never: &[
            "nixmox_agent",
            "nixmoxctl",
            "tokio",
            "zbus",
            "nix",
            "std::env",
            "std::fs",
            "std::os",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
        // What calls hand over.
        except: &["std::os::fd::OwnedFd"],
        except_in: &[],
        why: "api is the contract: types, conversions, a proxy, on core alone",
    },
    Floor {
        module: "nixmox_tree",
        never: &[
            "nixmox_core",
            "nixmox_api",
            "nixmox_agent",
            "nixmoxctl",
            "tokio",
            "nix",
            "std::net",
            "std::thread",
        ],
        except: &[],
        except_in: &["nixmox_tree::tests"],
        why: "a tree is descriptors in, a stream out, and the other way; it knows neither side",
    },
    Floor {
        module: "nixmox_agent::host",
        never: &["nixmox_agent::reconcile", "nixmox_agent::server", "nixmox_agent::state", "nixmox_agent::app"],
        except: &[],
        except_in: &[],
        why: "the host acts; it does not know who asks",
    },
    Floor {
        module: "nixmox_agent::metrics",
        never: &[
            "nixmox_agent::host",
            "nixmox_agent::reconcile",
            "nixmox_agent::server",
            "nixmox_agent::state",
            "nixmox_agent::app",
            "zbus",
            "zlink",
        ],
        // Figures as they are read, and how the other socket is made.
        except: &[
            "nixmox_agent::host::Figures",
            "nixmox_agent::host::Pressure",
            "nixmox_agent::host::Usage",
            "nixmox_agent::server::bind_for",
            "nixmox_agent::server::ListenerError",
        ],
        except_in: &[],
        why: "metrics are values in, a page out; it asks nobody but its source",
    },
    Floor {
        module: "nixmox_agent::state",
        never: &["nixmox_agent::host", "nixmox_agent::reconcile", "nixmox_agent::server", "nixmox_agent::app"],
        except: &[],
        except_in: &[],
        why: "state is what is on disk, and nothing else",
    },
    Floor {
        module: "nixmox_agent::reconcile",
        never: &["nixmox_agent::app", "nixmox_agent::server", "zbus", "zlink"],
        // The seam that its handle implements.
        except: &["nixmox_agent::server::Attended", "nixmox_agent::server::Control"],
        except_in: &[],
        why: "reconcile is below the wire",
    },
    Floor {
        module: "nixmox_agent::reconcile",
        never: &["nixmox_agent::host"],
        except: &[
            "nixmox_agent::host::Figures",
            "nixmox_agent::host::EventQuery",
            "nixmox_agent::host::Host",
            "nixmox_agent::host::LogQuery",
            "nixmox_agent::host::LogStart",
            "nixmox_agent::host::OtherRoots",
            "nixmox_agent::host::Pressure",
            "nixmox_agent::host::ProbeResult",
            "nixmox_agent::host::SessionError",
            "nixmox_agent::host::Readers",
            "nixmox_agent::host::StepError",
            "nixmox_agent::host::Usage",
        ],
        except_in: &[],
        why: "reconcile knows the host as a trait only",
    },
    Floor {
        module: "nixmox_agent::server",
        never: &[
            "nixmox_agent::host",
            "nixmox_agent::reconcile",
            "nixmox_agent::state",
            "nixmox_agent::app",
            "zbus",
        ],
        except: &[],
        except_in: &[],
        why: "the server maps a call to an access check, a handler and a reply",
    },
    Floor {
        module: "nixmox_agent",
        never: HOSTS,
        except: &[],
        except_in: &["nixmox_agent::host", "nixmox_agent::main"],
        why: "`main` is the only file that names a real host",
    },
    Floor {
        module: "nixmoxctl",
        never: &["nixmox_agent"],
        except: &[],
        except_in: &[],
        why: "the client knows the contract, not the agent",
    },
    Floor {
        module: "nixmoxctl::client",
        never: &["nixmoxctl::commands", "nixmoxctl::render"],
        except: &[],
        except_in: &[],
        why: "commands use the client, not the other way",
    },
    Floor {
        module: "nixmoxctl::render",
        never: &["nixmoxctl::commands", "nixmoxctl::client", "tokio", "std::fs", "std::process"],
        except: &[],
        except_in: &[],
        why: "rendering is values in, text out",
    },
    Floor {
        module: "nixmoxctl::build",
        never: &["nixmoxctl::commands"],
        except: &[],
        except_in: &[],
        why: "commands build, builds do not command",
    },
    Floor {
        module: "nixmoxctl::manifest",
        never: &["nixmoxctl::commands"],
        except: &[],
        except_in: &[],
        why: "commands read manifests, not the other way",
    },
    Floor {
        module: "nixmoxctl::import",
        never: &[
            "nixmoxctl::commands",
            "nixmoxctl::client",
            "nixmoxctl::render",
            "nixmox_api",
            "tokio",
            "std::env",
            "std::process",
        ],
        except: &[],
        except_in: &[],
        why: "an import is a file in, files out; it asks neither the agent nor nix",
    },
    Floor {
        module: "nixmoxctl::import",
        never: &["std::fs"],
        except: &[],
        except_in: &["nixmoxctl::import::write"],
        why: "what a Compose file names is read through the caller; `write` alone touches the disk",
    },
    Floor {
        module: "xtask",
        never: &["nixmox_core", "nixmox_api", "nixmox_agent", "nixmoxctl"],
        except: &[],
        except_in: &[],
        why: "xtask runs the programs as a user does",
    },
];

/// What each crate may be built with. Only the lower floors have a complete list: there a new dependency is a decision.
pub(crate) const CRATES: &[(&str, &[&str])] = &[
    ("core", &["schemars", "serde", "serde_json", "sha2", "strsim", "thiserror", "toml", "toml_edit"]),
    ("tree", &["rustix", "thiserror"]),
    ("api", &["nixmox-core", "futures-util", "serde", "serde_json", "zlink"]),
    ("xtask", &["nixmox-testbed", "anyhow", "clap", "nix", "serde", "serde_json"]),
];

/// Returns whether a path is this one or lies below it.
pub(crate) fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        // A glob brings in everything below.
        || path.strip_suffix("::*").is_some_and(|path| above.strip_prefix(path).is_some_and(|rest| rest.starts_with("::")))
}
