//! The view without a terminal: keys in, frames out.

use insta::assert_snapshot;
use jiff::tz::TimeZone;
use nixmox_api::{Pressure, ServiceState, ServiceStatus, ServiceUsage};

use super::frame::frame;
use super::keys::Key;
use super::rates::{Measured, Rates};
use super::scene::{Row, Scene};
use super::view::{Mode, Next, View};
use crate::context::Moment;
use crate::output::Size;
use crate::render::{Style, width};
use crate::testing::sample::{self, NOW};

const WIDE: Size = Size { width: 80, height: 24 };
const NARROW: Size = Size { width: 40, height: 10 };

fn measured(name: &str, cpu: f64, memory: u64, limit: Option<u64>, rate: f64) -> Measured {
    let pressure = |some| Some(Pressure { some_avg10: some, full_avg10: Some(some / 2.0) });
    Measured {
        usage: ServiceUsage {
            name: name.to_owned(),
            stack: "cloud".to_owned(),
            invocation: Some(format!("{name:0>32}")),
            active_since_usec: None,
            cpu_usec: Some(3_600_000_000),
            cpu_pressure: pressure(cpu / 10.0),
            memory_current: Some(memory),
            memory_swap_current: Some(0),
            memory_max: limit,
            memory_high: None,
            memory_max_declared: limit,
            memory_high_declared: None,
            memory_pressure: pressure(0.0),
            oom_kills: Some(0),
            io_read_bytes: Some(5 << 30),
            io_write_bytes: Some(1 << 20),
            io_pressure: pressure(0.3),
            tasks_current: Some(112),
            tasks_max: Some(4096),
            vram_current: None,
            vram_budget: None,
            network_receive_bytes: Some(9 << 30),
            network_transmit_bytes: Some(7 << 20),
            restarts: 0,
        },
        rates: Rates {
            cpu_percent: Some(cpu),
            io_read_per_second: Some(rate),
            io_write_per_second: Some(rate / 3.0),
            network_receive_per_second: Some(rate * 900.0),
            network_transmit_per_second: Some(rate * 20.0),
        },
    }
}

/// The five services of all tests: three well, one ill, one stopped.
fn scene() -> Scene {
    let figures = |name: &str| match name {
        "postgres" => measured(name, 3.1, 1_970 << 20, Some(2 << 30), 12_000.0),
        "nextcloud" => measured(name, 141.4, 1_181_116_006, Some(4 << 30), 250_000.0),
        "caddy" => measured(name, 0.2, 38 << 20, None, 800.0),
        "wiki" => {
            let all = measured(name, 1.0, 190 << 20, Some(1 << 30), 0.0);
            // A kernel without the figures of IO, and a container on the host's network.
            let usage = ServiceUsage {
                io_read_bytes: None,
                io_write_bytes: None,
                io_pressure: None,
                network_receive_bytes: None,
                network_transmit_bytes: None,
                oom_kills: Some(2),
                memory_max_declared: Some(2 << 30),
                ..all.usage
            };
            Measured { usage, rates: Rates { cpu_percent: Some(1.0), ..Rates::default() } }
        }
        _ => Measured::default(),
    };
    let row = |status: &ServiceStatus| Row { status: status.clone(), measured: figures(&status.name) };
    let mut status = sample::status();
    for service in &mut status.services {
        service.drift.clear();
        if service.name == "wiki" {
            service.restarts = 3;
            service.log = vec!["php-fpm[212]: no route to \x1b[2Jhost".to_owned()];
            service.declared_at = "nixmox.toml:31".to_owned();
        }
    }
    let rows = status.services.iter().map(row).collect();
    Scene { rows, at_usec: NOW * 1_000_000, interval_ms: 2000, is_away: false }
}

/// A host of so many services that are well.
fn crowd(count: usize) -> Scene {
    let row = |index: usize| {
        let name = format!("service-{index:02}");
        Row {
            measured: measured(&name, 50.0 - f64::from(u8::try_from(index).unwrap()), 1 << 20, None, 0.0),
            status: sample::service(&name),
        }
    };
    Scene { rows: (0..count).map(row).collect(), ..scene() }
}

fn shown(view: &View, scene: &Scene, size: Size) -> String {
    let moment = Moment { at_usec: NOW * 1_000_000, zone: TimeZone::UTC };
    let lines = frame(view, scene, &moment, size, Style::default());
    let widest = lines.iter().map(|line| width(line)).max().unwrap_or(0);
    assert!(widest <= size.width, "{widest} columns:\n{}", lines.join("\n"));
    assert_eq!(lines.len(), size.height, "{}", lines.join("\n"));
    let text = lines.join("\n");
    assert!(!text.contains('\x1b'), "without colours nothing steers the terminal: {text:?}");
    text
}

fn press(view: &mut View, scene: &Scene, keys: &str) {
    for key in keys.chars() {
        let key = match key {
            '\n' => Key::Enter,
            '\x1b' => Key::Escape,
            '\x08' => Key::Backspace,
            other => Key::Char(other),
        };
        assert_eq!(view.press(key, &scene.rows), Next::Stay);
    }
}

fn names(view: &View, scene: &Scene) -> Vec<String> {
    view.order(&scene.rows).iter().map(|row| row.status.name.clone()).collect()
}

#[test]
fn a_table_fits_a_terminal_of_80_columns() {
    assert_snapshot!(shown(&View::default(), &scene(), WIDE));
}

#[test]
fn a_table_fits_a_terminal_of_40_columns() {
    assert_snapshot!(shown(&View::default(), &scene(), NARROW));
}

#[test]
fn video_memory_has_a_column_where_a_service_has_some() {
    let mut scene = scene();
    assert!(!shown(&View::default(), &scene, Size { width: 120, height: 10 }).contains("VRAM"));
    for (row, (used, budget)) in scene.rows.iter_mut().zip([(Some(6 << 30), Some(10 << 30)), (None, Some(4 << 30))])
    {
        (row.measured.usage.vram_current, row.measured.usage.vram_budget) = (used, budget);
    }
    assert_snapshot!(shown(&View::default(), &scene, Size { width: 80, height: 10 }));
    let mut view = View { selected: Some("postgres".to_owned()), ..View::default() };
    press(&mut view, &scene, "\n");
    assert!(
        shown(&view, &scene, WIDE).contains("vram      6.0G in use, budget 10G"),
        "{}",
        shown(&view, &scene, WIDE)
    );
}

#[test]
fn a_wide_terminal_shows_the_words_of_the_states_too() {
    let text = shown(&View::default(), &scene(), Size { width: 120, height: 10 });
    assert!(text.contains("STATE") && text.contains("unhealthy"), "{text}");
}

#[test]
fn details_tell_every_figure_and_what_is_wrong() {
    let (mut view, scene) = (View::default(), scene());
    press(&mut view, &scene, "N");
    view.selected = Some("wiki".to_owned());
    press(&mut view, &scene, "\n");
    assert_eq!(view.mode, Mode::Details);
    assert_snapshot!(shown(&view, &scene, WIDE));
    view.selected = Some("nextcloud".to_owned());
    assert_snapshot!(shown(&view, &scene, NARROW));
    press(&mut view, &scene, "\x1b");
    assert_eq!(view.mode, Mode::Table);
}

#[test]
fn the_help_names_every_key() {
    let (mut view, scene) = (View::default(), scene());
    press(&mut view, &scene, "?");
    assert_snapshot!(shown(&view, &scene, WIDE));
    press(&mut view, &scene, "x");
    assert_eq!(view.mode, Mode::Table);
}

#[test]
fn an_agent_that_is_away_is_told_and_the_rest_stays() {
    let scene = Scene { is_away: true, ..scene() };
    let text = shown(&View::default(), &scene, WIDE);
    assert!(text.contains("the agent is away; waiting for it") && text.contains("nextcloud"), "{text}");
}

#[test]
fn each_key_sorts_by_its_column_and_r_turns_it_round() {
    let (mut view, scene) = (View::default(), scene());
    for (key, first, last) in [
        ("m", "postgres", "paperless"),
        ("c", "nextcloud", "paperless"),
        ("i", "nextcloud", "wiki"),
        ("n", "nextcloud", "wiki"),
        ("p", "nextcloud", "paperless"),
        ("N", "caddy", "wiki"),
    ] {
        press(&mut view, &scene, key);
        let order = names(&view, &scene);
        assert_eq!((order[0].as_str(), order[4].as_str()), (first, last), "{key}: {order:?}");
        press(&mut view, &scene, "r");
        assert_eq!(names(&view, &scene)[0], last, "{key}");
    }
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let (mut view, scene) = (View::default(), scene());
    press(&mut view, &scene, "/wikx\x08");
    assert!(shown(&view, &scene, WIDE).contains("filter: wik_"));
    assert_eq!(names(&view, &scene), ["wiki"]);
    press(&mut view, &scene, "\n");
    assert!(shown(&view, &scene, WIDE).contains("1 of 5 with `wik`"));
    press(&mut view, &scene, "\x1b");
    assert_eq!(names(&view, &scene).len(), 5);
    press(&mut view, &scene, "/nothing");
    assert!(shown(&view, &scene, WIDE).contains("no service to show"));
    // A filter that hides everything leaves nothing to look at.
    press(&mut view, &scene, "\n\n");
    assert_eq!(view.mode, Mode::Table);
    press(&mut view, &scene, "/\x1b");
    assert_eq!((view.filter.as_str(), view.mode), ("", Mode::Table));
}

#[test]
fn the_selection_moves_stays_on_the_screen_and_follows_its_service() {
    let (mut view, mut scene) = (View::default(), crowd(30));
    press(&mut view, &scene, "jjjk");
    assert_eq!(view.selected.as_deref(), Some("service-02"));
    for (key, selected) in [
        (Key::PageDown, "service-12"),
        (Key::End, "service-29"),
        (Key::Down, "service-29"),
        (Key::Home, "service-00"),
        (Key::Up, "service-00"),
        (Key::PageDown, "service-10"),
        (Key::PageUp, "service-00"),
        (Key::End, "service-29"),
    ] {
        view.press(key, &scene.rows);
        assert_eq!(view.selected.as_deref(), Some(selected), "{key:?}");
        assert!(shown(&view, &scene, NARROW).contains(&format!("> ● {selected}")), "{key:?}");
    }
    // It becomes the busiest, and another one is gone.
    scene.rows[29].measured.rates.cpu_percent = Some(100.0);
    scene.rows.remove(3);
    let text = shown(&view, &scene, NARROW);
    assert_eq!(text.lines().nth(3).map(|line| line.starts_with("> ● service-29")), Some(true), "{text}");
}

#[test]
fn q_and_ctrl_c_end_it_wherever_it_is() {
    let scene = scene();
    for mode in [Mode::Table, Mode::Details, Mode::Help] {
        let mut view = View { mode, ..View::default() };
        assert_eq!(view.press(Key::Char('q'), &scene.rows), Next::Quit, "{mode:?}");
    }
    let mut typing = View { mode: Mode::Filter, ..View::default() };
    assert_eq!(typing.press(Key::Char('q'), &scene.rows), Next::Stay);
    assert_eq!(typing.filter, "q");
    assert_eq!(typing.press(Key::Interrupt, &scene.rows), Next::Quit);
}

#[test]
fn a_screen_of_any_size_can_be_drawn() {
    let (mut view, mut scene) = (View::default(), crowd(30));
    scene.rows[0].status.name = "日本語のとても長い名前".to_owned();
    scene.rows[1].status.state = ServiceState::Failed;
    scene.rows[1].status.reason = "a reason that is much longer than a screen ".repeat(9);
    for mode in [Mode::Table, Mode::Filter, Mode::Details, Mode::Help] {
        view.mode = mode;
        for name in ["日本語のとても長い名前", "service-01"] {
            view.selected = Some(name.to_owned());
            for width in [20, 33, 40, 60, 79, 80, 200] {
                for height in [2, 3, 4, 5, 10, 60] {
                    shown(&view, &scene, Size { width, height });
                }
            }
        }
    }
}

#[test]
fn colours_only_add_to_what_is_said() {
    let moment = Moment { at_usec: NOW * 1_000_000, zone: TimeZone::UTC };
    let lines = frame(&View::default(), &scene(), &moment, WIDE, Style::new(true));
    let text = lines.join("\n");
    assert!(text.contains("\x1b[31m"), "{text:?}");
    let mut plain = String::new();
    let mut left = text.as_str();
    while let Some((before, behind)) = left.split_once('\x1b') {
        plain.push_str(before);
        left = behind.split_once('m').unwrap().1;
    }
    plain.push_str(left);
    assert_eq!(plain, shown(&View::default(), &scene(), WIDE));
}
