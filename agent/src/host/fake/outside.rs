//! What others do to the host behind the agent's back.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nixmox_core::model::{ConfFile, Container, ContainerName, DropIn, Facts, SystemState};
use nixmox_core::network::FirewallTable;
use nixmox_core::oom::OomKill;
use nixmox_core::slice::Slices;

use super::Fake;

impl Fake {
    /// Ends a container's nspawn by a signal, as a crash or `kill -KILL` does. One that does not run stays so.
    pub fn kill(&self, name: &ContainerName) {
        if let Some(container) = self.state().containers.get_mut(name)
            && container.active().has_processes()
        {
            container.end(9, false);
            if let Some(exit) = &mut container.seen.exit {
                (exit.result, exit.status) = ("signal".to_owned(), "KILL".to_owned());
            }
        }
        self.note_change();
    }

    /// Lets the kernel kill a process of a container for want of memory; `None`: its log has no line of that. Its guest ends with its
    /// PID 1, by which nspawn ends with 1.
    pub fn kill_for_memory(&self, name: &ContainerName, kill: Option<OomKill>, is_leader: bool) {
        let mut state = self.state();
        state.oom_kills.entry(name.clone()).or_default().extend(kill);
        if let Some(container) = state.containers.get_mut(name)
            && container.active().has_processes()
        {
            container.seen.oom_kills = Some(container.seen.oom_kills.unwrap_or_default() + 1);
            if is_leader {
                container.end(1, false);
            }
        }
        drop(state);
        self.note_change();
    }

    /// Stops a container as `systemctl stop` does.
    pub fn stop_outside(&self, name: &ContainerName) {
        if let Some(container) = self.state().containers.get_mut(name)
            && container.active().has_processes()
        {
            container.end(0, true);
        }
        self.note_change();
    }

    /// Changes what is observed of a container: limits, conf file, drop-in, a job or a machine of somebody else.
    /// A container that is not there is made.
    pub fn change_outside(&self, name: &ContainerName, change: impl FnOnce(&mut Container)) {
        change(&mut self.state().containers.entry(name.clone()).or_default().seen);
        self.note_change();
    }

    /// Takes a container's conf file and drop-in away.
    pub fn remove_files_outside(&self, name: &ContainerName) {
        self.change_outside(name, |container| {
            (container.conf, container.drop_in) = (ConfFile::Absent, DropIn::Absent);
        });
    }

    /// Replaces the firewall table, or takes it away.
    pub fn change_firewall_outside(&self, table: Option<FirewallTable>) {
        self.state().firewall = table;
        self.note_change();
    }

    /// Takes the firewall table away so that nobody is woken.
    pub fn lose_firewall_silently(&self) {
        self.state().firewall = None;
    }

    /// Has the host ask others for names.
    pub fn change_servers_of_host(&self, text: Option<&str>) {
        self.state().servers.own = text.map(str::to_owned);
        self.note_change();
    }

    /// Replaces the hosts file, or takes it away.
    pub fn change_hosts_outside(&self, text: Option<String>) {
        self.state().hosts = text;
        self.note_change();
    }

    /// Changes what the slices carry.
    pub fn change_slices_outside(&self, change: impl FnOnce(&mut Slices)) {
        change(&mut self.state().slices);
        self.note_change();
    }

    /// Sets what the machine is.
    pub fn set_facts(&self, facts: Facts) {
        self.state().facts = facts;
    }

    /// Puts containers there that NixMox does not manage, with these addresses.
    pub fn add_foreign(&self, containers: BTreeMap<ContainerName, Vec<Ipv4Addr>>) {
        self.state().foreign_containers = containers;
    }

    /// Lets systemd shut the host down.
    pub fn shut_down(&self) {
        self.state().system = SystemState::Stopping;
        self.note_change();
    }

    /// Lets all containers end and `/run` be empty, as a reboot does: only conf files in `/etc` stay.
    pub fn reboot(&self) {
        let mut state = self.state();
        state.system = SystemState::Up;
        (state.firewall, state.hosts, state.servers.guests) = (None, None, None);
        state.slices = Slices::default();
        for container in state.containers.values_mut() {
            let conf = std::mem::replace(&mut container.seen.conf, ConfFile::Absent);
            *container = super::Simulated::default();
            container.seen.conf = conf;
        }
        drop(state);
        self.note_change();
    }
}
