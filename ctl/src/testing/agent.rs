//! A simulated agent on a real socket: it speaks Varlink as bytes, so that the client's words are tested too.
//!
//! It follows a script: what it answers to each method, and which updates a watch gets once a change was asked
//! for. A script with several watches is an agent that is killed after each but the last.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use nixmox_api::{AgentError, PlanReply, Update};
use serde::Serialize;

use super::sample;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the agent answers.
#[derive(Debug, Default)]
pub(crate) struct Script {
    replies: BTreeMap<&'static str, Value>,
    /// What `Plan` answers once all updates are out.
    plan_after: Option<Value>,
    watches: Vec<Vec<Update>>,
    slow: bool,
}

impl Script {
    /// Answers a method, such as `Status`.
    pub(crate) fn reply(mut self, method: &'static str, parameters: &impl Serialize) -> Self {
        self.replies.insert(method, json!({ "parameters": parameters }));
        self
    }

    /// Refuses a method.
    pub(crate) fn refuse(mut self, method: &'static str, error: &AgentError) -> Self {
        self.replies.insert(method, serde_json::to_value(error).unwrap());
        self
    }

    /// Does not know a method, as an older agent.
    pub(crate) fn unknown(mut self, method: &'static str) -> Self {
        let parameters = json!({ "method": format!("io.nixmox.Agent.{method}") });
        let error = json!({ "error": "org.varlink.service.MethodNotFound", "parameters": parameters });
        self.replies.insert(method, error);
        self
    }

    /// Says that it is of this version.
    pub(crate) fn version(self, version: &str) -> Self {
        let (vendor, product, url) = ("NixMox", "nixmox-agent", "");
        let info =
            json!({ "vendor": vendor, "product": product, "version": version, "url": url, "interfaces": [] });
        self.reply("GetInfo", &info)
    }

    /// Answers `Plan` with this once all updates are out.
    pub(crate) fn plan_after(mut self, plan: &PlanReply) -> Self {
        self.plan_after = Some(json!({ "parameters": plan }));
        self
    }

    /// Sends these updates on the next watch: the first at once, the others when a change was asked for.
    pub(crate) fn watch(mut self, updates: Vec<Update>) -> Self {
        self.watches.push(updates);
        self
    }

    /// Takes its time before anything happens: longer than a client waits before it asks again.
    pub(crate) fn slow(mut self) -> Self {
        self.slow = true;
        self
    }
}

/// A running agent; it ends with the test.
pub(crate) struct Agent {
    folder: TempDir,
    state: Arc<State>,
}

struct State {
    script: Script,
    moving: Mutex<Moving>,
    changed: Condvar,
}

#[derive(Default)]
struct Moving {
    /// Every call so far.
    calls: Vec<Value>,
    asked_for_change: bool,
    watches_begun: usize,
    finished: bool,
    connections: Vec<UnixStream>,
}

const CHANGES: [&str; 6] = ["Apply", "Down", "Rollback", "Start", "Stop", "Restart"];

impl Agent {
    /// Starts an agent with a folder of its own.
    pub(crate) fn start(script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let state = Arc::new(State { script, moving: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&state);
        // Ends with the process; nothing waits for it.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&accepting));
                state.moving.lock().unwrap().connections.push(stream.try_clone().unwrap());
                thread::spawn(move || serve(&state, &stream));
            }
        });
        Self { folder, state }
    }

    /// The folder that commands run in; the stack file belongs there.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The parameters of every call of a method so far.
    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        let name = format!("io.nixmox.Agent.{method}");
        let calls = &self.state.moving.lock().unwrap().calls;
        calls.iter().filter(|call| call["method"] == name.as_str()).map(|call| call["parameters"].clone()).collect()
    }
}

fn serve(state: &State, stream: &UnixStream) {
    let mut reader = BufReader::new(stream);
    let mut message = Vec::new();
    while reader.read_until(0, &mut message).is_ok_and(|read| read > 1) {
        message.pop();
        let call: Value = serde_json::from_slice(&message).unwrap();
        message.clear();
        let method = call["method"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        let finished = {
            let mut moving = state.moving.lock().unwrap();
            moving.calls.push(call);
            moving.finished
        };
        let sent = if method == "Watch" {
            watch(state, stream)
        } else {
            let after = state.script.plan_after.as_ref().filter(|_| finished && method == "Plan");
            let reply = after.or_else(|| state.script.replies.get(method.as_str()));
            // Details that every script can leave out.
            let idle = match method.as_str() {
                "Usage" => Some(json!({ "parameters": nixmox_api::UsageReply::default() })),
                "Gpus" => Some(json!({ "parameters": nixmox_api::GpusReply::default() })),
                "Offloads" => Some(json!({ "parameters": nixmox_api::OffloadsReply::default() })),
                _ => None,
            };
            let reply = reply.or(idle.as_ref());
            send(stream, reply.unwrap_or_else(|| panic!("the script does not answer {method}")))
        };
        if sent.is_err() {
            break;
        }
        if CHANGES.contains(&method.as_str()) {
            state.moving.lock().unwrap().asked_for_change = true;
            state.changed.notify_all();
        }
    }
}

fn watch(state: &State, stream: &UnixStream) -> std::io::Result<()> {
    let number = {
        let mut moving = state.moving.lock().unwrap();
        moving.watches_begun += 1;
        moving.watches_begun - 1
    };
    let Some(updates) = state.script.watches.get(number) else { return Ok(()) };
    for (index, update) in updates.iter().enumerate() {
        if index == 1 {
            let moving = state.moving.lock().unwrap();
            drop(state.changed.wait_while(moving, |moving| !moving.asked_for_change).unwrap());
            if state.script.slow {
                thread::sleep(std::time::Duration::from_millis(700));
            }
            // As a real one does, it tells of the generation that it made before of what comes of that.
            if updates.iter().skip(1).all(|update| update.host.is_none()) {
                send(stream, &json!({ "parameters": sample::made(), "continues": true }))?;
            }
        }
        send(stream, &json!({ "parameters": update, "continues": true }))?;
    }
    if updates.len() == 1 && state.script.replies.contains_key("Apply") {
        let moving = state.moving.lock().unwrap();
        drop(state.changed.wait_while(moving, |moving| !moving.asked_for_change).unwrap());
        send(stream, &json!({ "parameters": sample::made(), "continues": true }))?;
    }
    let mut moving = state.moving.lock().unwrap();
    if number + 1 == state.script.watches.len() {
        moving.finished = true;
    } else {
        // SIGKILL: every connection ends.
        moving.connections.drain(..).for_each(|connection| drop(connection.shutdown(Shutdown::Both)));
    }
    Ok(())
}

fn send(mut stream: &UnixStream, message: &Value) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(0);
    stream.write_all(&bytes)
}
