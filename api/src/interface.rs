//! The interface in Varlink's own language, which `varlinkctl introspect` prints.
//!
//! Parameters and replies are derived from the types, with their comments; the list of methods is here. A golden
//! file holds the text, so that a change of the contract is seen.

use zlink::idl::{Comment, CustomType, Interface, Method, Parameter, Type};
use zlink::introspect::{CustomType as Custom, ReplyError, Type as Described};
use zlink::names::{FieldName, InterfaceName, TypeName};

use crate::{
    AgentError, Applied, Caller, CopyReply, CopyRequest, Dependency, Device, DiffReply, Difference, Done, Drift,
    EventsRequest, ExecFailure, ExecReply, ExecRequest, ExecTerminal, GenerationInfo, GenerationVerdict,
    GenerationsReply, Gpu, GpuDoctorReply, GpuDriver, GpuFault, GpuFitReply, GpuFitRequest, GpuInventory, GpuLayer,
    GpuMount, GpuNode, GpuProcess, GpuRoom, GpuService, GpuShare, GpuStatus, GpuYield, GpusReply, HealthCheck,
    HostStatus, IoLimit, LastEnd, Limits, LogKind, LogSource, LogSources, LogsOf, LogsRequest, MeasuredLoad,
    ModelRoom, ModelTensor, ModelValue, Mount, Network, Offload, OffloadModel, OffloadModelReply, OffloadService,
    OffloadsReply, OomKills, Origin, PathInfo, PathsReply, PlanReply, Planned, Port, Pressure, PressureMax, Reason,
    Request, Restart, RolledBack, Service, ServiceDiff, ServiceState, ServiceStatus, ServiceUsage, StackDiff,
    StackInfo, StackStatus, StacksReply, Status, Tmpfs, Update, UpdateKind, UsageReply, Warning,
};

/// `io.nixmox.Agent` as Varlink describes it.
pub const DESCRIPTION: &Interface<'static> = &Interface::new(
    InterfaceName::from_static_str_unchecked(crate::INTERFACE),
    METHODS,
    TYPES,
    AgentError::VARIANTS,
    &[&Comment::new("The NixMox agent: nixos-containers as declared.")],
);

const METHODS: &[&Method<'static>] = &[
    &method("Status", &[], fields::<Status>(), &[&Comment::new("Returns the snapshot. Role: observer.")]),
    &method(
        "Usage",
        &[],
        fields::<UsageReply>(),
        &[&Comment::new("Returns what the services use now. Role: observer.")],
    ),
    &method(
        "Watch",
        &[],
        fields::<Update>(),
        &[
            &Comment::new("Follows the snapshot: first as it is, then every event. Role: observer."),
            // The words by which systemd's own interfaces say so, and `varlinkctl` reads them.
            &Comment::new("[Requires 'more' flag]"),
        ],
    ),
    &method(
        "Logs",
        &[LOGS_REQUEST],
        fields::<LogSources>(),
        &[
            &Comment::new("Hands over a pipe for each source of lines, and one for complaints; ends with the last"),
            &Comment::new("source, or when the client leaves. Role: observer."),
            &Comment::new("[Requires 'more' flag]"),
        ],
    ),
    &method(
        "Events",
        &[EVENTS_REQUEST],
        fields::<LogSources>(),
        &[
            &Comment::new(
                "Hands over a pipe for events as the journal has them, and one for complaints; ends with",
            ),
            &Comment::new("the last event, or when the client leaves. Role: observer."),
            &Comment::new("[Requires 'more' flag]"),
        ],
    ),
    &method("Stacks", &[], fields::<StacksReply>(), &[&Comment::new("Returns the stacks. Role: observer.")]),
    &method(
        "Paths",
        &[NAME],
        fields::<PathsReply>(),
        &[&Comment::new("Returns where everything of a service lies. Role: observer.")],
    ),
    &method(
        "Plan",
        &[REQUEST],
        fields::<PlanReply>(),
        &[&Comment::new("Returns what `Apply` would do. Role: observer.")],
    ),
    &method(
        "Generations",
        &[],
        fields::<GenerationsReply>(),
        &[&Comment::new("Returns the generations that are kept. Role: observer.")],
    ),
    &method(
        "Diff",
        &[FROM, TO],
        fields::<DiffReply>(),
        &[&Comment::new("Returns what differs between two generations. Role: observer.")],
    ),
    &method(
        "Gpus",
        &[],
        fields::<GpusReply>(),
        &[&Comment::new("Returns what is known of the GPUs, and how services stand with them. Role: observer.")],
    ),
    &method(
        "GpuFit",
        &[GPU_FIT_REQUEST],
        fields::<GpuFitReply>(),
        &[&Comment::new("Returns what would come of a share of the GPUs; nothing is changed. Role: observer.")],
    ),
    &method(
        "GpuDoctor",
        &[NAME_OR_ALL],
        fields::<GpuDoctorReply>(),
        &[
            &Comment::new(
                "Looks at every layer between the GPUs and a service. Without a name: and all services that",
            ),
            &Comment::new("have some. Role: observer."),
        ],
    ),
    &method(
        "Offloads",
        &[],
        fields::<OffloadsReply>(),
        &[&Comment::new("Returns what runs models in services, and what is decided about it. Role: observer.")],
    ),
    &method(
        "OffloadModel",
        &[NAME, MODEL],
        fields::<OffloadModelReply>(),
        &[&Comment::new("Returns what a model of a service is made of, as its engine says. Role: observer.")],
    ),
    &method(
        "Apply",
        &[REQUEST],
        fields::<Applied>(),
        &[
            &Comment::new(
                "Makes a stack as declared: a new generation. Returns once it is written, not once it is",
            ),
            &Comment::new("done. Role: operator."),
        ],
    ),
    &method(
        "Down",
        &[STACK, NAMES],
        fields::<Applied>(),
        &[
            &Comment::new("Stops services of a stack and no longer desires them: a new generation. No names: the"),
            &Comment::new("whole stack. Role: operator."),
        ],
    ),
    &method(
        "Rollback",
        &[STACK, TO_OR_LAST, NAMES],
        fields::<Applied>(),
        &[
            &Comment::new("Makes a stack, or services of it, as an earlier generation has them: a new generation."),
            &Comment::new("Without a number: the last one before that differs and is not bad. Role: operator."),
        ],
    ),
    &method(
        "Start",
        &[NAMES],
        fields::<Done>(),
        &[&Comment::new("Releases services that `Stop` holds. Role: operator.")],
    ),
    &method(
        "Stop",
        &[NAMES, WITH_DEPENDENTS],
        fields::<Done>(),
        &[&Comment::new("Holds services stopped, until `Start` or the next `Apply` of them. Role: operator.")],
    ),
    &method("Restart", &[NAMES], fields::<Done>(), &[&Comment::new("Restarts services. Role: operator.")]),
    &method(
        "RemoveData",
        &[NAME],
        &[],
        &[&Comment::new("Deletes the state of a service that is stopped and not declared. Role: operator.")],
    ),
    &method(
        "Exec",
        &[EXEC],
        fields::<ExecReply>(),
        &[
            &Comment::new(
                "Runs a command in a container. The first reply hands descriptors over: the terminal's, or",
            ),
            &Comment::new("those of standard input, output and error; the last one says how it ended. It is ended"),
            &Comment::new("when the connection closes. Role: operator."),
            &Comment::new("[Requires 'more' flag]"),
        ],
    ),
    &method(
        "Copy",
        &[COPY],
        fields::<CopyReply>(),
        &[
            &Comment::new(
                "Copies files out of a container or into it. The first reply hands over a pipe with a tar, to",
            ),
            &Comment::new("be read or written; the last one says what became of it. Role: operator."),
            &Comment::new("[Requires 'more' flag]"),
        ],
    ),
];

const TYPES: &[&CustomType<'static>] = &[
    Status::CUSTOM_TYPE,
    HostStatus::CUSTOM_TYPE,
    Caller::CUSTOM_TYPE,
    StackStatus::CUSTOM_TYPE,
    RolledBack::CUSTOM_TYPE,
    ServiceState::CUSTOM_TYPE,
    ServiceStatus::CUSTOM_TYPE,
    Drift::CUSTOM_TYPE,
    LastEnd::CUSTOM_TYPE,
    OomKills::CUSTOM_TYPE,
    ServiceUsage::CUSTOM_TYPE,
    Pressure::CUSTOM_TYPE,
    UpdateKind::CUSTOM_TYPE,
    StackInfo::CUSTOM_TYPE,
    PathInfo::CUSTOM_TYPE,
    GenerationInfo::CUSTOM_TYPE,
    GenerationVerdict::CUSTOM_TYPE,
    ServiceDiff::CUSTOM_TYPE,
    Difference::CUSTOM_TYPE,
    StackDiff::CUSTOM_TYPE,
    Request::CUSTOM_TYPE,
    Service::CUSTOM_TYPE,
    Origin::CUSTOM_TYPE,
    Dependency::CUSTOM_TYPE,
    HealthCheck::CUSTOM_TYPE,
    PressureMax::CUSTOM_TYPE,
    Limits::CUSTOM_TYPE,
    IoLimit::CUSTOM_TYPE,
    Network::CUSTOM_TYPE,
    Port::CUSTOM_TYPE,
    Mount::CUSTOM_TYPE,
    Tmpfs::CUSTOM_TYPE,
    Device::CUSTOM_TYPE,
    Restart::CUSTOM_TYPE,
    GpuShare::CUSTOM_TYPE,
    GpuStatus::CUSTOM_TYPE,
    GpuInventory::CUSTOM_TYPE,
    Gpu::CUSTOM_TYPE,
    GpuNode::CUSTOM_TYPE,
    GpuProcess::CUSTOM_TYPE,
    GpuDriver::CUSTOM_TYPE,
    GpuMount::CUSTOM_TYPE,
    GpuFault::CUSTOM_TYPE,
    GpuRoom::CUSTOM_TYPE,
    GpuService::CUSTOM_TYPE,
    GpuFitRequest::CUSTOM_TYPE,
    GpuYield::CUSTOM_TYPE,
    GpuLayer::CUSTOM_TYPE,
    Offload::CUSTOM_TYPE,
    OffloadService::CUSTOM_TYPE,
    OffloadModel::CUSTOM_TYPE,
    ModelValue::CUSTOM_TYPE,
    ModelTensor::CUSTOM_TYPE,
    ModelRoom::CUSTOM_TYPE,
    MeasuredLoad::CUSTOM_TYPE,
    PlanReply::CUSTOM_TYPE,
    Planned::CUSTOM_TYPE,
    Reason::CUSTOM_TYPE,
    Warning::CUSTOM_TYPE,
    ExecRequest::CUSTOM_TYPE,
    ExecTerminal::CUSTOM_TYPE,
    ExecFailure::CUSTOM_TYPE,
    CopyRequest::CUSTOM_TYPE,
    LogsRequest::CUSTOM_TYPE,
    EventsRequest::CUSTOM_TYPE,
    LogsOf::CUSTOM_TYPE,
    LogKind::CUSTOM_TYPE,
    LogSource::CUSTOM_TYPE,
];

const NAME: &Parameter<'static> = &parameter("name", String::TYPE);
const NAME_OR_ALL: &Parameter<'static> = &parameter("name", <Option<String>>::TYPE);
const MODEL: &Parameter<'static> = &parameter("model", String::TYPE);
const NAMES: &Parameter<'static> = &parameter("names", <Vec<String>>::TYPE);
const FROM: &Parameter<'static> = &parameter("from", u64::TYPE);
const TO: &Parameter<'static> = &parameter("to", u64::TYPE);
const TO_OR_LAST: &Parameter<'static> = &parameter("to", <Option<u64>>::TYPE);
const STACK: &Parameter<'static> = &parameter("stack", String::TYPE);
const WITH_DEPENDENTS: &Parameter<'static> = &parameter("with_dependents", bool::TYPE);
const REQUEST: &Parameter<'static> = &parameter("request", Request::TYPE);
const COPY: &Parameter<'static> = &parameter("request", CopyRequest::TYPE);
const EXEC: &Parameter<'static> = &parameter("request", ExecRequest::TYPE);
const EVENTS_REQUEST: &Parameter<'static> = &parameter("request", EventsRequest::TYPE);
const GPU_FIT_REQUEST: &Parameter<'static> = &parameter("request", GpuFitRequest::TYPE);
const LOGS_REQUEST: &Parameter<'static> = &parameter("request", LogsRequest::TYPE);

const fn method(
    name: &'static str,
    inputs: &'static [&'static Parameter<'static>],
    outputs: &'static [&'static Parameter<'static>],
    comments: &'static [&'static Comment<'static>],
) -> Method<'static> {
    Method::new(TypeName::from_static_str_unchecked(name), inputs, outputs, comments)
}

const fn parameter(name: &'static str, kind: &'static Type<'static>) -> Parameter<'static> {
    Parameter::new(FieldName::from_static_str_unchecked(name), kind, &[])
}

/// Returns the fields of a structure, which are what a method replies.
const fn fields<T: Custom>() -> &'static [&'static Parameter<'static>] {
    match T::CUSTOM_TYPE.as_object() {
        Some(object) => match object.fields_as_slice() {
            Some(fields) => fields,
            None => panic!("the derive makes constants"),
        },
        None => panic!("a reply is a structure"),
    }
}
