//! The privileged agent: observes the host, plans with `nixmox-core`, acts.
//!
//! `host` is everything outside (systemd, machined, files, cgroups, the firewall, guests) behind one trait
//! at the level of a plan's steps. `reconcile` is the one task that changes the host. `state` is what is
//! kept on disk. `server` answers the wire, `metrics` a scrape. `app` wires them; only `main` names the real host.

pub mod app;
mod chain;
pub mod disk;
pub mod exit_record;
pub mod gpu_probe;
pub mod guest_helper;
pub mod host;
pub mod journal;
pub mod metrics;
pub mod notify;
pub mod reconcile;
pub mod server;
pub mod settings;
pub mod state;
mod unhurried;
