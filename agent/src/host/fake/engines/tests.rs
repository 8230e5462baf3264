//! Simulated engines behave as engines do where the arbiter depends on it.

use std::collections::BTreeSet;

use nixmox_core::container::Files;
use nixmox_core::gpu::{Gpu, Inventory, Memory, Part, Sensors};
use nixmox_core::model::{Assigned, CpuFallback, GpuStanding, Network, Service, Spec, System, Vendor};

use super::super::Host;
use super::*;

const GIB: u64 = 1 << 30;
const SECOND: Duration = Duration::from_secs(1);

fn llm() -> ContainerName {
    "llm".parse().unwrap()
}

fn offload() -> Offload {
    Offload {
        engine: Engine::Ollama,
        url: Engine::Ollama.default_url().to_owned(),
        keep: Vec::new(),
        idle_unload: None,
        context: None,
        request_grace: None,
        cpu_fallback: CpuFallback::Refuse,
    }
}

fn load(model: &str, layers: Layers) -> Step {
    Step::Load { model: model.to_owned(), setting: Setting { layers, context: None }, keep: false }
}

fn unload(model: &str) -> Step {
    Step::Unload { model: model.to_owned() }
}

async fn start(host: &Fake) {
    let system = System::Store(format!("/nix/store/{}-x", "a".repeat(32)).parse().unwrap());
    let plain = Service::new(llm(), "test".parse().unwrap(), system);
    let service = Service { network: Network::Host, ..plain };
    let assigned = Assigned { service, addresses: None, gpu: GpuStanding::None };
    let files = Files { spec: Spec::default(), conf: None, drop_in: String::new(), environment: None };
    host.start(&assigned, &files).await.unwrap();
}

/// A machine with one GPU of 16 GiB, and an engine with a model of 10 layers of 1 GiB.
async fn machine(engine: FakeEngine) -> Fake {
    let host = Fake::new();
    let gpu = Gpu {
        id: "GPU-0".parse().unwrap(),
        vendor: Vendor::Nvidia,
        index: 0,
        name: "simulated".to_owned(),
        part: Part::Whole,
        pci: None,
        memory: Some(Memory { total: Bytes(16 * GIB), reserved: Bytes(0), used: Bytes(0) }),
        shares_memory: false,
        nodes: Vec::new(),
        sensors: Sensors::default(),
        processes: Vec::new(),
    };
    host.set_gpus(Inventory { gpus: vec![gpu], ..Inventory::default() });
    let models =
        BTreeMap::from([("big".to_owned(), FakeModel::of(10, GIB)), ("small".to_owned(), FakeModel::of(2, GIB))]);
    host.set_engine(&llm(), FakeEngine { models, ..engine });
    start(&host).await;
    host
}

async fn used(host: &Fake) -> u64 {
    host.gpus().await.gpus[0].memory.unwrap().used.0 / GIB
}

async fn change(host: &Fake, step: &Step) -> Result<(), String> {
    host.change_model(&llm(), &offload(), step).await.map_err(|error| error.to_string())
}

async fn view(host: &Fake) -> EngineView {
    match host.look_at_engine(&llm(), &offload()).await {
        EngineSeen::Answers(view) => view,
        EngineSeen::Silent(why) => panic!("{why}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_takes_memory_by_its_layers() {
    let host = machine(FakeEngine::default()).await;
    change(&host, &load("big", Layers::Auto)).await.unwrap();
    assert_eq!((used(&host).await, host.loaded_layers(&llm())), (10, BTreeMap::from([("big".to_owned(), 10)])));
    change(&host, &load("big", Layers::Exactly(4))).await.unwrap();
    assert_eq!(used(&host).await, 4, "loaded anew");
    change(&host, &load("big", Layers::Exactly(4))).await.unwrap();
    let calls = host.engine_calls(&llm());
    assert_eq!((calls.loads, calls.steps.len()), (2, 3), "the third changed nothing");
    host.use_vram(&llm(), "GPU-0", GIB);
    assert_eq!(used(&host).await, 5, "beside what it uses otherwise");
    let seen = view(&host).await;
    assert_eq!(seen.loaded[0].size_vram, Some(Bytes(4 * GIB)));
    assert_eq!(seen.loaded[0].size, Some(Bytes(10 * GIB)));
}

#[tokio::test(start_paused = true)]
async fn by_itself_it_takes_what_is_free_and_no_more_than_it_may() {
    let host = machine(FakeEngine { leaves_free: 3 * GIB, ..FakeEngine::default() }).await;
    host.use_vram(&llm(), "GPU-0", 6 * GIB);
    change(&host, &load("big", Layers::Auto)).await.unwrap();
    assert_eq!(host.loaded_layers(&llm())["big"], 7);
    host.change_engine(&llm(), |engine| engine.takes_at_most = 8 * GIB);
    change(&host, &load("small", Layers::Auto)).await.unwrap();
    assert_eq!(host.loaded_layers(&llm())["small"], 0, "the rest is left free");
    assert!(change(&host, &load("big", Layers::Exactly(10))).await.is_ok());
    let error = change(&host, &load("small", Layers::Exactly(2))).await.unwrap_err();
    assert!(error.contains("out of memory"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn memory_comes_back_later_than_the_answer_and_a_busy_model_finishes_first() {
    let host = machine(FakeEngine { memory_delay: 3 * SECOND, ..FakeEngine::default() }).await;
    host.ask_model(&llm(), "big");
    change(&host, &unload("big")).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!((used(&host).await, view(&host).await.loaded.len()), (10, 1), "a request is under way");
    host.finish_model(&llm(), "big");
    assert_eq!((used(&host).await, view(&host).await.loaded.len()), (10, 0), "gone, but its memory is not free");
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(used(&host).await, 0);
    assert_eq!(host.engine_calls(&llm()).unloads, 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_model_is_loaded_anew_after_its_request() {
    let host = machine(FakeEngine::default()).await;
    host.ask_model(&llm(), "big");
    let (asked, other) = (Instant::now(), host.clone());
    let waits = tokio::spawn(async move { change(&other, &load("big", Layers::Exactly(1))).await });
    tokio::time::sleep(20 * SECOND).await;
    assert!(!waits.is_finished());
    host.finish_model(&llm(), "big");
    waits.await.unwrap().unwrap();
    assert!(asked.elapsed() >= 20 * SECOND && asked.elapsed() < 21 * SECOND);
    host.ask_model(&llm(), "big");
    let began = Instant::now();
    let error = change(&host, &load("big", Layers::Exactly(2))).await.unwrap_err();
    assert!(error.contains("no answer in time") && began.elapsed() >= LOAD_LIMIT, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_nobody_asks_goes_by_itself() {
    let host = machine(FakeEngine { keep_alive: Some(60 * SECOND), ..FakeEngine::default() }).await;
    host.ask_model(&llm(), "small");
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(used(&host).await, 2, "a request is under way");
    host.finish_model(&llm(), "small");
    let first = view(&host).await.loaded[0].expires_usec.unwrap();
    tokio::time::sleep(30 * SECOND).await;
    host.ask_model(&llm(), "small");
    host.finish_model(&llm(), "small");
    assert_eq!(view(&host).await.loaded[0].expires_usec.unwrap() - first, 30_000_000, "asked again");
    tokio::time::sleep(61 * SECOND).await;
    assert_eq!(used(&host).await, 0);
    let kept = Step::Load { model: "small".to_owned(), setting: OF_ITS_OWN, keep: true };
    change(&host, &kept).await.unwrap();
    tokio::time::sleep(1000 * SECOND).await;
    let expires = async || view(&host).await.loaded[0].expires_usec.unwrap();
    let first = expires().await;
    assert!(used(&host).await == 2 && first > FOR_EVER);
    host.ask_model(&llm(), "small");
    host.finish_model(&llm(), "small");
    assert_eq!(expires().await - first, 1_000_000_000, "for good, from each request on");
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_of_the_container_has_nothing_loaded() {
    let host = machine(FakeEngine::default()).await;
    change(&host, &load("big", Layers::Auto)).await.unwrap();
    host.stop(&llm()).await.unwrap();
    assert_eq!(used(&host).await, 0);
    assert!(matches!(host.look_at_engine(&llm(), &offload()).await, EngineSeen::Silent(_)));
    start(&host).await;
    assert_eq!((used(&host).await, view(&host).await.loaded), (0, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_hangs_refuses_or_is_another_says_so_in_its_time() {
    let host = machine(FakeEngine { refuses: Some("no".to_owned()), ..FakeEngine::default() }).await;
    assert_eq!(
        change(&host, &load("big", Layers::Auto)).await.unwrap_err(),
        "the ollama of `llm` did not load big: no"
    );
    host.change_engine(&llm(), |engine| engine.hangs = true);
    let began = Instant::now();
    let seen = host.look_at_engine(&llm(), &offload()).await;
    assert_eq!((seen, began.elapsed()), (EngineSeen::Silent("no answer in time".to_owned()), LOOK_LIMIT));
    host.change_engine(&llm(), |engine| (engine.hangs, engine.refuses, engine.is_multi) = (false, None, false));
    assert!(change(&host, &unload("big")).await.unwrap_err().contains("as long as it runs"));
    let other = Offload { engine: Engine::LlamaServer, ..offload() };
    assert!(matches!(host.look_at_engine(&llm(), &other).await, EngineSeen::Silent(_)));
}

#[tokio::test(start_paused = true)]
async fn it_tells_what_its_models_are_made_of() {
    let host = machine(FakeEngine::default()).await;
    let header = host.show_model(&llm(), &offload(), "big").await.unwrap();
    let model = nixmox_core::offload::model::Model::of(&[header]).unwrap();
    assert_eq!(model.layers.len(), 9, "the output counts as one");
    assert!(host.show_model(&llm(), &offload(), "none").await.unwrap_err().to_string().contains("not found"));
    let known: BTreeSet<_> = view(&host).await.available.into_iter().collect();
    assert_eq!(known, BTreeSet::from(["big".to_owned(), "small".to_owned()]));
    assert_eq!(host.engine_calls(&llm()).shown, ["big", "none"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_open_its_gpu_is_on_the_cpu_without_a_word() {
    let host = machine(FakeEngine { is_blind: true, ..FakeEngine::default() }).await;
    change(&host, &load("small", Layers::Auto)).await.unwrap();
    assert_eq!((used(&host).await, view(&host).await.loaded[0].size_vram), (0, Some(Bytes(0))));
}
