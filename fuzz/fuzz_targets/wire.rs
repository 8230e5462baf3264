//! A connection from any bytes: no panic, whole answers, nobody beyond their role, and whatever passes the checks is
//! what the model promises.
//!
//! The first byte of the input chooses the role, the rest is what the client sends, a message a line.
#![no_main]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nixmox_agent::server::{Attended, Control, Limits, Role, serve_stream};
use nixmox_api::{
    AgentError, Applied, Caller, CopyReply, CopyRequest, DiffReply, Done, EventsRequest, ExecReply, ExecRequest,
    GenerationsReply, GpuDoctorReply, GpuFitReply, GpuFitRequest, GpusReply, LogSources, LogsRequest, OffloadModelReply, OffloadsReply, PathsReply,
    PlanReply, Request, Service, StacksReply, Status, Update, UpdateKind, UsageReply,
};
use nixmox_core::container::{Layout, files};
use nixmox_core::model::{Addresses, Assigned, ContainerName, GpuStanding, Network, StackName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

fuzz_target!(init: plant_if_asked(), |bytes: &[u8]| {
    let Some((first, sent)) = bytes.split_first() else { return };
    let role = match first % 3 {
        0 => None,
        1 => Some(Role::Observer),
        _ => Some(Role::Operator),
    };
    let sent: Vec<u8> = sent.iter().map(|byte| if *byte == b'\n' { 0 } else { *byte }).collect();
    let answers = RUNTIME.with(|runtime| runtime.block_on(converse(role, &sent)));

    let messages = sent.split(|byte| *byte == 0).count();
    assert!(answers.is_empty() || answers.ends_with(&[0]), "an answer that was cut off");
    let answers: Vec<&[u8]> = answers.split(|byte| *byte == 0).filter(|answer| !answer.is_empty()).collect();
    assert!(answers.len() <= messages, "more answers than calls");
    for answer in answers {
        let answer: BTreeMap<String, serde_json::Value> = serde_json::from_slice(answer).expect("an answer is an object");
        assert!(answer.keys().all(|key| ["parameters", "error", "continues"].contains(&key.as_str())), "{answer:?}");
    }
});

fn plant_if_asked() {
    if std::env::var_os("NIXMOX_PLANTED").is_some() {
        nixmox_core::planted::plant();
    }
}

/// Sends everything, leaves, and returns what was answered.
async fn converse(role: Option<Role>, sent: &[u8]) -> Vec<u8> {
    let (client, server) = UnixStream::pair().expect("a pair of sockets");
    let limits = Limits { message_bytes: 16 << 10, ..Limits::default() };
    let (mut reader, mut writer) = client.into_split();
    let write = async move {
        // The server may end the connection before it has read everything.
        let _ = writer.write_all(sent).await;
    };
    let read = async {
        let mut answers = Vec::new();
        // A reset means the same: what was not read any more is lost.
        let _ = reader.read_to_end(&mut answers).await;
        answers
    };
    tokio::join!(serve_stream(server, Guard { role }, role, limits), write, read).2
}

/// An agent that knows who may ask it for what.
#[derive(Clone)]
struct Guard {
    role: Option<Role>,
}

impl Guard {
    fn expect_observer(&self) {
        assert!(self.role >= Some(Role::Observer), "somebody without a role looks");
    }

    fn expect_operator(&self) {
        assert!(self.role == Some(Role::Operator), "somebody changes who may not");
    }

    fn plan(&self, request: Request) -> Result<PlanReply, AgentError> {
        let invalid = |problems| AgentError::Invalid { problems, hint: String::new() };
        let stack = request.into_model().map_err(|problems| {
            assert!(!problems.is_empty(), "refused for no reason");
            assert!(!problems.concat().contains(char::is_control), "a problem that a terminal would act on");
            invalid(problems)
        })?;
        let addresses = Addresses { host: Ipv4Addr::new(10, 233, 1, 1), local: Ipv4Addr::new(10, 233, 1, 2) };
        let layout = Layout { agent: "/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: true };
        for service in stack.services.into_values() {
            let wire = Service::from(&service);
            assert_eq!(wire.into_model(&stack.name), Ok(service.clone()), "a service is another behind the wire");
            let private = matches!(service.network, Network::Private { .. });
            let assigned = Assigned { service, addresses: private.then_some(addresses), gpu: GpuStanding::None };
            files(&assigned, &layout).expect("what passed the checks can be carried");
        }
        Ok(PlanReply {
            base: String::new(),
            generation: 1,
            services: Vec::new(),
            orphans: Vec::new(),
            warnings: Vec::new(),
            limits: None,
        })
    }

    fn done(&self, names: Vec<String>) -> Result<Done, AgentError> {
        self.expect_operator();
        names.iter().for_each(|name| expect_name(name));
        Ok(Done { number: 1, services: names })
    }
}

fn expect_name(name: &str) {
    assert!(name.parse::<ContainerName>().is_ok(), "{name:?} is not a name");
}

impl Control for Guard {
    async fn status(&self) -> Status {
        self.expect_observer();
        Status::default()
    }

    async fn usage(&self) -> UsageReply {
        self.expect_observer();
        UsageReply::default()
    }

    fn watch(&self) -> (Update, broadcast::Receiver<Arc<Update>>) {
        self.expect_observer();
        let snapshot = Update {
            kind: UpdateKind::Snapshot,
            number: 1,
            at_usec: 0,
            resynchronize: false,
            service: String::new(),
            event: String::new(),
            message: String::new(),
            status: Some(Status::default()),
            current: None,
            host: None,
            stacks: None,
        };
        let (sender, receiver) = broadcast::channel(1);
        // Nothing ever happens: the watch ends when the client leaves, or at once.
        drop(sender);
        (snapshot, receiver)
    }

    fn stacks(&self) -> StacksReply {
        self.expect_observer();
        StacksReply { stacks: Vec::new() }
    }

    async fn paths(&self, name: &str) -> Result<PathsReply, AgentError> {
        self.expect_observer();
        expect_name(name);
        Ok(PathsReply { paths: Vec::new() })
    }

    async fn generations(&self) -> Result<GenerationsReply, AgentError> {
        self.expect_observer();
        Ok(GenerationsReply { generations: Vec::new() })
    }

    async fn diff(&self, _from: u64, _to: u64) -> Result<DiffReply, AgentError> {
        self.expect_observer();
        Ok(DiffReply { services: Vec::new(), stacks: None })
    }

    async fn gpus(&self) -> Result<GpusReply, AgentError> {
        self.expect_observer();
        Ok(GpusReply::default())
    }

    async fn gpu_fit(&self, request: GpuFitRequest) -> Result<GpuFitReply, AgentError> {
        self.expect_observer();
        request.name.iter().for_each(|name| expect_name(name));
        let problems = request.share.and_then(|share| share.into_model().err()).unwrap_or_default();
        assert!(!problems.concat().contains(char::is_control), "a problem that a terminal would act on");
        Ok(GpuFitReply::default())
    }

    async fn offloads(&self) -> Result<OffloadsReply, AgentError> {
        self.expect_observer();
        Ok(OffloadsReply::default())
    }

    async fn offload_model(&self, name: String, model: String) -> Result<OffloadModelReply, AgentError> {
        self.expect_observer();
        expect_name(&name);
        assert!(!model.contains(char::is_control) && (1..=256).contains(&model.chars().count()), "no name of a model");
        Ok(OffloadModelReply::default())
    }

    async fn gpu_doctor(&self, name: Option<String>) -> Result<GpuDoctorReply, AgentError> {
        self.expect_observer();
        name.iter().for_each(|name| expect_name(name));
        Ok(GpuDoctorReply::default())
    }

    async fn logs(&self, _request: LogsRequest, _uid: u32) -> Result<Attended<LogSources>, AgentError> {
        self.expect_observer();
        Err(AgentError::Refused { reason: String::new(), hint: String::new() })
    }

    async fn events(&self, _request: EventsRequest, _uid: u32) -> Result<Attended<LogSources>, AgentError> {
        self.expect_observer();
        Err(AgentError::Refused { reason: String::new(), hint: String::new() })
    }

    async fn plan(&self, request: Request) -> Result<PlanReply, AgentError> {
        self.expect_observer();
        Guard::plan(self, request)
    }

    async fn apply(&self, request: Request, _caller: Caller) -> Result<Applied, AgentError> {
        self.expect_operator();
        Ok(Applied { generation: 1, number: 1, plan: Guard::plan(self, request)? })
    }

    async fn down(&self, stack: String, names: Vec<String>, _caller: Caller) -> Result<Applied, AgentError> {
        assert!(stack.parse::<StackName>().is_ok(), "{stack:?} is not a name");
        self.done(names)?;
        Err(AgentError::UnknownStack { name: stack, hint: String::new() })
    }

    async fn rollback(
        &self,
        stack: String,
        _to: Option<u64>,
        names: Vec<String>,
        _caller: Caller,
    ) -> Result<Applied, AgentError> {
        assert!(stack.parse::<StackName>().is_ok(), "{stack:?} is not a name");
        self.done(names)?;
        Err(AgentError::UnknownStack { name: stack, hint: String::new() })
    }

    async fn start(&self, names: Vec<String>, _caller: Caller) -> Result<Done, AgentError> {
        self.done(names)
    }

    async fn stop(&self, names: Vec<String>, _with_dependents: bool, _caller: Caller) -> Result<Done, AgentError> {
        self.done(names)
    }

    async fn restart(&self, names: Vec<String>, _caller: Caller) -> Result<Done, AgentError> {
        self.done(names)
    }

    async fn remove_data(&self, name: String, _caller: Caller) -> Result<(), AgentError> {
        self.done(vec![name]).map(drop)
    }

    async fn copy(&self, request: CopyRequest) -> Result<Attended<CopyReply>, AgentError> {
        self.expect_operator();
        expect_name(&request.name);
        let problems = request.problems();
        assert!(!problems.concat().contains(char::is_control), "a problem that a terminal would act on");
        Err(AgentError::Invalid { problems, hint: String::new() })
    }

    async fn exec(&self, request: ExecRequest) -> Result<Attended<ExecReply>, AgentError> {
        self.expect_operator();
        expect_name(&request.name);
        let problems = request.problems();
        assert!(!problems.concat().contains(char::is_control), "a problem that a terminal would act on");
        Err(AgentError::Invalid { problems, hint: String::new() })
    }
}
