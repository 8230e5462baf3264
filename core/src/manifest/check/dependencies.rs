//! Dependencies: what is depended on exists, can reach the condition, and does not depend back.

use std::collections::{BTreeMap, BTreeSet};

use super::super::diagnostic::{Diagnostic, Place, did_you_mean};
use super::super::resolve::Candidate;
use super::super::source::Span;
use super::super::v1::Dependency;
use super::cycles;
use crate::model::{Condition, ContainerName, Kind, StackName};

/// Fills in the dependencies of each candidate, and complains about those that cannot hold.
///
/// With files that could not be read whole, a missing service is not complained about.
pub(in super::super) fn dependencies(
    candidates: &mut [Candidate<'_>],
    stack: Option<&StackName>,
    complete: bool,
    findings: &mut Vec<Diagnostic>,
) {
    let kinds: BTreeMap<ContainerName, Kind> =
        candidates.iter().map(|candidate| (candidate.name().clone(), candidate.declared.service.kind)).collect();
    for candidate in candidates.iter_mut() {
        let written = candidate.written.depends_on.get();
        for dependency in written.iter().flat_map(|dependencies| &dependencies.0) {
            let on = &dependency.on.value;
            let own = on.stack.is_none() || on.stack.as_ref() == stack;
            let checked = if own {
                check_own(candidate, dependency, &kinds, complete)
            } else {
                check_foreign(candidate, dependency, &kinds)
            };
            findings.extend(checked);
            if candidate.declared.service.depends_on.contains_key(&on.name) {
                let message = format!("`{}` depends on `{}` twice", candidate.name(), on.name);
                let error = Diagnostic::error(candidate.source, &dependency.on.span, message);
                findings.push(error.help("name it once, with the stronger condition"));
            }
            let service = &mut candidate.declared.service;
            service.depends_on.insert(on.name.clone(), dependency.condition.value);
            if let (Some(stack), false) = (&on.stack, own) {
                service.dependency_stacks.insert(on.name.clone(), stack.clone());
            }
        }
    }
    report_cycles(candidates, findings);
}

/// Checks a dependency on a service of this stack.
fn check_own(
    candidate: &Candidate<'_>,
    dependency: &Dependency,
    kinds: &BTreeMap<ContainerName, Kind>,
    complete: bool,
) -> Option<Diagnostic> {
    let on = &dependency.on.value.name;
    let error = |span: &Span, message: String| Diagnostic::error(candidate.source, span, message);
    if on == candidate.name() {
        let error = error(&dependency.on.span, format!("`{on}` depends on itself"));
        return Some(error.help("remove it"));
    }
    let Some(kind) = kinds.get(on) else {
        if !complete {
            return None;
        }
        let near = did_you_mean(on.as_str(), kinds.keys().map(ContainerName::as_str));
        let error = error(&dependency.on.span, format!("no service `{on}` in this stack"));
        return Some(match near {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help(format!("a service of another stack is written `STACK/{on}`")),
        });
    };
    match (dependency.condition.value, kind) {
        (Condition::Completed, Kind::Service) => {
            let error = error(&dependency.condition.span, format!("`{on}` is not a job and never completes"));
            Some(error.help("write `healthy` or `started`, or declare it with `kind = \"job\"`"))
        }
        (Condition::Healthy, Kind::Job) => {
            let error = error(&dependency.condition.span, format!("`{on}` is a job and has no health"));
            Some(error.help("write `completed`"))
        }
        (Condition::Started, Kind::Job) => {
            let message = format!("`{on}` is a job: `started` does not wait for its end");
            let warning = Diagnostic::warning(candidate.source, &dependency.condition.span, message);
            Some(warning.help(format!("write `depends_on = {{ {on} = \"completed\" }}`")))
        }
        (Condition::Started | Condition::Healthy, Kind::Service) | (Condition::Completed, Kind::Job) => None,
    }
}

/// Checks what can be known about a dependency on a service of another stack: its name is not one of ours.
fn check_foreign(
    candidate: &Candidate<'_>,
    dependency: &Dependency,
    kinds: &BTreeMap<ContainerName, Kind>,
) -> Option<Diagnostic> {
    let on = &dependency.on.value;
    kinds.contains_key(&on.name).then(|| {
        let message = format!("`{on}` cannot be: `{}` is a service of this stack", on.name);
        let error = Diagnostic::error(candidate.source, &dependency.on.span, message);
        error.help(format!("write `{}`; a name is a container's on this host", on.name))
    })
}

/// How many places of a cycle are shown.
const PLACES_MAX: usize = 20;

fn report_cycles(candidates: &[Candidate<'_>], findings: &mut Vec<Diagnostic>) {
    let by_name: BTreeMap<&ContainerName, &Candidate<'_>> =
        candidates.iter().map(|candidate| (candidate.name(), candidate)).collect();
    let edges: BTreeMap<&ContainerName, BTreeSet<&ContainerName>> = by_name
        .iter()
        .map(|(name, candidate)| {
            // A service that depends on itself is complained about already.
            let on = candidate.declared.service.depends_on.keys().filter(|on| on != name);
            (*name, on.collect())
        })
        .collect();
    for cycle in cycles(&edges) {
        let Some(first) = cycle.first() else { continue };
        let mut path: Vec<&str> = cycle.iter().map(|name| name.as_str()).collect();
        path.push(first.as_str());
        let mut places = cycle.iter().zip(cycle.iter().skip(1).chain([first])).filter_map(|(name, on)| {
            let candidate = by_name.get(*name)?;
            let written = candidate.written.depends_on.get()?;
            let dependency = written.0.iter().find(|dependency| dependency.on.value.name == **on)?;
            Some(Place::new(candidate.source, &dependency.on.span, format!("`{name}` depends on `{on}`")))
        });
        let Some(place) = places.next() else { continue };
        findings.push(Diagnostic {
            severity: super::super::diagnostic::Severity::Error,
            message: format!("services depend on each other: {}", path.join(" -> ")),
            place,
            help: Some("remove one of these dependencies".to_owned()),
            // The message names them all; nobody looks at more places, and each is drawn.
            related: places.take(PLACES_MAX).collect(),
        });
    }
}
