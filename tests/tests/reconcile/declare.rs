//! Services as a test declares them: one that runs and nothing else, and what is added to it.

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, End};
use nixmox_core::model::{
    Bytes, Condition, HealthCheck, Kind, Limits, Network, OnUnhealthy, Origin, Port, PressureMax, PrivateUsers,
    Probe, Protocol, Restart, RestartPolicy, Service, System,
};

use crate::machine::name;

/// A service of the stack `cloud` with nothing but a name and a system.
pub(crate) fn service(text: &str) -> Service {
    Service {
        name: name(text),
        stack: "cloud".parse().unwrap(),
        origin: Origin { file: "nixmox.toml".to_owned(), line: 7, health_line: 0 },
        kind: Kind::Service,
        system: system('a', text),
        depends_on: BTreeMap::new(),
        dependency_stacks: BTreeMap::new(),
        health: None,
        limits: Limits::default(),
        network: Network::Private { address: None },
        ports: Vec::new(),
        mounts: Vec::new(),
        tmpfs: Vec::new(),
        credentials: BTreeMap::new(),
        environment: BTreeMap::new(),
        devices: Vec::new(),
        gpu: None,
        offload: None,
        capabilities: Vec::new(),
        ephemeral: false,
        private_users: PrivateUsers::No,
        nspawn_flags: Vec::new(),
        restart: Restart {
            policy: RestartPolicy::Always,
            delay: Duration::from_secs(1),
            delay_max: Duration::from_mins(5),
            attempts_max: None,
        },
    }
}

/// A job that is tried again when it fails.
pub(crate) fn job(text: &str) -> Service {
    let restart = Restart { policy: RestartPolicy::OnFailure, ..service(text).restart };
    Service { kind: Kind::Job, restart, ..service(text) }
}

fn system(letter: char, text: &str) -> System {
    System::Store(format!("/nix/store/{}-{text}", letter.to_string().repeat(32)).parse().unwrap())
}

/// What a test adds to a service.
pub(crate) trait Declare: Sized {
    fn needs(self, dependency: &str, condition: Condition) -> Self;
    /// Asked every 5 seconds; three failures, or a minute without a success, are too many.
    fn checked(self, on_unhealthy: OnUnhealthy) -> Self;
    /// Another system, so that only a restart brings it about.
    fn built_anew(self, letter: char) -> Self;
    fn memory_max(self, gigabytes: u64) -> Self;
    fn port(self, port: u16) -> Self;
    fn policy(self, policy: RestartPolicy) -> Self;
    fn attempts(self, most: u32) -> Self;
}

impl Declare for Service {
    fn needs(mut self, dependency: &str, condition: Condition) -> Self {
        self.depends_on.insert(name(dependency), condition);
        self
    }

    fn checked(mut self, on_unhealthy: OnUnhealthy) -> Self {
        self.health = Some(HealthCheck {
            probe: Probe::Tcp(80),
            pressure: PressureMax::default(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            retries: 3,
            start_period: Duration::from_mins(1),
            on_unhealthy,
        });
        self
    }

    fn built_anew(mut self, letter: char) -> Self {
        self.system = system(letter, self.name.as_str());
        self
    }

    fn memory_max(mut self, gigabytes: u64) -> Self {
        self.limits.memory_max = Some(Bytes(gigabytes << 30));
        self
    }

    fn port(mut self, port: u16) -> Self {
        let protocol = Protocol::Tcp;
        self.ports.push(Port { host_address: None, host_port: port, container_port: port, protocol });
        self
    }

    fn policy(mut self, policy: RestartPolicy) -> Self {
        self.restart.policy = policy;
        self
    }

    fn attempts(mut self, most: u32) -> Self {
        self.restart.attempts_max = Some(most);
        self
    }
}

/// Ends by itself after a while, with this status.
pub(crate) fn runs_for(after: Duration, status: u8) -> Behaviour {
    Behaviour { ends: Some(End { after, status }), ..Behaviour::default() }
}
