//! Engines in guests, asked through the installed agent's helper. What answers here are files that say what engines say: whether the
//! right network and the right root are asked is what cannot be seen without a guest.

use std::time::{Duration, Instant};

use nixmox_agent::host::Host;
use nixmox_agent::host::live::Live;
use nixmox_core::model::{CpuFallback, Engine, Offload};
use nixmox_core::offload::arbiter::{Setting, Step};
use nixmox_core::offload::engine::Version;
use nixmox_core::offload::estimate::Layers;
use nixmox_core::offload::seen::{EngineSeen, EngineView};

use crate::inside::{LIMIT, open, shell};
use crate::service::{assigned, files, name};

fn offload(engine: Engine) -> Offload {
    Offload {
        engine,
        url: engine.default_url().to_owned(),
        keep: vec!["tiny".to_owned()],
        idle_unload: None,
        context: None,
        request_grace: None,
        cpu_fallback: CpuFallback::Refuse,
    }
}

async fn silent(host: &Live, offload: &Offload) -> String {
    match host.look_at_engine(&name("web"), offload).await {
        EngineSeen::Silent(why) => why,
        EngineSeen::Answers(view) => panic!("{view:?}"),
    }
}

/// Looks until there is an answer.
async fn view(host: &Live, offload: &Offload) -> EngineView {
    let begin = Instant::now();
    loop {
        match host.look_at_engine(&name("web"), offload).await {
            EngineSeen::Answers(view) => return view,
            EngineSeen::Silent(why) => assert!(begin.elapsed() < LIMIT, "{why}"),
        }
    }
}

/// Puts files at a port of the guest's network, or of the host's, where `inside` is empty.
fn serve(unit: &str, inside: &str, port: u16, entries: &[(&str, &str)]) {
    let folder = format!("/srv/{unit}");
    for (path, text) in entries {
        shell(&format!("mkdir -p $(dirname {folder}/{path}); cat > {folder}/{path} <<'END'\n{text}\nEND"));
    }
    shell(&format!("systemd-run -q --unit={unit} {inside} busybox httpd -f -p 127.0.0.1:{port} -h {folder}"));
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn engines_are_asked_in_the_network_of_their_guest() {
    let host = open();
    let (ollama, server) = (offload(Engine::Ollama), offload(Engine::LlamaServer));
    assert_eq!(silent(&host, &ollama).await, "the container does not run");
    let service = assigned("web", "web", 1);
    host.start(&service, &files(&service)).await.expect("it starts");

    // One of the host's is none of the guest's.
    let version = |version: &str| format!(r#"{{"version":"{version}"}}"#);
    let none = r#"{"models":[]}"#;
    serve("hosts", "", 11434, &[("api/version", &version("9.9.9")), ("api/ps", none), ("api/tags", none)]);
    assert_eq!(silent(&host, &ollama).await, "connection refused");

    let leader = shell("machinectl show web -p Leader --value");
    let inside = format!("nsenter -n -t {leader}");
    let loaded =
        r#"{"models":[{"name":"tiny:latest","size":5,"size_vram":3,"expires_at":"2026-11-30T23:39:02Z"}]}"#;
    serve(
        "ollama",
        &inside,
        11434,
        &[("api/version", &version("0.12.10")), ("api/ps", loaded), ("api/tags", none)],
    );
    let seen = view(&host, &ollama).await;
    assert_eq!((seen.version, seen.is_multi), (Some(Version(0, 12, 10)), true));
    assert_eq!(seen.loaded[0].name, "tiny", "as the manifest calls it");
    let step = Step::Load {
        model: "tiny".to_owned(),
        setting: Setting { layers: Layers::Exactly(1), context: None },
        keep: true,
    };
    let error = host.change_model(&name("web"), &ollama, &step).await.expect_err("files cannot be posted to");
    assert_eq!(error.to_string(), "the ollama of `web` did not load tiny: answered with status 501");

    // What it says of its model's file is meant in its own root.
    shell("printf not-a-model > /model.gguf");
    let props =
        r#"{"build_info":"b11434-x","model_path":"/model.gguf","default_generation_settings":{"n_ctx":256}}"#;
    let models = r#"{"data":[{"id":"tiny"}]}"#;
    serve("server", &inside, 8080, &[("props", props), ("models", models)]);
    let seen = view(&host, &server).await;
    assert_eq!((seen.version, seen.is_multi), (Some(Version(0, 0, 11434)), false));
    assert_eq!((seen.loaded[0].digest.as_str(), seen.loaded[0].context), ("/model.gguf", Some(256)));
    let error = host.show_model(&name("web"), &server, "tiny").await.expect_err("it is not there").to_string();
    assert!(error.starts_with("the llama-server of `web` did not show tiny: /model.gguf: No such file"), "{error}");
    // A head without a key or a tensor.
    shell(r"printf 'GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' > /var/lib/nixos-containers/web/model.gguf");
    let header = host.show_model(&name("web"), &server, "tiny").await.expect("it is there");
    assert_eq!(header.tensors, []);

    // One that never answers takes no more than its time: the kernel accepts for it.
    shell("systemctl kill --signal=STOP ollama.service");
    let begin = Instant::now();
    assert_eq!(silent(&host, &ollama).await, "no answer in time");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    shell("systemctl kill --signal=CONT ollama.service");
    view(&host, &ollama).await;
}
