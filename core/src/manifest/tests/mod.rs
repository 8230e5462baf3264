//! The manifest from text to model, as a whole.

mod complaints;
mod examples;
mod host;
mod pages;
mod properties;
mod writer;

use std::collections::BTreeMap;

use super::{Diagnostic, Place, ServiceDocument, SourceFile, Stack, parse_service, parse_stack, resolve};

/// Files of a stack: the stack file and included ones by path.
pub(super) struct Files<'a> {
    pub(super) stack: &'a str,
    pub(super) included: &'a [(&'a str, &'a str)],
}

impl Files<'_> {
    pub(super) fn sources(&self) -> Vec<SourceFile> {
        let mut sources = vec![SourceFile::new("nixmox.toml", "/etc/stack", self.stack)];
        for (path, text) in self.included {
            let folder = format!("/etc/stack/{}", path.rsplit_once('/').map_or("", |(folder, _)| folder));
            sources.push(SourceFile::new(*path, folder, *text));
        }
        sources
    }

    pub(super) fn resolve(&self) -> Result<Stack, Vec<Diagnostic>> {
        let mut sources = self.sources().into_iter();
        let stack = parse_stack(sources.next().unwrap());
        let included: Vec<ServiceDocument> = sources.map(parse_service).collect();
        resolve(&stack, &included)
    }

    /// Renders what is said about the files, as a compiler would.
    pub(super) fn complaints(&self) -> String {
        let findings = match self.resolve() {
            Ok(stack) => stack.warnings,
            Err(findings) => findings,
        };
        let sources: BTreeMap<String, SourceFile> =
            self.sources().into_iter().map(|source| (source.name().to_owned(), source)).collect();
        findings.iter().map(|finding| render(finding, &sources)).collect::<Vec<_>>().join("\n")
    }
}

/// Resolves a stack of one file that is right.
pub(super) fn stack(text: &str) -> Stack {
    let files = Files { stack: text, included: &[] };
    files.resolve().unwrap_or_else(|_| panic!("{}", files.complaints()))
}

/// Renders what is said about a stack of one file whose head is right.
pub(super) fn complaints(services: &str) -> String {
    let stack = format!("format = 1\nstack.name = \"cloud\"\n{services}");
    Files { stack: &stack, included: &[] }.complaints()
}

fn render(finding: &Diagnostic, sources: &BTreeMap<String, SourceFile>) -> String {
    let mut lines = vec![format!("{}: {}", finding.severity, finding.message)];
    for place in std::iter::once(&finding.place).chain(&finding.related) {
        let Place { file, span, line, column, label } = place;
        let source = &sources[file];
        let shown = source.line_text(*line).unwrap_or_default();
        let before = usize::try_from(*column).unwrap() - 1;
        let rest = shown.chars().count().saturating_sub(before);
        let width = source.text()[span.clone()].chars().count().min(rest).max(1);
        lines.push(format!("  --> {file}:{line}:{column}"));
        lines.push(format!("   | {shown}"));
        lines.push(format!("   | {}{} {label}", " ".repeat(before), "^".repeat(width)));
    }
    lines.extend(finding.help.as_ref().map(|help| format!("  = help: {help}")));
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n") + "\n"
}

#[test]
fn a_stack_has_the_limits_of_a_service_and_their_checks() {
    let of_stack = |limits: &str| format!("format = 1\nstack = {{ name = 'cloud', limits = {{ {limits} }} }}\n");
    let service = "[services.a]\nsystem = '.#a'\n";
    let limits = stack(&(of_stack("memory_max = '4G', memory_min = '1G', tasks_max = 9") + service)).limits;
    assert_eq!((limits.memory_max, limits.tasks_max), (Some(crate::model::Bytes(4 << 30)), Some(9)));
    let text = of_stack("memory_max = '1G', memory_min = '2G'");
    let complaints = Files { stack: &text, included: &[] }.complaints();
    assert!(complaints.contains("`memory_min` is more than `memory_max`, 1G"), "{complaints}");
}
