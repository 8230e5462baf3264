//! What is said about mistakes, as it is shown.

use super::{Files, complaints};

macro_rules! says {
    ($name:ident: $services:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(complaints($services));
        }
    };
}

says!(an_unknown_key_is_answered_with_the_nearest_one: "
[services.a]
systen = '.#a'
limits = { memroy_max = '2G', zzz = 1 }
volumes = ['/a:/b']
health.url = 'http://localhost/'
");

says!(every_value_of_the_wrong_type_is_named_with_an_example: "
[services.a]
system = 5
adopt = 'yes'
mounts = '/a:/b'
tmpfs = [1]
health = 'http://localhost'
depends_on = 'b'
limits = { memory_max = 2.5, cpu_quota = 150, cpu_weight = 'high', tasks_max = -1, allowed_cpus = 3 }
network = { ports = [80.5], address = 1 }
environment = { A = 1 }
restart = true
kind = 1
private_users = true
");

says!(durations_and_sizes_say_what_to_write: "
[services.a]
system = '.#a'
limits = { memory_max = '2GB', memory_high = '512', memory_low = '1 TiB', cpu_quota = 'half' }
health = { tcp = 80, interval = 5, timeout = '2', start_period = '5m', on_unhealthy = 'reboot' }
restart = { policy = 'unless-stopped', delay = '1s1h', delay_max = '1.5s' }
");

says!(ranges_are_held: "
[services.a]
system = '.#a'
health = { tcp = 0, interval = '50ms', timeout = '1h', retries = 0, start_period = '2d' }
restart = { delay = '10min', delay_max = '1min', attempts_max = 0 }
limits = { cpu_weight = 0, io_weight = 10001, tasks_max = 0, memory_min = '3G', memory_max = '2G', allowed_cpus = [9000] }
[services.b]
system = '.#b'
restart.delay = '10ms'
[services.b.limits.io_read_bandwidth_max]
sda = '1M'
'/dev/sdb' = 0
");

says!(a_health_check_asks_exactly_one_thing: "
[services.none]
system = '.#a'
[services.none.health]
interval = '5s'
[services.two]
system = '.#a'
health = { tcp = 80, http = 'http://localhost/', unit = 'postgresql' }
[services.exec]
system = '.#a'
health = { exec = ['pg_isready -q'] }
[services.https]
system = '.#a'
health = { http = 'https://localhost/' }
[services.empty]
system = '.#a'
health = { exec = [] }
[services.blank]
system = '.#a'
health = { http = 'http://local host/' }
");

says!(a_pressure_is_a_share_of_time: "
[services.none]
system = '.#a'
health = { pressure = {} }
[services.all]
system = '.#a'
health = { tcp = 80, pressure = { memory = '100%', cpu = '0.5%', io = 20, disk = '20%' } }
[services.memory]
system = '.#a'
health.pressure = '20%'
[services.alone]
system = '.#a'
health.pressure.memory = '20%'
");

says!(names_must_be_host_names: "
[services.My_App]
system = '.#a'
[services.localhost]
system = '.#a'
[services.10]
system = '.#a'
[services.0x7f]
system = '.#a'
[services.'web/1']
system = '.#a'
[services.end-]
system = '.#a'
[services.Old]
adopt = true
[services.old]
adopt = true
[services.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]
system = '.#a'
");

says!(a_dependency_must_be_there_and_reach_its_condition: "
[services.web]
system = '.#web'
depends_on = ['postgers', 'web', 'nothing-like-it', 'migrate']
[services.postgres]
system = '.#postgres'
[services.migrate]
system = '.#migrate'
kind = 'job'
depends_on = { postgres = 'completed' }
[services.api]
system = '.#api'
depends_on = { migrate = 'healthy', 'other/postgres' = 'healthy', 'a/b/c' = 'started', postgres = 'ready' }
[services.twice]
system = '.#twice'
depends_on = { web = 'healthy', 'cloud/web' = 'started' }
");

says!(a_cycle_is_shown_whole: "
[services.a]
system = '.#a'
depends_on = ['b']
[services.b]
system = '.#b'
depends_on = { c = 'healthy', d = 'started' }
[services.c]
system = '.#c'
depends_on = ['a']
[services.d]
system = '.#d'
");

says!(ports_must_not_meet: "
[services.a]
system = '.#a'
network.ports = ['80', '443/udp', 80, '8080:80']
[services.b]
system = '.#b'
network = { ports = ['127.0.0.1:80:8080', '443', '0.0.0.0:8080:1', '65530:1'] }
[services.c]
system = '.#c'
network = { ports = ['80-90', '127.0.0.1:80', '::1:80:80', '80/sctp', '70000', '[::x]:1:1', '[127.0.0.1]:81:80', 0] }
");

says!(fixed_addresses_are_in_the_pool_and_apart: "
[services.a]
system = '.#a'
network.address = '10.233.1.2'
[services.b]
system = '.#b'
network.address = '10.233.1.2'
[services.c]
system = '.#c'
network.address = '192.168.0.1'
[services.d]
system = '.#d'
network.address = '10.233.255.255'
[services.e]
system = '.#e'
network.address = '10.233.1'
");

says!(network_keys_go_with_their_mode: "
[services.a]
system = '.#a'
network = { mode = 'host', ports = ['80'], address = '10.233.0.2' }
[services.b]
system = '.#b'
network = { mode = 'bridge', ports = ['80'] }
[services.c]
system = '.#c'
network = { bridge = 'br0' }
[services.d]
system = '.#d'
network = { mode = 'bridge', bridge = 'a-very-long-bridge-name' }
");

says!(mounts_have_a_source_and_a_free_target: "
[services.a]
system = '.#a'
mounts = ['/a', '/a:b', '/a:/b:rx', '/a:/b:ro:x', ':/b', '/a:/nix/store', '/a:/', '/a:/x/../y', '~/x:/x', '/my data:/x']
[services.b]
system = '.#b'
mounts = ['/a:/data', { source = '/b', target = '/data/' }, { source = '/b' }, { source = '/x', target = '/y', readonly = true }]
tmpfs = ['/data', '/cache:1X', '/zero:0', '/proc/x']
");

says!(a_value_that_no_conf_file_carries_is_refused: "
[services.a]
system = '.#a'
credentials = { 'a b' = '/run/x', ok = '/run/a*b', store = '/nix/store/x', 'a:b' = '/x', quote = \"/run/\\\"x\\\"\" }
nspawn_flags = ['--rlimit=NOFILE=1 2', \"--rlimit=\\t\"]
environment = { '1A' = 'x', 'A-B' = 'x', GOOD = 'a \"quoted\" value', BAD = \"a\\nb\" }
devices = ['/dev/dri/renderD128:rx', '/etc/passwd', '/dev/../etc', '/dev/a b', '/dev/fuse', '/dev/fuse:r']
capabilities = ['NET_ADMIN', 'CAP_NET_ADMN', 'all', 'CAP_NOPE']
");

says!(flags_with_a_key_of_their_own_are_refused: "
[services.a]
system = '.#a'
nspawn_flags = [
  '--machine=x', '-b', '--keep-unit', '--notify-ready=no', '--private-users=pick', '--network-veth', '--port=80',
  '--bind=/a:/b', '--setenv=A=1', '--capability=all', '--mach=x', '--rlimit', 'NOFILE=1', '--resolv-conf=copy-host',
  '--timezome=auto', '--no-such-flag',
]
");

says!(an_adopted_container_keeps_its_files: "
[services.a]
adopt = true
system = '.#a'
mounts = ['/a:/b']
network.ports = ['80']
kind = 'job'
depends_on = []
health = { tcp = 80 }
limits = { memory_max = '1G' }
restart = 'no'
");

says!(a_job_has_no_health_and_does_not_run_on: "
[services.a]
system = '.#a'
kind = 'job'
restart = 'always'
[services.a.health]
tcp = 80
");

says!(a_system_is_told_apart_by_its_form: "
[services.a]
system = 'postgres'
[services.b]
system = '#postgres'
[services.c]
system = '/nix/store/x'
[services.d]
mounts = ['/a:/b']
[services.e]
system = 'docker.io/library/postgres:17'
[services.f]
system = ''
[services.g]
system = './g.nix'
[services.h]
system = 'h.nix'
");

says!(of_a_heading_that_is_not_closed_or_there_twice_only_that_is_said: "
[services.a
system = 5
wrong = 1
[services.b]
system = '.#b'
[services.b]
system = '.#c'
mounts = ['/a:/b']
mounts = ['/a:/b']
[services.c]
system = '.#c'
wrong = 1
");

says!(gpus_are_named_and_claims_make_sense: "
[services.a]
system = '.#a'
[services.a.gpu]
devices = 'some'
vram = '1G'
vram_min = '2G'
priority = 101
vendor = 'nvidea'
[services.b]
system = '.#b'
[services.b.gpu]
devices = ['GPU 0', 'GPU-5a6c0a2e', 'MIG-77aa1b2c', '0000:03:00.0', 'GPU-5a6c0a2e', 1]
vram_min = '2G'
[services.c]
system = '.#c'
gpu = { devices = 0 }
");

says!(models_are_run_by_a_known_engine_that_can_be_asked: "
[services.a]
system = '.#a'
gpu.vram = '8G'
[services.a.offload]
url = 'http://localhost:11434/v1'
keep = ['llama3', '', 'llama3', \"a\\tb\", 7]
idle_unload = '0s'
context = 255
request_grace = '25h'
cpu_fallback = 'maybe'
[services.b]
system = '.#b'
gpu.vram = '8G'
[services.b.offload]
engine = 'olama'
url = 'https://localhost'
idle_unload = 300
context = '8k'
num_ctx = 8192
[services.c]
system = '.#c'
gpu.vram = '8G'
[services.c.offload]
engine = 'llama-server'
url = 'http://me@localhost'
context = 10000001
keep_alive = '5min'
[services.d]
system = '.#d'
gpu.vram = '8G'
offload = { engine = 'ollama', url = 'localhost:11434' }
[services.e]
system = '.#e'
gpu.vram = '8G'
offload = { engine = 'ollama', url = 'http://localhost:port' }
[services.f]
system = '.#f'
gpu.vram = '8G'
offload = { engine = 'ollama', url = 'http://llm.lan:11434' }
[services.g]
system = '.#g'
gpu.vram = '8G'
network = { address = '10.233.7.2' }
offload = { engine = 'ollama', url = 'http://10.233.7.3:11434' }
[services.h]
system = '.#h'
gpu.vram = '8G'
network = { address = '10.233.7.4' }
offload = { engine = 'ollama', url = 'http://10.233.7.4:11434' }
[services.i]
system = '.#i'
gpu.vram = '8G'
offload = { engine = 'ollama', url = 'http://i:11434' }
");

says!(models_need_a_budget_and_a_service_that_runs_on: "
[services.a]
system = '.#a'
offload = { engine = 'ollama' }
[services.b]
system = '.#b'
gpu = { devices = 2 }
offload = { engine = 'ollama' }
[services.c]
system = '.#c'
kind = 'job'
gpu.vram = '8G'
offload = { engine = 'ollama' }
[services.d]
system = '.#d'
gpu = 'all'
offload = { engine = 'ollama' }
[services.e]
system = '.#e'
gpu.vram = '8 GB'
offload = { engine = 'ollama' }
");

#[test]
fn a_stack_file_says_its_format_and_its_name() {
    let nothing = Files { stack: "", included: &[] }.complaints();
    let wrong = Files {
        stack: "format = '1'\n[stack]\nname = 'My Cloud'\naddress_pool = '10.233.1.0/16'\n",
        included: &[],
    };
    let newer = Files { stack: "format = 2\n[future]\nkey = 1\n", included: &[] };
    let public = Files { stack: "format = 1\n[stack]\nname = 'x'\naddress_pool = '8.8.8.0/24'\n", included: &[] };
    let empty = Files { stack: "format = 1\n[stack]\nname = 'x'\n", included: &[] };
    let all = [nothing, wrong.complaints(), newer.complaints(), public.complaints(), empty.complaints()];
    insta::assert_snapshot!(all.join("----\n"));
}

#[test]
fn syntax_errors_hide_nothing_in_other_places() {
    let files = Files {
        stack: "format = 1\n[stack]\nname = cloud\n[services.a]\nsystem = '.#a'\nmemory = 1\ndepends_on = ['gone']\n\
                [services.a]\nkind = 'job'\n[services.b]\nsystem = '.#b\nkind = 'jib'\n",
        included: &[
            ("services/c/service.toml", "system = '.#c'\nmounts = ['/a:/b'\nhealth = { tcp = 80 }\nkind = 'job'\n"),
            ("services/d/service.toml", "format = '1'\nsystem = '.#d'\nkind = 'jobb'\n[services.x]\n"),
        ],
    };
    insta::assert_snapshot!(files.complaints());
}

#[test]
fn a_path_without_quotes_is_told_as_that() {
    let complaints = |value: &str| {
        let stack = format!("format = 1\n[stack]\nname = 'cloud'\n[services.a]\nsystem = {value}\n");
        Files { stack: &stack, included: &[] }.complaints()
    };
    for value in ["./result", "../result", "/nix/store/x", "~/result"] {
        assert!(complaints(value).contains("strings are written in quotes"), "{}", complaints(value));
    }
    let mount = complaints("'.#a'\nmounts = [{ source = ./x, target = '/x' }]");
    assert!(mount.contains("strings are written in quotes"), "{mount}");
    let open = complaints("'.#a'\nnspawn_flags = [\"--bind-ro=/srv/x]");
    assert!(!open.contains("written in quotes"), "{open}");
    assert!(!complaints("1.").contains("quotes"), "{}", complaints("1."));
}

#[test]
fn what_a_broken_line_may_have_said_is_not_missing() {
    let files = Files {
        stack: "# a stack\nformat 1\n[stack\nname = 'cloud'\n[services.a]\ndepends_on = ['b']\nsystem = '.#a'\n",
        included: &[],
    };
    insta::assert_snapshot!(files.complaints());
}

#[test]
fn names_and_ports_clash_across_files() {
    let files = Files {
        stack: "format = 1\n[stack]\nname = 'cloud'\ninclude = ['*/service.toml']\n[services.a]\nsystem = '.#a'\nnetwork.ports = [80]\n",
        included: &[
            ("a/service.toml", "system = '.#a'\n"),
            ("b/service.toml", "format = 1\nsystem = '.#b'\nnetwork.ports = ['80']\ndepends_on = ['c']\n"),
            ("b/service.toml", "format = 1\nsystem = '.#b'\nnetwork.ports = ['80']\ndepends_on = ['c']\n"),
            ("c/service.toml", "system = '.#c'\ndepends_on = ['b']\n"),
            ("My Service/service.toml", "system = '.#c'\nmounts = ['./x:/x']\n"),
        ],
    };
    insta::assert_snapshot!(files.complaints());
}

#[test]
fn a_pool_has_room_for_its_services_and_an_address_one_beside_it_for_the_host() {
    let services = |range: std::ops::Range<u32>, keys: &str| {
        let table = |n| format!("[services.s{n}]\nsystem = '.#a'\n{}\n", keys.replace('N', &format!("{n}")));
        range.map(table).collect::<Vec<_>>().concat()
    };
    let stack = |pool: &str, services: &str| {
        format!("format = 1\n[stack]\nname = 'cloud'\naddress_pool = '{pool}'\n{services}")
    };
    let full = stack("10.9.0.0/29", &services(0..4, ""));
    let lonely = stack("10.9.0.0/24", &services(1..5, "network.address = '10.9.0.N'"));
    let told = |stack: &str| Files { stack, included: &[] }.complaints();
    insta::assert_snapshot!(format!("{}\n{}", told(&full), told(&lonely)));
}
