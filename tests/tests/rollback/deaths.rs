//! A host on which a deployment fails again and again, and the agent dies each time somewhere on the way there or back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nixmox_api::{ServiceState, Status};
use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::random::Random;
use nixmox_tests::{agent, stack};

const STACK: &str = "trial";
/// Longest time from a death until all is as it was.
const CONVERGE_LIMIT: Duration = Duration::from_mins(1);
/// Where the service keeps its data, on the host.
const DATA: &str = "/srv/trial-data";
/// Everything about the data that a rollback could change.
const LOOK_AT_DATA: &str =
    "cd /srv/trial-data && find . -printf '%p %y %m %U:%G %s %T@\\n' | sort && sha256sum kept";

/// The host and what is known of it.
pub(crate) struct Deaths {
    bed: Testbed,
    random: Random,
    /// A system that answers, and systems that do not.
    good: String,
    data: String,
    /// The time from a request until all is as it was, without a death.
    window: Duration,
    deployments: u32,
    found: BTreeMap<&'static str, usize>,
}

impl Deaths {
    /// Boots a host with a good generation, and measures one failing deployment without a death.
    pub(crate) fn begin(seed: u64) -> Result<Self> {
        let bed = Testbed::boot(&Options::new("rollback-deaths").without_homelab())?;
        let good = bed.static_guest("good", &Behaviour::new().http(80).stop_takes(Duration::from_millis(100)))?;
        bed.succeed(&format!("mkdir -p {DATA} && echo precious > {DATA}/kept && chmod 640 {DATA}/kept"))?;
        let data = bed.succeed(LOOK_AT_DATA)?;
        let window = Duration::ZERO;
        let (random, found) = (Random::new(seed), BTreeMap::new());
        let mut deaths = Self { bed, random, good, data, window, deployments: 0, found };
        let good = deaths.good.clone();
        deaths.declare(&good)?;
        stack::succeed(&deaths.bed, STACK, "up")?;
        let before = agent::status(&deaths.bed)?.host.generation;
        let begun = Instant::now();
        deaths.deploy()?;
        let back = deaths.wait_until_back()?.host.generation;
        deaths.window = begun.elapsed();
        ensure!(back == before + 2, "generation {back} after {before}: the deployment was never taken back");
        println!("without a death it takes {:.1?}", deaths.window);
        Ok(deaths)
    }

    /// Lets a deployment fail and the agent die meanwhile, somewhere in this of so many parts of the window; all must be
    /// as it was before.
    pub(crate) fn point(&mut self, part: u32, of: u32) -> Result<()> {
        let before = agent::status(&self.bed)?.host.generation;
        self.deploy()?;
        let width = self.window / of;
        let within = self.random.below(u64::try_from(width.as_micros()).unwrap_or(u64::MAX));
        let delay = width * part + Duration::from_micros(within);
        thread::sleep(delay);
        let at_death =
            self.bed.succeed("systemctl kill --signal=KILL nixmox-agent; readlink /var/lib/nixmox/current")?;
        let died = Instant::now();
        let status = self.wait_until_back().with_context(|| format!("killed after {delay:?}"))?;
        let phase = match generation_in(&at_death)?.checked_sub(before) {
            Some(0) => "before the request",
            Some(1) => "on trial",
            _ => "on the way back",
        };
        *self.found.entry(phase).or_default() += 1;
        // Nothing was written where the agent died before it knew.
        let expected = if phase == "before the request" && status.host.generation == before { 0 } else { 2 };
        ensure!(status.host.generation == before + expected, "generation {}", status.host.generation);
        println!("{delay:>8.3?}  {phase:<18}  as it was after {:.1?}", died.elapsed());
        Ok(())
    }

    /// Returns how many deaths fell after the verdict.
    pub(crate) fn on_the_way_back(&self) -> usize {
        self.found.get("on the way back").copied().unwrap_or_default()
    }

    /// Returns where the deaths fell.
    pub(crate) fn histogram(&self) -> String {
        let mut text = "the agent died\n".to_owned();
        for (phase, count) in &self.found {
            let _ = writeln!(text, "  {phase:<18} {count:>3} {}", "#".repeat(*count));
        }
        text
    }

    fn declare(&self, system: &str) -> Result<()> {
        let table = format!(
            "[services.web]\nsystem = \"{system}\"\nmounts = [\"{DATA}:/data\"]\n\
             health = {{ http = \"http://localhost/\", interval = \"1s\", start_period = \"1s\" }}\n\
             [services.beside]\nsystem = \"{}\"\n",
            self.good
        );
        stack::write(&self.bed, STACK, &table)
    }

    /// Asks for another system that never answers well, and does not wait for it.
    fn deploy(&mut self) -> Result<()> {
        self.deployments += 1;
        let sick = Behaviour::new().http(80).http_status(503).revision(&self.deployments.to_string());
        let sick = self.bed.static_guest(&format!("sick-{}", self.deployments), &sick)?;
        self.declare(&sick)?;
        stack::succeed(&self.bed, STACK, "up --detach").map(drop)
    }

    /// Waits until the good system is there again and healthy, and compares the data.
    fn wait_until_back(&self) -> Result<Status> {
        let status = agent::wait_for(&self.bed, CONVERGE_LIMIT, |status| {
            let web = status.services.iter().find(|service| service.name == "web").context("no web")?;
            let stack = status.stacks.first().context("no stack")?;
            ensure!(web.system.as_deref() == Some(self.good.as_str()), "{:?}", web.system);
            ensure!(web.state == ServiceState::Healthy && !status.host.busy, "{web:?}");
            ensure!(stack.good, "{stack:?}");
            Ok(())
        })?;
        let data = self.bed.succeed(LOOK_AT_DATA)?;
        ensure!(data == self.data, "the data is another:\n{data}\ninstead of\n{}", self.data);
        Ok(status)
    }
}

/// Returns the number in `generations/7.json`.
fn generation_in(link: &str) -> Result<u64> {
    let number = link.rsplit('/').next().and_then(|file| file.strip_suffix(".json"));
    number.and_then(|number| number.parse().ok()).with_context(|| format!("`{link}` names no generation"))
}
