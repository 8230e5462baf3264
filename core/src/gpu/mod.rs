//! GPUs: what is there, who uses it, who may be given what of it, and what is wrong with it.
//!
//! Owns every decision about GPUs as values. How they are looked at is the agent's (`gpu_probe`); what a grant becomes in a
//! container is `container`'s; when a service is started or stopped for it is `plan`'s.
//!
//! ```text
//! Inventory (a look) ─┬─▶ ledger: whose the memory is ─▶ admission: start, wait or yield ─▶ grant: nodes, mounts, environment
//! Claim (a service) ──┘                                      └▶ fit: the same question, and nothing is done
//! Inventory, GuestView ─▶ doctor: the first layer that fails, and the remedy
//! ```
//!
//! Nothing is remembered here: what a service holds, whether it was granted that in the last round, and how much it was seen to use are
//! parts of its [`Claim`]. So a pass over the same claims decides the same, and a look that finds nothing (a driver that hangs) takes
//! nothing from what runs.

pub mod admission;
pub mod claim;
pub mod doctor;
#[cfg(test)]
mod fixture;
pub mod gates;
pub mod grant;
pub mod guest;
pub mod inventory;
pub mod ledger;

pub use admission::{Allocation, Ask, Decision, Fit, Outcome, Yielded, admit, fit};
pub use claim::{Claim, Phase};
pub use doctor::{Checkup, Layer, LayerKind, LayerOutcome, ServiceCheckup, diagnose, first_failed};
pub use gates::{Gates, gates};
pub use grant::grant;
pub use guest::{Found, GuestView, Opened, SeenNode};
pub use inventory::{
    Driver, Fault, FaultKind, Gpu, Inventory, Memory, Node, NodeState, Part, Process, ProcessKind, ProcessOwner,
    Sensors, UserSpace,
};
pub use ledger::{Room, owner, rooms, used};
