//! A real `llama-server` in a guest, with one model and as a router of several: what is told of it.

use nixmox_testbed::{Behaviour, llama_cpp};
use nixmox_tests::gguf::Recipe;
use serde_json::Value;

use crate::machine::{HIGH, Machine};

/// Where programs and models are, on the host and inside.
const FOLDER: &str = "/srv/llama";
/// What the program needs beside its own file.
const LIBRARIES: &str = "\"/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:ro\", \"/usr/lib64:/lib64:ro\"";

fn service(keep: &str) -> String {
    format!(
        "mounts = [{LIBRARIES}, \"{FOLDER}:{FOLDER}:ro\"]\ngpu = {{ devices = [\"GPU-0\"], vram = \"4G\", priority = 30 }}\n\
         offload = {{ engine = \"llama-server\", {keep}cpu_fallback = \"allow\", context = 512 }}"
    )
}

#[test]
fn a_real_llama_server_is_asked_and_told_of() {
    let mut machine = Machine::boot("offload-engines", "");
    let folder = tempfile::tempdir().expect("made");
    for (name, seed) in [("one", 1), ("two", 2)] {
        Recipe { seed, ..Recipe::default() }.write(folder.path(), name).expect("written");
    }
    machine.bed.copy_in(llama_server(), format!("{FOLDER}/llama-server")).expect("copied");
    machine.bed.copy_in(folder.path(), format!("{FOLDER}/models")).expect("copied");
    let common = format!("{FOLDER}/llama-server --host 127.0.0.1 --port 8080 --offline");
    machine.has("single", &Behaviour::new().runs(&format!("{common} -m {FOLDER}/models/one.gguf")));
    machine.has("router", &Behaviour::new().runs(&format!("{common} --models-dir {FOLDER}/models")));
    machine.up(&[("single", &service("")), ("router", &service("keep = [\"two\"], "))]);
    for name in ["single", "router"] {
        machine.is(name, "healthy");
        machine.wait(&format!("{name} answers"), || {
            machine.offload(name).is_some_and(|told| told["state"] == "answers")
        });
    }
    let single = machine.offload("single").expect("told");
    assert!(
        models(&single).len() == 1 && single["version"].as_str().is_some_and(|version| !version.is_empty()),
        "{single}"
    );
    machine.wait("what is to be kept is loaded", || {
        let router = machine.offload("router").unwrap_or_default();
        models(&router)
            .iter()
            .any(|model| model["name"] == "two" && model["state"] != "unloaded" && model["state"] != "loading")
    });
    let text = machine.says("offload");
    assert!(text.contains("single") && text.contains("router") && text.contains("two"), "{text}");

    // One model alone cannot be unloaded: its container is stopped, as any other. A router only gets less.
    let invocation = machine.invocation("router");
    machine.up(&[("single", &service("")), ("router", &service("keep = [\"two\"], ")), ("high", HIGH)]);
    machine.is("high", "healthy");
    machine.is("single", "waiting");
    assert_eq!(machine.invocation("router"), invocation, "{}", machine.all());
}

fn models(service: &Value) -> Vec<Value> {
    service["models"].as_array().cloned().unwrap_or_default()
}

fn llama_server() -> std::path::PathBuf {
    llama_cpp().expect("it is built").join("llama-server")
}
