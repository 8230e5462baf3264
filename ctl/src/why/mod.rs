//! Why a service is as it is: the chain of waiting down to its root, which line of the manifest matters, what to try.
//!
//! Values in, values out: `commands::why` asks the agent and reads files, `render` lays it out.

mod advice;
mod matter;

use nixmox_api::{GpuService, OffloadService, ServiceState, ServiceStatus, ServiceUsage, Status};

pub(crate) use advice::advice;
pub(crate) use matter::{Matter, matter};

/// A line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// `file:line`, as the agent has it.
    pub(crate) place: String,
    /// What stands there; `None`: the file cannot be read, or is another one by now.
    pub(crate) text: Option<String>,
}

/// All that is told of one service.
#[derive(Clone, Debug)]
pub(crate) struct Story<'a> {
    pub(crate) service: &'a ServiceStatus,
    /// What it uses now; `None`: it does not run.
    pub(crate) usage: Option<&'a ServiceUsage>,
    /// How it stands with the GPUs; `None`: it asks for none, or nobody knows.
    pub(crate) gpu: Option<&'a GpuService>,
    /// What runs models in it; `None`: nothing, or nobody knows.
    pub(crate) offload: Option<&'a OffloadService>,
    /// From its own first gate down to the root; empty unless it waits for others.
    pub(crate) chain: Vec<Link<'a>>,
    /// The line of the manifest that matters for it.
    pub(crate) excerpt: Option<Excerpt>,
    /// The same for the root of the chain.
    pub(crate) root_excerpt: Option<Excerpt>,
}

/// A service that waits for another.
#[derive(Clone, Debug)]
pub(crate) struct Link<'a> {
    pub(crate) waiting: &'a ServiceStatus,
    /// The name of what it waits for.
    pub(crate) needed: String,
    /// How far that has to be: `started`, `healthy` or `completed`.
    pub(crate) condition: String,
    /// The status of what it waits for; `None`: the host does not know it.
    pub(crate) status: Option<&'a ServiceStatus>,
    /// The further gates that are not met, each as `name: condition`.
    pub(crate) others: Vec<String>,
}

impl<'a> Story<'a> {
    /// Returns the story of a service without lines of its manifest.
    pub(crate) fn new(status: &'a Status, service: &'a ServiceStatus) -> Self {
        let chain = chain(status, service);
        Self { service, usage: None, gpu: None, offload: None, chain, excerpt: None, root_excerpt: None }
    }

    /// Returns what everything waits for in the end; `None` where nothing waits, or the host does not know it.
    pub(crate) fn root(&self) -> Option<&'a ServiceStatus> {
        self.chain.last().and_then(|link| link.status)
    }
}

/// Returns who waits for whom, from a service on; ends at one that waits for nobody, and at one that was there already.
fn chain<'a>(status: &'a Status, service: &'a ServiceStatus) -> Vec<Link<'a>> {
    let mut links: Vec<Link<'a>> = Vec::new();
    let mut waiting = service;
    while let Some(link) = link(status, waiting) {
        let next = link.status;
        links.push(link);
        match next {
            Some(next) if !links.iter().any(|link| link.waiting.name == next.name) => waiting = next,
            Some(_) | None => break,
        }
    }
    links
}

/// Returns the gate of a service that is the least likely to be met by itself.
fn link<'a>(status: &'a Status, waiting: &'a ServiceStatus) -> Option<Link<'a>> {
    let find = |name: &str| status.services.iter().find(|service| service.name == name);
    let gates = waiting.waits_for.iter().filter_map(|gate| {
        let (name, condition) = gate.split_once(": ")?;
        Some((name, condition, find(name)))
    });
    let (needed, condition, found) = gates.min_by_key(|(.., status)| rank(*status))?;
    let chosen = format!("{needed}: {condition}");
    Some(Link {
        waiting,
        needed: needed.to_owned(),
        condition: condition.to_owned(),
        status: found,
        others: waiting.waits_for.iter().filter(|gate| **gate != chosen).cloned().collect(),
    })
}

/// Returns how far a service is from being well by itself: the smaller, the farther.
fn rank(status: Option<&ServiceStatus>) -> u8 {
    match status.map(|status| status.state) {
        None | Some(ServiceState::Failed | ServiceState::Stopped | ServiceState::Unhealthy) => 0,
        Some(ServiceState::Waiting | ServiceState::Stopping) => 1,
        Some(ServiceState::Starting) => 2,
        Some(ServiceState::Healthy | ServiceState::Completed) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample::service;

    fn waiting(name: &str, gates: &[&str]) -> ServiceStatus {
        ServiceStatus {
            state: ServiceState::Waiting,
            waits_for: gates.iter().map(|gate| (*gate).to_owned()).collect(),
            ..service(name)
        }
    }

    fn names(services: Vec<ServiceStatus>) -> Vec<String> {
        let status = Status { services, ..Status::default() };
        chain(&status, &status.services[0]).into_iter().map(|link| link.needed).collect()
    }

    #[test]
    fn a_chain_is_followed_to_what_waits_for_nobody() {
        let ill = ServiceStatus { state: ServiceState::Unhealthy, ..service("db") };
        let services = vec![waiting("web", &["app: started"]), waiting("app", &["db: healthy"]), ill];
        assert_eq!(names(services), ["app", "db"]);
        assert_eq!(names(vec![service("web")]), [] as [&str; 0]);
        assert_eq!(names(vec![waiting("web", &["gone: healthy"])]), ["gone"]);
    }

    #[test]
    fn of_several_gates_the_one_that_does_not_come_by_itself_is_followed() {
        let starting = ServiceStatus { state: ServiceState::Starting, ..service("slow") };
        let failed = ServiceStatus { state: ServiceState::Failed, ..service("dead") };
        let services = vec![waiting("web", &["slow: healthy", "dead: started"]), starting, failed];
        let status = Status { services, ..Status::default() };
        let chain = chain(&status, &status.services[0]);
        assert_eq!(
            (chain[0].needed.as_str(), chain[0].others.as_slice()),
            ("dead", &["slow: healthy".to_owned()][..])
        );
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(names(vec![waiting("a", &["b: started"]), waiting("b", &["a: started"])]), ["b", "a"]);
    }
}
