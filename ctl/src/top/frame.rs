//! A frame: what is shown of a scene in a view, as lines that fit the screen.

use nixmox_api::{Pressure, ServiceStatus, Status};

use super::columns::{table, whole};
use super::scene::{Row, Scene};
use super::view::{Mode, View};
use crate::context::Moment;
use crate::output::Size;
use crate::render::quantity::{limit, percent, size, time_of_day};
use crate::render::text::{clean, cut, left, width, wrap};
use crate::render::{Paint, Style, counts, why};
use crate::why::Story;

/// The lines above and below the rows: two at the top, the heading of the table, one at the bottom.
const AROUND: usize = 4;
/// The columns of a key in the details.
const KEY: usize = 10;

/// What the keys do, shortest first where not all has room.
const KEYS: [&str; 3] = [
    "q quit  ↑↓ choose  Enter details  / filter  c m i n p N sort  r reverse  ? help",
    "q quit  Enter details  / filter  ? help",
    "q quit  ? help",
];

/// What `?` shows.
const HELP: [(&str, &str); 13] = [
    ("↑ ↓  j k", "choose a service; PgUp PgDn Home End"),
    ("Enter", "all that is known of it; Esc goes back"),
    ("c m i", "sort by CPU, memory, IO"),
    ("n p N", "sort by network, pressure, name"),
    ("r", "reverse the order"),
    ("/", "only names that contain a text; Esc: all"),
    ("q", "quit; Ctrl-C too"),
    ("CPU", "percent of one CPU since the last sample"),
    ("MEMORY", "in use / the limit in force"),
    ("VRAM", "video memory in use / what it may use, where it has any"),
    ("PRESSURE", "what it waited for most, in % of the last 10 s"),
    ("READ...SENT", "bytes a second: disks, network"),
    ("RST", "restarts since it was last well"),
];

/// Returns the lines of a frame: none wider than the screen, and together not higher.
pub(crate) fn frame(view: &View, scene: &Scene, moment: &Moment, screen: Size, style: Style) -> Vec<String> {
    let shown = view.order(&scene.rows);
    let mut lines = vec![head(scene, moment, screen.width, style), order(view, scene, &shown, screen.width, style)];
    let room = screen.height.saturating_sub(AROUND - 1);
    let (body, keys) = match view.mode {
        Mode::Table | Mode::Filter => (rows(view, &shown, screen, style), keys(view, screen.width)),
        Mode::Details => match shown.get(view.place(&shown)) {
            Some(row) => {
                (details(row, scene, moment, screen.width, style), "q quit  ↑↓ another  Esc back".to_owned())
            }
            None => (Vec::new(), keys(view, screen.width)),
        },
        Mode::Help => (help(screen.width), "q quit  any other key goes back".to_owned()),
    };
    let is_cut = body.len() > room;
    lines.extend(body.into_iter().take(if is_cut { room.saturating_sub(1) } else { room }));
    if is_cut {
        lines.push("  …".to_owned());
    }
    lines.resize(screen.height.saturating_sub(1), String::new());
    lines.push(style.paint(Paint::Dim, &cut(&keys, screen.width)));
    lines.truncate(screen.height);
    lines
}

fn head(scene: &Scene, moment: &Moment, columns: usize, style: Style) -> String {
    let services: Vec<&ServiceStatus> = scene.rows.iter().map(|row| &row.status).collect();
    let counts = counts(&services);
    let at = if scene.at_usec == 0 { String::new() } else { time_of_day(scene.at_usec, &moment.zone) };
    let right = format!("{at}  every {}", limit(scene.interval_ms));
    let room = columns.saturating_sub(width(&right) + 2);
    if room < width(&counts) {
        return cut(&counts, columns);
    }
    // The counts are the same as those below `status`.
    format!("{}{}", style.paint(Paint::Bold, &left(&counts, room + 2)), right)
}

fn order(view: &View, scene: &Scene, shown: &[&Row], columns: usize, style: Style) -> String {
    if scene.is_away {
        let text = "the agent is away; waiting for it. Containers run on.";
        return style.paint(Paint::Busy, &cut(text, columns));
    }
    let direction = if view.is_reversed { ", reversed" } else { "" };
    let mut text = format!("by {}{direction}", view.sort.word());
    match (view.mode, view.filter.as_str()) {
        (Mode::Filter, filter) => text = format!("filter: {}_", clean(filter)),
        (Mode::Table | Mode::Details | Mode::Help, "") => {}
        (Mode::Table | Mode::Details | Mode::Help, filter) => {
            let part = format!("; {} of {} with `{}`", shown.len(), scene.rows.len(), clean(filter));
            text.push_str(&part);
        }
    }
    style.paint(Paint::Dim, &cut(&text, columns))
}

/// Returns the heading and as many rows as have room, the selected one among them.
fn rows(view: &View, shown: &[&Row], screen: Size, style: Style) -> Vec<String> {
    let room = screen.height.saturating_sub(AROUND).max(1);
    let place = view.place(shown);
    let selected = shown.get(place).map(|row| row.status.name.as_str());
    // The page that it is on, so that the table stands still while one moves about in it.
    let first = if shown.len() <= room { 0 } else { (place / room * room).min(shown.len() - room) };
    let on_screen: Vec<&Row> = shown.iter().skip(first).take(room).copied().collect();
    if on_screen.is_empty() {
        return vec!["  no service to show".to_owned()];
    }
    table(&on_screen, selected, Some(screen.width), style).lines().map(str::to_owned).collect()
}

fn keys(view: &View, columns: usize) -> String {
    if view.mode == Mode::Filter {
        return "Enter keep  Esc drop".to_owned();
    }
    let fits = KEYS.iter().find(|keys| width(keys) <= columns);
    fits.or(KEYS.last()).map(|keys| (*keys).to_owned()).unwrap_or_default()
}

fn help(columns: usize) -> Vec<String> {
    HELP.iter().map(|(key, text)| cut(&format!("  {}  {text}", left(key, 11)), columns)).collect()
}

/// Returns all that is known of a service: why it is as it is, then what it uses.
fn details(row: &Row, scene: &Scene, moment: &Moment, columns: usize, style: Style) -> Vec<String> {
    let status =
        Status { services: scene.rows.iter().map(|row| row.status.clone()).collect(), ..Status::default() };
    // Without colours, which are of no width: words that are longer than the screen are cut.
    let text = why(&Story::new(&status, &row.status), moment, Some(columns), Style::default());
    let mut lines: Vec<String> = text.lines().map(|line| cut(line, columns)).collect();
    if let Some(head) = lines.first_mut() {
        *head = style.paint(Paint::Bold, head);
    }
    lines.push(String::new());
    let room = columns.saturating_sub(KEY + 2);
    for (key, text) in figures(row) {
        for (index, line) in wrap(&clean(&text), Some(room)).into_iter().enumerate() {
            let key = left(if index == 0 { key } else { "" }, KEY);
            lines.push(format!("  {}{}", style.paint(Paint::Dim, &key), cut(&line, room)));
        }
    }
    lines
}

/// Returns the figures of a service, each with its key; what is not known is not there.
fn figures(row: &Row) -> Vec<(&'static str, String)> {
    let (usage, rates) = (&row.measured.usage, &row.measured.rates);
    let per_second = |rate: Option<f64>| rate.map(|rate| format!("{}/s", size(whole(rate))));
    let told = |parts: Vec<Option<String>>| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let pressure = |kind: Option<Pressure>| {
        kind.map(|kind| {
            let full = kind.full_avg10.map(|full| format!(", all {}%", percent(full))).unwrap_or_default();
            format!("waits {}%{full}", percent(kind.some_avg10))
        })
    };
    let limit_of = |word: &str, in_force: Option<u64>, declared: Option<u64>| match (in_force, declared) {
        (Some(now), Some(declared)) if now != declared => {
            Some(format!("{word} {} (declared {})", size(now), size(declared)))
        }
        (Some(now), _) => Some(format!("{word} {}", size(now))),
        (None, Some(declared)) => Some(format!("{word} declared {}", size(declared))),
        (None, None) => None,
    };
    let total = |bytes: Option<u64>, rate: Option<f64>, word: &str| {
        let text = format!("{word} {}", size(bytes?));
        Some(per_second(rate).map_or_else(|| text.clone(), |rate| format!("{text} ({rate})")))
    };
    let cpu_time = usage.cpu_usec.map(|usec| format!("{} used", limit(usec / 1000)));
    let swap = usage.memory_swap_current.filter(|swap| *swap > 0).map(|swap| format!("swap {}", size(swap)));
    let killed = usage.oom_kills.filter(|kills| *kills > 0).map(|kills| format!("{kills} killed for want of it"));
    let tasks = usage.tasks_current.map(|tasks| match usage.tasks_max {
        Some(limit) => format!("{tasks} of {limit}"),
        None => tasks.to_string(),
    });
    let rows = [
        (
            "cpu",
            told(vec![
                rates.cpu_percent.map(|share| format!("{}%", percent(share))),
                cpu_time,
                pressure(usage.cpu_pressure),
            ]),
        ),
        (
            "memory",
            told(vec![
                usage.memory_current.map(size),
                limit_of("max", usage.memory_max, usage.memory_max_declared),
                limit_of("high", usage.memory_high, usage.memory_high_declared),
                swap,
                killed,
                pressure(usage.memory_pressure),
            ]),
        ),
        (
            "io",
            told(vec![
                total(usage.io_read_bytes, rates.io_read_per_second, "read"),
                total(usage.io_write_bytes, rates.io_write_per_second, "written"),
                pressure(usage.io_pressure),
            ]),
        ),
        (
            "network",
            told(vec![
                total(usage.network_receive_bytes, rates.network_receive_per_second, "received"),
                total(usage.network_transmit_bytes, rates.network_transmit_per_second, "sent"),
            ]),
        ),
        (
            "vram",
            told(vec![
                usage.vram_current.map(|used| format!("{} in use", size(used))),
                usage.vram_budget.map(|budget| format!("budget {}", size(budget))),
            ]),
        ),
        ("tasks", tasks.unwrap_or_default()),
        ("restarts", row.status.restarts.to_string()),
        ("address", row.status.address.clone().unwrap_or_default()),
    ];
    rows.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}
