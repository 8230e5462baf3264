//! What an engine says, in core's words.

use nixmox_core::model::CpuFallback;
use nixmox_core::offload::arbiter::Setting;

use super::*;

fn offload(engine: Engine, keep: &[&str]) -> Offload {
    Offload {
        engine,
        url: engine.default_url().to_owned(),
        keep: keep.iter().map(|name| (*name).to_owned()).collect(),
        idle_unload: None,
        context: None,
        request_grace: None,
        cpu_fallback: CpuFallback::Refuse,
    }
}

#[test]
fn versions_are_read_and_none_is_made_up() {
    let ollama = |text| version_of(Engine::Ollama, text);
    assert_eq!(ollama("0.12.10"), Some(Version(0, 12, 10)));
    assert_eq!(ollama("0.12.11-rc1"), Some(Version(0, 12, 11)));
    assert_eq!(ollama("v0.3.0+dirty"), Some(Version(0, 3, 0)));
    let server = |text| version_of(Engine::LlamaServer, text);
    assert_eq!(server("b11434-abcdef0"), Some(Version(0, 0, 11434)));
    for none in ["", "0.0.0", "1.2", "x.y.z", "99999999999.1.1", "b11434"] {
        assert_eq!(ollama(none), None, "{none:?}");
    }
    for none in ["", "b", "b0-unknown", "11434", "bx-1", "b99999999999-1"] {
        assert_eq!(server(none), None, "{none:?}");
    }
}

#[test]
fn names_are_those_of_the_manifest() {
    let view = || View {
        loaded: vec![Loaded { name: "llama3:latest".to_owned(), ..Loaded::default() }],
        available: vec!["llama3:latest".to_owned(), "other:latest".to_owned()],
        ..View::default()
    };
    let names = |engine| {
        let EngineSeen::Answers(seen) = seen(&offload(engine, &["llama3"]), Ok(Answered::View(view()))) else {
            panic!("it answers");
        };
        (seen.loaded[0].name.clone(), seen.available)
    };
    assert_eq!(names(Engine::Ollama), ("llama3".to_owned(), vec!["llama3".to_owned(), "other:latest".to_owned()]));
    assert_eq!(names(Engine::LlamaServer).0, "llama3:latest");
}

#[test]
fn what_goes_wrong_is_silence_with_a_reason() {
    let seen = |answered| seen(&offload(Engine::Ollama, &[]), answered);
    assert_eq!(seen(Ok(Answered::Failed("a\nb".to_owned()))), EngineSeen::Silent("a b".to_owned()));
    assert_eq!(seen(Err("late".to_owned())), EngineSeen::Silent("late".to_owned()));
    assert!(matches!(seen(Ok(Answered::Done)), EngineSeen::Silent(_)));
}

#[test]
fn a_load_asks_for_what_was_decided_and_has_the_time_for_it() {
    let step =
        |layers, keep| Step::Load { model: "a".to_owned(), setting: Setting { layers, context: Some(8192) }, keep };
    let mut offload = offload(Engine::Ollama, &[]);
    let mut stays = |idle, keep| {
        offload.idle_unload = idle;
        match of_step(&offload, &step(Layers::Auto, keep)) {
            (What::Load { stays, layers: None, context: Some(8192), .. }, LOAD_LIMIT) => stays,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(stays(None, false), Stays::AsItLikes);
    assert_eq!(stays(Some(Duration::from_mins(10)), false), Stays::Seconds(600));
    assert_eq!(stays(Some(Duration::ZERO), false), Stays::Seconds(1));
    assert_eq!(stays(Some(Duration::from_mins(10)), true), Stays::Always);
    let exact = of_step(&offload, &step(Layers::Exactly(0), true)).0;
    assert!(matches!(exact, What::Load { layers: Some(0), .. }), "{exact:?}");
    assert_eq!(of_step(&offload, &Step::Unload { model: "a".to_owned() }).1, UNLOAD_LIMIT);
}

#[test]
fn an_error_is_one_line_that_says_who_and_what() {
    let name: ContainerName = "llm".parse().unwrap();
    let error = engine_error(&name, Engine::Ollama, "load a\u{1b}[31m", "no\nroom");
    assert_eq!(error.to_string(), "the ollama of `llm` did not load a [31m: no room");
}
