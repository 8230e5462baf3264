//! Models share GPUs: they give memory back step by step, come back, and only then is a container stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_agent::host::fake::{FakeEngine, FakeModel, Operation};
use nixmox_agent::metrics::{self, Source};
use nixmox_agent::server::Control;
use nixmox_agent::state::NotesFile;
use nixmox_api::{AgentError, GpuFitRequest, OffloadModel, OffloadService, ServiceState, Update};
use nixmox_core::model::{Bytes, CpuFallback, Engine, Offload, OnUnhealthy, Service};
use nixmox_core::offload::arbiter::{Setting, Step};
use nixmox_core::offload::estimate::{KvType, Layers};
use tokio::sync::broadcast::Receiver;

use crate::declare::Declare;
use crate::gpus::{GIB, foreign, gpus, with_gpu};
use crate::machine::{Machine, name, of, on_a_machine, shown};

/// The least that a model takes: 10 layers of 300 MiB.
const LAYER: u64 = 300 << 20;
const LAYERS: u32 = 10;
/// How long memory takes to come back.
const DELAY: Duration = Duration::from_secs(4);

fn model() -> FakeModel {
    FakeModel::of(LAYERS, LAYER)
}

/// An Ollama with three models, which takes 9 GiB at most.
fn ollama() -> FakeEngine {
    let names = ["llama3:8b", "qwen3:4b", "gemma3:4b"];
    FakeEngine {
        models: names.into_iter().map(|name| (name.to_owned(), model())).collect(),
        takes_at_most: 10 * GIB,
        memory_delay: DELAY,
        load_time: Duration::from_secs(3),
        keep_alive: Some(Duration::from_hours(5)),
        ..FakeEngine::default()
    }
}

fn offload(keep: &[&str]) -> Offload {
    Offload {
        engine: Engine::Ollama,
        url: Engine::Ollama.default_url().to_owned(),
        keep: keep.iter().map(ToString::to_string).collect(),
        idle_unload: None,
        context: Some(4096),
        request_grace: Some(Duration::from_secs(30)),
        cpu_fallback: CpuFallback::Refuse,
    }
}

/// A service that runs models, with 10 GiB of a GPU of 12.
fn with_models(keep: &[&str]) -> Service {
    Service { offload: Some(offload(keep)), ..with_gpu("ollama", 10, 20) }
}

/// Brings up a service whose engine has these models loaded, each after the other.
async fn loaded(machine: &Machine, service: Service, models: &[&str]) {
    machine.host.set_gpus(gpus(1));
    machine.host.set_engine(&name("ollama"), ollama());
    machine.up(&[service]).await;
    machine.until_well().await;
    for model in models {
        machine.host.ask_model(&name("ollama"), model);
        machine.host.finish_model(&name("ollama"), model);
        machine.pass(Duration::from_secs(15)).await;
    }
    machine.pass(Duration::from_mins(1)).await;
}

fn on_gpu(machine: &Machine) -> BTreeMap<String, u32> {
    machine.host.loaded_layers(&name("ollama"))
}

async fn told_of(machine: &Machine) -> OffloadService {
    machine.agent().offloads().await.unwrap().services.remove(0)
}

fn of_model<'a>(told: &'a OffloadService, model: &str) -> &'a OffloadModel {
    told.models.iter().find(|of| of.name == model).unwrap_or_else(|| panic!("no {model}: {told:#?}"))
}

/// Returns what was told of models since the last call.
fn news(events: &mut Receiver<std::sync::Arc<Update>>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.extend((event.event == "offload").then(|| event.message.clone()));
    }
    told
}

fn unloads(steps: &[Step]) -> usize {
    steps.iter().filter(|step| matches!(step, Step::Unload { .. })).count()
}

#[test]
fn models_give_way_one_by_one_and_come_back_and_their_container_runs_on() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&["llama3:8b"]), &["llama3:8b", "qwen3:4b", "gemma3:4b"]).await;
        assert_eq!(on_gpu(machine).len(), 3, "{:?}", on_gpu(machine));
        let (_, mut events) = machine.agent().watch();
        let right = machine.right_with_gpus();
        machine.host.clear_trace();
        let both = [with_models(&["llama3:8b"]), with_gpu("frigate", 4, 80)];
        machine.up(&both).await;
        machine.until_state("frigate", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["start frigate"]);
        machine.assert_kept(&right, "memory that is given back");
        // Only as much as is needed, and the one to be kept last.
        let left = on_gpu(machine);
        assert_eq!(
            left.keys().collect::<Vec<_>>(),
            ["gemma3:4b", "llama3:8b"],
            "the one that was asked longest ago went"
        );
        let told = news(&mut events);
        let has = |text: &str| told.iter().filter(|line| line.contains(text)).count();
        assert_eq!(has("unload qwen3:4b"), 2, "begun and done: {told:#?}");
        assert_eq!(has("frigate"), 1 + 1, "{told:#?}");
        assert!(told.iter().any(|line| line.contains("shrinks to") && line.contains("for frigate")), "{told:#?}");
        // While that lasts, the status says why.
        let status = machine.status().await;
        let reason = &of(&status, "ollama").reason;
        assert!(reason.contains("frigate"), "{}", shown(&status));
        machine.pass(Duration::from_mins(30)).await;
        assert_eq!(news(&mut events), Vec::<String>::new(), "nothing is told twice");

        machine.stop(&["frigate"]).await.unwrap();
        machine.pass(Duration::from_mins(5)).await;
        machine.assert_kept(&right, "memory that is taken again");
        assert!(news(&mut events).iter().any(|line| line.contains("may have 10G")));
        assert_eq!(of(&machine.status().await, "ollama").reason, "");
    });
}

#[test]
fn the_model_to_be_kept_gives_way_last_and_is_loaded_again() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&["llama3:8b"]), &["llama3:8b", "qwen3:4b"]).await;
        let right = machine.right_with_gpus();
        machine.up(&[with_models(&["llama3:8b"]), with_gpu("train", 11, 80)]).await;
        machine.until_state("train", ServiceState::Healthy).await;
        machine.assert_kept(&right, "all of its memory is given back");
        assert!(!on_gpu(machine).values().any(|layers| *layers == LAYERS), "{:?}", on_gpu(machine));
        let calls = machine.host.engine_calls(&name("ollama"));
        let first = calls.steps.iter().position(|step| step.model() == "qwen3:4b");
        let last = calls.steps.iter().rposition(|step| step.model() == "llama3:8b");
        assert!(first < last, "{:?}", calls.steps);
        machine.stop(&["train"]).await.unwrap();
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(on_gpu(machine).get("llama3:8b"), Some(&LAYERS), "{:?}", told_of(machine).await);
        machine.assert_kept(&right, "and taken again");
    });
}

#[test]
fn memory_that_others_take_is_given_back_too() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b", "qwen3:4b", "gemma3:4b"]).await;
        let right = machine.right_with_gpus();
        machine.host.set_gpus(foreign(gpus(1), 0, 5));
        machine.pass(Duration::from_mins(2)).await;
        assert_eq!(on_gpu(machine).len(), 2, "{:?}", told_of(machine).await);
        machine.assert_kept(&right, "what is no service's takes memory");
    });
}

#[test]
fn what_comes_and_goes_has_models_loaded_a_bounded_number_of_times() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&["llama3:8b"]), &["llama3:8b"]).await;
        let before = machine.host.engine_calls(&name("ollama")).loads;
        for _ in 0..60 {
            machine.host.set_gpus(foreign(gpus(1), 0, 11));
            machine.pass(Duration::from_secs(30)).await;
            machine.host.set_gpus(gpus(1));
            machine.pass(Duration::from_secs(30)).await;
        }
        let loads = machine.host.engine_calls(&name("ollama")).loads - before;
        assert!(loads <= 20, "{loads} loads in an hour");
    });
}

#[test]
fn an_engine_that_is_silent_does_not_keep_others_waiting() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b", "qwen3:4b", "gemma3:4b"]).await;
        let (_, mut events) = machine.agent().watch();
        machine.host.change_engine(&name("ollama"), |engine| engine.hangs = true);
        machine.host.clear_trace();
        machine.up(&[with_models(&[]), with_gpu("frigate", 6, 80)]).await;
        let begun = tokio::time::Instant::now();
        machine.until_state("frigate", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["stop ollama", "start frigate"]);
        assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.extend((event.service == "ollama").then(|| event.message.clone()));
        }
        let why = ["cannot be made to give video memory back: its engine does not answer", "waiting: needs 10G"];
        for part in why {
            assert_eq!(told.iter().filter(|line| line.starts_with(part)).count(), 1, "{part}: {told:#?}");
        }
        machine.host.change_engine(&name("ollama"), |engine| engine.hangs = false);
        machine.stop(&["frigate"]).await.unwrap();
        machine.until_state("ollama", ServiceState::Healthy).await;
        // One that nobody asks for anything, and that is silent for a while.
        for hangs in [true, false] {
            machine.host.change_engine(&name("ollama"), |engine| engine.hangs = hangs);
            machine.pass(Duration::from_mins(5)).await;
        }
        let told = news(&mut events);
        let has = |text: &str| told.iter().filter(|line| line.starts_with(text)).count();
        assert_eq!(has("cannot be made"), 0, "nobody asks for anything: {told:#?}");
    });
}

#[test]
fn a_model_that_leaves_keep_is_unloaded_when_nobody_asks_for_it() {
    for restarts in [false, true] {
        on_a_machine(async |machine| {
            loaded(machine, with_models(&["llama3:8b"]), &["llama3:8b"]).await;
            machine.pass(Duration::from_hours(1)).await;
            assert_eq!(on_gpu(machine).len(), 1, "it is to be kept");
            if restarts {
                // Who follows has not loaded it.
                machine.restart_agent().await;
                machine.pass(Duration::from_mins(1)).await;
            }
            machine.host.ask_model(&name("ollama"), "llama3:8b");
            machine.host.finish_model(&name("ollama"), "llama3:8b");
            machine.up(&[with_models(&[])]).await;
            machine.pass(Duration::from_mins(4)).await;
            assert_eq!(on_gpu(machine).len(), 1, "it was asked just now");
            machine.pass(Duration::from_mins(2)).await;
            assert_eq!(on_gpu(machine).len(), 0);
        });
    }
}

#[test]
fn one_that_cannot_give_back_is_stopped_as_ever() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b", "qwen3:4b", "gemma3:4b"]).await;
        machine.host.change_engine(&name("ollama"), |engine| engine.is_multi = false);
        machine.pass(Duration::from_mins(1)).await;
        machine.host.clear_trace();
        machine.up(&[with_models(&[]), with_gpu("frigate", 6, 80)]).await;
        machine.until_state("frigate", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["stop ollama", "start frigate"]);
    });
}

#[test]
fn an_agent_that_dies_on_the_way_goes_on_where_the_last_one_was() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b", "qwen3:4b", "gemma3:4b"]).await;
        let right = machine.right_with_gpus();
        machine.host.clear_trace();
        machine.up(&[with_models(&[]), with_gpu("frigate", 8, 80)]).await;
        for _ in 0..4 {
            machine.pass(Duration::from_secs(3)).await;
            machine.restart_agent().await;
        }
        machine.until_state("frigate", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["start frigate"]);
        machine.assert_kept(&right, "an agent that dies");
        // With models to be kept the next one knows of nothing that was given up.
        machine.restart_agent().await;
        machine.pass(Duration::from_mins(10)).await;
        assert!(on_gpu(machine).len() <= 1, "{:?}", on_gpu(machine));
        machine.assert_kept(&right, "an agent that dies");
    });
}

#[test]
fn a_busy_model_finishes_first() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b"]).await;
        machine.host.ask_model(&name("ollama"), "llama3:8b");
        machine.host.clear_trace();
        machine.up(&[with_models(&[]), with_gpu("train", 11, 80)]).await;
        machine.pass(Duration::from_secs(15)).await;
        assert_eq!(machine.trace(), Vec::<String>::new());
        machine.host.finish_model(&name("ollama"), "llama3:8b");
        machine.until_state("train", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["start train"]);
    });
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b"]).await;
        machine.host.ask_model(&name("ollama"), "llama3:8b");
        machine.host.clear_trace();
        machine.up(&[with_models(&[]), with_gpu("train", 11, 80)]).await;
        machine.until_state("train", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["stop ollama", "start train"], "its time was over");
    });
}

#[test]
fn a_model_on_the_cpu_is_told_and_makes_its_service_unhealthy_where_that_is_refused() {
    for (fallback, state) in
        [(CpuFallback::Refuse, ServiceState::Unhealthy), (CpuFallback::Warn, ServiceState::Healthy)]
    {
        on_a_machine(async |machine| {
            let mut service = with_models(&["llama3:8b"]).checked(OnUnhealthy::Report);
            service.offload.as_mut().unwrap().cpu_fallback = fallback;
            machine.host.set_gpus(gpus(1));
            machine.host.set_engine(&name("ollama"), FakeEngine { is_blind: true, ..ollama() });
            machine.up(&[service]).await;
            let (_, mut events) = machine.agent().watch();
            machine.pass(Duration::from_mins(3)).await;
            let ill = machine.service("ollama").await;
            assert_eq!(ill.state, state, "{ill:?}");
            assert!(ill.reason.contains("llama3:8b") && ill.reason.contains("CPU"), "{ill:?}");
            let told = news(&mut events);
            let begins = told.iter().filter(|line| line.starts_with("llama3:8b is not where")).count();
            assert_eq!(begins, 1, "{told:#?}");
            let of = told_of(machine).await;
            let model = of_model(&of, "llama3:8b");
            assert_eq!((model.state.as_str(), model.keep, model.layers), ("cpu", true, Some(0)));
            assert!(!model.incident.is_empty());
            let layers = machine.agent().gpu_doctor(Some("ollama".to_owned())).await.unwrap().layers;
            let layer =
                layers.iter().find(|layer| layer.layer == "models").unwrap_or_else(|| panic!("{layers:#?}"));
            let outcome = if fallback == CpuFallback::Refuse { "failed" } else { "warning" };
            assert_eq!((layer.outcome.as_str(), layer.service.as_deref()), (outcome, Some("ollama")), "{layer:?}");
            assert!(layer.found.contains("llama3:8b") && layer.found.contains("CPU"), "{layer:?}");
            assert_eq!(layer.remedy, model.hint);
            let page = metrics::shown(&machine.agent().page().await);
            let line = "nixmox_model_incident{name=\"ollama\",stack=\"cloud\",model=\"llama3:8b\"} 1";
            assert!(page.lines().any(|of| of == line), "{page}");

            // Another instance has another engine, and nothing is held against that.
            machine.host.change_engine(&name("ollama"), |engine| engine.is_blind = false);
            machine.restart(&["ollama"]).await.unwrap();
            machine.until_state("ollama", ServiceState::Healthy).await;
            machine.pass(Duration::from_mins(5)).await;
            assert_eq!(on_gpu(machine).get("llama3:8b"), Some(&LAYERS));
            assert_eq!(machine.service("ollama").await.reason, "");
            let layers = machine.agent().gpu_doctor(None).await.unwrap().layers;
            let layer = layers.iter().find(|layer| layer.layer == "models").unwrap();
            assert_eq!(
                (layer.outcome.as_str(), layer.found.contains("1 model is loaded")),
                ("ok", true),
                "{layer:?}"
            );
        });
    }
}

#[test]
fn a_guest_that_sees_no_gpu_is_restarted_less_and_less_often() {
    on_a_machine(async |machine| {
        let service = with_models(&["llama3:8b"]).checked(OnUnhealthy::Restart);
        machine.host.set_gpus(gpus(1));
        machine.host.set_engine(&name("ollama"), FakeEngine { is_blind: true, ..ollama() });
        machine.up(&[service]).await;
        machine.pass(Duration::from_mins(15)).await;
        let starts = |machine: &Machine| machine.count(&Operation::Start(name("ollama")));
        let first = starts(machine);
        assert!(first > 4, "it is restarted: {first}");
        machine.pass(Duration::from_hours(1)).await;
        let later = starts(machine) - first;
        assert!(later <= 12, "{later} starts in an hour, after {first}");
        assert!(machine.service("ollama").await.restarts > 4);

        // A model that is where it should be is proof that it works.
        machine.host.change_engine(&name("ollama"), |engine| engine.is_blind = false);
        machine.pass(Duration::from_mins(8)).await;
        assert_eq!(on_gpu(machine).get("llama3:8b"), Some(&LAYERS));
        let well = machine.service("ollama").await;
        assert_eq!((well.state, well.restarts), (ServiceState::Healthy, 0), "{well:?}");
    });
}

#[test]
fn two_engines_that_start_together_leave_each_other_what_they_were_promised() {
    on_a_machine(async |machine| {
        let other = |priority| Service { offload: Some(offload(&[])), ..with_gpu("llm", 5, priority) };
        let mine = || Service { offload: Some(offload(&[])), ..with_gpu("ollama", 6, 50) };
        // Whoever goes first, and is named first.
        for priority in [20, 80] {
            machine.host.set_gpus(gpus(1));
            machine.up(&[mine(), other(priority)]).await;
            machine.until_well().await;
            let grants = NotesFile::new(machine.state()).load().unwrap().grants;
            let margin =
                |text: &str| grants[&name(text)].environment["OLLAMA_GPU_OVERHEAD"].parse::<u64>().unwrap();
            // 12 GiB, of which a quarter is the driver's: what remains when both have theirs.
            let left = 12 * GIB - GIB / 4 - 6 * GIB - 5 * GIB;
            assert_eq!((margin("ollama"), margin("llm")), (left, left), "{priority}");
            machine.down().await;
        }
    });
}

#[test]
fn a_load_that_takes_longer_than_five_minutes_is_waited_for() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        // Requests are under way before it.
        machine.host.set_engine(&name("ollama"), ollama());
        machine.host.change_engine(&name("ollama"), |engine| engine.load_time = Duration::from_secs(1));
        machine.up(&[with_models(&[])]).await;
        machine.until_well().await;
        let (_, mut events) = machine.agent().watch();
        machine.host.change_engine(&name("ollama"), |engine| engine.load_time = Duration::from_mins(7));
        machine.up(&[with_models(&["llama3:8b"])]).await;
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(on_gpu(machine).get("llama3:8b"), Some(&LAYERS));
        let told = news(&mut events);
        assert!(!told.iter().any(|line| line.contains("failed")), "{told:#?}");
        assert_eq!(machine.host.engine_calls(&name("ollama")).steps.len(), 1, "{told:#?}");
    });
}

#[test]
fn memory_that_is_on_its_way_back_is_no_over_use() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b", "qwen3:4b", "gemma3:4b"]).await;
        let (_, mut events) = machine.agent().watch();
        machine.up(&[with_models(&[]), with_gpu("frigate", 8, 80)]).await;
        machine.until_state("frigate", ServiceState::Healthy).await;
        machine.pass(Duration::from_mins(5)).await;
        while let Ok(event) = events.try_recv() {
            assert!(!event.message.contains("nothing but its own programs"), "{event:?}");
        }
    });
}

#[test]
fn a_fit_tells_who_gives_memory_back_and_runs_on() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b", "qwen3:4b", "gemma3:4b"]).await;
        let share = nixmox_api::GpuShare::from(with_gpu("frigate", 6, 80).gpu.as_ref().unwrap());
        let fit = machine.agent().gpu_fit(GpuFitRequest { name: None, share: Some(share.clone()) }).await.unwrap();
        let [gives] = fit.gives.as_slice() else { panic!("{fit:#?}") };
        assert_eq!((gives.name.as_str(), gives.priority, fit.yields.len()), ("ollama", 20, 0), "{fit:#?}");
        // 12 GiB without what the driver has, and 6 for who asks.
        assert!((3 * GIB..=5 * GIB).contains(&gives.memory), "{fit:#?}");
        // One that cannot is stopped.
        machine.host.change_engine(&name("ollama"), |engine| engine.is_multi = false);
        machine.pass(Duration::from_mins(2)).await;
        let fit = machine.agent().gpu_fit(GpuFitRequest { name: None, share: Some(share) }).await.unwrap();
        assert_eq!((fit.gives.len(), fit.yields.len()), (0, 1), "{fit:#?}");
    });
}

#[test]
fn what_loads_take_is_measured_and_outlives_the_agent() {
    on_a_machine(async |machine| {
        let mut engine = ollama();
        // What the engine does not count.
        engine.models.insert("llama3:8b".to_owned(), FakeModel { overhead: 0, ..model() });
        machine.host.set_gpus(gpus(1));
        machine.host.set_engine(&name("ollama"), engine);
        machine.up(&[with_models(&["llama3:8b"])]).await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(5)).await;
        let noted = || NotesFile::new(machine.state()).load().unwrap().measured;
        let measured = noted();
        let [(load, bytes)] = measured.as_slice() else { panic!("{measured:?}") };
        assert_eq!(
            (load.model.as_str(), load.context, load.parallel, load.layers),
            ("digest of llama3:8b", 4096, 1, LAYERS)
        );
        assert_eq!((load.kv, *bytes), (KvType::F16, Bytes(u64::from(LAYERS) * LAYER)));

        let looked = std::time::Instant::now();
        let written = std::fs::metadata(machine.state().join("notes.json")).unwrap().modified().unwrap();
        machine.pass(Duration::from_mins(10)).await;
        let again = std::fs::metadata(machine.state().join("notes.json")).unwrap().modified().unwrap();
        assert_eq!(written, again, "the same is not written again and again ({:?})", looked.elapsed());

        machine.restart_agent().await;
        machine.pass(Duration::from_mins(1)).await;
        let reply = machine.agent().offload_model("ollama".to_owned(), "llama3:8b".to_owned()).await.unwrap();
        assert_eq!(reply.measured.len(), 1);
        assert_eq!((reply.measured[0].bytes, reply.measured[0].kv.as_str()), (bytes.0, "f16"));
        assert_eq!((reply.gpus.len(), reply.gpus[0].total, reply.gpus[0].free), (1, 12 * GIB, 10 * GIB));
        assert!(reply.tensors.len() > 9 && !reply.metadata.is_empty());
    });
}

#[test]
fn what_was_measured_is_found_by_a_name_without_its_tag() {
    on_a_machine(async |machine| {
        let engine = FakeEngine { models: BTreeMap::from([("llama3:latest".to_owned(), model())]), ..ollama() };
        machine.host.set_gpus(gpus(1));
        machine.host.set_engine(&name("ollama"), engine);
        machine.up(&[with_models(&["llama3:latest"])]).await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(5)).await;
        for (asked, measured) in [("llama3:latest", 1), ("llama3", 1), ("Llama3", 1)] {
            let reply = machine.agent().offload_model("ollama".to_owned(), asked.to_owned()).await.unwrap();
            assert_eq!(reply.measured.len(), measured, "{asked}");
        }
    });
}

#[test]
fn models_are_asked_about_once() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&["llama3:8b"]), &["qwen3:4b"]).await;
        machine.pass(Duration::from_hours(1)).await;
        let mut shown = machine.host.engine_calls(&name("ollama")).shown;
        shown.sort();
        shown.dedup();
        assert_eq!(shown, ["llama3:8b", "qwen3:4b"]);
        assert!(machine.host.engine_calls(&name("ollama")).shown.len() <= 4, "a name, and then its digest");
    });
}

#[test]
fn a_step_that_fails_is_told_and_not_repeated_at_once() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine
            .host
            .set_engine(&name("ollama"), FakeEngine { refuses: Some("out of order".to_owned()), ..ollama() });
        let (_, mut events) = machine.agent().watch();
        machine.up(&[with_models(&["llama3:8b"])]).await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(30)).await;
        let told = news(&mut events);
        let failed = told.iter().filter(|line| line.contains("failed") && line.contains("out of order")).count();
        assert!((1..20).contains(&failed), "{told:#?}");
        let page = metrics::shown(&machine.agent().page().await);
        let line = format!("nixmox_step_failures_total{{step=\"model-load\"}} {failed}");
        assert!(page.lines().any(|of| of == line), "{line}: {page}");
    });
}

#[test]
fn an_engine_is_started_with_what_holds_it_to_its_budget_and_runs_on_with_that() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.host.set_engine(&name("ollama"), ollama());
        machine.up(&[with_models(&[])]).await;
        machine.until_well().await;
        let grant = || NotesFile::new(machine.state()).load().unwrap().grants[&name("ollama")].clone();
        let begun = grant();
        // 12 GiB, of which 10 are its own, and a quarter is the driver's.
        let overhead: u64 = begun.environment["OLLAMA_GPU_OVERHEAD"].parse().unwrap();
        assert_eq!(overhead, 12 * GIB - GIB / 4 - 10 * GIB);
        assert_eq!(begun.environment["OLLAMA_CONTEXT_LENGTH"], "4096");
        let right = machine.right_with_gpus();
        machine.host.set_gpus(foreign(gpus(1), 0, 6));
        machine.pass(Duration::from_mins(1)).await;
        assert!(grant().budget < begun.budget, "{:?}", grant());
        assert_eq!(grant().environment, begun.environment);
        machine.assert_kept(&right, "a budget that shrinks");
    });
}

#[test]
fn what_others_were_promised_is_not_left_free_a_second_time() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.host.set_engine(&name("ollama"), ollama());
        // It uses nothing yet, and both start in the same moment.
        machine.up(&[with_gpu("cam", 1, 90), with_models(&[])]).await;
        machine.until_well().await;
        let grants = NotesFile::new(machine.state()).load().unwrap().grants;
        let overhead: u64 = grants[&name("ollama")].environment["OLLAMA_GPU_OVERHEAD"].parse().unwrap();
        assert_eq!(overhead, 12 * GIB - GIB / 4 - GIB - 10 * GIB);
    });
}

#[test]
fn without_a_service_that_runs_models_nobody_is_asked() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.host.set_engine(&name("ollama"), ollama());
        machine.up(&[with_gpu("ollama", 10, 20)]).await;
        machine.until_well().await;
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.host.engine_calls(&name("ollama")).looks, 0);
        assert!(machine.agent().offloads().await.unwrap().services.is_empty());
        let refused = machine.agent().offload_model("ollama".to_owned(), "llama3:8b".to_owned()).await.unwrap_err();
        assert!(matches!(&refused, AgentError::Refused { reason, .. } if reason.contains("ollama")), "{refused:?}");
        let unknown = machine.agent().offload_model("nobody".to_owned(), "llama3:8b".to_owned()).await.unwrap_err();
        assert!(matches!(unknown, AgentError::UnknownService { .. }), "{unknown:?}");

        // And of one that is down neither.
        machine.up(&[with_models(&[])]).await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(1)).await;
        let looks = machine.host.engine_calls(&name("ollama")).looks;
        assert!(looks > 0);
        machine.stop(&["ollama"]).await.unwrap();
        machine.until_state("ollama", ServiceState::Stopped).await;
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(machine.host.engine_calls(&name("ollama")).looks, looks);
        assert_eq!(told_of(machine).await.state, "down");
    });
}

#[test]
fn looks_are_made_as_often_as_needed() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b"]).await;
        let before = machine.host.engine_calls(&name("ollama")).looks;
        machine.pass(Duration::from_mins(10)).await;
        let looks = machine.host.engine_calls(&name("ollama")).looks - before;
        assert!((50..=62).contains(&looks), "{looks} looks in ten minutes");
    });
}

#[test]
fn a_new_instance_is_a_new_engine() {
    on_a_machine(async |machine| {
        loaded(machine, with_models(&[]), &["llama3:8b"]).await;
        let told = told_of(machine).await;
        assert_eq!((told.state.as_str(), told.models.len()), ("answers", 1), "{told:#?}");
        assert_eq!(
            (told.version.as_str(), told.budget, told.used),
            ("0.30.0", Some(10 * GIB), Some(u64::from(LAYERS) * LAYER))
        );
        machine.restart(&["ollama"]).await.unwrap();
        machine.until_well().await;
        assert_eq!(told_of(machine).await.models.len(), 0, "what was loaded before is gone at once");
        machine.pass(Duration::from_secs(15)).await;
        let told = told_of(machine).await;
        assert_eq!((told.state.as_str(), told.models.len()), ("answers", 0), "{told:#?}");
    });
}

#[test]
fn steps_are_the_arbiters() {
    // What is asked is what was decided: no step is made up on the way, and none has an empty name.
    on_a_machine(async |machine| {
        loaded(machine, with_models(&["llama3:8b", "qwen3:4b"]), &["gemma3:4b"]).await;
        machine.up(&[with_models(&["llama3:8b", "qwen3:4b"]), with_gpu("frigate", 8, 80)]).await;
        machine.until_state("frigate", ServiceState::Healthy).await;
        let steps = machine.host.engine_calls(&name("ollama")).steps;
        assert!(steps.iter().all(|step| !step.model().is_empty()), "{steps:?}");
        assert!(unloads(&steps) >= 1, "{steps:?}");
        let on_cpu = Setting { layers: Layers::Exactly(0), context: None };
        let is_on_cpu = |step: &Step| matches!(step, Step::Load { setting, .. } if setting.layers == on_cpu.layers);
        assert!(!steps.iter().any(is_on_cpu), "that is refused: {steps:?}");
        assert_eq!(machine.count(&Operation::Stop(name("ollama"))), 0);
    });
}
