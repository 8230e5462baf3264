//! What requests make of a ledger: plain values in, plain values out.

use nixmox_core::model::{Bytes, Condition, Kind, Limits, System};

use super::*;

fn name(text: &str) -> ContainerName {
    text.parse().unwrap()
}

fn service(stack: &str, text: &str, needs: &[&str]) -> Service {
    let system = System::Store(format!("/nix/store/{}-{text}", "a".repeat(32)).parse().unwrap());
    let depends_on = needs.iter().map(|needed| (name(needed), Condition::Started)).collect();
    Service { depends_on, ..Service::new(name(text), stack.parse().unwrap(), system) }
}

fn request(stack: &str, services: Vec<Service>) -> RequestedStack {
    RequestedStack {
        name: stack.parse().unwrap(),
        file: "/srv/cloud/nixmox.toml".into(),
        address_pool: AddressPool::default(),
        limits: Limits::default(),
        owner: None,
        services: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
        only: BTreeSet::new(),
        prune: false,
        base: None,
        goes_back: true,
    }
}

fn anna() -> Asked {
    Asked { by: Caller { uid: 1000, name: "anna".to_owned() }, at: 1_700_000_000 }
}

fn up(ledger: &Ledger, request: RequestedStack) -> Next {
    ledger.up(request, &Taken::default(), &anna()).unwrap()
}

fn names(services: &BTreeMap<ContainerName, Assigned>) -> Vec<&str> {
    services.keys().map(ContainerName::as_str).collect()
}

/// The stack `cloud`: web needs db.
fn cloud() -> Ledger {
    up(&Ledger::default(), request("cloud", vec![service("cloud", "db", &[]), service("cloud", "web", &["db"])]))
        .ledger
}

#[test]
fn the_same_request_makes_no_new_generation() {
    let ledger = cloud();
    assert_eq!(ledger.generation.number, 1);
    let again =
        up(&ledger, request("cloud", ledger.generation.services.values().map(|a| a.service.clone()).collect()));
    assert_eq!(again.ledger, ledger);
}

#[test]
fn what_an_option_declares_is_changed_and_given_up_by_that_option_alone() {
    let option = || Some("services.nixmox.stacks.cloud".parse().unwrap());
    let declared = |services| RequestedStack { owner: option(), ..request("cloud", services) };
    let both = || vec![service("cloud", "db", &[]), service("cloud", "web", &["db"])];
    // It takes over what a person declared before, and that alone is another generation.
    let owned = up(&cloud(), declared(both())).ledger;
    assert_eq!(owned.generation.number, 2);
    assert_eq!(up(&owned, declared(both())).ledger, owned);

    let refused = |result: Result<Next, AgentError>| match result {
        Err(AgentError::Refused { reason, hint }) => reason + ": " + &hint,
        other => panic!("{other:?}"),
    };
    let up_by = |request| owned.up(request, &Taken::default(), &anna());
    let other = RequestedStack { owner: Some("services.other".parse().unwrap()), ..request("cloud", both()) };
    for said in [
        refused(up_by(request("cloud", both()))),
        refused(up_by(other)),
        refused(owned.down("cloud", &[], &anna())),
        refused(owned.down("cloud", &["web".to_owned()], &anna())),
    ] {
        assert!(said.contains("`services.nixmox.stacks.cloud` in the configuration of this host"), "{said}");
    }

    let gone = up(&owned, RequestedStack { prune: true, ..declared(Vec::new()) });
    assert_eq!((gone.ledger.generation.stacks.len(), gone.ledger.generation.services.len()), (0, 0));
    assert_eq!((gone.scope.len(), gone.ledger.generation.number), (2, 3));
    up(&gone.ledger, request("cloud", both()));
}

#[test]
fn another_budget_is_another_generation_in_which_all_services_prove_themselves() {
    let before = cloud();
    let services = vec![service("cloud", "db", &[]), service("cloud", "web", &["db"])];
    let limits = Limits { memory_max: Some(Bytes(4 << 30)), ..Limits::default() };
    let next = up(&before, RequestedStack { limits: limits.clone(), ..request("cloud", services.clone()) }).ledger;
    assert_eq!(next.generation.number, before.generation.number + 1);
    let (stack, record) = next.generation.stacks.first_key_value().unwrap();
    assert_eq!(next.generation.budgets(), [(stack.clone(), limits.clone())]);
    assert_eq!(record.trial.services, Some(BTreeSet::from(["db".to_owned(), "web".to_owned()])));
    // On disk it is read back, and one of before has none.
    let text = serde_json::to_string(record).unwrap();
    assert_eq!(serde_json::from_str::<StackRecord>(&text).unwrap(), *record);
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    old.as_object_mut().unwrap().remove("limits").unwrap();
    assert_eq!(serde_json::from_value::<StackRecord>(old).unwrap().limits, Limits::default());

    let same = up(&next, RequestedStack { limits, ..request("cloud", services.clone()) }).ledger;
    assert_eq!(same.generation, next.generation);
    let without = up(&next, request("cloud", services)).ledger;
    assert_eq!(without.generation.budgets(), []);
}

#[test]
fn a_service_that_left_its_stack_stays_unless_pruned() {
    let ledger = cloud();
    let without_web = || request("cloud", vec![service("cloud", "db", &[])]);
    let next = up(&ledger, without_web());
    assert_eq!(next.orphans, [name("web")]);
    assert_eq!(names(&next.ledger.generation.services), ["db", "web"]);
    let next = up(&ledger, RequestedStack { prune: true, ..without_web() });
    assert_eq!(next.orphans, []);
    assert_eq!(names(&next.ledger.generation.services), ["db"]);
    assert!(next.scope.contains("web"));
}

#[test]
fn naming_services_leaves_the_others_as_they_were() {
    let ledger = cloud();
    let mut changed = request("cloud", vec![service("cloud", "db", &[]), service("cloud", "web", &["db"])]);
    for service in changed.services.values_mut() {
        service.ephemeral = true;
    }
    changed.only = BTreeSet::from([name("db")]);
    let next = up(&ledger, changed);
    let ephemeral = |text: &str| next.ledger.generation.services[text].service.ephemeral;
    assert_eq!((ephemeral("db"), ephemeral("web")), (true, false));
    assert_eq!(next.orphans, []);
}

#[test]
fn a_name_belongs_to_one_stack() {
    let error = cloud().up(request("lab", vec![service("lab", "db", &[])]), &Taken::default(), &anna());
    assert!(matches!(error, Err(AgentError::Invalid { problems, .. }) if problems[0].contains("stack `cloud`")));
}

#[test]
fn addresses_are_kept_and_never_taken_from_others() {
    let ledger = cloud();
    let address = |ledger: &Ledger, text: &str| ledger.generation.services[text].addresses.unwrap().local;
    let lab = up(&ledger, request("lab", vec![service("lab", "aaa", &[])])).ledger;
    assert_eq!(address(&lab, "db"), address(&ledger, "db"));
    let all: BTreeSet<_> = ["db", "web", "aaa"].iter().map(|text| address(&lab, text)).collect();
    assert_eq!(all.len(), 3);
    let containers = BTreeMap::from([(name("old"), vec![address(&ledger, "db")])]);
    let foreign = Taken { containers, ..Taken::default() };
    let next =
        Ledger::default().up(request("cloud", vec![service("cloud", "db", &[])]), &foreign, &anna()).unwrap();
    assert_ne!(address(&next.ledger, "db"), address(&ledger, "db"));
}

#[test]
fn up_clears_holds_of_its_services_alone() {
    let mut ledger = cloud();
    let lab = up(&ledger, request("lab", vec![service("lab", "aaa", &[])])).ledger;
    ledger = lab;
    let (notes, _) = ledger.stop(&["db".to_owned(), "aaa".to_owned()], true, |_| true, &anna()).unwrap();
    ledger.notes = notes;
    assert_eq!(ledger.notes.holds.len(), 3);
    let next = up(&ledger, request("lab", vec![service("lab", "aaa", &[])]));
    assert_eq!(next.ledger.notes.holds.keys().map(ContainerName::as_str).collect::<Vec<_>>(), ["db", "web"]);
}

#[test]
fn stop_names_running_dependents_and_start_releases_what_is_needed() {
    let mut ledger = cloud();
    let stop = |with, running: bool| ledger.stop(&["db".to_owned()], with, |_| running, &anna());
    assert!(
        matches!(stop(false, true), Err(AgentError::HasDependents { dependents, .. }) if dependents == ["web"])
    );
    assert_eq!(stop(false, false).unwrap().1.len(), 1);
    let (notes, scope) = stop(true, true).unwrap();
    assert_eq!(scope.len(), 2);
    ledger.notes = notes;
    let (notes, scope) = ledger.start(&["web".to_owned()]).unwrap();
    assert_eq!((notes.holds.len(), scope.len()), (0, 2));
    let (notes, _) = ledger.start(&["db".to_owned()]).unwrap();
    assert_eq!(notes.holds.len(), 1);
}

#[test]
fn down_refuses_to_leave_dependents_without_what_they_need() {
    let ledger = cloud();
    let down = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        ledger.down("cloud", &names, &anna())
    };
    assert!(matches!(down(&["db"]), Err(AgentError::HasDependents { .. })));
    assert_eq!(names(&down(&["web"]).unwrap().ledger.generation.services), ["db"]);
    let all = down(&[]).unwrap().ledger.generation;
    assert!(all.services.is_empty() && all.stacks.is_empty() && all.number == 2);
    assert!(matches!(down(&["ghost"]), Err(AgentError::UnknownService { .. })));
    assert!(matches!(ledger.down("lab", &[], &anna()), Err(AgentError::UnknownStack { .. })));
}

#[test]
fn a_dependency_on_nobody_is_refused() {
    let result =
        Ledger::default().up(request("cloud", vec![service("cloud", "web", &["db"])]), &Taken::default(), &anna());
    assert!(matches!(result, Err(AgentError::Invalid { .. })));
}

/// The stack `cloud` as above, and `lab` beside it, whose `wiki` waits for db.
fn cloud_and_lab(condition: Condition) -> Ledger {
    let mut wiki = service("lab", "wiki", &["db"]);
    wiki.depends_on.insert(name("db"), condition);
    up(&cloud(), request("lab", vec![wiki])).ledger
}

#[test]
fn a_prune_that_would_leave_another_stack_without_what_it_needs_is_refused() {
    let ledger = cloud_and_lab(Condition::Healthy);
    let without_db = |prune| RequestedStack { prune, ..request("cloud", vec![service("cloud", "web", &[])]) };
    let error = ledger.up(without_db(true), &Taken::default(), &anna()).unwrap_err();
    let AgentError::HasDependents { dependents, hint } = error else { panic!("{error:?}") };
    assert_eq!(dependents, ["wiki"]);
    assert!(hint.contains("`db`"), "{hint}");
    assert_eq!(up(&ledger, without_db(false)).orphans, [name("db")]);
    let alone = ledger.down("lab", &[], &anna()).unwrap().ledger;
    assert_eq!(names(&up(&alone, without_db(true)).ledger.generation.services), ["web"]);
}

#[test]
fn a_service_that_another_stack_waits_for_does_not_become_what_never_gets_there() {
    let job = |stack| {
        let job = Service { kind: Kind::Job, ..service("cloud", "db", &[]) };
        request(stack, vec![job, service("cloud", "web", &["db"])])
    };
    let error = cloud_and_lab(Condition::Healthy).up(job("cloud"), &Taken::default(), &anna()).unwrap_err();
    let AgentError::Invalid { problems, .. } = error else { panic!("{error:?}") };
    assert_eq!(problems, ["`wiki` waits for `db` to be healthy, which a job never is; wait for `completed`"]);
    up(&cloud_and_lab(Condition::Started), job("cloud"));
}

#[test]
fn what_another_stack_lacked_before_is_no_reason_to_refuse() {
    let mut ledger = cloud_and_lab(Condition::Healthy);
    ledger.generation.services.remove("db");
    up(&ledger, request("cloud", vec![service("cloud", "web", &[])]));
}
