//! Names that two services have.

use std::collections::BTreeMap;

use super::super::diagnostic::Diagnostic;
use super::super::resolve::Candidate;

/// Complains about each service whose name an earlier one has.
pub(in super::super) fn names(candidates: &[Candidate<'_>], findings: &mut Vec<Diagnostic>) {
    // Host names do not tell upper and lower case apart (RFC 4343).
    let mut first: BTreeMap<String, &Candidate<'_>> = BTreeMap::new();
    for candidate in candidates {
        let name = candidate.name();
        let Some(other) = first.get(&name.as_str().to_lowercase()) else {
            first.insert(name.as_str().to_lowercase(), candidate);
            continue;
        };
        let error =
            Diagnostic::error(candidate.source, &candidate.span, format!("two services are named `{name}`"));
        let error = error.label("again here").related(other.place("first here"));
        findings.push(error.help("a name is a container's on this host; rename one"));
    }
}
