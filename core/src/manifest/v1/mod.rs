//! The file form of a manifest, format 1.
//!
//! What a person may write, with the text of every key; holes where something could not be read. The doc
//! comments of the keys are the reference page and the schema's descriptions, so they speak to the person who
//! writes a manifest. What the values mean together is `resolve`'s business.

mod capability;
mod cpus;
mod dependency;
mod device;
mod duration;
mod gpu;
mod health;
mod limits;
mod mount;
mod network;
mod offload;
mod pool;
mod port;
mod pressure;
mod quantity;
mod restart;
mod service;
mod stack;
mod system;
mod words;

pub use capability::Capability;
pub use cpus::Cpus;
pub use dependency::{Dependencies, Dependency, ServiceRef};
pub use duration::Time;
pub use gpu::{Gpu, GpuDevices, Priority};
pub use health::{Health, HttpUrl, PortNumber, UnitName};
pub use limits::Limits;
pub use mount::{Mount, Tmpfs};
pub use network::{Network, NetworkMode};
pub use offload::{Context, EngineUrl, ModelName, Offload};
pub use pressure::Pressure;
pub use restart::Restart;
pub use service::Service;
pub use stack::{Format, Stack, StackFile};
pub use system::System;

/// The format that these types describe.
pub const FORMAT: u32 = 1;
