//! A real `llama-server` in a guest, with one model and as a router of several: what is told of it, and what it is had to do.
//!
//! It computes on the CPU: no GPU is here that it could use, and it holds no video memory, only promises of it. So no model of it ever
//! has to be unloaded under pressure. That is not shown live here: the simulators of Ollama show it beside this, and the agent's
//! own tests show what a router is asked for.

use nixmox_testbed::{Behaviour, llama_cpp};
use nixmox_tests::gguf::Recipe;
use serde_json::Value;

use crate::machine::{HIGH, Machine};

/// Where programs and models are, on the host and inside.
const FOLDER: &str = "/srv/llama";
/// What the program needs beside its own file.
const LIBRARIES: &str = "\"/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:ro\", \"/usr/lib64:/lib64:ro\"";
/// Where both listen in their guests.
const PORT: u16 = 8080;

fn service(keep: &str) -> String {
    format!(
        "mounts = [{LIBRARIES}, \"{FOLDER}:{FOLDER}:ro\"]\ngpu = {{ devices = [\"GPU-0\"], vram = \"4G\", priority = 30 }}\n\
         offload = {{ engine = \"llama-server\", {keep}cpu_fallback = \"allow\", context = 512 }}"
    )
}

/// Boots a host whose guests have the program and two models: one has `one` alone and tells metrics, the other has both to choose from.
fn boot() -> Machine {
    let mut machine = Machine::boot("offload-engines", "");
    let folder = tempfile::tempdir().expect("made");
    for (name, seed, layers) in [("one", 1, 4), ("two", 2, 6)] {
        Recipe { seed, layers, ..Recipe::default() }.write(folder.path(), name).expect("written");
    }
    let program = llama_cpp().expect("it is built").join("llama-server");
    machine.bed.copy_in(program, format!("{FOLDER}/llama-server")).expect("copied");
    machine.bed.copy_in(folder.path(), format!("{FOLDER}/models")).expect("copied");
    // A request goes on until whoever asks goes: its context is shifted when it is full.
    let common = format!("{FOLDER}/llama-server --host 127.0.0.1 --port {PORT} --offline --context-shift");
    machine.has("single", &Behaviour::new().runs(&format!("{common} --metrics -m {FOLDER}/models/one.gguf")));
    machine.has("router", &Behaviour::new().runs(&format!("{common} --models-dir {FOLDER}/models")));
    machine
}

#[test]
fn a_real_llama_server_is_asked_and_told_of() {
    let machine = boot();
    let (single, router) = (service(""), service("keep = [\"two\"], "));
    machine.up(&[("single", &single), ("router", &router)]);
    for name in ["single", "router"] {
        machine.is(name, "healthy");
        machine.wait(&format!("{name} answers"), || {
            machine.offload(name).is_some_and(|told| told["state"] == "answers")
        });
        let told = machine.offload(name).expect("told");
        assert!(told["version"].as_str().is_some_and(|version| version.starts_with("b11434-")), "{told}");
        assert_eq!((told["used"].as_u64().unwrap_or(0), &told["reason"]), (0, &Value::from("")), "{told}");
    }
    let alone = only(&machine, "single");
    assert!(alone["context"].as_u64().is_some_and(|tokens| tokens > 0), "{alone}");

    // What is to be kept is loaded, by the agent alone: nobody asks it anything.
    machine.wait("what is to be kept is loaded", || is_loaded(&machine));
    assert_eq!(only(&machine, "router")["keep"], true);
    assert_eq!(status(&machine, "one"), "unloaded", "{}", machine.all());
    let text = machine.says("offload");
    for part in ["single", "router", "b11434-", "two"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // One tells by its metrics that it computes, the other by its slots.
    for (name, asked) in [("single", "one"), ("router", "two")] {
        let told = || only(&machine, name)["busy"].clone();
        machine.wait(&format!("{name} is idle"), || told() == false);
        machine.compute(name, PORT, asked);
        machine.wait(&format!("{name} is busy"), || told() == true);
        machine.no_more(name);
        machine.wait(&format!("{name} is idle again"), || told() == false);
    }

    // Somebody takes away what is to be kept.
    let answer = machine.http("router", PORT, "POST", "/models/unload", "{\"model\":\"two\"}");
    assert!(answer.is_some_and(|answer| answer["success"] == true), "{}", machine.all());
    machine.wait("it is unloaded", || status(&machine, "two") == "unloaded");
    machine.wait("it is loaded again", || status(&machine, "two") == "loaded" && is_loaded(&machine));
    let events = machine.says("events router");
    let loads = events.lines().filter(|line| line.contains(" load two ") && line.contains("is done")).count();
    assert!(loads >= 2, "{loads}: {events}");

    for (name, file) in [("single", "one"), ("router", "two")] {
        estimates_agree(&machine, name, file);
    }

    // One model alone cannot be unloaded: its container is stopped, as any other. A router only gets less.
    let invocation = machine.invocation("router");
    machine.up(&[("single", &single), ("router", &router), ("high", HIGH)]);
    machine.is("high", "healthy");
    machine.is("single", "waiting");
    machine.is("router", "healthy");
    assert_eq!(machine.invocation("router"), invocation, "{}", machine.all());
}

/// Returns the only model that is told of a service.
fn only(machine: &Machine, name: &str) -> Value {
    let told = machine.offload(name).unwrap_or_default();
    match told["models"].as_array().map(Vec::as_slice) {
        Some([model]) => model.clone(),
        _ => panic!("not one model: {told}\n{}", machine.all()),
    }
}

/// Returns whether the agent tells that the router has `two` loaded.
fn is_loaded(machine: &Machine) -> bool {
    let two = only(machine, "router");
    two["name"] == "two" && two["state"] != "unloaded" && two["state"] != "loading"
}

/// Returns how a model is, as the router says itself.
fn status(machine: &Machine, model: &str) -> String {
    let models = machine.http("router", PORT, "GET", "/models", "").unwrap_or_default();
    let model = models["data"].as_array().into_iter().flatten().find(|known| known["id"] == model);
    model.and_then(|model| model["status"]["value"].as_str()).unwrap_or_default().to_owned()
}

/// Asks for an estimate of a model by its engine, and by its file with the same settings: both are one.
fn estimates_agree(machine: &Machine, name: &str, file: &str) {
    let model = only(machine, name)["name"].as_str().expect("a name").to_owned();
    let read = |arguments: &str| -> Value {
        serde_json::from_str(&machine.says(&format!("offload estimate --json {arguments}"))).expect("JSON")
    };
    let mut of_service = read(&format!("{name}:{model}"));
    let figure = |key: &str| of_service[key].as_u64().unwrap_or_else(|| panic!("no {key}: {of_service}"));
    assert!(figure("gpu") > 0 && figure("host") > 0 && figure("layers") == figure("layers_all"), "{of_service}");
    assert_eq!((&of_service["version"], &of_service["architecture"]), (&"b11434".into(), &"llama".into()));
    let settings = ["context_asked", "parallel", "vram"].map(figure);
    let [context, parallel, vram] = settings;
    let mut of_file = read(&format!(
        "{FOLDER}/models/{file}.gguf --engine b11434 --context {context} --parallel {parallel} --vram {vram} --total 12G"
    ));
    for told in [&mut of_service, &mut of_file] {
        let told = told.as_object_mut().expect("a table");
        for key in ["model", "service"] {
            told.remove(key);
        }
    }
    assert_eq!(of_service, of_file);
}
