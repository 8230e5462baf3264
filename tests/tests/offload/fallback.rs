//! A model on the CPU that should be on the GPU is found, told, and brought back, as `cpu_fallback` says.

use std::time::Duration;

use crate::machine::{Machine, ollama};

/// When the watchdog would have repaired a model: half a minute after it was loaded, after a minute of calm and two looks.
const REPAIRED_BY: Duration = Duration::from_secs(115);

/// Runs a story with a policy: the engine finds no GPU any more when it loads a model.
fn on_the_cpu(machine: &Machine, policy: &str) {
    machine.up(&[("ollama", &ollama(&format!("cpu_fallback = \"{policy}\"")))]);
    machine.is("ollama", "healthy");
    machine.ask("POST", "/test/blind", "true");
    machine.load("tiny");
    assert!(machine.runner("tiny").is_some_and(|runner| runner["vram"] == 0), "{}", machine.all());
    machine.wait("it is told where it is", || machine.told("tiny").is_some_and(|model| model["state"] == "cpu"));
}

#[test]
fn a_model_on_the_cpu_is_told_and_brought_back_as_declared() {
    let machine = Machine::boot("offload-fallback", "");
    on_the_cpu(&machine, "refuse");
    machine.is("ollama", "unhealthy");
    let why = machine.says("why ollama");
    assert!(why.contains("tiny:latest"), "a diagnosis: {why}");
    let doctor = machine.ctl("gpu doctor");
    machine.ask("POST", "/test/blind", "false");
    machine.wait("it is brought back", || machine.is_whole("tiny"));
    machine.is("ollama", "healthy");

    assert!(machine.ctl("down").success());
    let before = last_event(&machine);
    on_the_cpu(&machine, "warn");
    machine.wait("it is an event", || {
        machine.says(&format!("events ollama --since {before}")).contains("tiny:latest is not where it should be")
    });
    machine.is("ollama", "healthy");
    machine.ask("POST", "/test/blind", "false");
    machine.wait("it is brought back", || machine.is_whole("tiny"));

    assert!(machine.ctl("down").success());
    on_the_cpu(&machine, "allow");
    machine.ask("POST", "/test/blind", "false");
    let loads = machine.count("load", "tiny");
    let begin = std::time::Instant::now();
    while begin.elapsed() < REPAIRED_BY {
        assert_eq!(machine.count("load", "tiny"), loads, "nothing is done: {}", machine.all());
        std::thread::sleep(Duration::from_secs(1));
    }
    machine.is("ollama", "healthy");
    assert!(doctor.stdout.contains("tiny:latest"), "told while it was on the CPU: {doctor}");
}

fn last_event(machine: &Machine) -> String {
    let last = machine.bed.succeed("nixmoxctl events --json -n 1 | jq -s 'last | .number'").expect("there is one");
    last.trim().to_owned()
}
