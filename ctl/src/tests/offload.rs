//! `offload` and `offload estimate`: every view, every exit code, and whatever an engine or a file may say.

use std::path::Path;

use insta::assert_snapshot;
use nixmox_api::{AgentError, OffloadModel, OffloadModelReply, OffloadService, OffloadsReply};
use serde_json::{Value, json};

use crate::render::width;
use crate::testing::{Agent, Place, Ran, Script, models};

/// Returns what `offload` says on a terminal.
fn shown(reply: &OffloadsReply, columns: usize, arguments: &str) -> String {
    let agent = Agent::start(Script::default().reply("Offloads", reply));
    let ran = Place::with(&agent).on_terminal(columns).run(arguments);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    ran.out
}

#[test]
fn models_are_told_with_where_they_are_and_what_was_decided() {
    assert_snapshot!(shown(&models::reply(), 80, "offload"));
}

#[test]
fn a_narrow_screen_has_what_matters_most() {
    assert_snapshot!(shown(&models::reply(), 50, "offload ollama"));
}

#[test]
fn where_there_is_nothing_but_ascii_the_same_is_told_in_it() {
    let agent = Agent::start(Script::default().reply("Offloads", &models::reply()));
    let ran = Place { is_ascii: true, ..Place::with(&agent).on_terminal(80) }.run("offload");
    assert!(ran.out.is_ascii(), "{}", ran.out);
    let lengths = |text: &str| text.lines().map(width).collect::<Vec<_>>();
    assert_eq!(lengths(&ran.out), lengths(&shown(&models::reply(), 80, "offload")));
}

#[test]
fn where_nothing_runs_models_that_is_what_is_said() {
    assert_eq!(shown(&OffloadsReply::default(), 80, "offload"), "no service has a table `offload`\n");
}

#[test]
fn one_service_is_told_where_one_is_named() {
    let text = shown(&models::reply(), 80, "offload spare");
    assert!(text.contains("spare") && !text.contains("llama3.1"), "{text}");
    let agent = Agent::start(Script::default().reply("Offloads", &models::reply()));
    let ran = Place::with(&agent).run("offload ollam");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("there is no service with models `ollam`"), "{}", ran.err);
    assert!(ran.err.contains("did you mean `ollama`?"), "{}", ran.err);
}

#[test]
fn programs_get_what_the_agent_said_of_models() {
    let reply = models::reply();
    let agent = Agent::start(Script::default().reply("Offloads", &reply));
    let ran = Place::with(&agent).run("offload --json");
    assert_eq!(serde_json::from_str::<OffloadsReply>(&ran.out).unwrap(), reply);
    let ran = Place::with(&agent).run("offload --json ollama");
    assert_eq!(serde_json::from_str::<OffloadsReply>(&ran.out).unwrap().services, reply.services[1..2]);
    assert_eq!(Place::with(&agent).run("offload -s cloud").code, 2, "models are told of the whole host");
}

#[test]
fn an_agent_that_knows_nothing_of_models_is_named_as_the_cause() {
    let agent = Agent::start(Script::default().unknown("Offloads").version("0.0.9"));
    let ran = Place::with(&agent).run("offload");
    assert!(ran.code == 1 && ran.err.contains("0.0.9"), "{ran:?}");
}

#[test]
fn what_an_engine_says_steers_no_terminal_and_breaks_no_line() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{202e}日本語".repeat(9);
    let all = Some(u64::MAX);
    let model = OffloadModel {
        name: evil.clone(),
        state: evil.clone(),
        size: all,
        size_vram: all,
        layers: Some(u32::MAX),
        layers_all: Some(0),
        context: Some(u32::MAX),
        incident: evil.clone(),
        hint: evil.clone(),
        ..OffloadModel::default()
    };
    let mut service = OffloadService {
        state: evil.clone(),
        reason: evil.clone(),
        version: evil.clone(),
        memory_engine: evil.clone(),
        decision: evil.clone(),
        budget: all,
        used: all,
        models: vec![model],
        ..models::service(&evil, "")
    };
    service.offload.engine.clone_from(&evil);
    let reply = OffloadsReply { services: vec![service] };
    for columns in [20, 33, 80, 200] {
        let text = shown(&reply, columns, "offload");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']), "{text:?}");
    }
}

/// Runs `offload estimate` on a model of 32 layers in a file.
fn estimated(arguments: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llama.gguf"), models::llama(32)).unwrap();
    let place = Place::in_folder(folder.path()).on_terminal(80);
    place.run(&format!("offload estimate llama.gguf {arguments}"))
}

fn json_of(arguments: &str) -> Value {
    let ran = estimated(&format!("{arguments} --json"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn without_a_budget_a_model_is_told_with_what_it_needs() {
    let ran = estimated("--engine 0.12.10");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_snapshot!(ran.out);
}

#[test]
fn what_does_not_fit_is_told_with_what_would_help() {
    let ran = estimated("--vram 12G --total 24G --context 8192 --engine 0.12.10");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_snapshot!(ran.out);
}

#[test]
fn the_formula_is_that_of_the_engines_version() {
    let formula = |engine: &str| json_of(&format!("--vram 20G --engine {engine}"))["formula"].clone();
    let formulas = ["0.12.10", "0.20.0", "b11434"].map(formula);
    assert!(formulas[0] != formulas[1] && formulas[1] != formulas[2], "{formulas:?}");
    assert_eq!(formula("0.33.0"), formula("llama-server"));
    assert_eq!(json_of("--vram 20G")["engine"], "ollama");
}

#[test]
fn what_is_said_to_be_enough_is_enough_and_a_step_less_is_not() {
    for engine in ["0.12.10", "0.20.0", "b11434"] {
        let common = format!("--context 4096 --engine {engine} --total 48G");
        let outcome = json_of(&format!("--vram 12G {common}"));
        let layers = outcome["layers"].as_u64().unwrap();
        assert!((1..33).contains(&layers), "{engine}: {outcome}");
        let enough = outcome["enough"].as_array().unwrap();
        let told: Vec<u64> = enough.iter().map(|enough| enough["layers"].as_u64().unwrap()).collect();
        assert_eq!(told, [layers, layers + 1, 33], "{engine}: {outcome}");
        // Of the others the last is enough: what is looked for is the same.
        let looked_at = if engine == "0.12.10" { 0 } else { 2 };
        for (index, wanted) in told.into_iter().enumerate().skip(looked_at) {
            let from = enough[index]["vram"].as_u64().unwrap();
            let with = |vram: u64| json_of(&format!("--vram {vram} {common}"))["layers"].as_u64().unwrap();
            assert!(with(from) >= wanted && with(from - (16 << 20)) < wanted, "{engine}: {wanted} from {from}");
        }
    }
}

#[test]
fn what_is_laid_out_fits_the_budget_with_what_the_driver_takes() {
    for budget in ["--vram 12G", "--vram 6G", "--vram 12G --gpus 2"] {
        let outcome = json_of(&format!("{budget} --context 4096 --engine b11434"));
        let number = |key: &str| outcome[key].as_u64().unwrap();
        assert!(number("layers") > 0 && number("gpu") <= number("vram"), "{budget}: {outcome}");
    }
}

#[test]
fn what_is_said_to_fit_keeps_to_what_may_be_used_of_each_gpu() {
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap();
    let mut verdicts = [0, 0];
    for engine in ["0.6.8", "0.12.10", "0.20.0", "0.33.0", "b11434"] {
        for (vram, gpus) in [(0, 1), (12, 1), (17, 1), (20, 2), (24, 3)] {
            let outcome = json_of(&format!("--vram {vram}G --gpus {gpus} --context 4096 --engine {engine}"));
            let of_each = (vram << 30) / gpus;
            let places = outcome["places"].as_array().unwrap();
            let over = places.iter().rev().skip(1).map(|place| number(place, "total").saturating_sub(of_each));
            assert_eq!(over.sum::<u64>(), number(&outcome, "over"), "{engine}, {vram}G on {gpus}: {outcome}");
            let fits = outcome["fits"].as_bool().unwrap();
            assert!(!fits || number(&outcome, "gpu") <= vram << 30, "{engine}, {vram}G on {gpus}: {outcome}");
            verdicts[usize::from(fits)] += 1;
            for other in outcome["alternatives"].as_array().unwrap() {
                let fits = other["fits"].as_bool().unwrap();
                assert!(!fits || number(other, "gpu") <= vram << 30, "{engine}, {vram}G on {gpus}: {outcome}");
            }
            for enough in outcome["enough"].as_array().unwrap() {
                let (layers, vram) = (number(enough, "layers"), number(enough, "vram"));
                let again = json_of(&format!("--vram {vram} --gpus {gpus} --context 4096 --engine {engine}"));
                assert!(number(&again, "layers") >= layers, "{engine}: {again}");
                assert_eq!(number(&again, "over"), 0, "{engine}, {layers} layers from {vram} on {gpus}: {again}");
            }
        }
    }
    assert!(verdicts.iter().all(|count| *count > 4), "{verdicts:?}");
}

#[test]
fn nothing_is_on_a_gpu_of_which_nothing_may_be_used() {
    for engine in ["0.6.8", "0.12.10", "0.20.0", "0.33.0", "b11434"] {
        for asked in ["", "--gpus 2", "--layers 7"] {
            let outcome = json_of(&format!("--vram 0 --total 24G --engine {engine} {asked}"));
            assert_eq!(
                (&outcome["gpu"], &outcome["layers"], &outcome["fits"]),
                (&json!(0), &json!(0), &json!(false))
            );
            let gpus = if asked == "--gpus 2" { 2 } else { 1 };
            assert_eq!(outcome["places"].as_array().unwrap().len(), gpus + 1, "{outcome}");
        }
    }
}

#[test]
fn layers_that_are_asked_for_and_do_not_fit_are_not_said_to_fit() {
    for engine in ["0.12.10", "0.20.0", "b11434"] {
        for layers in [33, 30] {
            let ran = estimated(&format!("--vram 8G --context 4096 --engine {engine} --layers {layers}"));
            assert!(
                ran.out.starts_with('✗') && ran.out.contains("more than there is of 8.0G"),
                "{engine}: {}",
                ran.out
            );
        }
    }
    let measured = OffloadModelReply { measured: vec![models::measured(33, 21 << 30)], ..models::served(32) };
    let (ran, _) = asked(&measured, &models::reply(), "ollama:llama3.1:8b");
    assert!(ran.out.contains("33 layers need 21.0G, 1.0G more"), "{}", ran.out);
}

#[test]
fn options_reach_the_formula() {
    let base = "--vram 12G --total 24G --context 4096 --engine 0.12.10";
    let sum = |outcome: &Value, part: &str| -> u64 {
        outcome["places"].as_array().unwrap().iter().map(|place| place[part].as_u64().unwrap()).sum()
    };
    let (plain, long) = (json_of(base), json_of(&base.replace("4096", "32768")));
    assert!(sum(&long, "cache") > sum(&plain, "cache"), "{long}");
    let parallel = json_of(&format!("{base} --parallel 4"));
    assert!(sum(&parallel, "cache") > sum(&plain, "cache"), "{parallel}");
    // Said to be left to the engine is as much as not said.
    for engine in ["ollama", "llama-server"] {
        let left = json_of(&format!("--vram 12G --engine {engine} --parallel 0"));
        assert_eq!(left, json_of(&format!("--vram 12G --engine {engine}")));
        assert_eq!(left["parallel"], u32::from(engine == "ollama"), "{left}");
    }
    let small = json_of(&format!("{base} --kv q8_0"));
    assert!(sum(&small, "cache") < sum(&plain, "cache"), "{small}");
    assert_eq!((&small["kv"], &small["flash_attention"]), (&json!("q8_0"), &json!(true)));
    assert_eq!(json_of(&format!("{base} --layers 7"))["layers"], 7);
    assert_eq!(json_of(&format!("{base} --gpus 2"))["places"].as_array().unwrap().len(), 3);
    let none = json_of(&format!("{base} --gpus 0"));
    assert_eq!((&none["layers"], &none["enough"]), (&json!(0), &json!([])));
    assert_eq!(json_of(&format!("{base} --flash-attention yes"))["flash_attention"], true);
    assert_eq!(plain["flash_attention"], false);
}

#[test]
fn every_other_setting_is_told_beside_the_one_that_is() {
    let outcome = json_of("--vram 12G --total 24G --context 8192 --engine 0.12.10");
    let settings = outcome["alternatives"].as_array().unwrap().iter().map(|other| other["setting"].clone());
    let settings: Vec<Value> = settings.collect();
    assert_eq!(settings, ["as it is", "kv q8_0", "kv q4_0", "context 4096", "context 16384"]);
    let bounded = json_of("--vram 12G --total 24G --context 256 --kv q8_0 --engine 0.12.10");
    let settings = bounded["alternatives"].as_array().unwrap().iter().map(|other| other["setting"].clone());
    assert_eq!(settings.collect::<Vec<_>>(), ["as it is", "kv f16", "kv q4_0", "context 512"]);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_read() {
    for wrong in [
        "--vram much",
        "--vram 8",
        "--vram 1048575",
        "--total 24",
        "--engine b0",
        "--vram 24G --total 12G",
        "--context 255",
        "--context 10000001",
        "--parallel 1025",
        "--kv q9",
        "--kv q8_0 --flash-attention no",
        "--gpus 65",
        "--flash-attention maybe",
        "--engine vllm",
    ] {
        let ran = estimated(wrong);
        assert!(ran.code == 2 && ran.out.is_empty() && !ran.err.is_empty(), "{wrong}: {ran:?}");
    }
}

/// Returns the complaint about a file of this name and content.
fn refused(name: &str, content: Option<&[u8]>) -> String {
    let folder = tempfile::tempdir().unwrap();
    if let Some(content) = content {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    complaint(folder.path(), name)
}

fn complaint(folder: &Path, name: &str) -> String {
    let ran = Place::in_folder(folder).on_terminal(80).run(&format!("offload estimate {name}"));
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{name}: {ran:?}");
    ran.told(folder)
}

#[test]
fn a_file_that_is_no_model_is_told_with_why_and_a_way_out() {
    let llama = models::llama(2);
    let text = |text: &str| models::Value::Text(text.to_owned());
    let projector = models::file(&[("general.architecture", text("clip"))], &[]);
    let part = |number| {
        let split = [("split.no", models::Value::Number(number)), ("split.count", models::Value::Number(3))];
        models::file(&[&[("general.architecture", text("llama"))], &split[..]].concat(), &[])
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder.gguf")).unwrap();
    for (name, told) in
        [(".", "is no file"), ("..", "is no file"), ("hf.co/user/model:Q4", "SERVICE:hf.co/user/model:Q4")]
    {
        let told_of = complaint(folder.path(), name);
        assert!(told_of.contains(told), "{name}: {told_of}");
    }
    let missing = tempfile::tempdir().unwrap();
    let first = models::split(missing.path(), 2);
    std::fs::remove_file(missing.path().join("llama-00002-of-00003.gguf")).unwrap();
    let all = [
        refused("gone.gguf", None),
        refused("model.gguf", Some(b"")),
        refused("model.gguf", Some(b"PK\x03\x04 not a model at all")),
        refused("model.gguf", Some(&llama[..llama.len() / 2])),
        refused("mmproj.gguf", Some(&projector)),
        refused("x-00002-of-00003.gguf", Some(&part(1))),
        refused("second.gguf", Some(&part(1))),
        refused("first.gguf", Some(&part(0))),
        refused("no-model.gguf", Some(&models::file(&[], &[]))),
        complaint(folder.path(), "folder.gguf"),
        complaint(missing.path(), first.file_name().unwrap().to_str().unwrap()),
    ];
    assert_snapshot!(all.join("\n"));
}

#[test]
fn of_a_model_that_is_split_all_parts_count() {
    let folder = tempfile::tempdir().unwrap();
    let first = models::split(folder.path(), 8);
    std::fs::write(folder.path().join("whole.gguf"), models::llama(8)).unwrap();
    let place = Place::in_folder(folder.path());
    let outcome = |name: &str| {
        let ran = place.run(&format!("offload estimate {name} --vram 4G --engine 0.12.10 --json"));
        let mut outcome: Value = serde_json::from_str(&ran.out).unwrap();
        outcome["model"] = Value::Null;
        outcome
    };
    let parts = outcome(first.file_name().unwrap().to_str().unwrap());
    assert_eq!(parts, outcome("./whole.gguf"));
    assert_eq!(parts["layers_all"], 9);
}

/// Runs `offload estimate` of a model of a service.
fn asked(reply: &OffloadModelReply, offloads: &OffloadsReply, arguments: &str) -> (Ran, Vec<Value>) {
    let agent = Agent::start(Script::default().reply("Offloads", offloads).reply("OffloadModel", reply));
    let ran = Place::with(&agent).on_terminal(80).run(&format!("offload estimate {arguments}"));
    (ran, agent.calls("OffloadModel"))
}

#[test]
fn of_a_service_its_budget_its_gpus_and_its_settings_count() {
    let (ran, calls) = asked(&models::served(32), &models::reply(), "ollama:llama3.1:8b");
    assert_eq!(calls, [json!({ "name": "ollama", "model": "llama3.1:8b" })]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_snapshot!(ran.out);
}

#[test]
fn a_load_that_was_measured_counts_in_place_of_the_estimate() {
    let reply = OffloadModelReply { measured: vec![models::measured(33, 17 << 30)], ..models::served(32) };
    let (ran, _) = asked(&reply, &models::reply(), "ollama:llama3.1:8b");
    assert!(ran.out.contains("17.0G of video memory, which counts in place of"), "{}", ran.out);
    let outcome = |arguments: &str| -> Value {
        serde_json::from_str(&asked(&reply, &models::reply(), &format!("{arguments} --json")).0.out).unwrap()
    };
    assert_eq!(outcome("ollama:llama3.1:8b")["measured"], 17_u64 << 30);
    for other in ["--context 4096", "--kv q8_0", "--parallel 2", "--layers 20"] {
        assert_eq!(outcome(&format!("ollama:llama3.1:8b {other}"))["measured"], Value::Null, "{other}");
    }
}

#[test]
fn options_go_before_what_the_service_has() {
    let outcome = |arguments: &str| -> Value {
        let (ran, _) = asked(&models::served(32), &models::reply(), &format!("ollama:x {arguments} --json"));
        serde_json::from_str(&ran.out).unwrap()
    };
    let plain = outcome("");
    assert_eq!(
        (&plain["vram"], &plain["context"], &plain["version"]),
        (&json!(20_u64 << 30), &json!(8192), &json!("0.12.10"))
    );
    assert_eq!(outcome("--vram 12G")["vram"], 12_u64 << 30);
    assert_eq!(outcome("--context 4096")["context_asked"], 4096);
    assert_eq!(outcome("--engine 0.6.8")["version"], "0.6.8");
}

#[test]
fn the_service_can_be_left_out_where_only_one_runs_models() {
    let one = OffloadsReply { services: vec![models::service("ollama", "answers")] };
    let model = models::served(2);
    for (arguments, name) in
        [("llama3.1:8b", "llama3.1:8b"), ("ollama:phi4", "phi4"), ("ollama:hf.co/a/b:Q4_K_M", "hf.co/a/b:Q4_K_M")]
    {
        let (ran, calls) = asked(&model, &one, arguments);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(calls, [json!({ "name": "ollama", "model": name })], "{arguments}");
    }
    for (arguments, told) in [
        ("llama3.1:8b", "there is no service with models `llama3.1`"),
        ("ollama", "which model of ollama?"),
        ("ollama:", "the name of a model is not empty"),
    ] {
        let (ran, calls) = asked(&model, &models::reply(), arguments);
        assert!(ran.code != 0 && calls.is_empty() && ran.err.contains(told), "{arguments}: {ran:?}");
    }
    let (ran, _) = asked(&model, &OffloadsReply::default(), "llama3");
    assert!(ran.code == 1 && ran.err.contains("no service runs models"), "{ran:?}");
}

#[test]
fn what_an_engine_does_not_tell_well_is_no_estimate() {
    let reply = OffloadModelReply { tensors: Vec::new(), ..models::served(2) };
    let (ran, _) = asked(&reply, &models::reply(), "ollama:x");
    assert!(ran.code == 1 && ran.err.contains("makes no model"), "{ran:?}");
    let mut reply = models::served(2);
    reply.tensors[0].kind = 9999;
    let (ran, _) = asked(&reply, &models::reply(), "ollama:x");
    assert!(ran.code == 1 && ran.err.contains("of type 9999"), "{ran:?}");
    let refusal =
        AgentError::Refused { reason: "ollama does not run".to_owned(), hint: "nixmoxctl start ollama".to_owned() };
    let agent =
        Agent::start(Script::default().reply("Offloads", &models::reply()).refuse("OffloadModel", &refusal));
    let ran = Place::with(&agent).run("offload estimate ollama:x");
    assert!(ran.code == 1 && ran.err.contains("ollama does not run"), "{ran:?}");
}

#[test]
fn a_file_needs_no_agent_and_a_service_does() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llama.gguf"), models::llama(2)).unwrap();
    let place = Place::in_folder(folder.path());
    assert_eq!(place.run("offload estimate llama.gguf --engine 0.12.10").code, 0);
    assert_eq!(place.run("offload estimate ollama:llama3").code, 4);
    assert_eq!(place.run("offload").code, 4);
}
