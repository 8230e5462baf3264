//! Who needs whom: the services of a status as a graph, and the gates between them.
//!
//! Values in, values out. What is drawn of it is `render`'s.

use std::collections::BTreeMap;

use nixmox_api::{Dependency, ServiceState, ServiceStatus, Status};
use serde::Serialize;

/// The services that are shown, with everything that they need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Graph {
    /// By stack and then in start order; those of other stacks that are needed here are among them.
    pub(crate) services: Vec<Node>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Its stack; empty when the host does not know the service.
    pub(crate) stack: String,
    /// What it does; absent when the host does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<ServiceState>,
    /// Whether it was asked for, and is not only needed by what was.
    pub(crate) asked: bool,
    /// What must hold of others before it is started, by name.
    pub(crate) depends_on: Vec<Gate>,
}

/// What must hold of another service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Gate {
    pub(crate) name: String,
    /// `started`, `healthy` or `completed`.
    pub(crate) condition: String,
    /// Whether that is so now.
    pub(crate) met: bool,
}

impl Graph {
    /// Returns the graph of the services that `is_asked` chooses, and of what those need.
    pub(crate) fn new(status: &Status, is_asked: impl Fn(&ServiceStatus) -> bool) -> Self {
        let known: BTreeMap<&str, &ServiceStatus> =
            status.services.iter().map(|service| (service.name.as_str(), service)).collect();
        let mut needed: Vec<&str> = status
            .services
            .iter()
            .filter(|service| is_asked(service))
            .map(|service| service.name.as_str())
            .collect();
        let mut at = 0;
        while let Some(service) = needed.get(at).copied() {
            for dependency in known.get(service).iter().flat_map(|service| &service.depends_on) {
                if !needed.contains(&dependency.name.as_str()) {
                    needed.push(&dependency.name);
                }
            }
            at += 1;
        }
        let there = status.services.iter().filter(|service| needed.contains(&service.name.as_str()));
        let mut services: Vec<Node> = there.map(|service| node(service, is_asked(service), &known)).collect();
        // Taken down, while what needs it is still declared.
        services.extend(needed.iter().filter(|name| !known.contains_key(*name)).map(|name| Node {
            name: (*name).to_owned(),
            stack: String::new(),
            state: None,
            asked: false,
            depends_on: Vec::new(),
        }));
        Self { services }
    }

    /// Returns a service.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.services.iter().find(|node| node.name == name)
    }

    /// Returns the stacks of what was asked for, by name, each with where its trees begin: the services of it that no
    /// other one of it needs. A service that a cycle hides, which no manifest has, begins one too.
    pub(crate) fn roots(&self) -> BTreeMap<&str, Vec<&Node>> {
        let mut roots: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
        for node in self.services.iter().filter(|node| node.asked) {
            let is_needed = self.services.iter().any(|other| {
                other.asked
                    && other.stack == node.stack
                    && other.depends_on.iter().any(|gate| gate.name == node.name)
            });
            let trees = roots.entry(&node.stack).or_default();
            if !is_needed {
                trees.push(node);
            }
        }
        for (stack, trees) in &mut roots {
            if trees.is_empty() {
                trees.extend(self.services.iter().filter(|node| node.asked && node.stack == *stack));
            }
        }
        roots
    }
}

fn node(service: &ServiceStatus, asked: bool, known: &BTreeMap<&str, &ServiceStatus>) -> Node {
    let gate = |dependency: &Dependency| Gate {
        name: dependency.name.clone(),
        condition: dependency.condition.clone(),
        met: known.get(dependency.name.as_str()).is_some_and(|needed| is_met(service, dependency, needed)),
    };
    Node {
        name: service.name.clone(),
        stack: service.stack.clone(),
        state: Some(service.state),
        asked,
        depends_on: service.depends_on.iter().map(gate).collect(),
    }
}

/// Returns whether a service is as far as another one needs it.
fn is_met(service: &ServiceStatus, dependency: &Dependency, needed: &ServiceStatus) -> bool {
    // The agent's own word, where it waits.
    if service.waits_for.contains(&format!("{}: {}", dependency.name, dependency.condition)) {
        return false;
    }
    match (dependency.condition.as_str(), needed.state) {
        ("completed", state) => state == ServiceState::Completed,
        ("healthy", state) => state == ServiceState::Healthy,
        (_started, ServiceState::Healthy | ServiceState::Unhealthy | ServiceState::Completed) => true,
        // It boots, or runs and has not been healthy yet; who would wait for that has said so.
        (_started, ServiceState::Starting) => service.state != ServiceState::Waiting,
        (
            _started,
            ServiceState::Waiting | ServiceState::Stopping | ServiceState::Stopped | ServiceState::Failed,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample::{needing, service};

    fn graph(services: Vec<ServiceStatus>, asked: &str) -> Graph {
        let status = Status { services, ..Status::default() };
        Graph::new(&status, |service| asked.is_empty() || service.name == asked)
    }

    #[test]
    fn what_is_asked_for_brings_along_what_it_needs_and_nothing_else() {
        let services = vec![
            service("disk"),
            needing("postgres", &[("disk", "started")]),
            needing("nextcloud", &[("postgres", "healthy"), ("gone", "completed")]),
            service("other"),
        ];
        let graph = graph(services, "nextcloud");
        let names: Vec<(&str, bool)> = graph.services.iter().map(|node| (node.name.as_str(), node.asked)).collect();
        assert_eq!(names, [("disk", false), ("postgres", false), ("nextcloud", true), ("gone", false)]);
        assert_eq!(graph.node("gone").unwrap().state, None);
        let met: Vec<bool> = graph.node("nextcloud").unwrap().depends_on.iter().map(|gate| gate.met).collect();
        assert_eq!(met, [true, false]);
    }

    #[test]
    fn a_gate_is_met_when_the_other_one_is_as_far() {
        let met = |condition: &str, state| {
            let needed = ServiceStatus { state, ..service("db") };
            let nodes = graph(vec![needed, needing("web", &[("db", condition)])], "").services;
            nodes[1].depends_on[0].met
        };
        assert!(met("started", ServiceState::Unhealthy) && met("started", ServiceState::Starting));
        assert!(met("healthy", ServiceState::Healthy) && met("completed", ServiceState::Completed));
        for (condition, state) in [
            ("started", ServiceState::Failed),
            ("started", ServiceState::Waiting),
            ("healthy", ServiceState::Unhealthy),
            ("healthy", ServiceState::Starting),
            ("completed", ServiceState::Healthy),
        ] {
            assert!(!met(condition, state), "{condition} {state:?}");
        }
    }

    #[test]
    fn what_the_agent_says_is_waited_for_is_not_met() {
        let db = ServiceStatus { state: ServiceState::Starting, ..service("db") };
        let web = ServiceStatus {
            waits_for: vec!["db: started".to_owned()],
            state: ServiceState::Waiting,
            ..needing("web", &[("db", "started")])
        };
        assert!(!graph(vec![db, web], "").services[1].depends_on[0].met);
    }

    #[test]
    fn a_tree_begins_at_what_nobody_of_the_stack_needs_and_a_cycle_ends() {
        let names = |graph: &Graph| -> Vec<String> {
            graph.roots().values().flatten().map(|node| node.name.clone()).collect()
        };
        let other = ServiceStatus { stack: "media".to_owned(), ..needing("jellyfin", &[("db", "started")]) };
        let all = graph(vec![service("db"), needing("web", &[("db", "started")]), other], "");
        assert_eq!(names(&all), ["web", "jellyfin"]);
        let cycle = graph(vec![needing("a", &[("b", "started")]), needing("b", &[("a", "started")])], "");
        assert_eq!(names(&cycle), ["a", "b"]);
    }
}
