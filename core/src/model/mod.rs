//! The words of NixMox as types: what is desired, what is observed, what a plan says.
//!
//! Nothing here knows a file format or a wire format (no serde); `manifest` and the `nixmox-api` crate
//! convert at the edges. A value of these types is valid by construction.

mod capability;
mod desired;
mod facts;
#[cfg(test)]
pub(crate) mod fixture;
mod gpu;
mod name;
mod observed;
mod offload;
mod plan;
mod pool;
mod pressure;
mod quantity;
mod service;
mod spec;
mod word;

pub use capability::CAPABILITIES;
pub use desired::{Addresses, Assigned, Desired, Hold};
pub use facts::Facts;
pub use gpu::{GpuDevices, GpuId, GpuMount, GpuShare, GpuStanding, Grant, InvalidGpuId, OPTIONAL_NODES, Vendor};
pub use name::{ContainerName, InvalidName, InvalidStorePath, Owner, StackName, StorePath};
pub use observed::{
    ActiveState, BootStart, ConfFile, Container, DropIn, ExitRecord, Health, InvocationId, Observed, Protection,
    Retry, Servers, Slice, SystemState,
};
pub use offload::{CpuFallback, Engine, Offload};
pub use plan::{Action, Change, ChangeKind, Plan, Reason, Step, StepId, Subject};
pub use pool::{AddressPool, InvalidPool};
pub use pressure::{Percent, PressureMax};
pub use quantity::{Bytes, CpuQuota, InvalidQuantity, Weight};
pub use service::{
    Condition, Device, HealthCheck, IoLimit, Kind, Limits, Mount, Network, OnUnhealthy, Origin, Port, PrivateUsers,
    Probe, Protocol, Restart, RestartPolicy, Service, System, Tmpfs,
};
pub use spec::{Spec, SpecField};
pub use word::Word;
