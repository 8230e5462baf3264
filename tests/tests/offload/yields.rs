//! Models give memory back step by step for who goes first, and take it again afterwards; nobody is stopped.

use serde_json::Value;

use crate::machine::{GIB, HIGH, Machine, OLLAMA};

#[test]
fn models_yield_step_by_step_and_return() {
    let machine = Machine::boot("offload-yields", "");
    machine.up(&[("ollama", OLLAMA)]);
    machine.is("ollama", "healthy");
    machine.wait("big is loaded, to be kept", || machine.is_whole("big"));
    machine.load("tiny");
    let answer = machine.request("mid", 20);
    let invocation = machine.invocation("ollama");
    machine.wait("three models hold the card", || machine.used() > 7 * GIB);

    machine.up(&[("ollama", OLLAMA), ("high", HIGH)]);
    machine.is("high", "waiting");
    machine.wait("the idle one goes", || machine.step("unloaded", "tiny").is_some());
    let why = machine.says("why high");
    assert!(why.contains("ollama") && why.contains("8G"), "{why}");
    assert!(
        machine.runner("mid").is_some_and(|runner| runner["requests"] == 1),
        "the busy one goes on: {}",
        machine.all()
    );
    // The agent dies in the middle of it, and what it began goes on.
    machine.bed.succeed("systemctl kill -s KILL nixmox-agent.service").expect("killed");
    machine.is("high", "healthy");
    let answered: Value =
        serde_json::from_str(&machine.bed.succeed(&format!("cat {answer}")).expect("there")).expect("JSON");
    assert_eq!(answered["done_reason"], "stop", "its request was computed to its end");
    let (tiny, mid) = (machine.step("unloaded", "tiny"), machine.step("unloaded", "mid"));
    assert!(tiny.is_some() && tiny < mid, "idle ones first: {}", machine.all());
    assert_eq!(machine.invocation("ollama"), invocation, "nobody was stopped: {}", machine.all());
    machine.is("ollama", "healthy");
    let room = 12 * GIB - 8 * GIB - GIB / 2;
    machine.wait("it holds what is left to it", || machine.used() <= room + 7 * GIB);
    for (arguments, word) in [("gpu", "high"), ("why ollama", "high"), ("offload", "big")] {
        let said = machine.says(arguments);
        assert!(said.contains(word), "{arguments}: {said}");
    }

    assert!(machine.ctl("stop high").success());
    machine.wait("the one that is to be kept returns", || machine.is_whole("big"));
    assert_eq!(machine.invocation("ollama"), invocation, "nobody was stopped: {}", machine.all());
    machine.wait("that is told", || machine.told("big").is_some_and(|model| model["state"] == "gpu"));
    let events = machine.says("events ollama");
    for part in ["unload tiny:latest", "unload mid:latest", "load big"] {
        assert!(events.contains(part), "{part}: {events}");
    }

    // A process that is nobody's asks nobody, and takes.
    machine.load("mid");
    machine.other_uses(8 * 1024);
    machine.wait("models yield to it", || machine.runner("mid").is_none() && !machine.is_whole("big"));
    assert_eq!(machine.invocation("ollama"), invocation, "nobody was stopped: {}", machine.all());
    let why = machine.says("why ollama");
    assert!(why.contains("no service") || why.contains("sleep") || why.contains("game"), "{why}");
}
