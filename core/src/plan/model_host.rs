//! A model of a host that carries plans out and notices what a plan must never do.
//!
//! It knows what really runs and with what, apart from what an observation shows, and judges every step at the
//! moment it is taken. It is told what to do by scripts (`properties`), and moves on by rounds instead of time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::AllFiles;
use crate::container::dependencies;
use crate::model::{
    Action, ActiveState, Assigned, Bytes, Condition, ConfFile, Container, ContainerName, Desired, DropIn,
    ExitRecord, Health, InvocationId, Kind, Limits, Observed, OnUnhealthy, Plan, Protection, Retry, Servers,
    SpecField, Step, StepId, Subject, System,
};
use crate::network::{FirewallTable, hosts_file, servers};
use crate::slice::{self, Slices};

/// Something a planner must never do.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) text: String,
}

/// What a planner is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// A plan has no cycle, and its edges lead to steps.
    Acyclic,
    /// A start happens only while its gates hold.
    Gates,
    /// A container that is as declared is not stopped.
    LeaveAlone,
    /// What depends on a container that a plan stops is stopped before it.
    StopOrder,
    /// No two containers hold the same address, or write to the same path without both being declared to.
    Exclusive,
    /// A step does something.
    Effect,
    /// What is not ours is not touched.
    Foreign,
    /// In the end everything is as declared.
    EndState,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

fn violation(rule: Rule, text: impl Into<String>) -> Result<(), Violation> {
    Err(Violation { rule, text: text.into() })
}

/// One container of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Guest {
    /// What an observation shows.
    pub(super) container: Container,
    /// What the running instance was started from; `None` when it does not run or was started outside.
    started: Option<Assigned>,
    /// Rounds until the next thing happens to it by itself.
    rounds: u8,
    /// Rounds for which it may not be started again, or somebody's job is queued.
    retry_rounds: u8,
    foreign_rounds: u8,
    /// Whether the next start fails.
    start_fails: bool,
}

/// Something that happens to the host without the agent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Dies,
    NextStartFails,
    LimitSet,
    DropInLost,
    /// systemd has not read the drop-in since it was written.
    DropInUnread,
    ConfEdited,
    StartedOutside,
    StoppedBehindBack,
    Unhealthy,
    ForeignJob,
    FirewallFlushed,
    HostsLost,
    ServersChanged(IpAddr),
    SliceChanged,
    AgentForgets,
    Reboot,
}

#[derive(Debug, Default)]
pub(super) struct ModelHost {
    pub(super) guests: BTreeMap<ContainerName, Guest>,
    firewall: Option<FirewallTable>,
    hosts: Option<String>,
    servers: Servers,
    slices: Slices,
    invocations: u128,
}

impl ModelHost {
    pub(super) fn observed(&self) -> Observed {
        let containers = self.guests.iter().map(|(name, guest)| (name.clone(), guest.container.clone())).collect();
        let (firewall, hosts, servers) = (self.firewall.clone(), self.hosts.clone(), self.servers.clone());
        Observed { containers, firewall, hosts, servers, slices: slice::done(&self.slices), ..Observed::default() }
    }

    /// Carries one step out, after judging whether it may be taken now.
    pub(super) fn take(
        &mut self,
        step: &Step,
        plan: &Plan,
        desired: &Desired,
        files: &AllFiles,
    ) -> Result<(), Violation> {
        let name = match &step.subject {
            Subject::Service(name) => name,
            Subject::Host => {
                match step.action {
                    Action::PublishPorts => self.firewall = Some(FirewallTable::of(desired)),
                    Action::PublishNames => {
                        self.hosts = Some(hosts_file(desired));
                        self.servers.guests = servers::for_guests(&self.servers).or(self.servers.guests.take());
                    }
                    Action::SetSlices => self.slices = slices(desired),
                    other => violation(Rule::Effect, format!("{other:?} of the host"))?,
                }
                return Ok(());
            }
        };
        if self.guests.get(name).is_some_and(|guest| guest.container.foreign_job) {
            violation(Rule::Foreign, format!("{:?} of {name} while somebody's job is queued", step.action))?;
        }
        match step.action {
            Action::Stop => self.stop(name, plan, desired, files),
            Action::Start => self.start(name, desired, files),
            Action::Update => self.update(name, desired, files),
            Action::Remove => self.remove(name, desired),
            Action::PublishPorts | Action::PublishNames | Action::SetSlices | Action::Await(_) => {
                violation(Rule::Effect, format!("{:?} of {name}", step.action))
            }
        }
    }

    fn stop(
        &mut self,
        name: &ContainerName,
        plan: &Plan,
        desired: &Desired,
        files: &AllFiles,
    ) -> Result<(), Violation> {
        let guest = &self.guests[name];
        let container = &guest.container;
        if !container.active.has_processes() {
            violation(Rule::Effect, format!("{name} is stopped, but does not run"))?;
        }
        let ours = container.started_with.is_some()
            || matches!(container.drop_in, DropIn::Ours(_))
            || matches!(container.conf, ConfFile::Ours(_));
        if !desired.services.contains_key(name) && !ours {
            violation(Rule::Foreign, format!("{name} is stopped, but not ours"))?;
        }
        if let Some(assigned) = desired.services.get(name) {
            let requested = desired.restarts.get(name).is_some_and(|id| Some(*id) == container.invocation);
            let restarts = assigned.service.health.as_ref().is_some_and(|h| h.on_unhealthy == OnUnhealthy::Restart);
            let allowed = desired.holds.contains_key(name)
                || requested
                || container.active == ActiveState::Deactivating
                || (container.health == Health::Unhealthy && restarts)
                || !self.is_right(name, desired, files);
            if !allowed {
                violation(Rule::LeaveAlone, format!("{name} is stopped, but as declared"))?;
            }
        }
        for step in &plan.steps {
            let Subject::Service(other) = &step.subject else { continue };
            let depends = |dependent: &ContainerName, on: &ContainerName| {
                let seen = &self.guests[dependent].container;
                match &seen.drop_in {
                    DropIn::Ours(text) => seen.active.has_processes() && dependencies(text).contains(on),
                    DropIn::Absent => false,
                }
            };
            // Drop-ins of two generations can contradict each other: then no order is the right one.
            if step.action == Action::Stop && depends(other, name) && !self.reaches(name, other) {
                violation(Rule::StopOrder, format!("{name} is stopped before {other}, which depends on it"))?;
            }
        }
        let id = container.invocation.unwrap_or(InvocationId(0));
        let exit = ExitRecord {
            invocation: id,
            spec: container.started_with.clone(),
            result: "success".into(),
            status: "0".into(),
            stopped: true,
            oom_kills: 0,
        };
        self.end(name, ActiveState::Inactive, Some(exit));
        Ok(())
    }

    /// Returns whether a container comes after another by the drop-ins, over any number of others.
    fn reaches(&self, from: &ContainerName, to: &ContainerName) -> bool {
        let mut open = vec![from.clone()];
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            if name == *to {
                return true;
            }
            if let Some(DropIn::Ours(text)) = self.guests.get(&name).map(|guest| &guest.container.drop_in)
                && seen.insert(name)
            {
                open.extend(dependencies(text));
            }
        }
        false
    }

    fn start(&mut self, name: &ContainerName, desired: &Desired, files: &AllFiles) -> Result<(), Violation> {
        let assigned = &desired.services[name];
        let wanted = files[name].as_ref().unwrap();
        if let Some(guest) = self.guests.get(name) {
            match guest.container.active {
                // Its job is waited for.
                ActiveState::Activating => return Ok(()),
                ActiveState::Active | ActiveState::Deactivating => {
                    violation(Rule::Effect, format!("{name} is started, but runs"))?;
                }
                ActiveState::Inactive | ActiveState::Failed => {}
            }
            let managed = assigned.service.system != System::Adopted;
            if managed && matches!(guest.container.conf, ConfFile::Foreign | ConfFile::Link) {
                violation(Rule::Foreign, format!("{name} is started over somebody's conf file"))?;
            }
            let requested = desired.restarts.contains_key(name);
            if guest.container.retry != Retry::Now && !requested {
                violation(Rule::Effect, format!("{name} is started, but may not be yet"))?;
            }
        }
        if desired.holds.contains_key(name) {
            violation(Rule::LeaveAlone, format!("{name} is started, but held"))?;
        }
        for (dependency, condition) in &assigned.service.depends_on {
            if !self.holds(dependency, *condition, desired, files) {
                violation(Rule::Gates, format!("{name} is started, but {dependency} is not {condition:?}"))?;
            }
        }
        if self.slices != slices(desired) {
            violation(Rule::Gates, format!("{name} is started, but its slices are not as declared"))?;
        }
        self.check_exclusive(name, assigned, desired)?;

        self.invocations += 1;
        let invocation = InvocationId(self.invocations);
        let guest = self.guests.entry(name.clone()).or_default();
        guest.container.invocation = Some(invocation);
        write_files(&mut guest.container, wanted, &assigned.service.limits, assigned);
        guest.started = Some(assigned.clone());
        guest.container.can_switch = invocation.0.is_multiple_of(2);
        guest.container.active = ActiveState::Activating;
        guest.rounds = 2;
        if std::mem::take(&mut guest.start_fails) {
            let exit = ExitRecord {
                invocation,
                spec: Some(wanted.spec.clone()),
                result: "exit-code".into(),
                status: "1".into(),
                stopped: false,
                oom_kills: 0,
            };
            self.end(name, ActiveState::Failed, Some(exit));
            self.guests.get_mut(name).unwrap().retry_rounds = 3;
        }
        Ok(())
    }

    fn check_exclusive(
        &self,
        name: &ContainerName,
        assigned: &Assigned,
        desired: &Desired,
    ) -> Result<(), Violation> {
        for (other, guest) in self.guests.iter().filter(|(other, _)| *other != name) {
            let Some(running) = &guest.started else { continue };
            if assigned.addresses.is_some() && running.addresses == assigned.addresses {
                violation(Rule::Exclusive, format!("{name} gets the addresses of {other}, which runs"))?;
            }
            // What is declared for both may be shared.
            let declared =
                desired.services.get(other).is_some_and(|now| now.service.mounts == running.service.mounts);
            let written =
                |source| running.service.mounts.iter().any(|mount| !mount.read_only && mount.source == source);
            let shared = assigned.service.mounts.iter().any(|mount| written(mount.source.clone()));
            let survives = declared && !desired.holds.contains_key(other);
            if shared && !survives {
                violation(Rule::Exclusive, format!("{name} gets a mount of {other}, which runs"))?;
            }
        }
        Ok(())
    }

    fn update(&mut self, name: &ContainerName, desired: &Desired, files: &AllFiles) -> Result<(), Violation> {
        let assigned = &desired.services[name];
        let guest = self.guests.get_mut(name).unwrap();
        let before = guest.container.clone();
        let wanted = files[name].as_ref().unwrap();
        write_files(&mut guest.container, wanted, &assigned.service.limits, assigned);
        let differs = guest.container.started_with.as_ref().map(|spec| spec.differences(&wanted.spec));
        match differs.as_deref() {
            Some([SpecField::System]) if guest.container.can_switch => {
                (guest.started, guest.container.started_with) = (Some(assigned.clone()), Some(wanted.spec.clone()));
            }
            Some([]) | None => {}
            Some(_) if assigned.service.system == System::Adopted => {}
            Some(fields) => violation(Rule::Effect, format!("{name} is updated, but {fields:?} differ"))?,
        }
        if guest.container.active != ActiveState::Active || guest.container == before {
            violation(Rule::Effect, format!("{name} is updated for nothing"))?;
        }
        Ok(())
    }

    fn remove(&mut self, name: &ContainerName, desired: &Desired) -> Result<(), Violation> {
        if desired.services.contains_key(name) {
            violation(Rule::LeaveAlone, format!("{name} is removed, but declared"))?;
        }
        let guest = self.guests.get_mut(name).unwrap();
        if guest.container.active.has_processes() {
            violation(Rule::StopOrder, format!("{name} is removed, but runs"))?;
        }
        let before = guest.container.clone();
        guest.container.drop_in = DropIn::Absent;
        if matches!(guest.container.conf, ConfFile::Ours(_)) {
            guest.container.conf = ConfFile::Absent;
        }
        if guest.container == before {
            violation(Rule::Effect, format!("{name} is removed, but nothing of it is ours"))?;
        }
        Ok(())
    }

    fn is_right(&self, name: &ContainerName, desired: &Desired, files: &AllFiles) -> bool {
        let (assigned, guest) = (&desired.services[name], &self.guests[name]);
        let adopted = assigned.service.system == System::Adopted;
        // What has just been started tells nothing yet, but the model knows.
        let started = guest.started.as_ref().map(crate::container::spec);
        adopted || files[name].as_ref().is_ok_and(|files| started.as_ref() == Some(&files.spec))
    }

    /// Returns whether a gate holds; written apart from the planner's own judgement.
    fn holds(&self, name: &ContainerName, condition: Condition, desired: &Desired, files: &AllFiles) -> bool {
        let (Some(assigned), Some(guest)) = (desired.services.get(name), self.guests.get(name)) else {
            return false;
        };
        let active = guest.container.active == ActiveState::Active && self.is_right(name, desired, files);
        let completed = self.is_completed(name, desired, files);
        match condition {
            Condition::Started => active || completed,
            Condition::Healthy => active && guest.container.health == Health::Healthy || completed,
            Condition::Completed => completed && assigned.service.kind == Kind::Job,
        }
    }

    fn is_completed(&self, name: &ContainerName, desired: &Desired, files: &AllFiles) -> bool {
        let (assigned, guest) = (&desired.services[name], &self.guests[name]);
        let spec = files[name].as_ref().ok().map(|files| &files.spec);
        let exit = guest.container.exit.as_ref();
        let this = |exit: &ExitRecord| assigned.service.system == System::Adopted || exit.spec.as_ref() == spec;
        assigned.service.kind == Kind::Job && exit.is_some_and(|exit| exit.succeeded() && this(exit))
    }

    fn end(&mut self, name: &ContainerName, active: ActiveState, exit: Option<ExitRecord>) {
        let guest = self.guests.get_mut(name).unwrap();
        guest.started = None;
        guest.container.active = active;
        (guest.container.started_with, guest.container.can_switch) = (None, false);
        guest.container.health = Health::Unknown;
        guest.container.exit = exit.or(guest.container.exit.take());
    }

    /// Lets one round pass: guests boot, become healthy, finish their job.
    pub(super) fn tick(&mut self) {
        let mut ended = Vec::new();
        for (name, guest) in &mut self.guests {
            guest.foreign_rounds = guest.foreign_rounds.saturating_sub(1);
            guest.container.foreign_job = guest.foreign_rounds > 0;
            guest.retry_rounds = guest.retry_rounds.saturating_sub(1);
            guest.container.retry = if guest.retry_rounds > 0 { Retry::Later } else { Retry::Now };
            if guest.container.active.has_processes() && guest.container.started_with.is_none() {
                let managed = guest.started.as_ref().filter(|started| started.service.system != System::Adopted);
                guest.container.started_with = managed.map(crate::container::spec);
            }
            guest.rounds = guest.rounds.saturating_sub(1);
            if guest.rounds > 0 {
                continue;
            }
            let service = guest.started.as_ref().map(|started| &started.service);
            let restarts =
                service.and_then(|s| s.health.as_ref()).is_some_and(|h| h.on_unhealthy == OnUnhealthy::Restart);
            match (guest.container.active, guest.container.health) {
                (ActiveState::Activating, _) => {
                    guest.container.active = ActiveState::Active;
                    guest.container.health = Health::Starting;
                    guest.rounds = 2;
                }
                (ActiveState::Active, _) if service.is_some_and(|service| service.kind == Kind::Job) => {
                    ended.push(name.clone());
                }
                (ActiveState::Active, Health::Unhealthy) if restarts => {}
                (ActiveState::Active, _) => guest.container.health = Health::Healthy,
                _ => {}
            }
        }
        for name in ended {
            let container = &self.guests[&name].container;
            let exit = ExitRecord {
                invocation: container.invocation.unwrap(),
                spec: container.started_with.clone(),
                result: "success".into(),
                status: "0".into(),
                stopped: false,
                oom_kills: 0,
            };
            self.end(&name, ActiveState::Inactive, Some(exit));
        }
    }

    /// Lets something happen to the host, and to this container where it is about one.
    pub(super) fn befall(&mut self, fault: Fault, name: &ContainerName, desired: &Desired, files: &AllFiles) {
        match fault {
            Fault::FirewallFlushed => return self.firewall = None,
            Fault::HostsLost => return (self.hosts, self.servers.guests) = (None, None),
            Fault::ServersChanged(own) => return self.servers.own = Some(format!("nameserver {own}\n")),
            Fault::SliceChanged => {
                let names: Vec<String> = self.slices.iter().map(|(name, _)| name.clone()).collect();
                return names.iter().for_each(|name| self.slices.entry(name).memory_min = Some(Bytes(7)));
            }
            Fault::AgentForgets => return self.guests.values_mut().for_each(|guest| guest.retry_rounds = 0),
            Fault::Reboot => return self.reboot(),
            _about_a_container => {}
        }
        let Some(guest) = self.guests.get_mut(name) else { return };
        let (runs, ours) = (guest.container.active.has_processes(), desired.services.contains_key(name));
        let managed = ours && matches!(guest.container.conf, ConfFile::Ours(_));
        match fault {
            Fault::Dies | Fault::StoppedBehindBack if runs => {
                let exit = ExitRecord {
                    invocation: guest.container.invocation.unwrap(),
                    spec: guest.container.started_with.clone(),
                    result: "signal".into(),
                    status: "KILL".into(),
                    stopped: false,
                    oom_kills: 0,
                };
                guest.retry_rounds = 2;
                self.end(name, ActiveState::Failed, Some(exit));
            }
            Fault::NextStartFails => guest.start_fails = true,
            Fault::LimitSet if runs && ours => guest.container.limits.memory_max = Some(Bytes(7)),
            Fault::DropInLost if ours => guest.container.drop_in = DropIn::Absent,
            Fault::DropInUnread if ours && runs => guest.container.reload_pending = true,
            Fault::ConfEdited if managed && runs => guest.container.conf = ConfFile::Ours("edited".into()),
            Fault::StartedOutside
                if managed && !runs && files[name].is_ok() && !desired.holds.contains_key(name) =>
            {
                self.invocations += 1;
                guest.container.invocation = Some(InvocationId(self.invocations));
                guest.container.active = ActiveState::Active;
            }
            Fault::Unhealthy if guest.container.health == Health::Healthy => {
                guest.container.health = Health::Unhealthy;
                guest.rounds = 3;
            }
            Fault::ForeignJob => {
                guest.foreign_rounds = 3;
                guest.container.foreign_job = true;
            }
            _not_now => {}
        }
    }

    fn reboot(&mut self) {
        (self.firewall, self.hosts, self.servers.guests) = (None, None, None);
        self.slices = Slices::default();
        for guest in self.guests.values_mut() {
            let container = &mut guest.container;
            let mut fresh =
                Container { conf: container.conf.clone(), exit: container.exit.take(), ..Container::default() };
            // What nixos-container made starts by itself.
            if fresh.conf == ConfFile::Foreign {
                (fresh.active, fresh.invocation) = (container.active, container.invocation);
            }
            *guest = Guest { container: fresh, ..Guest::default() };
        }
    }

    /// Compares the host with what was asked for, apart from the planner.
    pub(super) fn check_end(&self, desired: &Desired, files: &AllFiles) -> Result<(), Violation> {
        if self.firewall.clone().unwrap_or_default() != FirewallTable::of(desired) {
            violation(Rule::EndState, "the firewall table differs")?;
        }
        if self.slices != slices(desired) {
            violation(Rule::EndState, "the slices differ")?;
        }
        let managed = desired.services.values().any(|assigned| assigned.service.system != System::Adopted);
        if managed && self.hosts.as_deref() != Some(hosts_file(desired).as_str()) {
            violation(Rule::EndState, "the hosts file differs")?;
        }
        if managed && !servers::are_right(&self.servers) {
            violation(Rule::EndState, "guests ask somebody else for names")?;
        }
        for (name, guest) in &self.guests {
            let container = &guest.container;
            let runs = container.active.has_processes();
            let ours = container.drop_in != DropIn::Absent || matches!(container.conf, ConfFile::Ours(_));
            if !desired.services.contains_key(name) && ours {
                violation(Rule::EndState, format!("{name} is undeclared and still there"))?;
            }
            if desired.holds.contains_key(name) && runs && desired.services.contains_key(name) {
                violation(Rule::EndState, format!("{name} is held and runs"))?;
            }
        }
        for (name, assigned) in &desired.services {
            if !self.can_run(name, desired) {
                continue;
            }
            let Some(guest) = self.guests.get(name) else {
                return violation(Rule::EndState, format!("{name} was never started"));
            };
            if self.is_completed(name, desired, files) {
                continue;
            }
            let (container, wanted) = (&guest.container, files[name].as_ref().unwrap());
            let conf_right = wanted.conf.as_ref().is_none_or(|text| container.conf == ConfFile::Ours(text.clone()));
            if container.active != ActiveState::Active || !self.is_right(name, desired, files) {
                violation(Rule::EndState, format!("{name} does not run as declared: {container:?}"))?;
            }
            if desired.restarts.get(name).is_some_and(|id| Some(*id) == container.invocation) {
                violation(Rule::EndState, format!("{name} was not restarted"))?;
            }
            if !conf_right || container.drop_in != DropIn::Ours(wanted.drop_in.clone()) {
                violation(Rule::EndState, format!("the files of {name} differ"))?;
            }
            if container.reload_pending {
                violation(Rule::EndState, format!("the files of {name} were not read"))?;
            }
            if container.limits != assigned.service.limits || container.devices != assigned.device_rules() {
                violation(Rule::EndState, format!("the limits of {name} differ"))?;
            }
        }
        Ok(())
    }

    /// Returns whether anything that is declared keeps it from running for good.
    fn can_run(&self, name: &ContainerName, desired: &Desired) -> bool {
        let Some(assigned) = desired.services.get(name) else { return false };
        let conf = self.guests.get(name).map(|guest| &guest.container.conf);
        let taken = matches!(conf, Some(ConfFile::Foreign)) && assigned.service.system != System::Adopted;
        !taken
            && !desired.holds.contains_key(name)
            && assigned.service.depends_on.keys().all(|dependency| self.can_run(dependency, desired))
    }
}

fn write_files(container: &mut Container, files: &crate::container::Files, limits: &Limits, assigned: &Assigned) {
    if let Some(conf) = &files.conf {
        container.conf = ConfFile::Ours(conf.clone());
    }
    container.drop_in = DropIn::Ours(files.drop_in.clone());
    container.reload_pending = false;
    container.limits = limits.clone();
    container.devices = assigned.device_rules();
}

/// Checks what holds of every plan by itself: edges lead to steps, without a cycle, and nothing is there twice.
pub(super) fn check_shape(plan: &Plan) -> Result<(), Violation> {
    let mut remaining: BTreeMap<StepId, BTreeSet<StepId>> =
        plan.steps.iter().enumerate().map(|(id, step)| (id, step.after.clone())).collect();
    let mut done = BTreeSet::new();
    while !remaining.is_empty() {
        let free: Vec<_> =
            remaining.iter().filter(|(_, after)| after.is_subset(&done)).map(|(id, _)| *id).collect();
        if free.is_empty() {
            violation(Rule::Acyclic, format!("{remaining:?}"))?;
        }
        for id in free {
            remaining.remove(&id);
            done.insert(id);
        }
    }
    let mut seen = BTreeSet::new();
    for step in &plan.steps {
        if !seen.insert((&step.subject, step.action)) {
            violation(Rule::Effect, format!("{:?} of {:?} twice", step.action, step.subject))?;
        }
    }
    Ok(())
}

fn slices(desired: &Desired) -> Slices {
    slice::slices(desired, Protection::default())
}
