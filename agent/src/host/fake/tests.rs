//! The simulator behaves as systemd does where its users depend on it.

use std::collections::BTreeSet;
use std::time::Duration;

use nixmox_core::container::Files;
use nixmox_core::model::{
    ActiveState, Assigned, Container, ContainerName, GpuStanding, Kind, Network, Service, Spec, System,
};
use tokio::time::Instant;

use super::*;

fn web() -> ContainerName {
    "web".parse().unwrap()
}

fn assigned(kind: Kind) -> Assigned {
    let system = System::Store(format!("/nix/store/{}-x", "a".repeat(32)).parse().unwrap());
    let plain = Service::new(web(), "test".parse().unwrap(), system);
    let service = Service { kind, network: Network::Host, ..plain };
    Assigned { service, addresses: None, gpu: GpuStanding::None }
}

fn files() -> Files {
    Files { spec: Spec::default(), conf: Some("c".to_owned()), drop_in: "d".to_owned(), environment: None }
}

async fn seen(host: &Fake) -> Container {
    let observed = host.observe(&BTreeSet::new()).await.unwrap();
    observed.containers.get(&web()).cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_start_takes_its_time_and_goes_on_when_nobody_waits() {
    let host = Fake::new();
    host.behave(&web(), Behaviour { start_time: Duration::from_secs(3), ..Behaviour::default() });
    let (service, texts) = (assigned(Kind::Service), files());
    let cut = tokio::time::timeout(Duration::from_secs(1), host.start(&service, &texts)).await;
    assert!(cut.is_err(), "the agent died");
    let first = seen(&host).await;
    assert_eq!(first.active, ActiveState::Activating);
    let begin = Instant::now();
    host.start(&service, &texts).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_secs(2), "the second start joins the first");
    assert_eq!(seen(&host).await.invocation, first.invocation);
}

#[tokio::test(start_paused = true)]
async fn fails_as_often_as_asked_and_then_starts() {
    let host = Fake::new();
    host.behave(&web(), Behaviour { failing_starts: 2, ..Behaviour::default() });
    for _ in 0..2 {
        assert!(matches!(host.start(&assigned(Kind::Service), &files()).await, Err(StepError::StartFailed { .. })));
        assert_eq!(seen(&host).await.active, ActiveState::Failed);
    }
    host.start(&assigned(Kind::Service), &files()).await.unwrap();
    assert_eq!(host.trace(), vec![Operation::Start(web()); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_by_itself_wakes_and_leaves_a_record() {
    let host = Fake::new();
    let end = Some(End { after: Duration::from_mins(1), status: 3 });
    host.behave(&web(), Behaviour { ends: end, ..Behaviour::default() });
    host.start(&assigned(Kind::Service), &files()).await.unwrap();
    let mut changes = host.changes();
    changes.mark_unchanged();
    changes.changed().await.unwrap();
    let ended = seen(&host).await;
    assert_eq!(ended.active, ActiveState::Failed);
    let exit = ended.exit.unwrap();
    assert_eq!((exit.invocation, exit.status.as_str(), exit.stopped), (ended.invocation.unwrap(), "3", false));
}

#[tokio::test(start_paused = true)]
async fn an_old_instance_does_not_end_a_new_one() {
    let host = Fake::new();
    let end = Some(End { after: Duration::from_mins(1), status: 3 });
    host.behave(&web(), Behaviour { ends: end, ..Behaviour::default() });
    host.start(&assigned(Kind::Service), &files()).await.unwrap();
    host.stop(&web()).await.unwrap();
    assert!(seen(&host).await.exit.is_some_and(|exit| exit.stopped));
    host.behave(&web(), Behaviour::default());
    host.start(&assigned(Kind::Service), &files()).await.unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(seen(&host).await.active, ActiveState::Active);
}

#[tokio::test(start_paused = true)]
async fn becomes_healthy_after_its_time() {
    let host = Fake::new();
    let health = HealthBehaviour::After(Duration::from_secs(5));
    host.behave(&web(), Behaviour { health, ..Behaviour::default() });
    host.start(&assigned(Kind::Service), &files()).await.unwrap();
    assert!(!host.probe(&web(), None, Duration::from_secs(1)).await.healthy);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(host.probe(&web(), None, Duration::from_secs(1)).await.healthy);
    host.kill(&web());
    assert!(!host.probe(&web(), None, Duration::from_secs(1)).await.healthy);
}

#[tokio::test(start_paused = true)]
async fn a_scripted_fault_happens_once_and_says_what_was_done() {
    let host = Fake::new();
    host.fail_next(Operation::Start(web()), Fault::Before);
    host.fail_next(Operation::Start(web()), Fault::After);
    let start = async || host.start(&assigned(Kind::Service), &files()).await;
    start().await.unwrap_err();
    assert_eq!(seen(&host).await, Container::default());
    start().await.unwrap_err();
    assert_eq!(seen(&host).await.active, ActiveState::Active);
    start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_at_once_has_started_well() {
    let host = Fake::new();
    let end = Some(End { after: Duration::ZERO, status: 0 });
    host.behave(&web(), Behaviour { ends: end, ..Behaviour::default() });
    host.start(&assigned(Kind::Job), &files()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ended = seen(&host).await;
    assert_eq!(ended.active, ActiveState::Inactive);
    assert!(ended.exit.is_some_and(|exit| exit.succeeded()));
    host.remove(&web()).await.unwrap();
    assert_eq!(seen(&host).await, Container::default());
}
