//! What came of an import: the services, what was not mapped, what is to be done.

use std::path::Path;

use serde_json::json;

use super::report::Report;
use super::style::{Paint, Style};
use super::table::{self, Cell, Column};
use super::text::{clean, counted};
use crate::import::{Finding, Import, SecretFile, Weight};

const COLUMNS: [Column; 3] = [Column::left("SERVICE"), Column::left("IMAGE"), Column::left("WRITTEN AS")];

/// Returns the text about an import of a file into a folder.
pub(crate) fn import(import: &Import, file: &str, folder: &Path, width: Option<usize>, style: Style) -> String {
    let mut text = head(import, file, folder, style);
    if !import.services.is_empty() {
        text.push('\n');
        text.push_str(&services(import, width, style));
    }
    for (weight, title) in [(Weight::NotMapped, "not mapped"), (Weight::Changed, "mapped otherwise")] {
        let findings: Vec<&Finding> = import.findings.iter().filter(|finding| finding.weight == weight).collect();
        if !findings.is_empty() {
            text.push_str(&heading(&format!("{title}: {}", findings.len()), style));
            // What anchors copied to several services is told once.
            for alike in findings.chunk_by(|one, next| is_alike(one, next)) {
                text.push_str(&told(alike, width, style));
            }
        }
    }
    if !import.secrets.is_empty() {
        let files = counted(import.secrets.len(), "file");
        text.push_str(&heading(&format!("secrets to put into {files} on the host"), style));
        import.secrets.iter().for_each(|secret| text.push_str(&secret_told(secret, width, style)));
    }
    if !import.services.is_empty() {
        let folder = clean(&folder.display().to_string());
        let data = "what is in Docker's volumes stays there: copy it into the new folders below /srv";
        let rows = Report::new("")
            .row("data", if import.has_volumes { data } else { "" })
            .row("next", format!("nixmoxctl check -f {folder}"))
            .row("", "in a git repository: git add it, a flake sees no other files")
            .row("", format!("nixmoxctl up -f {folder}"));
        text.push('\n');
        text.push_str(&rows.rows_text(width, style));
    }
    text
}

fn head(import: &Import, file: &str, folder: &Path, style: Style) -> String {
    let (written, all) = (import.services.len(), import.services_count);
    let of_file = format!("{written} of {}", counted(all, "service"));
    let (file, stack) = (clean(file), style.paint(Paint::Bold, &import.stack));
    if written == 0 {
        format!("{file}: {of_file} could be mapped; nothing was written\n")
    } else {
        format!("{file}: stack {stack}, {of_file}, written to {}\n", clean(&folder.display().to_string()))
    }
}

fn heading(text: &str, style: Style) -> String {
    format!("\n{}\n", style.paint(Paint::Bold, text))
}

fn services(import: &Import, width: Option<usize>, style: Style) -> String {
    let row = |service: &crate::import::Written| {
        let cells = vec![
            Cell::new(&service.name),
            Cell::new(&service.image),
            Cell::new(format!("services/{}, {}", service.name, service.option)),
        ];
        (Cell::default(), cells)
    };
    let rows: Vec<_> = import.services.iter().map(row).collect();
    table::lines(&COLUMNS, &rows, 0, width, style)
}

fn is_alike(one: &Finding, other: &Finding) -> bool {
    (one.line, &one.key, &one.reason) == (other.line, &other.key, &other.reason)
}

fn told(alike: &[&Finding], width: Option<usize>, style: Style) -> String {
    let Some(finding) = alike.first() else { return String::new() };
    let services: Vec<String> = alike.iter().filter_map(|finding| finding.service.as_deref()).map(clean).collect();
    let of_service = if services.is_empty() { String::new() } else { format!("{}: ", services.join(", ")) };
    let head = format!("{}:{} {of_service}{}\n", clean(&finding.file), finding.line, clean(&finding.key));
    let rows =
        Report::new("").row("why", &finding.reason).row("try", finding.way_out.as_deref().unwrap_or_default());
    head + &rows.rows_text(width, style)
}

fn secret_told(secret: &SecretFile, width: Option<usize>, style: Style) -> String {
    let rows =
        Report::new("").row("put", &secret.holds).row("from", &secret.from).row("for", secret.services.join(", "));
    format!("{}\n{}", clean(&secret.path), rows.rows_text(width, style))
}

/// Returns all of it as a document for programs.
pub(crate) fn import_json(import: &Import, file: &str, folder: &Path) -> serde_json::Value {
    let services = import.services.iter().map(|service| {
        json!({
            "compose_name": service.compose_name,
            "name": service.name,
            "image": service.image,
            "option": service.option,
        })
    });
    json!({
        "file": file,
        "stack": import.stack,
        "folder": folder,
        "services": services.collect::<Vec<_>>(),
        "services_in_file": import.services_count,
        "written": import.files.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        "findings": import.findings,
        "secrets": import.secrets,
    })
}
