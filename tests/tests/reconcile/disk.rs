//! What is on disk and cannot be read, written or understood.

use std::fs;
use std::time::Duration;

use nixmox_agent::server::Control;
use nixmox_api::{AgentError, Status};
use nixmox_core::model::Service;

use crate::declare::{Declare, job, runs_for, service};
use crate::machine::{Machine, anna, name, of, on_a_machine, request};

fn stack() -> [Service; 2] {
    [service("db"), service("app")]
}

async fn well(machine: &Machine) -> Status {
    machine.up(&stack()).await;
    machine.until_well().await
}

fn reason(error: AgentError) -> (String, String) {
    match error {
        AgentError::Refused { reason, hint } => (reason, hint),
        other => panic!("{other:?}"),
    }
}

#[test]
fn state_of_a_newer_version_means_hands_off() {
    for (file, text) in
        [("generations/1.json", r#"{"format":99,"new":true}"#), ("notes.json", r#"{"format":99,"new":true}"#)]
    {
        on_a_machine(async |machine| {
            well(machine).await;
            let before = machine.invocations().await;
            machine.kill_agent().await;
            fs::write(machine.state().join(file), text).unwrap();
            fs::write(machine.state().join("generations/2.json"), "{}").unwrap();
            machine.settings.keep_generations = 1;
            machine.host.clear_trace();
            machine.boot_agent();
            let status = machine.until("it serves", |status| !status.host.warnings.is_empty()).await;
            assert!(status.host.warnings[0].contains("has format 99, this agent knows 1"), "{:?}", status.host);
            let agent = machine.agent();
            let refused = [
                machine.apply(request(&stack())).await.err(),
                agent.plan(request(&stack())).await.err(),
                agent.down("cloud".to_owned(), Vec::new(), anna()).await.err(),
                machine.start(&["db"]).await.err(),
                machine.stop(&["db"]).await.err(),
                machine.restart(&["db"]).await.err(),
                agent.remove_data("db".to_owned(), anna()).await.err(),
            ];
            for error in refused {
                let (reason, hint) = reason(error.expect("refused"));
                assert!(reason.contains("install the version of NixMox that wrote it"), "{reason}");
                assert_eq!(hint, "nothing is touched until then");
            }
            machine.pass(Duration::from_hours(1)).await;
            assert_eq!(machine.host.trace(), []);
            assert_eq!(machine.invocations().await, before);
            assert_eq!(fs::read_to_string(machine.state().join(file)).unwrap(), text);
            assert!(machine.state().join("generations/2.json").exists(), "nothing is pruned");
        });
    }
}

#[test]
fn a_damaged_generation_is_told_and_the_newest_good_one_stands_in() {
    on_a_machine(async |machine| {
        well(machine).await;
        let before = machine.invocations().await;
        machine.up(&[service("db"), service("app").memory_max(1)]).await;
        machine.until_well().await;
        machine.kill_agent().await;
        fs::write(machine.state().join("generations/2.json"), "{").unwrap();
        machine.boot_agent();
        let status = machine.until_well().await;
        assert_eq!(status.host.generation, 1);
        assert!(
            status.host.warnings[0].contains("2.json` is damaged; generation 1 stands in"),
            "{:?}",
            status.host
        );
        let status = machine.until("the limit is as it was", |status| of(status, "app").memory_max.is_none()).await;
        assert_eq!(status.host.warnings.len(), 1);
        assert_eq!(machine.up(&[service("db"), service("app").memory_max(1)]).await.generation, 3);
        let status = machine.until_well().await;
        assert_eq!(status.host.warnings, [""; 0], "the damaged one is not current any more");
        assert_eq!(machine.invocations().await, before);
        machine.restart_agent().await;
        assert_eq!(machine.until_well().await.host.generation, 3);
    });
}

#[test]
fn without_a_generation_that_can_be_read_nothing_is_touched() {
    on_a_machine(async |machine| {
        well(machine).await;
        let before = machine.invocations().await;
        machine.kill_agent().await;
        fs::write(machine.state().join("generations/1.json"), "\0").unwrap();
        machine.host.clear_trace();
        machine.boot_agent();
        let status = machine.until("it serves", |status| !status.host.warnings.is_empty()).await;
        assert!(status.host.warnings[0].contains("1.json` is damaged, and no other"), "{:?}", status.host);
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.host.trace(), []);
        assert_eq!(machine.invocations().await, before);
        // The way out that it names.
        machine.kill_agent().await;
        fs::remove_file(machine.state().join("generations/1.json")).unwrap();
        fs::remove_file(machine.state().join("current")).unwrap();
        machine.boot_agent();
        machine.up(&stack()).await;
        machine.until_well().await;
        assert_eq!(machine.invocations().await, before);
    });
}

#[test]
fn damaged_notes_are_told_and_lose_holds_alone() {
    on_a_machine(async |machine| {
        well(machine).await;
        machine.stop(&["db"]).await.unwrap();
        machine.kill_agent().await;
        fs::write(machine.state().join("notes.json"), "\0\0").unwrap();
        machine.boot_agent();
        let status = machine.until_well().await;
        assert!(status.host.warnings[0].contains("services held by `stop` are started again"), "{:?}", status.host);
    });
}

#[test]
fn a_generation_that_cannot_be_written_changes_nothing() {
    on_a_machine(async |machine| {
        well(machine).await;
        machine.stop(&["app"]).await.unwrap();
        machine.until("app is stopped", |status| of(status, "app").invocation.is_none() && !status.host.busy).await;
        let before = machine.status().await;
        machine.host.clear_trace();
        // Root may write to a folder without permission, but not to one that is none.
        let (folder, aside) = (machine.state().join("generations"), machine.state().join("aside"));
        fs::rename(&folder, &aside).unwrap();
        fs::write(&folder, "").unwrap();
        let changed = [service("db").built_anew('b'), service("app")];
        let (text, _) = reason(machine.apply(request(&changed)).await.unwrap_err());
        assert!(text.contains("generations") && text.contains("nothing was changed"), "{text}");
        let error = machine.agent().down("cloud".to_owned(), Vec::new(), anna()).await.unwrap_err();
        reason(error);
        machine.pass(Duration::from_mins(5)).await;
        let after = machine.status().await;
        assert_eq!(after.host.generation, before.host.generation);
        assert_eq!(of(&after, "app").held_by.as_deref(), Some("anna"), "its hold is not lifted either");
        assert_eq!(machine.trace(), [""; 0]);
        fs::remove_file(&folder).unwrap();
        fs::rename(&aside, &folder).unwrap();
        machine.restart_agent().await;
        let status = machine.until("it serves", |status| status.services.len() == 2).await;
        assert_eq!(of(&status, "app").held_by.as_deref(), Some("anna"));
        assert_eq!(machine.up(&changed).await.generation, 2);
        machine.until_well().await;
    });
}

#[test]
fn a_hold_that_cannot_be_written_is_none() {
    on_a_machine(async |machine| {
        well(machine).await;
        let notes = machine.state().join("notes.json");
        let _ = fs::remove_file(&notes);
        fs::create_dir(&notes).unwrap();
        let (text, _) = reason(machine.stop(&["db"]).await.unwrap_err());
        assert!(text.contains("notes.json") && text.contains("nothing was changed"), "{text}");
        machine.pass(Duration::from_mins(5)).await;
        machine.until_well().await;
        fs::remove_dir(&notes).unwrap();
        machine.stop(&["db"]).await.unwrap();
        machine.until("db is stopped", |status| of(status, "db").held_by.is_some()).await;
    });
}

#[test]
fn a_hold_is_lifted_only_when_the_generation_that_lifts_it_is_there() {
    on_a_machine(async |machine| {
        well(machine).await;
        machine.stop(&["db"]).await.unwrap();
        machine.until("db is stopped", |status| of(status, "db").invocation.is_none() && !status.host.busy).await;
        // As far as an agent gets that dies right before the notes: a folder cannot be replaced by a file.
        let (notes, aside) = (machine.state().join("notes.json"), machine.state().join("aside"));
        fs::rename(&notes, &aside).unwrap();
        fs::create_dir(&notes).unwrap();
        let changed = [service("db").memory_max(1), service("app")];
        assert_eq!(machine.up(&changed).await.generation, 2);
        let status = machine.until_well().await;
        assert!(status.host.warnings[0].contains("the next agent holds again"), "{:?}", status.host.warnings);
        machine.stop(&["app"]).await.unwrap_err();
        machine.kill_agent().await;
        fs::remove_dir(&notes).unwrap();
        fs::rename(&aside, &notes).unwrap();
        machine.boot_agent();
        let status = machine.until("db is held", |status| !status.services.is_empty() && !status.host.busy).await;
        assert_eq!((status.host.generation, of(&status, "db").held_by.as_deref()), (2, Some("anna")));
        assert_eq!(fs::read_dir(machine.state()).unwrap().count(), 4, "no temporary file stays behind");
    });
}

#[test]
fn a_hold_that_was_lifted_in_memory_alone_is_lifted_on_disk_as_soon_as_that_works() {
    on_a_machine(async |machine| {
        well(machine).await;
        machine.stop(&["db"]).await.unwrap();
        machine.until("db is stopped", |status| of(status, "db").invocation.is_none() && !status.host.busy).await;
        let (notes, aside) = (machine.state().join("notes.json"), machine.state().join("aside"));
        fs::rename(&notes, &aside).unwrap();
        fs::create_dir(&notes).unwrap();
        machine.up(&[service("db").memory_max(1), service("app")]).await;
        // Another generation does not make up for it.
        machine.up(&[service("db").memory_max(2), service("app")]).await;
        let status = machine.until_well().await;
        assert!(status.host.warnings[0].contains("the next agent holds again"), "{:?}", status.host.warnings);
        fs::remove_dir(&notes).unwrap();
        fs::rename(&aside, &notes).unwrap();
        let status = machine.until("it is written", |status| status.host.warnings.is_empty()).await;
        assert_eq!(of(&status, "db").held_by, None);
        machine.kill_agent().await;
        machine.host.reboot();
        machine.boot_agent();
        machine.until_well().await;
    });
}

#[test]
fn what_was_noted_of_a_service_ends_with_it_though_the_agent_dies_in_down() {
    on_a_machine(async |machine| {
        let stack = [service("db"), job("migrate")];
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(1), 0));
        machine.up(&stack).await;
        machine.until_well().await;
        machine.stop(&["db"]).await.unwrap();
        let notes = machine.state().join("notes.json");
        let before = fs::read(&notes).unwrap();
        machine.down().await;
        machine.until("all are gone", |status| status.services.is_empty() && !status.host.busy).await;
        machine.kill_agent().await;
        fs::write(&notes, before).unwrap();
        machine.boot_agent();
        machine.host.clear_trace();
        machine.up(&stack).await;
        machine.until_well().await;
        assert_eq!(machine.trace().iter().filter(|step| *step == "start migrate").count(), 1, "it runs again");
        machine.kill_agent().await;
        machine.host.reboot();
        machine.boot_agent();
        machine.until_well().await;
    });
}
