//! The agent on a simulated host, in real time, and the stack of these tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nixmox_agent::app::{self, Parts};
use nixmox_agent::host::fake::{Behaviour, Fake};
use nixmox_agent::server::{self, Limits, Peer, Role, Roles};
use nixmox_agent::settings::Settings;
use nixmox_testbed::Build;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything that is to happen; far more than it takes.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// The name of the service that takes the most room.
pub(crate) const LONG: &str = "a-service-with-the-longest-name-that-people-may-think-of";

/// What is declared; nothing of it is built.
const STACK: &str = r#"format = 1
[stack]
name = "cloud"

[services.postgres]
system = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-postgres"

[services.nextcloud]
system = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nextcloud"
depends_on = { postgres = "healthy" }
restart = "no"

[services.nextcloud.health]
http = "http://localhost/status.php"
start_period = "5min"

[services.LONG]
system = "/nix/store/cccccccccccccccccccccccccccccccc-caddy"
network = { mode = "host" }
"#;

/// Whoever calls is an operator.
struct Operators;

impl Roles for Operators {
    fn role(&self, _peer: &Peer) -> Option<Role> {
        Some(Role::Operator)
    }

    async fn refresh(&self) {}
}

/// A running agent; stops when it is dropped.
pub(crate) struct Agent {
    host: Fake,
    folder: TempDir,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts an agent on a host on which nothing is, and writes the stack.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("nixmox.toml"), STACK.replace("LONG", LONG)).unwrap();
        let mut agent = Self { host: Fake::new(), folder, stop: CancellationToken::new(), thread: None };
        agent.begin();
        agent
    }

    /// Starts the agent, after it was ended, on the same host and state.
    pub(crate) fn begin(&mut self) {
        let (folder, host) = (&self.folder, &self.host);
        let stop = CancellationToken::new();
        let parts = Parts {
            state: folder.path().join("state"),
            settings: Settings::default(),
            listener: server::bind(&folder.path().join("socket")).unwrap(),
            roles: Operators,
            limits: Limits::default(),
        };
        let (simulated, stopped) = (Arc::new(host.clone()), stop.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(app::run(simulated, parts, stopped)).unwrap();
        });
        (self.stop, self.thread) = (stop, Some(thread));
    }

    /// Ends the agent; its containers go on.
    pub(crate) fn end(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }

    /// The folder of the stack.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the client's program, and the option that leads it here.
    pub(crate) fn client(&self) -> (PathBuf, String) {
        (Build::Debug.client().unwrap(), format!("--socket {}", self.folder().join("socket").display()))
    }

    pub(crate) fn behave(&self, name: &str, behaviour: Behaviour) {
        self.host.behave(&name.parse().unwrap(), behaviour);
    }

    /// Lets a container end as killed.
    pub(crate) fn kill(&self, name: &str) {
        self.host.kill(&name.parse().unwrap());
    }

    /// Brings everything up, without a terminal.
    pub(crate) fn up(&self) {
        self.ctl("up");
    }

    /// Takes everything down, without a terminal.
    pub(crate) fn down(&self) {
        self.ctl("down");
    }

    /// Returns the state of a service, in the wire's word.
    pub(crate) fn state(&self, name: &str) -> String {
        let status: Value = serde_json::from_str(&self.ctl("status --json")).unwrap();
        let services = status["services"].as_array().unwrap();
        let service = services.iter().find(|service| service["name"] == name).expect("the service is known");
        service["state"].as_str().unwrap().to_owned()
    }

    /// Waits until a service is in a state.
    pub(crate) fn until_state(&self, name: &str, state: &str) {
        let begun = Instant::now();
        while self.state(name) != state {
            assert!(begun.elapsed() < LIMIT, "{name} is {}", self.state(name));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ctl(&self, arguments: &str) -> String {
        let (program, socket) = self.client();
        let mut command = Command::new(program);
        command.args(arguments.split(' ').chain(socket.split(' '))).current_dir(self.folder());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the agent panicked");
        }
    }
}
