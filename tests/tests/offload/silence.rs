//! An engine that says nothing cannot give memory back: its container is stopped, as any other, and comes back.

use crate::machine::{HIGH, Machine, OLLAMA};

#[test]
fn a_container_whose_engine_is_silent_is_stopped_as_the_last_rung() {
    let machine = Machine::boot("offload-silence", "");
    machine.up(&[("ollama", OLLAMA)]);
    machine.is("ollama", "healthy");
    machine.wait("big is loaded, to be kept", || machine.is_whole("big"));
    let invocation = machine.invocation("ollama");
    machine.signal_engine("STOP");
    machine.wait("its silence is told", || machine.says("offload").contains("does not answer"));
    assert_eq!(machine.invocation("ollama"), invocation, "nobody is stopped for silence alone: {}", machine.all());

    machine.up(&[("ollama", OLLAMA), ("high", HIGH)]);
    machine.is("high", "healthy");
    machine.is("ollama", "waiting");
    let why = machine.says("why ollama");
    assert!(why.contains("8G") || why.contains("11G"), "{why}");
    let events = machine.says("events ollama");
    let silent = ["cannot be made to give video memory back: its engine does not answer", "(agent)"];
    let stopping = ["stopping: needs 11G", "`high` is kept 8G", "(agent: gpu)"];
    let waiting = ["waiting: needs 11G", "`high` is kept 8G", "(agent: gpu)"];
    for parts in [&silent[..], &stopping, &waiting] {
        let is_told = events.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(is_told, "{parts:?}: {events}");
    }

    assert!(machine.ctl("stop high").success());
    machine.is("ollama", "healthy");
    machine.wait("what is to be kept is loaded again", || machine.is_whole("big"));
}
