//! The testbed: a real systemd as PID 1, booted inside a `systemd-nspawn` that the caller starts itself.
//!
//! Owns everything between a bare Debian machine and a booted host on which the agent can run real containers:
//!
//! ```text
//!  machine (packages) ─▶ cache (root, guest root, homelab layer) ─▶ bed (mount + PID namespace, nspawn) ─▶ exec, files, power
//!                                                          install (our build, units) ──┘    └── store, lan, users
//! ```
//!
//! And virtual machines, for what needs a kernel of its own (`vm`), from the same cache; and a Nix and a systemd that look at files
//! without booting anything (`nix_root`). What the documentation shows is read by `pages`.
//!
//! Nothing of the machine changes but installed packages, the cache folder and, while a testbed lives, one cgroup. All mounts
//! are made in a mount namespace and all processes run in a PID namespace whose first process ends when its owner does, so a
//! killed test leaves nothing behind but an empty cgroup, which the next run removes.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use nixmox_testbed::{Behaviour, Options, Testbed};
//! let bed = Testbed::boot(&Options::new("example"))?;
//! let system = bed.static_guest("hello", &Behaviour::new().http(80))?;
//! bed.succeed(&format!("test -x {system}/init"))?;
//! # Ok(())
//! # }
//! ```
#![allow(
    clippy::missing_errors_doc,
    reason = "every method fails for the same reason: the machine or the booted host did not do what was asked; the message says which"
)]

mod bed;
mod behaviour;
mod build;
mod cache;
mod contained;
mod exec;
mod files;
mod homelab;
mod install;
mod lan;
mod leftovers;
mod llama;
mod machine;
mod nix_root;
mod pages;
mod power;
mod recipe;
mod store;
mod vm;

pub use bed::{Options, Testbed, children};
pub use behaviour::Behaviour;
pub use build::{Build, Programs, fake_nvml, guest_binary, workspace_root};
pub use cache::Cache;
pub use exec::Output;
pub use homelab::HOMELAB_DIR;
pub use lan::{LAN_CLIENT_ADDRESS, LAN_HOST_ADDRESS};
pub use llama::llama_cpp;
pub use machine::require;
pub use nix_root::{NixRoot, python_packages, tool};
pub use pages::{Block, blocks, pages};
pub use vm::{Vm, scenarios};
