//! Plans that are shown before they are carried out, and stacks beside each other.

use std::time::Duration;

use nixmox_agent::server::Control;
use nixmox_api::{AgentError, PlanReply, Request};
use nixmox_core::model::{Condition, Service};

use crate::declare::{Declare, service};
use crate::machine::{Machine, name, on_a_machine, request, request_of};

fn stack() -> Vec<Service> {
    vec![service("db"), service("app").needs("db", Condition::Started), service("site")]
}

fn with_base(request: Request, base: &str) -> Request {
    Request { base: Some(base.to_owned()), ..request }
}

async fn plan(machine: &Machine, request: Request) -> PlanReply {
    machine.agent().plan(request).await.unwrap()
}

fn words(plan: &PlanReply) -> Vec<(&str, &str)> {
    plan.services.iter().map(|planned| (planned.name.as_str(), planned.change.as_str())).collect()
}

#[test]
fn a_plan_is_what_up_does_and_changes_nothing_itself() {
    on_a_machine(async |machine| {
        let shown = plan(machine, request(&stack())).await;
        assert_eq!(words(&shown), [("db", "create"), ("site", "create"), ("app", "create")]);
        assert_eq!(shown.services[2].after, ["db: started"]);
        machine.pass(Duration::from_mins(1)).await;
        assert_eq!(machine.trace(), [""; 0]);
        assert_eq!(machine.status().await.host.generation, 0);
        let applied = machine.apply(with_base(request(&stack()), &shown.base)).await.unwrap();
        assert_eq!(applied.plan, shown);
        machine.until_well().await;

        let mut next = stack();
        next[0] = next[0].clone().memory_max(1);
        next[2] = next[2].clone().built_anew('b');
        let shown = plan(machine, request(&next)).await;
        let reasons: Vec<&str> = shown.services.iter().flat_map(|s| &s.reasons).map(|r| r.text.as_str()).collect();
        assert_eq!(words(&shown), [("db", "live"), ("site", "restart"), ("app", "unchanged")]);
        assert_eq!(reasons, ["memory_max unset -> 1G", "system changed"]);
        machine.host.clear_trace();
        machine.apply(with_base(request(&next), &shown.base)).await.unwrap();
        machine.until_well().await;
        let mut trace = machine.trace();
        trace.sort_unstable();
        assert_eq!(trace, ["start site", "stop site", "update db"]);
        assert_eq!(
            words(&plan(machine, request(&next)).await),
            [("db", "unchanged"), ("site", "unchanged"), ("app", "unchanged")]
        );
    });
}

#[test]
fn a_plan_of_a_host_that_moved_on_is_refused() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        let next = [service("db").memory_max(1), stack()[1].clone(), stack()[2].clone()];
        let shown = plan(machine, request(&next)).await;
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(plan(machine, request(&next)).await.base, shown.base, "nothing moved");
        assert_eq!(
            plan(machine, request(&stack())).await.base,
            shown.base,
            "it is of the host, not of the request"
        );

        let stale = async || {
            let error = machine.apply(with_base(request(&next), &shown.base)).await.unwrap_err();
            let AgentError::Stale { expected, actual } = error else { panic!("{error:?}") };
            assert_eq!(expected, shown.base);
            assert_ne!(actual, shown.base);
        };
        machine.host.kill(&name("site"));
        stale().await;
        machine.until_well().await;
        machine.stop(&["site"]).await.unwrap();
        stale().await;
        machine.start(&["site"]).await.unwrap();
        machine.until_well().await;
        machine.apply(with_base(request(&next), &shown.base)).await.expect("as it was when it was planned");
        machine.until_well().await;
        machine.up(&stack()).await;
        machine.until_well().await;
        stale().await;
        assert_eq!(machine.status().await.host.generation, 3);
    });
}

#[test]
fn what_a_stack_no_longer_contains_is_named_and_stopped_with_prune_alone() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        let less = &stack()[..2];
        let applied = machine.up(less).await;
        assert_eq!(applied.plan.orphans, ["site"]);
        assert_eq!(applied.generation, 1, "nothing is asked for that was not");
        machine.pass(Duration::from_mins(1)).await;
        assert_eq!(machine.invocations().await.len(), 3);
        let pruned = machine.apply(Request { prune: true, ..request(less) }).await.unwrap();
        assert_eq!((pruned.plan.orphans.len(), pruned.generation), (0, 2));
        assert_eq!(words(&pruned.plan).last(), Some(&("site", "remove")));
        machine.until("site is gone", |status| status.services.len() == 2 && !status.host.busy).await;
        assert_eq!(machine.host.container(&name("site")), None);
    });
}

#[test]
fn stacks_stand_beside_each_other() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        let wiki = Service { stack: "wiki".parse().unwrap(), ..service("wiki").needs("db", Condition::Healthy) };
        machine.apply(request_of("wiki", std::slice::from_ref(&wiki))).await.unwrap();
        let status = machine.until_well().await;
        assert_eq!(machine.host.broken_gates(), []);
        assert_eq!(status.stacks.iter().map(|stack| stack.generation).collect::<Vec<_>>(), [1, 2]);

        let thief = Service { stack: "wiki".parse().unwrap(), ..service("db") };
        let error = machine.apply(request_of("wiki", &[wiki, thief])).await.unwrap_err();
        let AgentError::Invalid { problems, .. } = error else { panic!("{error:?}") };
        assert!(problems[0].contains("`db` is a service of the stack `cloud` already"), "{problems:?}");

        let error = machine.agent().down("cloud".to_owned(), Vec::new(), crate::machine::anna()).await.unwrap_err();
        let AgentError::HasDependents { dependents, .. } = error else { panic!("{error:?}") };
        assert_eq!(dependents, ["wiki"]);
        assert_eq!(machine.status().await.services.len(), 4);
        assert_eq!(machine.agent().stacks().stacks.len(), 2);
    });
}

#[test]
fn up_of_some_services_leaves_the_others_as_they_are() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        let before = machine.invocations().await;
        let all: Vec<Service> = stack().into_iter().map(|service| service.built_anew('b')).collect();
        machine.host.clear_trace();
        let only = vec!["site".to_owned()];
        let applied = machine.apply(Request { only, ..request(&all) }).await.unwrap();
        assert_eq!(words(&applied.plan), [("site", "restart")]);
        machine.until_well().await;
        let after = machine.invocations().await;
        assert_eq!(machine.trace(), ["stop site", "start site"]);
        assert_eq!((after["db"], after["app"]), (before["db"], before["app"]));
    });
}
