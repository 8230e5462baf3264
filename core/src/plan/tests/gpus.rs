//! Shares of the GPUs in a plan: who waits is not started, who yields is stopped, what is lost is given anew.

use super::*;
use crate::model::{GpuStanding, Grant, Vendor};

fn grant(nodes: &[&str]) -> Grant {
    Grant {
        vendor: Vendor::Nvidia,
        gpus: vec!["GPU-1".parse().unwrap()],
        budget: Some(Bytes(8 << 30)),
        nodes: nodes.iter().map(Into::into).collect(),
        mounts: Vec::new(),
        environment: std::collections::BTreeMap::new(),
    }
}

fn waiting(keeps: Option<Grant>) -> GpuStanding {
    GpuStanding::Waiting { keeps, why: "needs 8G".to_owned(), hint: String::new() }
}

fn yielding() -> GpuStanding {
    GpuStanding::Yielding { keeps: Some(grant(&[])), to: name("first"), why: "needs 8G".to_owned() }
}

/// A service that runs with what it was given.
fn granted(nodes: &[&str]) -> World {
    let mut world = World::chain(&["model", "web"]);
    world.edit("model", |model| model.gpu = GpuStanding::Granted(grant(nodes)));
    world.run("model", 1);
    world.seen("model").devices = world.desired.services["model"].device_rules();
    assert!(is_empty(&world.plan()), "{:?}", world.plan());
    world
}

#[test]
fn who_waits_is_not_started_and_those_behind_it_wait_too() {
    let mut world = World::chain(&["model", "web"]);
    world.edit("model", |model| model.gpu = waiting(None));
    for text in ["model", "web"] {
        *world.seen(text) = Container::default();
    }
    let waits = Reason::GpuWaits("needs 8G".to_owned());
    assert_eq!(world.change("model"), (ChangeKind::Blocked, vec![Reason::New, waits]));
    assert!(!world.steps().iter().any(|step| step.starts_with("Start model")), "{:?}", world.steps());
    assert!(
        world.steps().iter().any(|step| step.starts_with("Start web < ") && step.contains("Await(Healthy) model"))
    );
}

#[test]
fn what_runs_is_not_stopped_because_it_would_have_to_wait() {
    let mut world = granted(&["/dev/nvidia0"]);
    world.edit("model", |model| model.gpu = waiting(Some(grant(&["/dev/nvidia0"]))));
    assert_eq!(world.change("model"), (ChangeKind::Unchanged, vec![]));
    // Nor for another system that it could not be started with.
    world.edit("model", |model| model.service.system = System::Store(store_path('b', "model")));
    assert_eq!(world.change("model").0, ChangeKind::Blocked);
    assert!(world.steps().is_empty(), "{:?}", world.steps());
}

#[test]
fn what_runs_is_not_restarted_while_nobody_can_say_whether_it_would_start() {
    let mut world = granted(&["/dev/nvidia0"]);
    let kept = GpuStanding::Kept { grant: grant(&["/dev/nvidia0"]), why: "NVML gives no answer".to_owned() };
    world.edit("model", |model| model.gpu = kept);
    assert_eq!(world.change("model"), (ChangeKind::Unchanged, vec![]));
    world.desired.restarts.insert(name("model"), InvocationId(1));
    let waits = Reason::GpuWaits("NVML gives no answer".to_owned());
    assert_eq!(world.change("model"), (ChangeKind::Blocked, vec![Reason::Requested, waits]));
    assert!(world.steps().is_empty(), "{:?}", world.steps());
}

#[test]
fn who_yields_is_stopped_and_stays_down() {
    let mut world = granted(&["/dev/nvidia0"]);
    world.edit("model", |model| model.gpu = yielding());
    let yields = Reason::GpuYields { to: name("first"), why: "needs 8G".to_owned() };
    assert_eq!(world.change("model"), (ChangeKind::Hold, vec![yields.clone()]));
    assert_eq!(world.steps(), ["Stop model"]);
    *world.seen("model") = Container { exit: Some(ended("success", "0", None)), ..Container::default() };
    assert_eq!(world.change("model"), (ChangeKind::Blocked, vec![yields]));
    assert!(world.steps().is_empty(), "{:?}", world.steps());
}

#[test]
fn a_hold_goes_before_any_share() {
    let mut world = granted(&["/dev/nvidia0"]);
    world.edit("model", |model| model.gpu = waiting(None));
    world.desired.holds.insert(name("model"), Hold { by: "anna".to_owned(), at: 0 });
    assert_eq!(world.change("model"), (ChangeKind::Hold, vec![Reason::Held]));
}

#[test]
fn another_node_is_given_while_it_runs() {
    let mut world = granted(&["/dev/nvidia0"]);
    world.edit("model", |model| model.gpu = GpuStanding::Granted(grant(&["/dev/nvidia0", "/dev/nvidia1"])));
    assert_eq!(world.change("model"), (ChangeKind::Live, vec![Reason::DeviceRules]));
    assert_eq!(world.steps(), ["Update model"]);
}

#[test]
fn what_a_guest_lost_is_given_anew_while_it_has_a_share() {
    let mut world = granted(&["/dev/nvidia0"]);
    world.seen("model").lost_nodes = vec!["/dev/nvidia0".into()];
    assert_eq!(world.change("model"), (ChangeKind::Live, vec![Reason::GpuLost(vec!["/dev/nvidia0".into()])]));
    assert_eq!(world.steps(), ["Update model"]);
}

#[test]
fn a_share_that_comes_or_goes_needs_a_restart() {
    let mut world = World::chain(&["model"]);
    world.edit("model", |model| model.gpu = GpuStanding::Granted(grant(&["/dev/nvidia0"])));
    assert_eq!(world.change("model"), (ChangeKind::Restart, vec![Reason::Field(SpecField::Gpu)]));
}
