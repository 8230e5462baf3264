//! Metrics on a real systemd: off by default, on loopback or a socket where the settings say so, right to `promtool`, and
//! scraped by a Prometheus as Debian has it.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;
use nixmox_tests::say;
use nixmox_tests::shared::Host;
use serde_json::Value;

/// Longest time until a service or a scrape is as it should be.
const LIMIT: Duration = Duration::from_mins(2);
const SETTINGS: &str = "/etc/nixmox/agent.toml";
const SOCKET: &str = "/run/nixmox/metrics.sock";
const PAGE: &str = "curl -sSf http://127.0.0.1:19558/metrics";
const SERVICES: [&str; 3] = ["busy", "web", "db"];

#[test]
fn figures_are_given_where_they_are_asked_for_and_a_real_prometheus_reads_them() {
    let host = Host::boot("metrics").expect("a host");
    let stack = Stack::new(&host, "cloud");
    bring_up(&host, &stack);
    let before = SERVICES.map(|name| stack.healthy(name).expect("healthy"));

    host.fail(PAGE).expect("nobody listens unless the settings say so");
    listen(&host, "127.0.0.1:19558");
    // Another agent asks how they are before it says so, and a page is of up to a second ago.
    let healthy = format!("{PAGE} | grep -c '^nixmox_service_healthy{{.*}} 1$' | grep -x {}", SERVICES.len());
    host.wait_until(&healthy, LIMIT).expect("all are healthy on the page");
    the_page_is_right(&host);
    who_may_read_on_loopback(&host);
    prometheus_scrapes_it(&host);

    listen(&host, SOCKET);
    host.wait_until(&format!("curl -sSf --unix-socket {SOCKET} http://localhost/metrics"), LIMIT).expect("a page");
    host.fail(PAGE).expect("only where the settings say");
    who_may_read_the_socket(&host);

    what_cannot_be_had_is_told_and_nothing_else_suffers(&host);
    // The one that was killed apart. The last of the agents may just have begun to ask.
    let after = SERVICES.map(|name| stack.becomes_healthy(name).expect("healthy"));
    assert_eq!(before[..2], after[..2], "no container was touched");
    stack.succeed("down").expect("taken down");
}

fn bring_up(host: &Host, stack: &Stack<'_>) {
    let web = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    let busy = host.guest("busy", &Behaviour::new().spins()).expect("a system");
    let check = "health = { http = \"http://localhost/\", interval = \"1s\" }";
    stack
        .declare(&[
            &format!(
                "[services.web]\nsystem = \"{web}\"\n{check}\nlimits = {{ memory_max = \"256M\", tasks_max = 64 }}"
            ),
            &format!("[services.busy]\nsystem = \"{busy}\"\nenvironment = {{ PASSWORD = \"hunter2\" }}"),
            &format!("[services.db]\nsystem = \"{web}\"\n{check}\nrestart = {{ delay = \"1s\" }}"),
        ])
        .expect("a manifest");
    stack.succeed("up").expect("up");
}

/// Says where metrics are given, to an agent that starts anew.
fn listen(host: &Host, place: &str) {
    let settings = format!("[metrics]\nlisten = \"{place}\"\n");
    host.write_file(SETTINGS, settings, 0o644).expect("settings");
    host.succeed("nixmox-agent --check-settings /etc/nixmox/agent.toml && systemctl restart nixmox-agent")
        .expect("the agent starts");
}

fn the_page_is_right(host: &Host) {
    let page = host.succeed(PAGE).expect("a page");
    say(&page);
    for name in SERVICES {
        for sample in [
            "nixmox_service_healthy{NAME} 1",
            "nixmox_service_restarts_total{NAME} 0",
            "nixmox_service_info{NAME,kind=\"service\"} 1",
        ] {
            let sample = sample.replace("NAME", &format!("name=\"{name}\",stack=\"cloud\""));
            assert!(page.contains(&format!("{sample}\n")), "`{sample}` is not there:\n{page}");
        }
        // What this kernel's cgroups have no file for is not there, and not 0.
        let cgroup = host.succeed(&format!("systemctl show -P ControlGroup container@{name}")).expect("it runs");
        for (file, metric) in [
            ("cpu.stat", "container_cpu_usage_seconds_total"),
            ("cpu.pressure", "container_pressure_cpu_waiting_seconds_total"),
            ("memory.current", "container_memory_usage_bytes"),
            ("memory.events", "container_oom_events_total"),
            ("io.stat", "container_fs_reads_bytes_total"),
            ("pids.current", "container_threads"),
        ] {
            let there = host.shell(&format!("test -r /sys/fs/cgroup{cgroup}/{file}")).expect("it runs").success();
            assert_eq!(page.contains(&format!("{metric}{{name=\"{name}\"")), there, "{file} of {name}:\n{page}");
        }
    }
    assert!(!page.contains("hunter2") && !page.contains("/nix/store"), "{page}");
    let checked = host.shell(&format!("set -o pipefail; {PAGE} | promtool check metrics")).expect("it runs");
    assert!(checked.success() && checked.stderr.is_empty() && checked.stdout.is_empty(), "{checked}");
    let open = host.succeed(&format!("{PAGE} -H 'Accept: application/openmetrics-text; version=1.0.0'"));
    assert!(open.expect("a page").ends_with("# EOF"), "what is asked for is given");
}

fn who_may_read_on_loopback(host: &Host) {
    host.add_user("guest", &[]).expect("a user");
    let read = host.shell_as("guest", PAGE).expect("it runs");
    assert!(read.success(), "on loopback everybody reads, as the documentation says: {read}");
    let places = host.succeed("ss -Hlnt 'sport = 19558' | awk '{print $4}'").expect("told");
    assert_eq!(places, "127.0.0.1:19558");
    let named = host.fail(&format!("{PAGE} -H 'Host: evil.example'")).expect("a stranger's name is refused");
    assert!(named.stderr.contains("421"), "{named}");
}

/// Asks Prometheus; returns the values of what it found, by service.
fn ask(host: &Host, query: &str) -> Vec<(String, String)> {
    let script = format!("curl -sSf -G http://127.0.0.1:9090/api/v1/query --data-urlencode 'query={query}'");
    let answer: Value = serde_json::from_str(&host.succeed(&script).expect("it answers")).expect("a document");
    let results = answer["data"]["result"].as_array().expect("results").clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<(String, String)> =
        results.iter().map(|result| (text(&result["metric"]["name"]), text(&result["value"][1]))).collect();
    found.sort();
    found
}

fn prometheus_scrapes_it(host: &Host) {
    // A scrape may take as long as the interval at most: more than a busy machine makes of it.
    let config = "global: { scrape_interval: 5s, scrape_timeout: 5s }\nscrape_configs:\n  - job_name: nixmox\n    static_configs:\n      - targets: [\"127.0.0.1:19558\"]\n";
    host.write_file("/srv/prometheus/prometheus.yml", config, 0o644).expect("a configuration");
    host.succeed("promtool check config /srv/prometheus/prometheus.yml").expect("a right one");
    host.succeed(
        "systemd-run --unit=scraper -p WorkingDirectory=/srv/prometheus prometheus --config.file=prometheus.yml \
         --storage.tsdb.path=data --web.listen-address=127.0.0.1:9090",
    )
    .expect("Prometheus starts");
    let query = "curl -sf http://127.0.0.1:9090/api/v1/query?query=up | jq -e '.data.result[0].value[1] == \"1\"'";
    host.wait_until(query, LIMIT).expect("a scrape that went well");
    let of_each = |value: &str| {
        let mut of_each = SERVICES.map(|name| (name.to_owned(), value.to_owned()));
        of_each.sort();
        of_each.to_vec()
    };
    assert_eq!(ask(host, "nixmox_service_healthy"), of_each("1"));
    assert_eq!(ask(host, "nixmox_service_state{state=\"healthy\"} == 1"), of_each("1"));
    assert_eq!(ask(host, "container_start_time_seconds > bool 1e9"), of_each("1"));
    assert_eq!(ask(host, "container_cpu_usage_seconds_total > bool 0"), of_each("1"), "what each one uses");
    assert_eq!(ask(host, "process_resident_memory_bytes > bool 1e6"), [(String::new(), "1".to_owned())]);
    assert_eq!(ask(host, "histogram_quantile(0.9, nixmox_plan_duration_seconds_bucket) >= bool 0").len(), 1);
    // Units come with OpenMetrics alone: that is what it asked for, and what it was given.
    let unit = "curl -sf http://127.0.0.1:9090/api/v1/metadata?metric=container_cpu_usage_seconds \
                | jq -e '.data[][0] | .type == \"counter\" and .unit == \"seconds\"'";
    host.succeed(unit).expect("its unit is known");

    // Two scrapes later, what spins has used more, and who was killed was started anew.
    host.succeed("kill -9 $(systemctl show -P MainPID container@db)").expect("nspawn is killed");
    let again = "curl -sSf -G http://127.0.0.1:9090/api/v1/query \
                 --data-urlencode 'query=nixmox_service_restarts_total == 1 and nixmox_service_healthy == 1' \
                 | jq -e '[.data.result[].metric.name] == [\"db\"]'";
    host.wait_until(again, LIMIT).expect("the restart is counted");
    let rate = "curl -sSf -G http://127.0.0.1:9090/api/v1/query \
                --data-urlencode 'query=rate(container_cpu_usage_seconds_total{name=\"busy\"}[1m]) > 0.01' \
                | jq -e '[.data.result[].metric.name] == [\"busy\"]'";
    host.wait_until(rate, LIMIT).expect("it spins");
    assert!(ask(host, "up == 0").is_empty());
    let error =
        host.succeed("curl -sf http://127.0.0.1:9090/api/v1/targets | jq -r '.data.activeTargets[].lastError'");
    assert_eq!(error.expect("told"), "", "no scrape went wrong");
    host.succeed("systemctl stop scraper").expect("it ends");
}

fn who_may_read_the_socket(host: &Host) {
    let page = format!("curl -sSf --unix-socket {SOCKET} http://localhost/metrics");
    assert_eq!(host.succeed(&format!("stat -c '%U:%G %a' {SOCKET}")).expect("it is there"), "root:nixmox 660");
    host.add_user("observer", &["nixmox"]).expect("a user");
    let seen = host.shell_as("observer", &page).expect("it runs");
    assert!(seen.success() && seen.stdout.contains("nixmox_service_healthy"), "{seen}");
    let refused = host.shell_as("guest", &page).expect("it runs");
    assert!(!refused.success(), "{refused}");
    // As the documentation proposes it.
    host.succeed(&format!(
        "systemd-run --unit=door systemd-socket-activate -l 127.0.0.1:19559 /usr/lib/systemd/systemd-socket-proxyd {SOCKET}"
    ))
    .expect("a door");
    host.wait_until("curl -sSf http://127.0.0.1:19559/metrics | grep -q nixmox_generation", LIMIT).expect("a page");
}

fn what_cannot_be_had_is_told_and_nothing_else_suffers(host: &Host) {
    host.write_file("/root/bad.toml", "[metrics]\nlisten = \"0.0.0.0:19558\"\n", 0o644).expect("a file");
    let refused = host.fail("nixmox-agent --check-settings /root/bad.toml").expect("not loopback");
    for part in ["`/root/bad.toml` is not valid", "line 2", "is not loopback", "say `127.0.0.1:19558` or a path"] {
        assert!(refused.stderr.contains(part), "`{part}` is not said: {refused}");
    }
    host.succeed("systemd-run --unit=taker nc -lk 127.0.0.1 19560").expect("another program");
    host.wait_until("ss -Hlnt 'sport = 19560' | grep -q 19560", LIMIT).expect("it listens");
    listen(host, "127.0.0.1:19560");
    let told = "nixmoxctl --all status --json | jq -e '.host.warnings[] | contains(\"cannot listen on `127.0.0.1:19560`\")'";
    host.wait_until(told, LIMIT).expect("status says so");
}
