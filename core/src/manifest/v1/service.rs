//! One service: a table below `services`, or the root of an included file.

use super::{Capability, Dependencies, Gpu, Health, Limits, Mount, Network, Offload, Restart, System, Tmpfs};
use crate::manifest::form::{List, Map, table, table_form};
use crate::model::{Device, Kind, PrivateUsers};

table! {
    /// A service, realised as one nixos-container of the same name: `[services.NAME]` in the stack file, or the
    /// root of an included file, which may say `format = 1` too. Paths on the host are relative to the file they
    /// stand in.
    #[foreign(
        "image" => "write `system`: a flake output or a store path",
        "build" => "write `system`: a flake output or a store path",
        "path" => "write `system`",
        "flake" => "write `system = \".#NAME\"`",
        "config" => "write it into a file of its own and `system = \"./NAME.nix\"`",
        "volumes" => "write `mounts`",
        "bind" => "write `mounts`",
        "bindMounts" => "write `mounts`",
        "ports" => "write `network = { ports = [...] }`",
        "forwardPorts" => "write `network = { ports = [...] }`",
        "network_mode" => "write `network = { mode = \"host\" }`",
        "networks" => "write `network`",
        "healthcheck" => "write `health`",
        "secrets" => "write `credentials`",
        "env" => "write `environment`",
        "env_file" => "write `environment`; secrets go into `credentials`",
        "cap_add" => "write `capabilities`",
        "additionalCapabilities" => "write `capabilities`",
        "cap_drop" => "write `nspawn_flags = [\"--drop-capability=...\"]`",
        "privileged" => "write the `capabilities` and `devices` that it needs",
        "allowedDevices" => "write `devices`",
        "deploy" => "write `limits`",
        "memory_max" => "write `limits = { memory_max = ... }`",
        "mem_limit" => "write `limits = { memory_max = ... }`",
        "cpus" => "write `limits = { cpu_quota = \"150%\" }`",
        "container_name" => "the container has the service's name",
        "hostname" => "the host name is the service's name",
        "privateUsers" => "write `private_users`",
        "autoStart" => "a declared service is started; `nixmoxctl stop` holds it",
        "extraFlags" => "write `nspawn_flags`",
        "name" => "the name is that of the table, or of the folder of an included file",
        "services" => "an included file is one service, its keys stand at the root",
        "stack" => "an included file is one service; the stack is described in the stack file",
        "command" => "the system decides what runs; a NixOS module is the place for it",
    )]
    pub struct Service {
        /// What the container's root runs: `PATH/init` is its PID 1. `".#postgres"` is an output of a flake, which is
        /// searched upwards from this file: the system of `nixosConfigurations.postgres`, else the package `postgres`; a
        /// path such as `".#packages.x86_64-linux.postgres"` is that alone, and the flake may be elsewhere, as in
        /// `"github:owner/repository#postgres"`. `"./postgres.nix"` is a NixOS module, evaluated as a container with the
        /// nixpkgs of the host. Both are built by `nix build`, as you. `"./result"` is a link into the store,
        /// `"/nix/store/..."` a store path that is there.
        ///
        /// Where it changes, a guest of NixOS that runs is switched to it (`switch-to-configuration test`); any other is
        /// restarted, and so is one that refused twice.
        #[key(Means("needs `adopt = true`"), Restart, "system = \".#postgres\"")]
        pub system: System,

        /// Whether the container is there already, made by `nixos-container` or by the host's configuration. It
        /// gets order, health, limits and restarts; its files are not touched, so that only `depends_on`, `health`,
        /// `limits`, `devices` (the access, not the node), `restart`, `gpu` and `offload` can stand beside it.
        #[key(Default("false"), Restart, "adopt = true")]
        pub adopt: bool,

        /// Whether it runs on or runs to its end. A job runs once for each version of what is declared, before what
        /// depends on it with `"completed"`; it has no health.
        #[key(Default("\"service\""), Live, "kind = \"job\"")]
        pub kind: Kind,

        /// What must hold before it is started, and is stopped after it: `started` (its unit is active), `healthy`
        /// or `completed` (a job that ended with success). A list means `started`. A service of another stack is
        /// written `"STACK/NAME"`.
        #[key(Default("[]"), Live, "depends_on = { postgres = \"healthy\", \"infra/proxy\" = \"started\" }")]
        pub depends_on: Dependencies,

        /// How its health is found out.
        #[key(
            Means("a booted guest is healthy when its systemd says `running`, another when its unit is active"),
            Live,
            "health = { tcp = 5432 }"
        )]
        pub health: Health,

        /// Resource limits.
        #[key(Means("no limits"), Live, "limits = { memory_max = \"2G\", tasks_max = 1024 }")]
        pub limits: Limits,

        /// How it is reached.
        #[key(Means("a private network without published ports"), PerKey, "network = { ports = [\"80\"] }")]
        pub network: Network,

        /// Host paths in the container; each target once. They may lie inside each other.
        #[key(Default("[]"), Restart, "mounts = [\"/srv/postgres:/var/lib/postgresql\", \"./conf:/etc/app:ro\"]")]
        pub mounts: List<Mount>,

        /// Memory file systems in the container; a target is neither here nor in `mounts` twice.
        #[key(Default("[]"), Restart, "tmpfs = [\"/var/cache:512M\"]")]
        pub tmpfs: List<Tmpfs>,

        /// Secrets by credential name, each a file on the host that is read at the start (`--load-credential=` of
        /// systemd-nspawn(1)). In the guest, `LoadCredential=` or `ImportCredential=` of a unit picks them up. The
        /// manifest and the generations hold the path only.
        #[key(Default("{}"), Restart, "credentials = { admin-password = \"/run/secrets/admin\" }")]
        pub credentials: Map<String>,

        /// Environment of every service in the guest (`DefaultEnvironment=`). Not for secrets: everyone in the
        /// guest reads it. Names are letters, digits and `_`; values have no control characters.
        #[key(Default("{}"), Restart, "environment = { TZ = \"Europe/Berlin\" }")]
        pub environment: Map<String>,

        /// Device nodes of the host that it may use, each with an access of `r`, `w` and `m`: `rw` when it is left
        /// out. A change of the access alone is live.
        #[key(Default("[]"), Restart, "devices = [\"/dev/dri/renderD128\", \"/dev/ttyUSB0:rwm\"]")]
        pub devices: List<Device>,

        /// Capabilities beside those that systemd-nspawn leaves to a container.
        #[key(Default("[]"), Restart, "capabilities = [\"CAP_SYS_NICE\"]")]
        pub capabilities: List<Capability>,

        /// Whether the root file system is thrown away at each stop; what is on `mounts` stays.
        #[key(Default("false"), Restart, "ephemeral = true")]
        pub ephemeral: bool,

        /// Whether the container has a user namespace of its own. What is chosen is recorded, so that a later
        /// default never changes who owns data.
        #[key(Default("\"no\""), Restart, "private_users = \"pick\"")]
        pub private_users: PrivateUsers,

        /// Further flags of systemd-nspawn(1), each in its long form with `=` before a value. Flags that have a key
        /// of their own here, or that the container's unit depends on, are refused.
        #[key(Default("[]"), Restart, "nspawn_flags = [\"--rlimit=NOFILE=65536\"]")]
        pub nspawn_flags: List<String>,

        /// What happens after it ended.
        #[key(
            Means("`\"always\"` for a service, `\"on-failure\"` for a job"),
            Live,
            "restart = { policy = \"on-failure\", attempts_max = 10 }"
        )]
        pub restart: Restart,

        /// Its share of the GPUs: which it may use, and how much video memory it claims.
        #[key(Means("no GPU"), PerKey, "gpu = { devices = \"all\", vram = \"10G\" }")]
        pub gpu: Gpu,

        /// What runs models in it, and what is asked of that; only with `gpu.vram`.
        #[key(
            Means("nothing that is known of; it is stopped where others need its memory"),
            PerKey,
            "gpu.vram = \"10G\"\noffload = { engine = \"ollama\", keep = [\"llama3.1:8b\"] }"
        )]
        pub offload: Offload,
    }
}

table_form!(Service, "a service: a table with `system` and what it needs");
