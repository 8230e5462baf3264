//! Who may do what: every method with every role, and the names and errors of the protocol.

use std::io::Read;

use futures_util::StreamExt;
use nixmox_agent::server::Role;
use nixmox_api::{AgentError, AgentProxy, GpuFitRequest, LogKind, LogSources, LogsOf, LogsRequest, Request};
use serde_json::{Value, json};

use crate::harness::{TestServer, wait_until};

const ROLES: [Option<Role>; 3] = [None, Some(Role::Observer), Some(Role::Operator)];

fn command() -> Value {
    json!({ "request": { "name": "web", "command": ["true"], "login": false, "environment": [] } })
}

fn copy() -> Value {
    json!({ "request": { "name": "web", "path": "/etc", "into": false, "follow": false } })
}

fn request() -> Value {
    json!({ "stack": "cloud", "file": "/srv/nixmox.toml", "address_pool": "10.233.0.0/16", "services": [],
            "only": [], "prune": false })
}

/// Every method with parameters, a key of its reply (empty: its reply has none), and the least role that it is for.
fn methods() -> Vec<(&'static str, Value, &'static str, Option<Role>)> {
    let (observer, operator) = (Some(Role::Observer), Some(Role::Operator));
    let interface = json!({ "interface": "io.nixmox.Agent" });
    vec![
        ("org.varlink.service.GetInfo", json!({}), "interfaces", None),
        ("org.varlink.service.GetInterfaceDescription", interface, "description", None),
        ("io.nixmox.Agent.Status", json!({}), "services", observer),
        ("io.nixmox.Agent.Usage", json!({}), "services", observer),
        ("io.nixmox.Agent.Watch", json!({}), "number", observer),
        ("io.nixmox.Agent.Logs", json!({ "request": { "services": [], "follow": false } }), "sources", observer),
        ("io.nixmox.Agent.Events", json!({ "request": { "follow": false } }), "sources", observer),
        ("io.nixmox.Agent.Stacks", json!({}), "stacks", observer),
        ("io.nixmox.Agent.Paths", json!({ "name": "web" }), "paths", observer),
        ("io.nixmox.Agent.Generations", json!({}), "generations", observer),
        ("io.nixmox.Agent.Diff", json!({ "from": 1, "to": 2 }), "services", observer),
        ("io.nixmox.Agent.Plan", json!({ "request": request() }), "base", observer),
        ("io.nixmox.Agent.Gpus", json!({}), "inventory", observer),
        ("io.nixmox.Agent.GpuFit", json!({ "request": { "name": "web" } }), "outcome", observer),
        ("io.nixmox.Agent.GpuDoctor", json!({ "name": "web" }), "layers", observer),
        ("io.nixmox.Agent.Offloads", json!({}), "services", observer),
        ("io.nixmox.Agent.OffloadModel", json!({ "name": "web", "model": "llama3.1:8b" }), "tensors", observer),
        ("io.nixmox.Agent.Apply", json!({ "request": request() }), "generation", operator),
        ("io.nixmox.Agent.Down", json!({ "stack": "cloud", "names": [] }), "generation", operator),
        ("io.nixmox.Agent.Rollback", json!({ "stack": "cloud", "to": 7, "names": [] }), "generation", operator),
        ("io.nixmox.Agent.Start", json!({ "names": ["web"] }), "services", operator),
        ("io.nixmox.Agent.Stop", json!({ "names": ["web"], "with_dependents": true }), "services", operator),
        ("io.nixmox.Agent.Restart", json!({ "names": ["web"] }), "services", operator),
        ("io.nixmox.Agent.RemoveData", json!({ "name": "web" }), "", operator),
        ("io.nixmox.Agent.Exec", command(), "", operator),
        ("io.nixmox.Agent.Copy", copy(), "objects", operator),
    ]
}

#[test]
fn every_method_gives_every_role_its_answer() {
    for role in ROLES {
        let server = TestServer::for_everybody(role);
        for (method, parameters, key, needed) in methods() {
            let more = [".Watch", ".Logs", ".Events", ".Exec", ".Copy"];
            let more = more.iter().any(|lasting| method.ends_with(lasting));
            let call = json!({ "method": method, "parameters": parameters, "more": more }).to_string();
            let answer = server.connect().call_raw(&call);
            if role >= needed {
                assert!(answer.get("error").is_none(), "{role:?} calls {method}: {answer}");
                let reply = &answer["parameters"];
                assert!(reply.is_object() && (key.is_empty() || reply.get(key).is_some()), "{method}: {answer}");
            } else {
                assert_eq!(answer["error"], "io.nixmox.Agent.NotPermitted", "{role:?} calls {method}");
                assert_eq!(answer["parameters"]["role"], needed.expect("a role is needed").word());
                assert_eq!(answer["parameters"]["method"], method);
            }
        }
        let changes = server.fake.calls();
        let expected = if role == Some(Role::Operator) { 7 } else { 0 };
        assert_eq!(changes.len(), expected, "{role:?} changed: {changes:?}");
    }
}

#[test]
fn the_table_here_has_every_method_of_the_interface() {
    let described = nixmox_api::DESCRIPTION.methods().count();
    assert_eq!(methods().len(), described + 2, "the methods of org.varlink.service are two");
}

#[test]
fn parameters_of_somebody_who_may_not_are_not_even_read() {
    let server = TestServer::for_everybody(Some(Role::Observer));
    let answer = server.connect().call("io.nixmox.Agent.Apply", json!({ "request": "nonsense" }));
    assert_eq!(answer["error"], "io.nixmox.Agent.NotPermitted");
}

/// Runs the typed client.
fn with_client<T>(
    server: &TestServer,
    run: impl AsyncFnOnce(&mut zlink::tokio::unix::Connection) -> zlink::Result<T>,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = zlink::tokio::unix::connect(server.path()).await.expect("the server listens");
        run(&mut connection).await.expect("the server answers")
    })
}

fn typed_request() -> Request {
    serde_json::from_value(request()).unwrap()
}

#[test]
fn the_typed_client_calls_every_method() {
    let server = TestServer::for_everybody(Some(Role::Operator));
    with_client(&server, async |agent| {
        assert_eq!(agent.status().await?.unwrap().host.version, "test");
        assert_eq!(agent.usage().await?.unwrap().clock_usec, 7);
        assert!(agent.stacks().await?.unwrap().stacks.is_empty());
        assert!(agent.paths("web").await?.unwrap().paths.is_empty());
        assert!(agent.generations().await?.unwrap().generations.is_empty());
        assert!(agent.diff(1, 2).await?.unwrap().services.is_empty());
        assert_eq!(agent.plan(&typed_request()).await?.unwrap().base, "base");
        assert!(agent.gpus().await?.unwrap().inventory.gpus.is_empty());
        assert!(agent.gpu_fit(&GpuFitRequest::default()).await?.unwrap().yields.is_empty());
        assert!(agent.gpu_doctor(None).await?.unwrap().layers.is_empty());
        assert!(agent.gpu_doctor(Some("web")).await?.unwrap().layers.is_empty());
        assert!(agent.offloads().await?.unwrap().services.is_empty());
        assert!(agent.offload_model("web", "llama3.1:8b").await?.unwrap().tensors.is_empty());
        assert_eq!(agent.apply(&typed_request()).await?.unwrap().generation, 42);
        assert_eq!(agent.down("cloud", &[]).await?.unwrap().generation, 43);
        assert_eq!(agent.rollback("cloud", None, &[]).await?.unwrap().generation, 44);
        let names = ["web".to_owned()];
        assert_eq!(agent.start(&names).await?.unwrap().services, names);
        assert_eq!(agent.stop(&names, true).await?.unwrap().services, names);
        assert_eq!(agent.restart(&names).await?.unwrap().services, names);
        agent.remove_data("web").await?.unwrap();
        Ok(())
    });
    let uid = nix::unistd::geteuid();
    let calls = ["apply", "down cloud", "rollback cloud", "start", "stop", "restart", "remove_data web"];
    assert_eq!(server.fake.calls(), calls.map(|call| format!("{call} by {uid}")));
}

#[test]
fn the_typed_client_follows_a_watch() {
    let server = TestServer::for_everybody(Some(Role::Observer));
    let fake = server.fake.clone();
    with_client(&server, async |agent| {
        let mut updates = std::pin::pin!(agent.watch().await?);
        let first = updates.next().await.expect("a snapshot")?.unwrap();
        assert!(first.status.is_some());
        for _ in 0..3 {
            fake.send_event(1);
        }
        for number in first.number + 1..=first.number + 3 {
            assert_eq!(updates.next().await.expect("an event")?.unwrap().number, number);
        }
        Ok(())
    });
}

#[test]
fn the_typed_client_is_handed_pipes_until_the_last_reply() {
    let server = TestServer::for_everybody(Some(Role::Observer));
    let of = |name: &str| LogsOf { name: name.into(), ..LogsOf::default() };
    let request = LogsRequest { services: vec![of("web")], ..LogsRequest::default() };
    with_client(&server, async |agent| {
        let mut replies = std::pin::pin!(agent.logs(&request).await?);
        let (first, descriptors) = replies.next().await.expect("the sources")?;
        let [source] = <[_; 1]>::try_from(first.unwrap().sources).unwrap();
        assert_eq!((source.kind, source.services), (LogKind::Host, vec!["web".to_owned()]));
        let [pipe] = <[_; 1]>::try_from(descriptors).unwrap();
        let mut text = String::new();
        std::fs::File::from(pipe).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a line\n");
        let (last, descriptors) = replies.next().await.expect("the end")?;
        assert_eq!((last.unwrap(), descriptors.len()), (LogSources::default(), 0));
        Ok(())
    });
    let request = LogsRequest { services: vec![of("absent")], ..LogsRequest::default() };
    with_client(&server, async |agent| {
        let mut replies = std::pin::pin!(agent.logs(&request).await?);
        let (refused, _) = replies.next().await.expect("an answer")?;
        assert!(matches!(refused, Err(AgentError::UnknownService { .. })), "{refused:?}");
        Ok(())
    });
}

#[test]
fn what_a_client_attends_ends_when_it_leaves() {
    let server = TestServer::for_everybody(Some(Role::Observer));
    let follow = json!({ "method": "io.nixmox.Agent.Logs", "more": true,
                         "parameters": { "request": { "services": [], "follow": true } } });
    let mut client = server.connect();
    assert_eq!(client.call_raw(&follow.to_string())["continues"], true);
    assert_eq!(server.fake.attended(), 1);
    drop(client);
    wait_until("the readers are gone", || server.fake.attended() == 0);
}

#[test]
fn the_typed_client_reads_the_errors() {
    let server = TestServer::for_everybody(Some(Role::Operator));
    with_client(&server, async |agent| {
        let absent = agent.paths("absent").await?;
        assert_eq!(absent, Err(AgentError::UnknownService { name: "absent".into(), hint: String::new() }));
        let refused = agent.stop(&["web".into()], false).await?;
        assert!(matches!(refused, Err(AgentError::HasDependents { dependents, .. }) if dependents == ["web"]));
        let invalid = agent.apply(&Request { stack: "/".into(), ..typed_request() }).await?;
        assert!(matches!(invalid, Err(AgentError::Invalid { problems, .. }) if problems.len() == 1));
        Ok(())
    });
    let observer = TestServer::for_everybody(Some(Role::Observer));
    with_client(&observer, async |agent| {
        let refused = agent.restart(&["web".into()]).await?;
        assert!(matches!(refused, Err(AgentError::NotPermitted { role, .. }) if role == "operator"));
        Ok(())
    });
}

#[test]
fn names_that_are_not_names_reach_nobody() {
    let server = TestServer::for_everybody(Some(Role::Operator));
    let mut client = server.connect();
    for bad in ["../../root/secret", "", "a b", "a\0b", &"a".repeat(64)] {
        for (method, parameters) in [
            ("Paths", json!({ "name": bad })),
            ("RemoveData", json!({ "name": bad })),
            ("Start", json!({ "names": [bad] })),
            ("Stop", json!({ "names": [bad], "with_dependents": true })),
            ("Restart", json!({ "names": ["web", bad] })),
            ("GpuFit", json!({ "request": { "name": bad } })),
            ("GpuDoctor", json!({ "name": bad })),
            ("OffloadModel", json!({ "name": bad, "model": "llama3.1:8b" })),
            ("Down", json!({ "stack": "cloud", "names": [bad] })),
        ] {
            let answer = client.call(&format!("io.nixmox.Agent.{method}"), parameters);
            assert_eq!(answer["error"], "io.nixmox.Agent.UnknownService", "{method} {bad:?}");
        }
        let answer = client.call("io.nixmox.Agent.Down", json!({ "stack": bad, "names": [] }));
        assert_eq!(answer["error"], "io.nixmox.Agent.UnknownStack", "{bad:?}");
    }
    assert!(server.fake.calls().is_empty());
}

#[test]
fn what_names_no_model_never_reaches_an_engine() {
    let server = TestServer::for_everybody(Some(Role::Observer));
    let mut client = server.connect();
    for bad in [String::new(), "x".repeat(257), "llama\n3".to_owned(), "\u{1b}[2J".to_owned()] {
        let answer = client.call("io.nixmox.Agent.OffloadModel", json!({ "name": "web", "model": bad }));
        assert_eq!(answer["error"], "io.nixmox.Agent.Invalid", "{bad:?}");
        let told = answer["parameters"].to_string();
        assert!(!told.contains("\\u001b") && told.len() < 1000, "{told}");
    }
}

#[test]
fn the_errors_of_the_protocol_are_the_standard_ones() {
    let server = TestServer::for_everybody(Some(Role::Operator));
    let mut client = server.connect();
    let mut error = |call: Value| client.call_raw(&call.to_string())["error"].clone();
    assert_eq!(error(json!({ "method": "io.nixmox.Agent.Nothing" })), "org.varlink.service.MethodNotFound");
    assert_eq!(error(json!({ "method": "io.nixmox.Agent.Watch" })), "org.varlink.service.ExpectedMore");
    assert_eq!(error(json!({ "method": "io.nixmox.Agent.Logs" })), "org.varlink.service.ExpectedMore");
    let upgrade = json!({ "method": "io.nixmox.Agent.Status", "upgrade": true });
    assert_eq!(error(upgrade), "org.varlink.service.InvalidParameter");
    let interface = json!({ "interface": "org.example" });
    let absent = json!({ "method": "org.varlink.service.GetInterfaceDescription", "parameters": interface });
    assert_eq!(error(absent), "org.varlink.service.InterfaceNotFound");
    let unknown = json!({ "method": "io.nixmox.Agent.Start", "parameters": { "names": [], "now": true } });
    assert_eq!(error(unknown), "io.nixmox.Agent.Invalid");
    // And of questions, each with what it needs beside it.
    for (method, needs) in [
        ("OffloadModel", json!({ "name": "web", "model": "a" })),
        ("GpuFit", json!({ "request": {} })),
        ("GpuDoctor", json!({})),
    ] {
        let mut call = json!({ "method": format!("io.nixmox.Agent.{method}"), "parameters": needs });
        let known = error(call.clone());
        assert_ne!(known, "io.nixmox.Agent.Invalid", "{method}");
        call["parameters"]["now"] = json!(true);
        assert_eq!(error(call), "io.nixmox.Agent.Invalid", "{method}");
    }
    client.expect_served();
}

#[test]
fn the_interface_describes_itself() {
    let server = TestServer::for_everybody(None);
    let mut client = server.connect();
    let info = client.call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["interfaces"], json!(["io.nixmox.Agent", "org.varlink.service"]));
    for (name, method) in [("io.nixmox.Agent", "method Apply("), ("org.varlink.service", "method GetInfo(")] {
        let reply = client.call("org.varlink.service.GetInterfaceDescription", json!({ "interface": name }));
        let text = reply["parameters"]["description"].as_str().expect("a text");
        assert!(text.contains(&format!("interface {name}\n")) && text.contains(method), "{text}");
    }
}

#[test]
fn a_call_without_a_reply_needs_its_role_too() {
    let server = TestServer::for_everybody(Some(Role::Observer));
    let mut client = server.connect();
    let call = json!({ "method": "io.nixmox.Agent.Start", "parameters": { "names": ["web"] }, "oneway": true });
    client.send(call.to_string().as_bytes());
    client.send(&[0]);
    client.expect_served();
    assert!(server.fake.calls().is_empty());
}

#[test]
fn a_call_without_a_reply_is_carried_out_and_not_answered() {
    let server = TestServer::for_everybody(Some(Role::Operator));
    let mut client = server.connect();
    let call = json!({ "method": "io.nixmox.Agent.Start", "parameters": { "names": ["web"] }, "oneway": true });
    client.send(call.to_string().as_bytes());
    client.send(&[0]);
    let watch = json!({ "method": "io.nixmox.Agent.Watch", "oneway": true, "more": true });
    client.send(watch.to_string().as_bytes());
    client.send(&[0]);
    // The first answer is that of the last call.
    client.expect_served();
    assert_eq!(server.fake.calls().len(), 1);
}
