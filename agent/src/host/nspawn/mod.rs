//! What a container is on the host beside its unit: files, mounts, links, the environment of its nspawn.
//!
//! Owns reading and writing them. The texts come from `nixmox_core::container`; when they are written is the
//! business of `live`. Everything here blocks and runs on the blocking pool.

mod conf;
mod data;
mod immutable;
mod journals;
mod leftovers;
mod mounts;
mod started_with;

pub(super) use conf::{
    boot_start, foreign_containers, names_with_files, read_conf, read_drop_in, remove_all, system_of_owner, write,
};
pub(super) use data::remove_data;
pub(super) use journals::prepare as prepare_journal;
pub(super) use leftovers::{delete_links, mount_unit, mounted_export};
pub(super) use mounts::{Source, check_system, full_root};
pub(super) use started_with::{Start, started_with};
