//! Manifests as people write them.

use std::time::Duration;

use super::{Files, stack};
use crate::manifest::SystemRef;
use crate::model::{Condition, CpuFallback, Engine, GpuDevices, Network, Offload, Probe};

/// The example of the design, whole.
pub(super) const CLOUD: &str = r#"
format = 1
[stack]
name = "cloud"
include = ["services/*/service.toml"]
address_pool = "10.233.0.0/16"        # default

[services.postgres]
system = ".#postgres"
mounts = ["/srv/postgres:/var/lib/postgresql"]
health = { unit = "postgresql.service" }
limits = { memory_max = "2G", tasks_max = 1024 }

[services.nextcloud]
system = "./nextcloud.nix"
depends_on = { postgres = "healthy" }
credentials = { admin-password = "/run/secrets/nextcloud-admin" }
mounts = [{ source = "/srv/nextcloud", target = "/var/lib/nextcloud/data", create = true, must_be_mountpoint = true }]

[services.nextcloud.health]
http = "http://localhost/status.php"
interval = "5s"
timeout = "2s"
retries = 3
start_period = "5min"
on_unhealthy = "restart"

[services.caddy]
system = "./caddy.nix"
depends_on = ["nextcloud"]
network = { ports = ["80", "443", "443/udp", "127.0.0.1:2019:2019"] }
health = { tcp = 443 }
"#;

pub(super) const OLLAMA: &str = r#"
system = "./service.nix"
mounts = ["./models:/var/lib/ollama/models"]
network = { ports = ["11434"] }
health = { http = "http://localhost:11434/api/version" }

[gpu]
devices = "all"
vram = "10G"
vram_min = "4G"
priority = 50

[offload]
engine = "ollama"
keep = ["llama3.1:8b", "nomic-embed-text"]
idle_unload = "30min"
context = 8192
request_grace = "2min"
"#;

#[test]
fn the_example_of_the_design_becomes_a_stack() {
    let files = Files { stack: CLOUD, included: &[("services/ollama/service.toml", OLLAMA)] };
    let stack = files.resolve().unwrap_or_else(|_| panic!("{}", files.complaints()));
    let names: Vec<&str> = stack.services.iter().map(|declared| declared.service.name.as_str()).collect();
    assert_eq!(names, ["postgres", "nextcloud", "caddy", "ollama"]);
    insta::assert_debug_snapshot!(stack.services);
    assert_eq!(files.complaints(), "");
}

#[test]
fn who_says_nothing_of_which_gpus_asks_for_one() {
    for gpu in ["{}", "{ vram = \"8G\" }"] {
        let text = format!("format = 1\nstack.name = \"cloud\"\n[services.a]\nsystem = \".#a\"\ngpu = {gpu}\n");
        let share = stack(&text).services[0].service.gpu.clone().unwrap();
        assert_eq!(share.devices, GpuDevices::Count(1), "{gpu}");
    }
}

#[test]
fn an_engine_is_reached_where_it_listens_by_itself() {
    let offload = |keys: &str| {
        let text = format!("[services.a]\nsystem = \".#a\"\ngpu.vram = \"8G\"\noffload = {{ {keys} }}\n");
        let text = format!("format = 1\nstack.name = \"cloud\"\n{text}");
        stack(&text).services[0].service.offload.clone().unwrap()
    };
    let ollama = offload("engine = \"ollama\"");
    let expected = Offload {
        engine: Engine::Ollama,
        url: "http://localhost:11434".to_owned(),
        keep: Vec::new(),
        idle_unload: None,
        context: None,
        request_grace: None,
        cpu_fallback: CpuFallback::Refuse,
    };
    assert_eq!(ollama, expected);
    assert_eq!(offload("engine = \"llama-server\"").url, "http://localhost:8080");
    assert_eq!(offload("engine = \"ollama\", url = \"http://[::1]:1\"").url, "http://[::1]:1");
}

#[test]
fn models_may_run_in_a_container_that_is_adopted() {
    let text = "format = 1\nstack.name = \"cloud\"\n[services.a]\nadopt = true\ngpu.vram = \"8G\"\n\
                offload = { engine = \"llama-server\", request_grace = \"0s\" }\n";
    let service = stack(text).services[0].service.clone();
    assert_eq!(service.offload.map(|offload| offload.request_grace), Some(Some(Duration::ZERO)));
}

#[test]
fn an_included_service_is_named_after_its_folder_and_keeps_its_paths() {
    let files = Files { stack: CLOUD, included: &[("services/ollama/service.toml", OLLAMA)] };
    let stack = files.resolve().unwrap();
    let ollama = &stack.services.last().unwrap().service;
    assert_eq!(ollama.system, SystemRef::Module("/etc/stack/services/ollama/service.nix".into()));
    assert_eq!(ollama.mounts[0].source, std::path::Path::new("/etc/stack/services/ollama/models"));
    assert_eq!(ollama.origin.file, "services/ollama/service.toml");
    assert_eq!((ollama.origin.line, ollama.origin.health_line), (1, 5));
}

#[test]
fn a_service_knows_the_lines_of_its_heading_and_of_its_health() {
    let files = Files { stack: CLOUD, included: &[] };
    let stack = files.resolve().unwrap();
    let nextcloud = &stack.services[1].service;
    assert_eq!((nextcloud.origin.line, nextcloud.origin.health_line), (14, 20));
    assert_eq!(stack.services[2].service.origin.line, 28);
}

#[test]
fn a_dependency_may_be_in_another_stack() {
    let stack = stack(
        "format = 1\nstack.name = \"cloud\"\n[services.web]\nsystem = \".#web\"\n\
         depends_on = { \"infra/postgres\" = \"healthy\", \"cloud/api\" = \"started\" }\n\
         [services.api]\nsystem = \".#api\"\n",
    );
    let web = &stack.services[0];
    let conditions: Vec<_> =
        web.service.depends_on.iter().map(|(on, condition)| (on.as_str(), *condition)).collect();
    assert_eq!(conditions, [("api", Condition::Started), ("postgres", Condition::Healthy)]);
    let stacks: Vec<_> =
        web.service.dependency_stacks.iter().map(|(on, stack)| (on.as_str(), stack.as_str())).collect();
    assert_eq!(stacks, [("postgres", "infra")]);
}

#[test]
fn an_adopted_container_may_have_a_name_that_only_nixos_container_takes() {
    let stack = stack(
        "format = 1\nstack.name = \"cloud\"\n[services.Old_Web]\nadopt = true\nhealth = { tcp = 80 }\n\
         devices = [\"/dev/fuse:mrw\"]\n",
    );
    let web = &stack.services[0].service;
    assert_eq!(web.system, SystemRef::Adopted);
    assert_eq!(web.health.as_ref().map(|health| &health.probe), Some(&Probe::Tcp(80)));
    assert_eq!(web.devices[0].access, "rwm");
    assert_eq!(web.network, Network::Private { address: None });
}

#[test]
fn what_has_to_be_built_comes_before_a_service() {
    let stack = stack(
        "format = 1\nstack.name = \"cloud\"\n[services.a]\nsystem = \"../flake#a\"\n[services.b]\nadopt = true\n",
    );
    let path: crate::model::StorePath = format!("/nix/store/{}-a", "0".repeat(32)).parse().unwrap();
    let [a, b] = stack.services.as_slice() else { panic!("two services") };
    assert_eq!((a.ready(), b.ready().map(|service| service.system)), (None, Some(crate::model::System::Adopted)));
    assert_eq!(a.with_system(path.clone()).system, crate::model::System::Store(path.clone()));
    assert_eq!(b.with_system(path).system, crate::model::System::Adopted);
    let SystemRef::Flake { installable, folder } = &a.service.system else { panic!("a flake") };
    assert_eq!((installable.as_str(), folder.to_str()), ("../flake#a", Some("/etc/stack")));
}
