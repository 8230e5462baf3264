//! GPUs: what is there, who uses it, who may be given what of it, and what is wrong with it.
//!
//! Owns every decision about GPUs as values. How they are looked at is the agent's (`gpu_probe`); what a grant becomes in a
//! container is `container`'s.
//!
//! ```text
//! Inventory (a look) ─┬─▶ ledger: whose the memory is
//! claims ─────────────┴─▶ admission: start, wait, yield or refuse ─▶ grant: nodes, mounts, environment
//! Inventory, guest ─────▶ doctor: the first layer that fails, and the remedy
//! ```

pub mod admission;
pub mod claim;
pub mod doctor;
pub mod grant;
pub mod guest;
pub mod inventory;
pub mod ledger;

pub use admission::{Allocation, Ask, Decision, Fit, Outcome, Yielded, admit, fit};
pub use claim::{Claim, Phase};
pub use doctor::{Checkup, Layer, LayerKind, LayerOutcome, ServiceCheckup, diagnose, first_failed};
pub use grant::grant;
pub use guest::{Found, GuestView, Opened, SeenNode};
pub use inventory::{
    Driver, Fault, FaultKind, Gpu, Inventory, Memory, Node, NodeState, Part, Process, ProcessKind, ProcessOwner,
    Sensors, UserSpace,
};
pub use ledger::{Room, owner, rooms, used};
