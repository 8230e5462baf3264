//! The server on a thread of its own, and clients that say what they like.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nixmox_agent::server::{self, Limits, Peer, Role, Roles};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, dispatcher};

use crate::fake::Fake;

/// Longest wait for anything that is to happen; far more than it takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Limits of time that no test reaches: what ends a connection, or holds a client up for long, is something else.
pub(crate) fn limits() -> Limits {
    Limits { idle: LIMIT * 2, write: LIMIT * 2, message_bytes: 64 << 10, ..Limits::default() }
}

/// Limits that a test can wait for, and that a machine which stands still for a moment does not reach.
pub(crate) fn short_limits() -> Limits {
    let short = Duration::from_secs(5);
    Limits { idle: short, write: short, ..limits() }
}

/// Everybody has this role.
pub(crate) struct Everybody(pub(crate) Option<Role>);

impl Roles for Everybody {
    fn role(&self, _peer: &Peer) -> Option<Role> {
        self.0
    }

    async fn refresh(&self) {}
}

/// A running server; stops when it is dropped.
pub(crate) struct TestServer {
    pub(crate) fake: Fake,
    folder: TempDir,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// How a server is started.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) fake: Fake,
    /// What hears the log of the server's thread.
    pub(crate) log: Dispatch,
}

impl Default for Setup {
    fn default() -> Self {
        Self { limits: limits(), fake: Fake::new(1024), log: Dispatch::new(NoSubscriber::new()) }
    }
}

impl TestServer {
    pub(crate) fn for_everybody(role: Option<Role>) -> Self {
        Self::start(Setup::default(), move || async move { Everybody(role) })
    }

    /// Starts a server; its roles are made on its thread.
    pub(crate) fn start<R: Roles + 'static, F: Future<Output = R>>(
        setup: Setup,
        roles: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        let Setup { limits, fake, log } = setup;
        let folder = tempfile::tempdir().unwrap();
        // Other users connect too.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let listener = server::bind(&folder.path().join("socket")).unwrap();
        let stop = CancellationToken::new();
        let (control, stopped) = (fake.clone(), stop.clone());
        let thread = thread::spawn(move || {
            dispatcher::with_default(&log, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                LocalSet::new().block_on(&runtime, async {
                    let roles = roles().await;
                    server::serve(listener, control, roles, limits, stopped).await.unwrap();
                });
            });
        });
        Self { fake, folder, stop, thread: Some(thread) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::new(UnixStream::connect(self.path()).expect("the server listens"))
    }

    /// Asks the server to stop, and goes on.
    pub(crate) fn request_stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the server's end.
    pub(crate) fn join(&mut self) {
        self.request_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// A client that sends bytes.
pub(crate) struct Raw(pub(crate) UnixStream, BufReader<UnixStream>);

impl Raw {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self(stream, reader)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server reads");
    }

    /// Sends a call and reads the answer.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        let call = serde_json::json!({ "method": method, "parameters": parameters });
        self.call_raw(&call.to_string())
    }

    pub(crate) fn call_raw(&mut self, call: &str) -> Value {
        self.send(call.as_bytes());
        self.send(&[0]);
        self.receive().expect("an answer")
    }

    /// Reads a message; `None` when the server ended the connection.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        let mut message = Vec::new();
        match self.1.read_until(0, &mut message) {
            Ok(_) if message.pop() == Some(0) => Some(serde_json::from_slice(&message).expect("JSON")),
            // An answer that was cut off is no answer.
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer and no end within {LIMIT:?}: {error}"),
        }
    }

    /// Reads what there is, until the server ends the connection.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = [0; 4096];
        loop {
            match self.1.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the connection did not end within {LIMIT:?}: {error}"),
            }
        }
    }

    /// Checks that this client is served.
    pub(crate) fn expect_served(&mut self) {
        let reply = self.call("io.nixmox.Agent.Status", serde_json::json!({}));
        assert_eq!(reply["parameters"]["host"]["version"], "test", "{reply}");
    }
}

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
