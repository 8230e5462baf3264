//! Nodes and user space of GPUs, as a container that is granted some is about to get them.
//!
//! Owns what must be true on the host before nspawn binds a grant's paths: that the nodes are there and lead to the module that
//! is loaded, and that the user space which is bound fits it. Does not decide who is granted what, and looks at no GPU: what is
//! read here are names and numbers of the kernel's.
//!
//! ```text
//! /proc/devices, sysfs ──▶ numbers ──▶ nodes: right · made · replaced · waited for ──┐
//! module's version ──▶ user_space: /run/nixmox/gpu/nvidia leads to what fits it ─────┴─▶ start
//! ```

mod modprobe;
mod nodes;
mod numbers;
mod user_space;
mod version;

pub(super) use modprobe::{calls, run};
pub(super) use nodes::{is_made, is_right, put_right};
pub(crate) use numbers::Numbers;
pub(crate) use user_space::link_of as link_of_driver;
pub(super) use user_space::prepare as prepare_user_space;
pub(crate) use version::{LIBRARY_LINK, newest, of_library_file, of_module};
