//! The layers between a GPU and a process, each with what was found, and last the first one that fails.

use nixmox_api::GpuLayer;

use crate::render::style::{Paint, Style};
use crate::render::text::{clean, cut, left, width as columns_of, wrap};

/// The columns of a layer's mark, with the blanks around it.
const MARK: usize = 4;

/// Returns the text about all layers.
pub(crate) fn doctor(layers: &[GpuLayer], width: Option<usize>, style: Style) -> String {
    let names = layers.iter().map(|layer| columns_of(word(&layer.layer)));
    let key = names.max().unwrap_or(0) + 2;
    let mut out = String::new();
    let mut of: Option<&Option<String>> = None;
    for layer in layers {
        if of != Some(&layer.service) {
            if of.is_some() {
                out.push('\n');
            }
            out.push_str(&style.paint(Paint::Bold, &whose(layer)));
            out.push('\n');
            of = Some(&layer.service);
        }
        let (mark, paint) = mark(&layer.outcome);
        let remedy = if layer.remedy.is_empty() { String::new() } else { format!("try: {}", layer.remedy) };
        let room = width.map(|width| width.saturating_sub(MARK + key).max(1));
        let texts = [&layer.found, &remedy].map(|text| clean(text));
        let mut lines: Vec<String> =
            texts.iter().filter(|text| !text.is_empty()).flat_map(|text| wrap(text, room)).collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        for (index, line) in lines.iter().enumerate() {
            let line = room.map_or_else(|| line.clone(), |room| cut(line, room));
            let begin = if index == 0 {
                format!("  {} {}", style.paint(paint, mark), left(&clean(word(&layer.layer)), key))
            } else {
                " ".repeat(MARK + key)
            };
            out.push_str(format!("{begin}{line}").trim_end());
            out.push('\n');
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out + &verdict(layers, width, style)
}

/// Returns the last line: the first layer that fails, with the remedy.
fn verdict(layers: &[GpuLayer], width: Option<usize>, style: Style) -> String {
    let count = |outcome: &str| layers.iter().filter(|layer| layer.outcome == outcome).count();
    let (paint, text) = match layers.iter().find(|layer| layer.outcome == "failed") {
        Some(first) => {
            let remedy = if first.remedy.is_empty() { String::new() } else { format!("; try: {}", first.remedy) };
            let what = format!("{} of {}", clean(word(&first.layer)), whose(first));
            (Paint::Bad, format!("first to fail: {what}: {}{remedy}", clean(&first.found)))
        }
        None if layers.is_empty() => {
            (Paint::Plain, "nothing to look at: no GPU in this machine, and no service that has one".to_owned())
        }
        None => match count("warning") {
            0 => (Paint::Good, "nothing fails".to_owned()),
            1 => (Paint::Busy, "nothing fails; 1 warning".to_owned()),
            several => (Paint::Busy, format!("nothing fails; {several} warnings")),
        },
    };
    let lines = wrap(&clean(&text), width);
    lines
        .iter()
        .map(|line| style.paint(paint, &width.map_or_else(|| line.clone(), |width| cut(line, width))) + "\n")
        .collect()
}

fn whose(layer: &GpuLayer) -> String {
    layer.service.as_ref().map_or_else(|| "the host".to_owned(), |service| clean(service))
}

fn mark(outcome: &str) -> (&'static str, Paint) {
    match outcome {
        "ok" => ("✓", Paint::Good),
        "failed" => ("✗", Paint::Bad),
        "warning" => ("!", Paint::Busy),
        "skipped" => ("-", Paint::Dim),
        _ => ("?", Paint::Plain),
    }
}

/// Returns a layer in words.
fn word(layer: &str) -> &str {
    match layer {
        "module" => "kernel module",
        "node" => "device nodes",
        "number" => "device numbers",
        "user_space" => "user space",
        "version" => "versions",
        "nvml" => "NVML",
        "cdi" => "CDI specification",
        "device_rule" => "device rules",
        "bound" => "bound nodes",
        "open" => "open",
        other => other,
    }
}
