//! What becomes of a model: how much of it is on GPUs, memory by part, what another setting would change, how much is enough.

use crate::estimate::{Alternative, Enough, Outcome, Place};
use crate::render::report::Report;
use crate::render::style::{Paint, Style};
use crate::render::table::{self, Cell, Column, step};
use crate::render::text::{self, clean, counted};

const PLACES: [Column; 7] = [
    Column::left("MEMORY"),
    Column::right("LAYERS"),
    Column::right("WEIGHTS").gives_way(&[step(4, 0)]),
    Column::right("CACHE").gives_way(&[step(3, 0)]),
    Column::right("COMPUTE").gives_way(&[step(2, 0)]),
    Column::right("OVERHEAD").gives_way(&[step(1, 0)]),
    Column::right("ALL").least(5),
];

const SETTINGS: [Column; 4] = [
    Column::left("SETTING").gives_way(&[step(1, 10)]),
    Column::right("LAYERS"),
    Column::right("GPU").least(5),
    Column::right("HOST").least(5),
];

/// Returns the text about a model.
pub(crate) fn estimate(outcome: &Outcome, width: Option<usize>, style: Style) -> String {
    let mut out = head(outcome, width, style);
    let asked = Report::new("").row("formula", formula(outcome)).row("asked", asked(outcome));
    out.push_str(&asked.rows_text(width, style));
    out.push('\n');
    let rows: Vec<_> = outcome.places.iter().map(|place| (Cell::default(), of_place(place))).collect();
    out.push_str(&table::lines(&PLACES, &rows, 2, width, style));
    let below = Report::new("")
        .row("measured", measured(outcome))
        .row("note", above(outcome))
        .rows("doubt", &outcome.doubts);
    out.push_str(&below.rows_text(width, style));
    if outcome.alternatives.len() > 1 {
        out.push('\n');
        let rows: Vec<_> = outcome
            .alternatives
            .iter()
            .map(|setting| (Cell::default(), of_setting(setting, outcome.layers_all)))
            .collect();
        out.push_str(&table::lines(&SETTINGS, &rows, 2, width, style));
    }
    let enough: Vec<String> = outcome.enough.iter().map(|enough| of_enough(*enough, outcome)).collect();
    if !enough.is_empty() {
        out.push('\n');
        let lines = enough.iter().flat_map(|line| text::wrap(line, width));
        lines.for_each(|line| out.push_str(&(line + "\n")));
    }
    out
}

/// Returns what comes of it, in a sentence.
fn head(outcome: &Outcome, width: Option<usize>, style: Style) -> String {
    let Outcome { layers, layers_all, .. } = outcome;
    let vram = outcome.vram;
    let told = vram.map(|vram| format!(" into {}", precise(vram))).unwrap_or_default();
    let needs = outcome.measured.unwrap_or(outcome.gpu);
    let (mark, paint, does) = match (outcome.fits, vram) {
        (true, None) => ("✓", Paint::Good, format!("all {layers_all} layers need {}", precise(needs))),
        (true, Some(_)) => {
            ("✓", Paint::Good, format!("all {layers_all} layers fit{told}, they need {}", precise(needs)))
        }
        // Of a model without layers on GPUs the note says it.
        (false, Some(vram)) if outcome.over > 0 && *layers > 0 => {
            let all = if layers == layers_all {
                format!("all {layers_all}")
            } else {
                format!("{layers} of {layers_all}")
            };
            let over = precise(outcome.over);
            (
                "✗",
                Paint::Bad,
                format!("{all} layers need {}, {over} more than there is of {}", precise(needs), precise(vram)),
            )
        }
        (false, _) if *layers == 0 => {
            ("✗", Paint::Bad, format!("none of {layers_all} layers fits{told}: the CPU computes all"))
        }
        (false, _) => {
            ("◐", Paint::Busy, format!("{layers} of {layers_all} layers fit{told}, the CPU computes the rest"))
        }
    };
    let of = outcome.service.as_ref().map(|service| format!("{service}:")).unwrap_or_default();
    let name = clean(&format!("{of}{}", outcome.model));
    let is_short = width.is_none_or(|width| 2 + text::width(&name) + 2 + text::width(&does) <= width);
    let mark = style.paint(paint, mark);
    if is_short {
        return format!("{mark} {}: {does}\n", style.paint(Paint::Bold, &name));
    }
    let room = width.map(|width| width.saturating_sub(2));
    let name = room.map_or_else(|| name.clone(), |room| text::cut(&name, room));
    let lines = text::wrap(&does, room).into_iter().map(|line| format!("  {line}\n"));
    format!("{mark} {}\n{}", style.paint(Paint::Bold, &name), lines.collect::<String>())
}

fn formula(outcome: &Outcome) -> String {
    let version = outcome.version.as_ref().map_or_else(|| "the newest".to_owned(), Clone::clone);
    format!("{}, of {} {version}; {}", outcome.formula, outcome.engine, outcome.architecture)
}

/// Returns with which settings.
fn asked(outcome: &Outcome) -> String {
    let gpus = outcome.places.len().saturating_sub(1);
    let vram = match outcome.vram {
        Some(vram) => format!("{} on {}", precise(vram), counted(gpus, "GPU")),
        None => format!("as much as it needs, on {}", counted(gpus, "GPU")),
    };
    let context = match (outcome.context, outcome.context_asked) {
        (context, asked) if context == asked => format!("context {context}"),
        (context, asked) => format!("context {context}, shortened from {asked}"),
    };
    let requests = match outcome.parallel {
        0 => "requests as it takes them by itself".to_owned(),
        count => counted(usize::try_from(count).unwrap_or(usize::MAX), "request"),
    };
    let flash = if outcome.flash_attention { "flash attention" } else { "no flash attention" };
    format!("{vram}; {context}, {requests}, kv {}, {flash}", outcome.kv)
}

fn of_place(place: &Place) -> Vec<Cell> {
    let Place { at, layers, weights, cache, compute, overhead, total } = place;
    let sizes = [weights, cache, compute, overhead, total].map(|bytes| Cell::new(precise(*bytes)));
    [Cell::new(at), Cell::new(layers.to_string())].into_iter().chain(sizes).collect()
}

fn of_setting(setting: &Alternative, all: u32) -> Vec<Cell> {
    let layers = format!("{}/{all}", setting.layers);
    let paint = if setting.fits { Paint::Good } else { Paint::Plain };
    vec![
        Cell::new(&setting.setting),
        Cell::painted(paint, layers),
        Cell::new(precise(setting.gpu)),
        Cell::new(precise(setting.host)),
    ]
}

/// Returns what a load of it was measured to take, and what the formula says beside.
fn measured(outcome: &Outcome) -> String {
    let Some(measured) = outcome.measured else { return String::new() };
    format!(
        "such a load took {} of video memory, which counts in place of {}",
        precise(measured),
        precise(outcome.gpu)
    )
}

/// Says that an engine takes more than it may though nothing fits, where it does: `llama.cpp` computes on a GPU also without layers there.
fn above(outcome: &Outcome) -> String {
    match outcome.vram {
        Some(vram) if outcome.measured.is_none() && outcome.layers == 0 && outcome.over > 0 => {
            let (more, vram) = (precise(outcome.over), precise(vram));
            format!("the GPU computes also without layers there: with the driver it uses {more} more than {vram}")
        }
        Some(_) | None => String::new(),
    }
}

fn of_enough(enough: Enough, outcome: &Outcome) -> String {
    let layers = if enough.layers == outcome.layers_all {
        format!("all {} layers fit", enough.layers)
    } else if enough.layers == 1 {
        "1 layer fits".to_owned()
    } else {
        format!("{} layers fit", enough.layers)
    };
    format!("{layers} from {} on", at_least(enough.vram))
}

/// Returns a size to a tenth of a GiB, or to a MiB: `15.6G`, `560M`, `0`.
fn precise(bytes: u64) -> String {
    let tenths = (u128::from(bytes).saturating_mul(10) + (1 << 29)) >> 30;
    match bytes {
        0 => "0".to_owned(),
        1..0x3e80_0000 => format!("{}M", bytes.saturating_add(1 << 19) >> 20),
        _ => format!("{}.{}G", tenths / 10, tenths % 10),
    }
}

/// Returns a size that is no smaller, as the manifest has it: `6.4G`, `912M`.
fn at_least(bytes: u64) -> String {
    let tenths = u128::from(bytes).saturating_mul(10).div_ceil(1 << 30);
    match bytes {
        ..0x4000_0000 => format!("{}M", bytes.div_ceil(1 << 20)),
        _ if tenths % 10 == 0 => format!("{}G", tenths / 10),
        _ => format!("{}.{}G", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_to_a_tenth_of_a_gib() {
        for (bytes, text) in [
            (0, "0"),
            (1, "0M"),
            (560 << 20, "560M"),
            (999 << 20, "999M"),
            (1000 << 20, "1.0G"),
            (16_750_372_454, "15.6G"),
        ] {
            assert_eq!(precise(bytes), text);
        }
        assert!((0..64).all(|shift| !precise(u64::MAX >> shift).is_empty()));
    }

    #[test]
    fn what_is_enough_is_rounded_up_and_can_be_declared() {
        for (bytes, text) in [
            (1, "1M"),
            (900 << 20, "900M"),
            (1 << 30, "1G"),
            ((1 << 30) + 1, "1.1G"),
            (6_871_947_674, "6.5G"),
            (6_871_947_673, "6.4G"),
            (80 << 30, "80G"),
        ] {
            assert_eq!(at_least(bytes), text);
            let read = text.parse::<nixmox_core::model::Bytes>().unwrap().0;
            // The manifest rounds a fraction down to a byte.
            assert!(read + 1 >= bytes && read - bytes.min(read) <= (1 << 30) / 10, "{text}");
        }
    }
}
