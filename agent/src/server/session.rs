//! One connection: a call is read, checked against the role of its peer, handled, answered.
//!
//! ```text
//!            ┌────────── reply ───────────┐
//!            ▼                            │
//! receive ─▶ call ─▶ find ─▶ allowed? ─▶ handle ─▶ (Watch) stream until the client leaves
//!   │          │       │         └─▶ NotPermitted
//!   │          │       └─▶ MethodNotFound
//!   ▼          ▼
//! the connection ends: too slow, too large, descriptors, not a call
//! ```

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use nix::unistd::{Uid, User};
use nixmox_api::{
    AgentError, Applied, Caller, CopyReply, CopyRequest, DiffReply, Done, ExecReply, ExecRequest, GenerationsReply,
    GpuDoctorReply, GpuFitReply, GpusReply, LogSources, Nothing, OffloadModelReply, OffloadsReply, PathsReply,
    PlanReply, StacksReply, Status, UsageReply, description,
};
use nixmox_core::model::{ContainerName, Offload, StackName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zlink::Reply;
use zlink::varlink_service::{self, Info};

use super::audit::{self, Refusals};
use super::connection::{Connection, Ended};
use super::method::Method;
use super::parameters::{
    Copy, Events, Execution, GpuFit, Logs, Model, Name, NameOrAll, Names, Requested, Rollback, Stack, Stop, Two,
};
use super::{Attended, Control, Peer, Role};

/// How long the look-up of a user's name may take; it may ask the network (nsswitch.conf(5)).
const NAME_LIMIT: Duration = Duration::from_secs(2);

/// What a session needs beside its connection.
pub(super) struct Session<C> {
    pub(super) control: C,
    pub(super) peer: Peer,
    pub(super) role: Option<Role>,
    pub(super) refusals: Rc<Refusals>,
    pub(super) stop: CancellationToken,
}

/// A call as the client wrote it. Keys that are not of the protocol are ignored.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    /// Read once the method and the right to call it are known.
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    oneway: bool,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    upgrade: bool,
}

/// What a call is answered with.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Info(Info<'static>),
    Description(Description),
    Status(Status),
    Usage(UsageReply),
    Stacks(StacksReply),
    Paths(PathsReply),
    Generations(GenerationsReply),
    Diff(DiffReply),
    Plan(PlanReply),
    Gpus(GpusReply),
    GpuFit(GpuFitReply),
    Offloads(OffloadsReply),
    OffloadModel(Box<OffloadModelReply>),
    GpuDoctor(GpuDoctorReply),
    Applied(Applied),
    Done(Done),
    Nothing(Nothing),
}

/// The reply of `GetInterfaceDescription`.
#[derive(Serialize)]
struct Description {
    description: String,
}

/// Why a call failed.
#[derive(Serialize)]
#[serde(untagged)]
enum Failure {
    Agent(AgentError),
    Varlink(varlink_service::Error<'static>),
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self::Agent(error)
    }
}

impl<C: Control> Session<C> {
    /// Serves a connection until its end, and says why it ended.
    pub(super) async fn run(&self, connection: &mut Connection) -> Ended {
        loop {
            // Both arms are cancel-safe, and only the chosen one's value is used.
            let message = tokio::select! {
                () = self.stop.cancelled() => Err(Ended::Stopping),
                message = connection.receive() => message,
            };
            let answered = match message {
                Ok(message) => self.answer(connection, &message).await,
                Err(ended) => Err(ended),
            };
            if let Err(ended) = answered {
                return ended;
            }
            // A client that floods must not keep the others waiting.
            tokio::task::yield_now().await;
        }
    }

    async fn answer(&self, connection: &mut Connection, message: &[u8]) -> Result<(), Ended> {
        let Ok(call) = serde_json::from_slice::<Call<'_>>(message) else { return Err(Ended::NotACall) };
        let result = match self.admit(&call) {
            Err(failure) => Err(failure),
            Ok((method, _)) if method.is_streamed() && !call.more => {
                Err(Failure::Varlink(varlink_service::Error::ExpectedMore))
            }
            // Without replies there is nothing to a watch, nor to what is attended.
            Ok((method, _)) if method.is_streamed() && call.oneway => return Ok(()),
            Ok((Method::Watch, _)) => return self.watch(connection).await,
            Ok((Method::Logs, _)) => return self.attend(connection, self.logs(call.parameters).await).await,
            Ok((Method::Events, _)) => return self.attend(connection, self.events(call.parameters).await).await,
            Ok((Method::Exec, name)) => {
                let begun = self.recorded(name, self.exec(call.parameters).await);
                return self.attend(connection, begun).await;
            }
            Ok((Method::Copy, name)) => {
                let begun = self.recorded(name, self.copy(call.parameters).await);
                return self.attend(connection, begun).await;
            }
            Ok((method, name)) => {
                let result = self.handle(method, call.parameters).await;
                if Method::find(name).is_some_and(|(.., role)| role == Some(Role::Operator)) {
                    audit::change(&self.peer, name, &outcome(&result));
                }
                result
            }
        };
        match result {
            _ if call.oneway => Ok(()),
            Ok(answer) => connection.send(&Reply::new(Some(answer))).await,
            Err(failure) => connection.send(&failure).await,
        }
    }

    /// Returns the method that is called, if the peer may call it.
    fn admit(&self, call: &Call<'_>) -> Result<(Method, &'static str), Failure> {
        let Some((method, name, role)) = Method::find(&call.method) else {
            let method = call.method.chars().take(256).collect::<String>().into();
            return Err(Failure::Varlink(varlink_service::Error::MethodNotFound { method }));
        };
        // A fault for the fuzz target to find: whoever wants no reply may do anything.
        #[cfg(feature = "planted")]
        let role = role.filter(|_| !(call.oneway && nixmox_core::planted::is_planted()));
        match role {
            Some(needed) if self.role < Some(needed) => {
                self.refusals.record(&self.peer, name);
                let (role, hint) = (needed.word().to_owned(), needed.hint());
                Err(AgentError::NotPermitted { role, method: name.to_owned(), hint }.into())
            }
            Some(_) | None if call.upgrade => {
                let parameter = Cow::Borrowed("upgrade");
                Err(Failure::Varlink(varlink_service::Error::InvalidParameter { parameter }))
            }
            Some(_) | None => Ok((method, name)),
        }
    }

    async fn handle(&self, method: Method, parameters: Option<&RawValue>) -> Result<Answer, Failure> {
        Ok(match method {
            Method::GetInfo => Answer::Info(info()?),
            Method::GetInterfaceDescription => Answer::Description(interface(&parse(parameters)?)?),
            Method::Status => {
                self.control.ready().await;
                Answer::Status(self.control.status().await)
            }
            Method::Usage => {
                self.control.ready().await;
                Answer::Usage(self.control.usage().await)
            }
            // Taken by `answer`, which has the connection that a stream needs.
            Method::Watch | Method::Logs | Method::Events | Method::Exec | Method::Copy => {
                return Err(Failure::Varlink(varlink_service::Error::ExpectedMore));
            }
            Method::Stacks => {
                self.control.ready().await;
                Answer::Stacks(self.control.stacks())
            }
            Method::Paths => {
                let Name { name } = parse(parameters)?;
                self.control.ready().await;
                Answer::Paths(self.control.paths(&service(name)?).await?)
            }
            Method::Generations => {
                self.control.ready().await;
                Answer::Generations(self.control.generations().await?)
            }
            Method::Diff => {
                let Two { from, to } = parse(parameters)?;
                Answer::Diff(self.control.diff(from, to).await?)
            }
            Method::Plan => {
                let Requested { request } = parse(parameters)?;
                let systems = request.services.iter();
                let systems = systems.filter_map(|service| Some((service.name.clone(), service.system.clone()?)));
                let (systems, is_wanted) = (systems.collect(), request.look_inside == Some(true));
                let plan = self.control.plan(request).await?;
                // To ask runs a program in the guest.
                let may_ask = is_wanted && self.role >= Some(Role::Operator);
                Answer::Plan(if may_ask { self.control.look_inside(plan, systems).await } else { plan })
            }
            Method::Gpus => {
                self.control.ready().await;
                Answer::Gpus(self.control.gpus().await?)
            }
            Method::GpuFit => {
                let GpuFit { mut request } = parse(parameters)?;
                request.name = request.name.map(service).transpose()?;
                self.control.ready().await;
                Answer::GpuFit(self.control.gpu_fit(request).await?)
            }
            Method::GpuDoctor => {
                let NameOrAll { name } = parse(parameters)?;
                let name = name.map(service).transpose()?;
                self.control.ready().await;
                Answer::GpuDoctor(self.control.gpu_doctor(name).await?)
            }
            Method::Offloads => {
                self.control.ready().await;
                Answer::Offloads(self.control.offloads().await?)
            }
            Method::OffloadModel => {
                let Model { name, model } = parse(parameters)?;
                let (name, model) = (service(name)?, self::model(model)?);
                self.control.ready().await;
                Answer::OffloadModel(Box::new(self.control.offload_model(name, model).await?))
            }
            Method::Apply => {
                let Requested { request } = parse(parameters)?;
                Answer::Applied(self.control.apply(request, self.caller().await).await?)
            }
            Method::Down => {
                let Stack { stack, names } = parse(parameters)?;
                let (stack, names) = (known_stack(stack)?, services(names)?);
                Answer::Applied(self.control.down(stack, names, self.caller().await).await?)
            }
            Method::Rollback => {
                let Rollback { stack, to, names } = parse(parameters)?;
                let (stack, names) = (known_stack(stack)?, services(names)?);
                Answer::Applied(self.control.rollback(stack, to, names, self.caller().await).await?)
            }
            Method::Start => {
                let Names { names } = parse(parameters)?;
                Answer::Done(self.control.start(services(names)?, self.caller().await).await?)
            }
            Method::Stop => {
                let Stop { names, with_dependents } = parse(parameters)?;
                Answer::Done(self.control.stop(services(names)?, with_dependents, self.caller().await).await?)
            }
            Method::Restart => {
                let Names { names } = parse(parameters)?;
                Answer::Done(self.control.restart(services(names)?, self.caller().await).await?)
            }
            Method::RemoveData => {
                let Name { name } = parse(parameters)?;
                self.control.remove_data(service(name)?, self.caller().await).await?;
                Answer::Nothing(Nothing {})
            }
        })
    }

    /// Streams the snapshot and every event after it, until the client leaves.
    async fn watch(&self, connection: &mut Connection) -> Result<(), Ended> {
        self.control.ready().await;
        let (first, mut events) = self.control.watch();
        let mut number = first.number;
        connection.send(&Reply::new(Some(&first)).set_continues(Some(true))).await?;
        loop {
            // Every arm is cancel-safe, and only the chosen one's value is used.
            let event = tokio::select! {
                () = self.stop.cancelled() => return Err(Ended::Stopping),
                ended = connection.end() => return Err(ended),
                event = events.recv() => event,
            };
            match event {
                // It came while the snapshot was made, which has it already.
                Ok(update) if update.number <= number => {}
                Ok(update) => {
                    number = update.number;
                    connection.send(&Reply::new(Some(&*update)).set_continues(Some(true))).await?;
                }
                Err(RecvError::Lagged(_)) => {
                    let (mut snapshot, after) = self.control.watch();
                    snapshot.resynchronize = true;
                    (number, events) = (snapshot.number, after);
                    connection.send(&Reply::new(Some(&snapshot)).set_continues(Some(true))).await?;
                }
                Err(RecvError::Closed) => return Err(Ended::Stopping),
            }
        }
    }

    /// Hands over what a client attends, and waits for its end or for the client to leave.
    async fn attend<T: Serialize>(
        &self,
        connection: &mut Connection,
        begun: Result<Attended<T>, Failure>,
    ) -> Result<(), Ended> {
        let Attended { first, descriptors, end } = match begun {
            Ok(attended) => attended,
            Err(failure) => return connection.send(&failure).await,
        };
        connection.send_with(&Reply::new(Some(&first)).set_continues(Some(true)), descriptors).await?;
        // Every arm is cancel-safe, and only the chosen one's value is used.
        let ended = tokio::select! {
            () = self.stop.cancelled() => return Err(Ended::Stopping),
            ended = connection.end() => return Err(ended),
            ended = end => ended,
        };
        match ended {
            Ok(last) => connection.send(&Reply::new(Some(&last))).await,
            Err(error) => connection.send(&Failure::Agent(error)).await,
        }
    }

    /// Records what begins in a guest, as a change of it.
    fn recorded<T>(&self, name: &str, begun: Result<T, Failure>) -> Result<T, Failure> {
        audit::change(&self.peer, name, begun.as_ref().map_or_else(failed, |_| "begun"));
        begun
    }

    async fn logs(&self, parameters: Option<&RawValue>) -> Result<Attended<LogSources>, Failure> {
        let Logs { request } = parse(parameters)?;
        self.control.ready().await;
        Ok(self.control.logs(request, self.peer.uid).await?)
    }

    async fn events(&self, parameters: Option<&RawValue>) -> Result<Attended<LogSources>, Failure> {
        let Events { request } = parse(parameters)?;
        Ok(self.control.events(request, self.peer.uid).await?)
    }

    async fn exec(&self, parameters: Option<&RawValue>) -> Result<Attended<ExecReply>, Failure> {
        let Execution { request } = parse(parameters)?;
        let name = service(request.name.clone())?;
        self.control.ready().await;
        Ok(self.control.exec(ExecRequest { name, ..request }).await?)
    }

    async fn copy(&self, parameters: Option<&RawValue>) -> Result<Attended<CopyReply>, Failure> {
        let Copy { request } = parse(parameters)?;
        let name = service(request.name.clone())?;
        self.control.ready().await;
        Ok(self.control.copy(CopyRequest { name, ..request }).await?)
    }

    async fn caller(&self) -> Caller {
        let uid = self.peer.uid;
        let user = timeout(NAME_LIMIT, spawn_blocking(move || User::from_uid(Uid::from_raw(uid)))).await;
        let name = match user {
            Ok(Ok(Ok(Some(user)))) => user.name,
            // Nobody's name is worth a failure.
            Ok(Ok(Ok(None) | Err(_)) | Err(_)) | Err(_) => format!("uid {uid}"),
        };
        Caller { uid, name }
    }
}

#[derive(Deserialize)]
struct InterfaceName {
    interface: String,
}

fn parse<'a, T: Deserialize<'a>>(parameters: Option<&'a RawValue>) -> Result<T, Failure> {
    // The client gets back what it sent; a log does not get this.
    serde_json::from_str(parameters.map_or("{}", RawValue::get)).map_err(|error| {
        let hint = "do client and agent have the same version?".to_owned();
        AgentError::Invalid { problems: vec![format!("parameters: {error}")], hint }.into()
    })
}

fn service(name: String) -> Result<String, AgentError> {
    match name.parse::<ContainerName>() {
        Ok(_) => Ok(name),
        Err(error) => Err(AgentError::UnknownService { name, hint: error.why.to_owned() }),
    }
}

/// Checks what a model is called: any text, since engines have names of their own.
fn model(name: String) -> Result<String, AgentError> {
    match Offload::name_fault(&name) {
        None => Ok(name),
        Some(why) => Err(AgentError::Invalid { problems: vec![format!("model: {why}")], hint: String::new() }),
    }
}

fn services(names: Vec<String>) -> Result<Vec<String>, AgentError> {
    names.into_iter().map(service).collect()
}

fn known_stack(name: String) -> Result<String, AgentError> {
    match name.parse::<StackName>() {
        Ok(_) => Ok(name),
        Err(error) => Err(AgentError::UnknownStack { name, hint: error.why.to_owned() }),
    }
}

fn info() -> Result<Info<'static>, AgentError> {
    let interfaces = [nixmox_api::INTERFACE, varlink_service::INTERFACE_NAME.as_str()];
    Info::new("NixMox", "nixmox-agent", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_REPOSITORY"), interfaces)
        .map_err(|error| AgentError::Refused { reason: error.to_string(), hint: String::new() })
}

fn interface(asked: &InterfaceName) -> Result<Description, Failure> {
    let described = match asked.interface.as_str() {
        nixmox_api::INTERFACE => nixmox_api::DESCRIPTION,
        name if name == varlink_service::INTERFACE_NAME.as_str() => varlink_service::DESCRIPTION,
        name => {
            let interface = name.chars().take(256).collect::<String>().into();
            return Err(Failure::Varlink(varlink_service::Error::InterfaceNotFound { interface }));
        }
    };
    Ok(Description { description: description(described) })
}

/// Returns how a call ended, for the record: figures and the names of errors, never a text from outside.
fn outcome(result: &Result<Answer, Failure>) -> String {
    let error = match result {
        Ok(Answer::Applied(applied)) => return format!("generation {}", applied.generation),
        Ok(Answer::Done(done)) => return format!("{} services", done.services.len()),
        Ok(
            Answer::Info(_)
            | Answer::Description(_)
            | Answer::Status(_)
            | Answer::Usage(_)
            | Answer::Stacks(_)
            | Answer::Paths(_)
            | Answer::Generations(_)
            | Answer::Diff(_)
            | Answer::Plan(_)
            | Answer::Gpus(_)
            | Answer::GpuFit(_)
            | Answer::Offloads(_)
            | Answer::OffloadModel(_)
            | Answer::GpuDoctor(_)
            | Answer::Nothing(Nothing {}),
        ) => "done",
        Err(failure) => failed(failure),
    };
    error.to_owned()
}

/// Returns the name of the error that a call failed with, for the record.
fn failed(failure: &Failure) -> &'static str {
    match failure {
        Failure::Varlink(_) => "InvalidParameter",
        Failure::Agent(error) => match error {
            AgentError::NotPermitted { .. } => "NotPermitted",
            AgentError::Invalid { .. } => "Invalid",
            AgentError::UnknownService { .. } => "UnknownService",
            AgentError::UnknownStack { .. } => "UnknownStack",
            AgentError::UnknownGeneration { .. } => "UnknownGeneration",
            AgentError::Stale { .. } => "Stale",
            AgentError::HasDependents { .. } => "HasDependents",
            AgentError::Refused { .. } => "Refused",
        },
    }
}

/// Serves one connection with a given role, as `serve` does; for tests that need no listener. Returns when it ended.
#[cfg(feature = "testing")]
pub async fn serve_stream<C: Control>(
    stream: tokio::net::UnixStream,
    control: C,
    role: Option<Role>,
    limits: super::Limits,
) {
    let Ok(peer) = Peer::of(&stream) else { return };
    let Ok(mut connection) = Connection::new(stream, limits) else { return };
    let session = Session { control, peer, role, refusals: Rc::default(), stop: CancellationToken::new() };
    session.run(&mut connection).await;
}
