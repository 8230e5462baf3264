//! `depends_on`: what has to hold before a service is started.

use super::shape::{Log, is_true, items};
use crate::import::yaml::{Node, Value};

/// What has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Condition {
    /// `service_started`.
    Started,
    /// `service_healthy`.
    Healthy,
    /// `service_completed_successfully`.
    Completed,
}

impl Condition {
    /// Returns the manifest's word for it.
    pub(in crate::import) fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        }
    }
}

/// A dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::import) struct Dependency {
    /// The service, as the Compose file calls it.
    pub(in crate::import) on: String,
    /// What has to hold of it.
    pub(in crate::import) condition: Condition,
    /// Where it stands.
    pub(in crate::import) line: usize,
}

/// Returns the dependencies, each service once.
pub(super) fn read(node: &Node, log: &mut Log<'_>) -> Vec<Dependency> {
    if !matches!(node.value, Value::Map(_)) {
        let mut dependencies: Vec<Dependency> = Vec::new();
        for item in items("depends_on", node, log) {
            if !dependencies.iter().any(|known| known.on == item.text) {
                dependencies.push(Dependency { on: item.text, condition: Condition::Started, line: item.line });
            }
        }
        return dependencies;
    }
    let mut dependencies = Vec::new();
    for (key, node) in node.entries() {
        let condition = match node.get("condition").and_then(Node::text) {
            None | Some("service_started") => Condition::Started,
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            Some(_) => {
                let reason = "the condition is none that Compose has; `started` is what was written";
                log.changed("depends_on", node.line, reason, "see docs/manifest.md, depends_on");
                Condition::Started
            }
        };
        let optional = node.get("required").is_some_and(|required| !is_true(required));
        if optional {
            let reason = "a dependency cannot be optional: it has to hold";
            log.changed("depends_on", key.line, reason, "leave it out of service.toml if it may be missing");
        }
        dependencies.push(Dependency { on: key.text.clone(), condition, line: key.line });
    }
    dependencies
}
