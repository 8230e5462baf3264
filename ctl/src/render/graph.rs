//! Who needs whom, as a tree for people and as Graphviz's language for programs that draw.

use std::collections::BTreeSet;

use nixmox_api::ServiceState;

use super::state;
use super::style::{Paint, Style};
use super::text::{clean, counted, cut, left, width as width_of};
use crate::graph::{Gate, Graph, Node};

/// The columns of the longest state, with the blanks in front of it.
const STATE: usize = 11;
/// The columns of a tree at least.
const TREE_MIN: usize = 10;
/// The columns of a name that branches leave room for.
const NAME_MIN: usize = 6;

/// A line of a tree: branches, the service, its state, and what is needed of it.
struct Line {
    branches: String,
    symbol: &'static str,
    paint: Paint,
    name: String,
    state: &'static str,
    gate: Option<Gate>,
}

/// Returns the trees of each stack, every service with what it needs below it.
pub(crate) fn graph(graph: &Graph, width: Option<usize>, style: Style) -> String {
    let mut out = String::new();
    let mut drawn = BTreeSet::new();
    let mut has_repeats = false;
    for (stack, roots) in graph.roots() {
        let mut lines = Vec::new();
        for root in roots {
            tree(graph, root, stack, &mut drawn, &mut lines);
        }
        has_repeats |= lines.iter().any(|line: &Line| line.name.ends_with(REPEAT));
        if !out.is_empty() {
            out.push('\n');
        }
        let services = graph.services.iter().filter(|node| node.stack == stack && node.asked).count();
        let head = format!("{}   {}\n\n", style.paint(Paint::Bold, &clean(stack)), counted(services, "service"));
        out.push_str(&head);
        out.push_str(&text(&lines, width, style));
    }
    if has_repeats {
        out.push_str("\n^ stands further up, with what it needs\n");
    }
    out
}

/// What marks a service that stands further up.
const REPEAT: &str = " ^";

fn tree<'a>(graph: &'a Graph, root: &'a Node, stack: &str, drawn: &mut BTreeSet<&'a str>, lines: &mut Vec<Line>) {
    // What is still to be drawn, the next one last: the branches before it, itself, and the gate that leads to it.
    let mut open: Vec<(String, String, &Node, Option<&Gate>)> = vec![(String::new(), String::new(), root, None)];
    while let Some((branches, below, node, gate)) = open.pop() {
        let is_new = drawn.insert(&node.name);
        let (symbol, word, paint) = match node.state {
            Some(state) => state::of_state(state),
            None => ("?", "not up", Paint::Bad),
        };
        let elsewhere =
            if node.stack.is_empty() || node.stack == stack { String::new() } else { format!(" ({})", node.stack) };
        let repeat = if is_new { "" } else { REPEAT };
        let name = clean(&format!("{}{elsewhere}", node.name)) + repeat;
        lines.push(Line { branches, symbol, paint, name, state: word, gate: gate.cloned() });
        if !is_new {
            continue;
        }
        let last = node.depends_on.last().map(|gate| gate.name.as_str());
        let needs = node.depends_on.iter().rev().filter_map(|gate| Some((gate, graph.node(&gate.name)?)));
        open.extend(needs.map(|(gate, needed)| {
            let is_last = last == Some(gate.name.as_str());
            let (branch, go_on) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            (format!("{below}{branch}"), format!("{below}{go_on}"), needed, Some(gate))
        }));
    }
}

fn text(lines: &[Line], width: Option<usize>, style: Style) -> String {
    let tree = |line: &Line| width_of(&line.branches) + 2 + width_of(&line.name);
    let widest = lines.iter().map(tree).max().unwrap_or(0).max("SERVICE".len() + 2);
    let gates = lines.iter().map(|line| width_of(&gate_of(line).0) + 2).max().unwrap_or(0);
    let room = width.map(|width| width.saturating_sub(STATE + gates).max(TREE_MIN));
    let column = room.map_or(widest, |room| widest.min(room));
    let head = format!("  {}  {}  NEEDED", left("SERVICE", column.saturating_sub(2)), left("STATE", STATE - 2));
    let mut out = style.paint(Paint::Dim, &width.map_or(head.clone(), |width| cut(&head, width)));
    out.push('\n');
    for line in lines {
        let branches = shortened(&line.branches, column.saturating_sub(width_of(&line.name).min(NAME_MIN) + 2));
        let before = width_of(&branches) + 2;
        let name = left(&cut(&line.name, column.saturating_sub(before)), column.saturating_sub(before));
        let (gate, paint) = gate_of(line);
        let state = left(line.state, STATE - 2);
        let state = if gate.is_empty() { line.state.to_owned() } else { state };
        let drawn = format!(
            "{}{} {name}  {}  {}",
            style.paint(Paint::Dim, &branches),
            style.paint(line.paint, line.symbol),
            style.paint(line.paint, &state),
            style.paint(paint, &gate)
        );
        out.push_str(drawn.trim_end());
        out.push('\n');
    }
    out
}

fn gate_of(line: &Line) -> (String, Paint) {
    match &line.gate {
        None => (String::new(), Paint::Plain),
        Some(gate) if gate.met => (format!("{}, met", clean(&gate.condition)), Paint::Dim),
        Some(gate) => (format!("{}, not met", clean(&gate.condition)), Paint::Busy),
    }
}

/// Returns branches in at most so many columns: of a tree that is too deep for the screen, those next to the name.
fn shortened(branches: &str, columns: usize) -> String {
    match width_of(branches).checked_sub(columns) {
        None | Some(0) => branches.to_owned(),
        // All of them are one column wide.
        Some(over) => std::iter::once('…').chain(branches.chars().skip(over + 1)).collect(),
    }
}

/// Returns the graph in Graphviz's language (graphviz.org, "DOT Language"): an arrow leads to what is needed.
pub(crate) fn dot(graph: &Graph) -> String {
    let mut out = "digraph nixmox {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\"];\n".to_owned();
    let stacks: BTreeSet<&str> = graph.services.iter().map(|node| node.stack.as_str()).collect();
    for stack in stacks {
        let nodes = graph.services.iter().filter(|node| node.stack == stack).map(dot_node);
        let nodes: String = nodes.collect();
        // What the host does not know is of no stack.
        let cluster = if stack.is_empty() {
            nodes
        } else {
            let (id, label) = (quoted(&format!("cluster_{stack}")), quoted(stack));
            format!("  subgraph {id} {{\n    label={label};\n{nodes}  }}\n")
        };
        out.push_str(&cluster);
    }
    for node in &graph.services {
        for gate in &node.depends_on {
            let unmet = if gate.met { "" } else { ", style=dashed, color=\"#c62828\"" };
            let (from, to, label) = (quoted(&node.name), quoted(&gate.name), quoted(&gate.condition));
            let line = format!("  {from} -> {to} [label={label}{unmet}];\n");
            out.push_str(&line);
        }
    }
    out.push_str("}\n");
    out
}

fn dot_node(node: &Node) -> String {
    let (word, color) = match node.state {
        Some(state) => (state.word(), color(state)),
        None => ("not up", "#ffffff"),
    };
    // `\n` is Graphviz's own, and must not be quoted.
    let label = format!("\"{}\\n{word}\"", escaped(&node.name));
    format!("    {} [label={label}, fillcolor=\"{color}\"];\n", quoted(&node.name))
}

/// Returns a colour that black text can be read on.
fn color(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Healthy | ServiceState::Completed => "#a5d6a7",
        ServiceState::Unhealthy | ServiceState::Failed => "#ef9a9a",
        ServiceState::Starting | ServiceState::Waiting | ServiceState::Stopping => "#ffe082",
        ServiceState::Stopped => "#e0e0e0",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('"', "\\\"")
}
