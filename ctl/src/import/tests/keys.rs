//! Single keys: what they become, and what is said where they become nothing.

use super::{file, import, import_with};
use crate::import::Import;

/// Imports one service with a known image and these further keys.
fn with(keys: &str) -> Import {
    import(&format!("name: s\nservices:\n  web:\n    image: nginx\n    {}\n", keys.replace('\n', "\n    ")))
}

/// The lines of its manifest behind what is always there.
fn manifest(import: &Import) -> String {
    let text = file(import, "services/web/service.toml");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("system") && !line.starts_with("health"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What is said: line, key, reason.
fn said(import: &Import) -> Vec<String> {
    import.findings.iter().map(|finding| format!("{} {}: {}", finding.line, finding.key, finding.reason)).collect()
}

#[test]
fn limits_old_and_new() {
    let import =
        with("mem_limit: 1g\nmemswap_limit: 1536m\ncpus: 0.5\ncpu_shares: 2048\npids_limit: 100\ncpuset: 0,2");
    let expected = "\n[limits]\nmemory_max = \"1G\"\nmemory_swap_max = \"512M\"\ncpu_quota = \"50%\"\ncpu_weight = 200\nallowed_cpus = \"0,2\"\ntasks_max = 100";
    assert_eq!(manifest(&import), expected);
    let import = with(
        "deploy: { resources: { limits: { memory: 64M, cpus: '2', pids: 9 }, reservations: { memory: 32M } } }",
    );
    assert_eq!(
        manifest(&import),
        "limits = { memory_low = \"32M\", memory_max = \"64M\", cpu_quota = \"200%\", tasks_max = 9 }"
    );
    assert_eq!(said(&with("mem_limit: 6k\ncpus: many\npids_limit: -1\nmemswap_limit: -1")).len(), 2);
}

#[test]
fn restart_devices_capabilities_and_flags() {
    assert_eq!(manifest(&with("restart: on-failure:3")), "restart = { policy = \"on-failure\", attempts_max = 3 }");
    assert_eq!(manifest(&with("restart: \"no\"")), "restart = \"no\"");
    assert_eq!(manifest(&with("restart: unless-stopped")), "");
    let import = with(
        "devices: ['/dev/ttyUSB0', '/dev/snd/seq:/dev/snd/seq:r']\ncap_add: [net_admin, ALL]\nulimits: { nofile: 64 }",
    );
    let expected = "devices = [\"/dev/ttyUSB0\", \"/dev/snd/seq:r\"]\ncapabilities = [\"CAP_NET_ADMIN\"]\nnspawn_flags = [\"--rlimit=NOFILE=64:64\"]";
    assert_eq!(manifest(&import), expected);
    assert_eq!(said(&import), ["6 cap_add: this is not one capability"]);
}

#[test]
fn volumes_of_every_form() {
    let import = with(
        "volumes:\n  - data:/usr/share/nginx/html/a\n  - ./b:/usr/share/nginx/html/b:ro,z\n  - ~/c:/usr/share/nginx/html/c\n  - {type: bind, source: /d, target: /media, read_only: true}\n  - {type: tmpfs, target: /var/cache/e, tmpfs: {size: 1048576}}\n  - /anonymous\n  - /etc/localtime:/etc/localtime:ro\n  - /x:/proc/x\n  - '/a b:/media/ab'\n  - nfs:/media/nfs",
    );
    let expected = "mounts = [\n  { source = \"/srv/s/data\", target = \"/usr/share/nginx/html/a\", create = true },\n  \"/home/me/project/b:/usr/share/nginx/html/b:ro\",\n  \"/home/me/c:/usr/share/nginx/html/c\",\n  \"/d:/media:ro\",\n  { source = \"/srv/s/nfs\", target = \"/media/nfs\", create = true },\n]\ntmpfs = [{ target = \"/var/cache/e\", size = \"1M\" }]";
    assert_eq!(manifest(&import), expected);
    assert_eq!(said(&import).len(), 3, "{:?}", said(&import));
}

#[test]
fn volumes_with_a_driver_or_a_place_of_their_own() {
    let services = "services:\n  web:\n    image: nginx\n    volumes: [bound:/media/a, nfs:/media/b]\n";
    let volumes = "volumes:\n  bound: {driver_opts: {type: none, o: bind, device: /mnt/disk}}\n  nfs: {driver_opts: {type: nfs, device: ':/x'}}\n";
    let import = import(&format!("{services}{volumes}"));
    assert_eq!(manifest(&import), "mounts = [\"/mnt/disk:/media/a\"]");
    assert_eq!(said(&import), ["4 volumes: it is a volume of a driver, not a folder of the host"]);
}

#[test]
fn dependencies_keep_their_conditions_where_they_can_hold() {
    let import = import(
        "services:\n  a: {image: redis}\n  b: {image: unknown}\n  c:\n    image: nginx\n    depends_on:\n      a: {condition: service_healthy}\n      b: {condition: service_started}\n  d:\n    image: nginx\n    depends_on:\n      a: {condition: service_completed_successfully}\n",
    );
    assert!(file(&import, "services/c/service.toml").contains("depends_on = { a = \"healthy\" }\n"));
    assert!(file(&import, "services/d/service.toml").contains("depends_on = { a = \"started\" }\n"));
    let said = said(&import);
    assert!(said.contains(&"8 depends_on: `b` is not mapped, so nothing waits for it".to_owned()), "{said:?}");
    assert!(said.iter().any(|said| said.starts_with("12 depends_on: `a` runs on")), "{said:?}");
    assert!(!import.files.iter().any(|(path, _)| path.starts_with("services/b")));
}

#[test]
fn health_is_asked_as_the_file_says_where_the_agent_can() {
    let health = |keys: &str| {
        let import = with(keys);
        let text = file(&import, "services/web/service.toml").to_owned();
        text.lines().find(|line| line.starts_with("health")).unwrap_or_default().to_owned()
    };
    assert_eq!(
        health(
            "healthcheck: {test: [CMD, curl, -f, 'http://127.0.0.1/up'], interval: 90s, timeout: 1ms, retries: 0, start_period: 5s}"
        ),
        "health = { http = \"http://localhost/up\", interval = \"1min30s\", timeout = \"10ms\", retries = 1 }"
    );
    assert_eq!(
        health("healthcheck: {test: 'pgrep x', start_period: 2m}"),
        "health = { tcp = 80, start_period = \"2min\" }"
    );
    assert_eq!(health("healthcheck: {disable: true}"), "");
    assert_eq!(health("healthcheck: {test: [NONE]}"), "");
}

#[test]
fn the_hosts_network_has_no_ports_and_no_firewall_of_the_guest() {
    let import = with("network_mode: host\nports: ['80:80']");
    assert_eq!(manifest(&import), "network = { mode = \"host\" }");
    assert!(file(&import, "services/web/service.nix").contains("networking.firewall.enable = false;"));
}

#[test]
fn services_whose_content_is_not_known_get_no_folder() {
    for keys in
        ["build: .", "extends: {service: x}", "profiles: [a]", "network_mode: 'service:vpn'", "network_mode: none"]
    {
        let import = with(keys);
        assert_eq!(import.files, [], "{keys}");
        assert!(said(&import).iter().any(|said| said.contains(" image: ")), "{keys}");
    }
}

#[test]
fn every_key_without_a_counterpart_is_told_with_its_line() {
    let keys = [
        "privileged: true",
        "links: [a]",
        "extra_hosts: ['a:1.2.3.4']",
        "configs: [x]",
        "secrets: [x]",
        "user: '1'",
        "entrypoint: x",
        "command: x",
        "read_only: true",
        "scale: 2",
        "deploy: {replicas: 3}",
        "shm_size: 1m",
        "sysctls: {net.x: 1}",
        "ipc: host",
        "pid: host",
        "stop_grace_period: 1m",
        "logging: {}",
        "labels: {a: b}",
        "dns: 1.1.1.1",
        "security_opt: [x]",
        "cap_drop: [ALL]",
        "volumes_from: [a]",
        "working_dir: /x",
        "nonsense: 1",
        "container_name: other",
        "networks: {a: {aliases: [b]}}",
    ];
    for key in keys {
        let said = said(&with(key));
        assert!(said.iter().any(|said| said.starts_with("5 ")), "{key}: {said:?}");
    }
    // What changes nothing is not worth a word.
    for key in
        ["privileged: false", "tty: true", "expose: [80]", "x-own: 1", "networks: [a]", "scale: 1", "init: true"]
    {
        assert_eq!(said(&with(key)), Vec::<String>::new(), "{key}");
    }
}

#[test]
fn variables_come_from_the_environment_then_from_the_file_then_from_the_default() {
    let text = "services:\n  web:\n    image: nginx\n    ports: ['${A:-1}:80', '${B:-2}:81', '${C:-3}:82']\n    environment: [TZ=$D, LANG]\n";
    let files = [(".env", "A=11\nB=12\nLANG=C.UTF-8\n")];
    let import = import_with(text, &files, &[("A", "21")]).unwrap();
    let manifest = manifest(&import);
    assert_eq!(
        manifest,
        "network = { ports = [\"21:80\", \"12:81\", \"3:82\"] }\nenvironment = { LANG = \"C.UTF-8\" }"
    );
    assert_eq!(said(&import), ["5 variables: the variable `D` is not set, so that nothing stands in its place"]);
}

#[test]
fn files_of_variables_are_read_and_give_way_to_the_service_itself() {
    let text = "services:\n  db:\n    image: postgres:16\n    environment: {POSTGRES_DB: own}\n    env_file: [db.env, {path: none.env, required: false}, gone.env]\n";
    let files = [("db.env", "POSTGRES_DB=file\nPOSTGRES_USER=\"me\"\nPOSTGRES_PASSWORD=canary\n")];
    let import = import_with(text, &files, &[]).unwrap();
    let module = file(&import, "services/db/service.nix");
    assert!(module.contains("ensureDatabases = [ \"own\" ]") && module.contains("name = \"me\""), "{module}");
    assert_eq!(import.secrets.len(), 1);
    assert!(said(&import)[0].starts_with("5 env_file: it cannot be read"), "{:?}", said(&import));
}

#[test]
fn what_the_manifest_refuses_is_left_out_and_told() {
    let import = import(
        "services:\n  a: {image: nginx, ports: ['80:80']}\n  b: {image: nginx, ports: ['80:80'], environment: {TZ: UTC}}\n  c: {image: redis, depends_on: [b]}\n",
    );
    let names: Vec<&str> = import.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let said = said(&import);
    assert!(said.iter().any(|said| said.contains("its manifest would be refused")), "{said:?}");
}

#[test]
fn secrets_are_kept_wherever_they_stand() {
    let variables = [("API_TOKEN", "canary-token"), ("HOME", "/home/me")];
    for keys in [
        "image: mariadb\n    command: --character-set-server=${API_TOKEN}",
        "image: postgres\n    command: [postgres, -c, 'a=${API_TOKEN}']",
        "image: postgres\n    command: postgres -c primary_conninfo='host=x password=canary'",
        "image: prom/prometheus\n    command: ['--web.external-url=https://me:canary@x/']",
        "image: traefik\n    command: ['--log.level=${API_TOKEN}', '--x.password=canary']",
        "image: redis\n    command: redis-server --masterauth canary --requirepass ${API_TOKEN}",
        "image: nginx\n    healthcheck: {test: 'curl http://localhost/${API_TOKEN}'}",
        "image: nginx\n    healthcheck: {test: 'curl http://localhost/?x=canary'}",
        "image: nginx\n    environment: ['https://me:canary@x/?a=b', 'A B canary=c']",
        "image: nginx\n    labels: ['a=${API_TOKEN}']\n  t: {image: traefik}",
        "image: nginx\n    labels: ['traefik.http.routers.a.rule=${API_TOKEN}', 'traefik.http.x.headers.authorization=canary']\n  t: {image: traefik}",
        "image: caddy\n    environment: {ANY: '${API_TOKEN}', HTTP_PROXY: 'http://me:canary@proxy'}",
        "image: grafana/grafana\n    environment: {GF_DATABASE_URL: 'mysql://me:canary@db'}",
        "image: vaultwarden/server\n    environment: {SMTP_FROM: '${API_TOKEN}'}",
        "image: ollama/ollama\n    environment: {OLLAMA_X: '${API_TOKEN}', TZ: '${API_TOKEN}'}",
    ] {
        let import = import_with(&format!("services:\n  web:\n    {keys}\n"), &[], &variables).unwrap();
        let told = super::told(&import);
        assert!(!told.contains("canary"), "{keys}\n{told}");
    }
}

#[test]
fn nothing_that_a_file_says_leaves_its_string() {
    let nasty = "x\\\"; }; ${builtins.abort \\\"no\\\"} ''${y} \\u001b[31m";
    let text = format!(
        "services:\n  a:\n    image: miniflux/miniflux\n    environment: {{ BASE_URL: \"{nasty}\", \"A\\\"B\": \"{nasty}\", TZ: \"{nasty}\" }}\n"
    );
    let import = import(&text.replace("${", "$${"));
    let module = file(&import, "services/a/service.nix");
    let line = module.lines().find(|line| line.trim_start().starts_with("BASE_URL")).unwrap().trim();
    assert_eq!(line, r#"BASE_URL = "x\"; }; \${builtins.abort \"no\"} ''\${y} [31m";"#);
}
