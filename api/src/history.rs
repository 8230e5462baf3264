//! Generations as a client sees them: the list, what differs between two, and how a stack's newest one stands.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use crate::Caller;

/// What is known of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum GenerationVerdict {
    /// Everything that it changed became healthy.
    Good,
    /// What it changed is still to become healthy.
    OnTrial,
    /// Something that it changed did not become healthy, and it was rolled back.
    Bad,
    /// It was replaced before that was known, or is not watched.
    Unknown,
    /// Its file cannot be read.
    Damaged,
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GenerationInfo {
    /// Its number.
    pub number: u64,
    /// When it was made, in seconds since 1970; 0 when damaged.
    pub made_at: u64,
    /// Who made it: `nixmox-agent` where it was rolled back to; empty when damaged.
    pub made_by: Caller,
    /// Whether it is the current one.
    pub current: bool,
    /// What is known of it.
    pub verdict: GenerationVerdict,
    /// Why it is bad or damaged, in one line; else empty.
    pub reason: String,
    /// The stacks that it changed, by name.
    pub stacks: Vec<String>,
    /// How many services it declares, over all stacks.
    pub services: u32,
    /// The generation whose services it brought back; absent unless it came of a rollback.
    pub restored: Option<u64>,
}

/// The answer to `Generations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GenerationsReply {
    /// The generations that are kept, the oldest first.
    pub generations: Vec<GenerationInfo>,
}

/// The answer to `Diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct DiffReply {
    /// The services that differ, by name; empty when none does.
    pub services: Vec<ServiceDiff>,
    /// The stacks whose limits as a whole differ, by name; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<Vec<StackDiff>>,
}

/// How a stack itself differs between two generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct StackDiff {
    /// Its name.
    pub name: String,
    /// What differs, in the order of the manifest's reference; not empty.
    pub differences: Vec<Difference>,
}

/// How a service differs between two generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct ServiceDiff {
    /// Its name.
    pub name: String,
    /// Its stack; in the second generation where it has both.
    pub stack: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// The system's store path in the first generation; absent when it was added, or is adopted.
    pub system_from: Option<String>,
    /// The system's store path in the second; absent when it was removed, or is adopted.
    pub system_to: Option<String>,
    /// What differs, in the order of the manifest's reference; empty unless changed. Values of the environment are left out.
    pub differences: Vec<Difference>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct Difference {
    /// The manifest's key, such as `limits.memory_max`.
    pub key: String,
    /// What it was; empty: unset, or not among the values of a list.
    pub from: String,
    /// What it is; empty likewise.
    pub to: String,
}

/// A deployment that failed and was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct RolledBack {
    /// The generation that failed.
    pub from: u64,
    /// The generation whose services came back.
    pub to: u64,
    /// The services that did not become healthy, by name; not empty.
    pub services: Vec<String>,
    /// Why, in one line per service.
    pub reasons: Vec<String>,
}
