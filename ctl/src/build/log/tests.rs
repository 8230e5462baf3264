//! Logs of a real nix, and lines of nobody.

use proptest::prelude::*;

use super::*;
use crate::output::Size;
use crate::render::{self, Style};

const EVALUATE: &str = include_str!("../logs/evaluate.log");
const BUILD_LOG: &str = include_str!("../logs/build.log");
const FAILING: &str = include_str!("../logs/failing.log");
const FETCH: &str = include_str!("../logs/fetch.log");

/// Takes a log, a tenth of a second between two lines; returns it with what was said.
fn taken(lines: &str) -> (Log, Vec<String>) {
    let mut log = Log::default();
    let said = lines.lines().zip(0..).filter_map(|(line, index)| log.take(line.as_bytes(), index * 100));
    let said = said.map(|said| match said {
        Said::Text(text) => plain(&text),
        Said::Foreign(text) => format!("foreign: {text}"),
    });
    let said = said.collect();
    (log, said)
}

/// Returns a view of a log once this part of a line was read, at the same pace.
fn view_at(lines: &str, part: &str) -> String {
    let until = lines.lines().position(|line| line.contains(part)).unwrap() + 1;
    let head: Vec<&str> = lines.lines().take(until).collect();
    let (log, _) = taken(&head.join("\n"));
    let now = u64::try_from(until).unwrap() * 100;
    let about = [".#web".to_owned(), ".#db".to_owned()];
    let screen = Size { width: 80, height: 24 };
    let lines = render::build(&log, "building", &about, now, screen, Style::default());
    lines.join("\n") + "\n" + &render::build_line(&log, "building", &about, now)
}

#[test]
fn a_build_is_counted_and_shown_with_its_phase() {
    let (log, said) = taken(BUILD_LOG);
    assert_eq!(log.builds(), Amount { done: 4, expected: 4 });
    assert_eq!((log.paths(), log.bytes()), (Amount::default(), Amount::default()));
    assert!(log.works().is_empty() && log.failed().is_empty());
    // Not the list of what is built.
    assert_eq!(said.len(), 1, "{said:?}");
    let mut text = view_at(BUILD_LOG, "querying");
    text += &view_at(BUILD_LOG, "installPhase");
    text += &view_at(BUILD_LOG, "[3,4,1,0]");
    text += &render::build_summary(&log, 12_345).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_fetched_is_counted_in_paths_and_bytes() {
    let (log, _) = taken(FETCH);
    assert_eq!(log.paths(), Amount { done: 2, expected: 2 });
    assert!(log.bytes().done > 1_800_000 && log.bytes().expected >= log.bytes().done, "{:?}", log.bytes());
    assert_eq!(log.builds().done, 0);
    let mut text = view_at(FETCH, "[720705,903172,0,0]");
    text += &view_at(FETCH, "[1212416,2025048,0,0]");
    text += &render::build_summary(&log, 500).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn the_builder_that_an_error_names_is_the_one_that_failed() {
    let (log, said) = taken(FAILING);
    let [failed] = log.failed() else { panic!("{:?}", log.failed()) };
    assert_eq!(
        (failed.name.as_str(), failed.lines.as_slice()),
        ("inner", &["about to fail".into(), "on stderr".into()][..])
    );
    assert!(failed.derivation.ends_with("-inner.drv"));
    assert_eq!(said.iter().filter(|said| said.starts_with("error: builder for ")).count(), 1, "{said:?}");
    // A daemon tells the last lines in its message.
    let told = FAILING
        .replace("failed with exit code 3\"", "failed with exit code 3;\\n last 2 log lines:\\n > on stderr\"");
    assert_ne!(told, FAILING);
    let (log, _) = taken(&told);
    assert!(matches!(log.failed(), [failed] if failed.lines.is_empty()), "{:?}", log.failed());
}

#[test]
fn what_would_be_built_is_no_complaint_and_a_trace_is_told() {
    let (_, said) = taken(EVALUATE);
    let warnings = [
        "warning: you don't have Internet access; disabling some network-dependent features",
        "evaluation warning: a warning",
    ];
    assert_eq!(said, warnings);
    let trace = r#"@nix {"action":"msg","level":0,"msg":"trace: here"}"#;
    assert_eq!(taken(trace).1, ["trace: here"]);
    assert_eq!(taken("ssh: no route to host\n\n@nix nonsense").1, ["foreign: ssh: no route to host"]);
}

#[test]
fn a_builder_that_talks_without_end_is_kept_in_its_last_lines() {
    let mut log = Log::default();
    let start = r#"@nix {"action":"start","fields":["/nix/store/x-a.drv","",1,1],"id":1,"level":3,"parent":0,"text":"","type":105}"#;
    log.take(start.as_bytes(), 0);
    for number in 0..1000 {
        let line = format!(r#"@nix {{"action":"result","fields":["line {number}"],"id":1,"type":101}}"#);
        log.take(line.as_bytes(), 0);
    }
    log.take(br#"@nix {"action":"msg","level":0,"msg":"builder for '/nix/store/x-a.drv' failed","raw_msg":""}"#, 0);
    let lines = &log.failed()[0].lines;
    assert_eq!((lines.len(), lines.last().map(String::as_str)), (LINES_MAX, Some("line 999")));
}

/// A line of a log, or nearly.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![0..4_u64, 95..115_u64, any::<u64>()];
    let field = prop_oneof![
        number().prop_map(|number| number.to_string()),
        "[a-z/.\\-]{0,60}".prop_map(|text| format!("\"/nix/store/{text}\"")),
        Just("null".to_owned()),
        Just("-1".to_owned()),
        Just("[[]]".to_owned()),
    ];
    let fields = proptest::collection::vec(field, 0..5);
    let action = prop_oneof![Just("start"), Just("stop"), Just("result"), Just("msg"), Just("other")];
    let nearly = (action, 0..6_u64, number(), fields, number(), ".{0,20}").prop_map(|(action, id, kind, fields, level, text)| {
        let (fields, text) = (fields.join(","), serde_json::to_string(&text).unwrap());
        let line = format!(
            r#"@nix {{"action":"{action}","id":{id},"type":{kind},"fields":[{fields}],"level":{level},"parent":{id},"msg":{text}}}"#
        );
        line.into_bytes()
    });
    prop_oneof![
        6 => nearly,
        1 => proptest::collection::vec(any::<u8>(), 0..80),
        1 => ".{0,40}".prop_map(|text| format!("@nix {text}").into_bytes()),
    ]
}

proptest! {
    #[test]
    fn no_log_stops_a_build_or_breaks_the_screen(lines in proptest::collection::vec(line(), 0..120)) {
        let mut log = Log::default();
        let screen = Size { width: 20, height: 5 };
        for (line, now) in lines.iter().zip((0..100).cycle()) {
            log.take(line, now);
            for amount in [log.builds(), log.paths(), log.bytes()] {
                prop_assert!(amount.done <= amount.expected);
            }
            let view = render::build(&log, "building", &[], now, screen, Style::default());
            prop_assert!(view.len() <= screen.height, "{view:?}");
            prop_assert!(view.iter().all(|line| render::width(line) <= screen.width), "{view:?}");
            prop_assert!(view.iter().all(|line| !line.contains(char::is_control)), "{view:?}");
            render::build_line(&log, "building", &[], now);
            render::build_summary(&log, now);
        }
    }
}
