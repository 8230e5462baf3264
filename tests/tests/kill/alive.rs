//! Deaths and restarts of the agent and of systemd's own process that are not left to chance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nixmox_api::ServiceState;
use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::{agent, containers, stack};

use super::CONVERGE_LIMIT;
use super::trace::Journal;

/// The stack's name.
pub(crate) const STACK: &str = "quiet";
/// Every service with the rest of its table.
const SERVICES: [(&str, &str); 4] = [
    ("base", "health = { http = \"http://localhost/\", interval = \"1s\" }\nnetwork = { ports = [\"8089:80\"] }"),
    ("middle", "depends_on = { base = \"healthy\" }"),
    ("top", "depends_on = { middle = \"started\" }\nhealth = { tcp = 80, interval = \"1s\" }"),
    ("slow", ""),
];

/// A host with a small stack that is not up yet.
pub(crate) struct Quiet {
    pub(crate) bed: Testbed,
}

impl Quiet {
    pub(crate) fn build(name: &str) -> Result<Self> {
        let of = Duration::from_millis;
        let bed = Testbed::boot(&Options::new(name).without_homelab())?;
        let guests = [
            ("base", Behaviour::new().http(80).ready_after(of(200))),
            ("middle", Behaviour::new().ready_after(of(200))),
            ("top", Behaviour::new().http(80).stop_takes(of(1500))),
            ("slow", Behaviour::new().ready_after(of(5000))),
        ];
        let systems = bed.static_guests(&guests.each_ref().map(|(name, guest)| (*name, guest)))?;
        let mut text = String::new();
        for ((name, rest), system) in SERVICES.iter().zip(&systems) {
            writeln!(text, "[services.{name}]\nsystem = \"{system}\"\n{rest}")?;
        }
        stack::write(&bed, STACK, &text)?;
        Ok(Self { bed })
    }

    /// Brings the stack up; returns the invocations.
    pub(crate) fn up(&self) -> Result<BTreeMap<String, String>> {
        stack::succeed(&self.bed, STACK, "up")?;
        let running = containers::look(&self.bed)?.running();
        ensure!(running.len() == SERVICES.len(), "not all run: {running:?}");
        Ok(running)
    }

    /// Runs `nixmoxctl` with these arguments beside what follows; [`Quiet::client_end`] waits for it.
    pub(crate) fn begin(&self, arguments: &str) -> Result<()> {
        let folder = stack::folder(STACK);
        self.bed
            .succeed(&format!(
                "cd {folder}; rm -f /root/end
                 {{
                     {{ nixmoxctl {arguments}; echo \"exit status $?\"; }} > /root/output 2>&1
                     mv /root/output /root/end
                 }} < /dev/null > /dev/null 2>&1 &"
            ))
            .map(drop)
    }

    /// Makes a service answer with this status from now on, whether it was ever started or not.
    pub(crate) fn answer(&self, name: &str, status: u16) -> Result<()> {
        let path = format!("/var/lib/nixos-containers/{name}/var/lib/guest/status");
        self.bed.write_file(path, status.to_string(), 0o644)
    }

    /// Waits for the end of what [`Quiet::begin`] began, which must have done its work.
    pub(crate) fn client_end(&self) -> Result<String> {
        let text = self.bed.wait_until("cat /root/end", CONVERGE_LIMIT)?;
        ensure!(text.ends_with("exit status 0"), "nixmoxctl did not see it through: {text}");
        Ok(text)
    }

    /// Waits until a step of a service has begun that is not in the journal's past yet.
    pub(crate) fn wait_for_step(&self, journal: &mut Journal, step: &str, service: &str) -> Result<()> {
        let end = std::time::Instant::now() + CONVERGE_LIMIT;
        loop {
            let lines = journal.read(&self.bed)?;
            if lines.iter().any(|line| line.begins && line.step == step && line.service == service) {
                return Ok(());
            }
            ensure!(std::time::Instant::now() < end, "no {step} of {service} begins");
        }
    }

    /// Waits until all are healthy; returns the invocations.
    pub(crate) fn wait_until_healthy(&self) -> Result<BTreeMap<String, String>> {
        agent::wait_for(&self.bed, CONVERGE_LIMIT, |status| {
            let states: Vec<_> = status.services.iter().map(|service| (&service.name, service.state)).collect();
            let healthy = states.iter().filter(|(_, state)| *state == ServiceState::Healthy).count();
            ensure!(!status.host.busy && healthy == SERVICES.len(), "{states:?}");
            Ok(())
        })?;
        Ok(containers::look(&self.bed)?.running())
    }

    /// Returns the agent's process.
    pub(crate) fn agent(&self) -> Result<String> {
        self.bed.succeed("systemctl show --property=MainPID --value nixmox-agent")
    }

    /// Returns how many steps failed since the host's boot.
    pub(crate) fn failed_steps(&self) -> Result<String> {
        self.bed.sync_journal()?;
        self.bed.succeed("journalctl --quiet --unit=nixmox-agent NIXMOX_EVENT=step-failed --output=cat")
    }

    /// Fetches a page through the published port.
    pub(crate) fn fetch(&self) -> Result<()> {
        let page =
            self.bed.succeed("curl -sS --max-time 30 http://127.0.0.1:8089/").context("the published port")?;
        ensure!(page == "status 200", "{page}");
        Ok(())
    }
}
