//! What is told of one engine, when it is asked, and what is measured of it.

mod effort;

use nixmox_core::model::{CpuFallback, Engine as Program, GpuDevices, GpuShare};
use nixmox_core::offload::estimate::KvType;

use super::*;

fn loaded(name: &str, on_gpus: u64) -> LoadedModel {
    LoadedModel { name: name.to_owned(), size_vram: Some(Bytes(on_gpus)), ..LoadedModel::default() }
}

fn given(budget: u64, for_whom: &str) -> Given {
    let offload = Offload {
        engine: Program::Ollama,
        url: Program::Ollama.default_url().to_owned(),
        keep: vec!["a".to_owned()],
        idle_unload: None,
        context: None,
        request_grace: None,
        cpu_fallback: CpuFallback::Refuse,
    };
    let share = GpuShare {
        vendor: None,
        devices: GpuDevices::All,
        vram: Some(Bytes(10 << 30)),
        vram_min: None,
        priority: 50,
    };
    Given {
        offload,
        share,
        budget: Some(Bytes(budget)),
        for_whom: for_whom.to_owned(),
        pressure: if for_whom.is_empty() { String::new() } else { "needs 4G".to_owned() },
        rooms: Vec::new(),
        used: Some(Bytes(4 << 30)),
        used_at: Duration::ZERO,
        parallel: 1,
        kv: KvType::F16,
        overhead: Bytes(0),
        context: None,
    }
}

fn answers(models: Vec<LoadedModel>) -> EngineSeen {
    EngineSeen::Answers(EngineView { loaded: models, is_multi: true, ..EngineView::default() })
}

#[test]
fn each_change_of_a_budget_is_told_once() {
    let mut engine = Engine::new(InvocationId(1), Duration::ZERO);
    let mut tells = |budget: u64, to: &str| engine.news_of_budget(&given(budget << 20, to)).unwrap_or_default();
    assert_eq!(tells(10 << 10, ""), "");
    assert_eq!(tells(6 << 10, "frigate"), "shrinks to 6G of video memory for frigate: needs 4G");
    assert_eq!([tells(6 << 10, "frigate"), tells((6 << 10) - 100, "frigate")], ["", ""], "a little is no news");
    assert_eq!(tells(4 << 10, "frigate"), "shrinks to 4G of video memory for frigate: needs 4G");
    assert_eq!(tells(4 << 10, "train"), "shrinks to 4G of video memory for train: needs 4G");
    // Who got it has it, and nobody asks for more.
    assert_eq!(tells(4 << 10, ""), "");
    assert_eq!(tells(8 << 10, ""), "may have 8G of video memory, of the 10G that it asks for");
    assert_eq!(
        [tells(8 << 10, ""), tells(10 << 10, ""), tells(10 << 10, "")],
        ["", "may have 10G of video memory again", ""]
    );
}

#[test]
fn an_incident_is_told_when_it_lasts_and_when_it_is_over() {
    let mut engine = Engine::new(InvocationId(1), Duration::ZERO);
    let slow = LoadedModel { size: Some(Bytes(4 << 30)), ..loaded("a", 0) };
    let right = LoadedModel { size_vram: Some(Bytes(4 << 30)), ..slow.clone() };
    let mut told = Vec::new();
    let looks = [(10, &slow), (60, &slow), (70, &slow), (80, &slow), (90, &right), (100, &right)];
    let (given, measured) = (given(10 << 30, ""), Measured::default());
    for (at, model) in looks {
        let now = Duration::from_secs(at);
        engine.looked(now, answers(vec![model.clone()]));
        let _step = engine.decide(now, &given, &measured);
        for _twice in 0..2 {
            told.extend(engine.news_of_incidents(now, &given, &measured).into_iter().map(|text| (at, text)));
        }
        assert_eq!(engine.refusal(&given.offload).is_some(), (70..90).contains(&at), "after {at} s");
    }
    let [(70, begins), (90, ends)] = told.as_slice() else { panic!("{told:?}") };
    assert!(begins.starts_with("a is not where it should be: it is on the CPU, 4G in all"), "{begins}");
    assert!(ends.starts_with("a is where it should be again"), "{ends}");
}

#[test]
fn an_engine_that_has_not_come_up_gives_memory_back_for_all_that_is_known() {
    let mut engine = Engine::new(InvocationId(1), Duration::ZERO);
    let (given, measured) = (given(10 << 30, ""), Measured::default());
    let at = Duration::from_secs;
    engine.looked(at(2), EngineSeen::Silent("connection refused".to_owned()));
    let _none = engine.decide(at(2), &given, &measured);
    assert!(engine.is_elastic(at(59)) && !engine.is_elastic(at(61)));
    assert_eq!(engine.next_due(at(59)), Some(at(60)), "what changes by time alone is looked at in time");
}

#[test]
fn a_look_that_is_under_way_is_not_made_again_and_one_that_was_lost_is() {
    let mut engine = Engine::new(InvocationId(1), Duration::ZERO);
    let (at, offload) = (Duration::from_secs, &given(10 << 30, "").offload);
    assert!(!engine.begin_look(at(0), offload), "its container is not up");
    engine.is_up = true;
    assert!(engine.begin_look(at(0), offload) && !engine.begin_look(at(100), offload));
    engine.lost_look();
    assert!(engine.begin_look(at(100), offload));
    engine.looked(at(100), answers(Vec::new()));
    assert!(!engine.begin_look(at(109), offload) && engine.begin_look(at(110), offload));
}

#[test]
fn what_the_engine_does_not_count_is_an_equal_part_of_each_model_on_gpus() {
    let models = [loaded("a", 1000), loaded("b", 3000), loaded("cpu", 0)];
    let told: Vec<_> =
        shares(&models, Bytes(4600)).into_iter().map(|(of, bytes)| (of.name.as_str(), bytes.0)).collect();
    assert_eq!(told, [("a", 1300), ("b", 3300)]);
    assert!(shares(&models, Bytes(3999)).is_empty(), "the engine counts what is not there");
    let unknown = LoadedModel { size_vram: None, ..loaded("c", 0) };
    assert!(shares(&[loaded("a", 1000), unknown], Bytes(4600)).is_empty());
    assert!(shares(&models[2..], Bytes(4600)).is_empty());
}

/// Looks once a minute for two hours, and returns what is unloaded of a model that stays as it is.
fn unloaded_of(engine: &mut Engine, from: u64, model: &LoadedModel) -> Option<Step> {
    unloaded_while(engine, from, |_| model.clone())
}

fn unloaded_while(engine: &mut Engine, from: u64, model: impl Fn(u64) -> LoadedModel) -> Option<Step> {
    let (mut given, measured) = (given(10 << 30, ""), Measured::default());
    given.offload.keep = Vec::new();
    given.offload.idle_unload = Some(Duration::from_mins(5));
    (from..from + 120).find_map(|minute| {
        let now = Duration::from_mins(minute);
        given.used_at = now;
        engine.looked(now, answers(vec![model(minute)]));
        engine.decide(now, &given, &measured).map(|(step, _)| step)
    })
}

#[test]
fn what_a_client_has_kept_for_good_is_not_unloaded_for_want_of_use() {
    let size = Some(Bytes(4 << 30));
    let until = |expires_usec| LoadedModel { size, expires_usec, ..loaded("a", 4 << 30) };
    let engine = || Engine::new(InvocationId(1), Duration::ZERO);
    assert_eq!(unloaded_of(&mut engine(), 0, &until(Some(FOR_EVER))), None);
    let unload = Some(Step::Unload { model: "a".to_owned() });
    assert_eq!(unloaded_of(&mut engine(), 0, &until(Some(1))), unload, "nobody asks for it");
    // It was to be kept, and is not any more.
    let mut ours = engine();
    let setting = Setting { layers: Layers::Auto, context: None };
    let load = Step::Load { model: "a".to_owned(), setting, keep: true };
    ours.stepped(Duration::ZERO, &load, Ok(()));
    ours.looked(Duration::ZERO, answers(vec![until(Some(FOR_EVER))]));
    assert_eq!(unloaded_of(&mut ours, 1, &until(Some(FOR_EVER))), unload);
    // The same, and clients go on asking for it.
    ours = engine();
    ours.stepped(Duration::ZERO, &load, Ok(()));
    ours.looked(Duration::ZERO, answers(vec![until(Some(FOR_EVER))]));
    assert_eq!(unloaded_while(&mut ours, 1, |minute| until(Some(FOR_EVER + minute))), None);
    // The same, and an agent before this one had it loaded.
    ours = engine();
    ours.keep = vec!["a".to_owned()];
    ours.looked(Duration::ZERO, answers(vec![until(Some(FOR_EVER))]));
    ours.keep.clear();
    assert_eq!(unloaded_of(&mut ours, 1, &until(Some(FOR_EVER))), unload);
    // The same, and from then on it is called as the engine has it.
    ours = engine();
    ours.stepped(Duration::ZERO, &load, Ok(()));
    ours.looked(Duration::ZERO, answers(vec![until(Some(FOR_EVER))]));
    let renamed = LoadedModel { name: "a:latest".to_owned(), ..until(Some(FOR_EVER)) };
    let unload_renamed = Some(Step::Unload { model: "a:latest".to_owned() });
    assert_eq!(unloaded_of(&mut ours, 1, &renamed), unload_renamed);
    // A client had it stay for a while, and then for good.
    ours = engine();
    ours.stepped(Duration::ZERO, &load, Ok(()));
    ours.looked(Duration::ZERO, answers(vec![until(Some(1))]));
    assert_eq!(unloaded_of(&mut ours, 1, &until(Some(FOR_EVER))), None);
    // Gone, and loaded by somebody else.
    ours = engine();
    ours.stepped(Duration::ZERO, &load, Ok(()));
    ours.looked(Duration::ZERO, answers(Vec::new()));
    assert_eq!(unloaded_of(&mut ours, 1, &until(Some(FOR_EVER))), None);
}

#[test]
fn a_load_whose_answer_was_lost_is_settled_by_looks() {
    let mut engine = Engine::new(InvocationId(1), Duration::ZERO);
    let (mut given, measured) = (given(10 << 30, ""), Measured::default());
    let at = Duration::from_secs;
    let mut steps = Vec::new();
    for second in (0..600).step_by(10) {
        given.used_at = at(second);
        // The model comes a minute after it was asked for.
        let right = LoadedModel { size: Some(Bytes(4 << 30)), ..loaded("a", 4 << 30) };
        engine.looked(at(second), answers(if second < 120 { Vec::new() } else { vec![right] }));
        if let Some((step, _)) = engine.decide(at(second), &given, &measured) {
            steps.push(step);
            engine.lost_step(at(second));
        }
    }
    assert!(matches!(steps.as_slice(), [Step::Load { .. }]), "it did not fail, and is asked for once: {steps:?}");
    assert!(!engine.decision().contains("lost"), "{}", engine.decision());
}

#[test]
fn that_it_works_is_proven_by_a_model_where_it_should_be_or_by_time() {
    let (given, measured) = (given(10 << 30, ""), Measured::default());
    let right = LoadedModel { size: Some(Bytes(4 << 30)), ..loaded("a", 4 << 30) };
    let slow = LoadedModel { size_vram: Some(Bytes(0)), ..right.clone() };
    let proven_at = |model: Option<&LoadedModel>| {
        let mut engine = Engine::new(InvocationId(1), Duration::ZERO);
        (0..2000).step_by(10).find(|second| {
            let now = Duration::from_secs(*second);
            engine.looked(now, answers(model.into_iter().cloned().collect()));
            let _step = engine.decide(now, &given, &measured);
            let _news = engine.news_of_incidents(now, &given, &measured);
            engine.is_proven(now, &given.offload)
        })
    };
    assert_eq!(proven_at(Some(&right)), Some(50));
    assert_eq!(proven_at(None), Some(600), "a good run");
    assert_eq!(proven_at(Some(&slow)), None);
    let warns = Offload { cpu_fallback: CpuFallback::Warn, ..given.offload };
    assert!(Engine::new(InvocationId(1), Duration::ZERO).is_proven(Duration::ZERO, &warns), "nothing is refused");
}
