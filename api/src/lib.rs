//! The Varlink contract `io.nixmox.Agent`: types, errors and proxy.
//!
//! The third family of types beside the file form and the model: plain structures that Varlink can describe.
//! They are also what `--json` prints and what a generation keeps on disk, under one rule: fields are only
//! added, with a default, and names are never reused. Conversions to and from `nixmox_core::model` live
//! here; the way in checks everything that comes from outside, and refuses a field that it does not know.

mod copy;
mod error;
mod exec;
mod from_model;
mod from_plan;
mod gpu;
mod gpu_from_model;
mod gpu_into_model;
mod history;
mod idl_text;
mod interface;
mod into_model;
mod logs;
mod offload;
mod offload_from_model;
mod offload_into_model;
mod proxy;
mod request;
mod rule;
mod service;
mod stack;
mod status;
mod usage;

pub use copy::{CopyReply, CopyRequest};
pub use error::AgentError;
pub use exec::{ExecFailure, ExecReply, ExecRequest, ExecTerminal};
pub use from_plan::change_word;
pub use gpu::{
    Gpu, GpuDoctorReply, GpuDriver, GpuFault, GpuFitReply, GpuFitRequest, GpuInventory, GpuLayer, GpuMount,
    GpuNode, GpuProcess, GpuRoom, GpuService, GpuShare, GpuStatus, GpuYield, GpusReply,
};
pub use history::{
    DiffReply, Difference, GenerationInfo, GenerationVerdict, GenerationsReply, RolledBack, ServiceDiff, StackDiff,
};
pub use idl_text::description;
pub use interface::DESCRIPTION;
pub use logs::{EventsRequest, LogKind, LogSource, LogSources, LogsOf, LogsRequest};
pub use offload::{
    MeasuredLoad, ModelRoom, ModelTensor, ModelValue, Offload, OffloadModel, OffloadModelReply, OffloadService,
    OffloadsReply,
};
pub use proxy::AgentProxy;
pub use request::{
    Applied, Done, Nothing, PathInfo, PathsReply, PlanReply, Planned, Reason, Request, StackInfo, StacksReply,
    Warning,
};
pub use service::{
    Dependency, Device, HealthCheck, IoLimit, Limits, Mount, Network, Origin, Port, PressureMax, Restart, Service,
    Tmpfs,
};
pub use stack::RequestedStack;
pub use status::{
    Caller, Drift, HostStatus, LastEnd, OomKills, ServiceState, ServiceStatus, StackStatus, Status, Update,
    UpdateKind,
};
pub use usage::{Pressure, ServiceUsage, UsageReply};

/// The interface's name.
pub const INTERFACE: &str = "io.nixmox.Agent";

/// Where the agent listens.
pub const SOCKET: &str = "/run/nixmox/io.nixmox.Agent";
