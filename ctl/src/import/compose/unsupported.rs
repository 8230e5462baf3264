//! Keys of a service that a manifest has nothing for, each with the reason and the way out.

/// A key, why it is not mapped, and what to do; an empty way out is none.
type Key = (&'static str, &'static str, &'static str);

/// Keys that lose their meaning.
const KEYS: &[Key] = &[
    ("annotations", "there is no container engine that reads them", ""),
    ("attach", "it is about the terminal of `docker compose up`", ""),
    ("build", "images are not built: the guest is a NixOS system", "change the package in service.nix"),
    (
        "cap_drop",
        "the guest boots a systemd, which needs more than an image's one program; NixOS's units drop what they do not need",
        "nspawn_flags = [\"--drop-capability=...\"] in service.toml",
    ),
    ("cgroup", "each container has a cgroup namespace of its own", ""),
    ("cgroup_parent", "the container lies in machine.slice", ""),
    ("credential_spec", "it is about Windows", ""),
    ("cpu_rt_period", "real-time CPU time is not limited", ""),
    ("cpu_rt_runtime", "real-time CPU time is not limited", ""),
    ("device_cgroup_rules", "devices are named one by one", "write `devices` in service.toml"),
    ("develop", "images are not built", ""),
    ("dns", "the guest asks the host's resolver", "environment.etc.\"resolv.conf\".text in service.nix"),
    ("dns_opt", "the guest asks the host's resolver", "environment.etc.\"resolv.conf\".text in service.nix"),
    ("dns_search", "the guest asks the host's resolver", "environment.etc.\"resolv.conf\".text in service.nix"),
    ("domainname", "the host name is the service's name", "networking.domain in service.nix"),
    (
        "extra_hosts",
        "names of other services come from the agent",
        "networking.extraHosts does not reach the agent's file: use an address, or a name in DNS",
    ),
    (
        "external_links",
        "services of another stack are found by their name",
        "depends_on = [\"STACK/NAME\"] in service.toml",
    ),
    (
        "group_add",
        "the NixOS module has a user and groups of its own",
        "users.users.NAME.extraGroups in service.nix",
    ),
    ("ipc", "each container has an IPC namespace of its own", ""),
    ("isolation", "it is about Windows", ""),
    ("label_file", "there is no container engine that reads labels", ""),
    (
        "links",
        "every service of the stack is found by its name; other names for it are not",
        "depends_on for the order, the service's own name in addresses",
    ),
    (
        "logging",
        "logs go to the journal of the container",
        "journald's limits: services.journald.extraConfig in service.nix",
    ),
    ("mac_address", "the agent chooses it", ""),
    (
        "mem_swappiness",
        "it is not a limit of a container with cgroup v2",
        "limits = { memory_swap_max = 0 } in service.toml",
    ),
    ("oom_kill_disable", "it does not exist with cgroup v2", "limits = { memory_min = ... } in service.toml"),
    (
        "oom_score_adj",
        "it is the system's to say",
        "systemd.services.NAME.serviceConfig.OOMScoreAdjust in service.nix",
    ),
    ("pid", "each container has a PID namespace of its own", ""),
    ("post_start", "hooks run inside the image's file system", "a unit of its own in service.nix"),
    ("pre_stop", "hooks run inside the image's file system", "ExecStop of the unit in service.nix"),
    (
        "privileged",
        "a container gets what it needs by name, not everything",
        "write the `capabilities` and `devices` that it needs in service.toml",
    ),
    ("provider", "it is a program beside Compose", ""),
    (
        "read_only",
        "the guest boots a system, which writes to its root",
        "`ephemeral = true` in service.toml forgets what it wrote",
    ),
    ("runtime", "there is one: systemd-nspawn", ""),
    ("scale", "a service is one container", "copy its folder under another name"),
    (
        "security_opt",
        "it is about Docker's own confinement",
        "NixOS's units are confined by systemd; see systemd-analyze security in the guest",
    ),
    ("shm_size", "/dev/shm is as large as half of the memory", ""),
    ("stop_grace_period", "a guest is given 3 min to shut down", "TimeoutStopSec of the unit in service.nix"),
    ("stop_signal", "a guest is shut down by its systemd", "KillSignal of the unit in service.nix"),
    ("storage_opt", "the root is a folder of the host", ""),
    ("use_api_socket", "there is no container engine whose socket could be had", ""),
    (
        "user",
        "the NixOS module has a user of its own",
        "the module's own options in service.nix; files on mounts may need another owner",
    ),
    (
        "userns_mode",
        "the guest's root is the host's, unless it says otherwise",
        "private_users = \"pick\" in service.toml",
    ),
    ("uts", "each container has a host name of its own", ""),
    ("volumes_from", "a container mounts no other one's folders", "name the folder under `mounts` in service.toml"),
    ("working_dir", "it belongs to the image's program", ""),
];

/// Keys that say what is so anyway, or what nothing depends on.
const WITHOUT_LOSS: &[&str] = &["expose", "init", "platform", "pull_policy", "stdin_open", "tty", "version"];

/// What is known of a key that the manifest has nothing for.
pub(super) enum Known {
    /// Nothing is lost.
    WithoutLoss,
    /// Something is lost.
    Lost {
        /// Why.
        reason: &'static str,
        /// What to do; may be empty.
        way_out: &'static str,
    },
}

/// Returns what is known of a key.
pub(super) fn key(name: &str) -> Known {
    if WITHOUT_LOSS.contains(&name) || name.starts_with("x-") {
        return Known::WithoutLoss;
    }
    match KEYS.iter().find(|(known, ..)| *known == name) {
        Some((_, reason, way_out)) => Known::Lost { reason, way_out },
        None => Known::Lost {
            reason: "Compose has no such key that is known here",
            way_out: "look for a mistake in its name",
        },
    }
}
