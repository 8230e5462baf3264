//! The page's text, its description, and clients that are slow, huge, many, or all of it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nixmox_api::{Drift, HostStatus, LastEnd, OomKills, ServiceState, ServiceStatus, Status};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::families::{self, Page};
use super::own::Own;
use super::text::{Family, Form, Kind};
use super::{Limits, Listener, Recorder, Source, gpus, models, serve};
use crate::host::{Figures, Pressure, Usage};

/// Longest wait for anything that is to happen; far more than it takes.
const LIMIT: Duration = Duration::from_secs(20);
/// What is on no page.
pub(super) const SECRET: &str = "hunter2";

fn service(name: &str, state: ServiceState) -> ServiceStatus {
    let secret = || SECRET.to_owned();
    ServiceStatus {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        job: state == ServiceState::Completed,
        state,
        since: Some(1),
        reason: secret(),
        hint: secret(),
        waits_for: vec![secret()],
        probe: secret(),
        probe_failures: 3,
        start_period_ms: 0,
        log: vec![secret()],
        declared_at: secret(),
        health_declared_at: secret(),
        restarts: 9,
        address: Some(secret()),
        ports: vec![secret()],
        invocation: Some(secret()),
        system: Some(secret()),
        memory_current: None,
        memory_max: None,
        cpu_usec: None,
        cpu_percent: None,
        tasks_current: None,
        drift: vec![Drift { what: secret(), corrected_in: None }],
        held_by: Some(secret()),
        restart_at: None,
        depends_on: Vec::new(),
        probe_at: None,
        last_end: Some(LastEnd { at: None, kind: secret(), why: secret() }),
        gpu: None,
        oom_kills: Some(OomKills {
            count: 3,
            at: None,
            process: Some(secret()),
            pid: None,
            resident: None,
            why: secret(),
        }),
    }
}

/// One that has every figure, one that has few, one that does not run, and a job that is done.
pub(super) fn page() -> Page {
    let states = [
        ("web", ServiceState::Healthy),
        ("db", ServiceState::Starting),
        ("old", ServiceState::Stopped),
        ("job", ServiceState::Completed),
    ];
    let services = states.map(|(name, state)| service(name, state)).into();
    let host = HostStatus { generation: 7, busy: true, warnings: vec![SECRET.to_owned()], ..HostStatus::default() };
    let pressure = |usec: u64| {
        Some(Pressure {
            some_avg10: 1.0,
            full_avg10: Some(0.5),
            some_total_usec: Some(usec),
            full_total_usec: Some(usec / 2),
        })
    };
    let all = (
        Usage {
            invocation: None,
            began_usec: None,
            active_since_usec: Some(1_700_000_000_250_000),
            memory_current: Some(4096),
            cpu_usec: Some(1_500_000),
            tasks_current: Some(3),
        },
        Figures {
            cpu_pressure: pressure(2_000_000),
            memory_swap_current: Some(0),
            memory_max: Some(8192),
            memory_high: Some(6144),
            memory_pressure: pressure(40),
            oom_kills: Some(1),
            io_read_bytes: Some(10),
            io_write_bytes: Some(20),
            io_pressure: pressure(6),
            tasks_max: Some(512),
            network_receive_bytes: Some(11),
            network_transmit_bytes: Some(12),
        },
    );
    let few = (
        Usage { memory_current: Some(100), ..Usage::default() },
        // As cpu.pressure had it before Linux 5.13.
        Figures {
            cpu_pressure: pressure(9).map(|some| Pressure { full_total_usec: None, ..some }),
            ..Figures::default()
        },
    );
    let recorder = Recorder::default();
    recorder.observed(Duration::from_micros(700));
    recorder.planned(Duration::from_micros(500));
    recorder.planned(Duration::from_secs(9));
    recorder.ended("start", Duration::from_millis(1250), false);
    recorder.ended("stop", Duration::from_millis(20), true);
    recorder.restarted(&"web".parse().unwrap());
    Page {
        status: Arc::new(Status { host, services, ..Status::default() }),
        usage: [("web", all), ("db", few)].map(|(name, used)| (name.parse().unwrap(), used)).into(),
        records: recorder.read(),
        gpus: Some(Arc::new(gpus::tests::sample())),
        offloads: Some(Arc::new(models::tests::sample())),
    }
}

pub(super) fn own() -> Own {
    Own {
        cpu_usec: Some(12_345),
        resident_bytes: Some(7 << 20),
        virtual_bytes: Some(70 << 20),
        started_usec: Some(1_700_000_000_000_000),
        open_fds: Some(20),
        max_fds: Some(16384),
    }
}

#[test]
fn a_page_in_prometheus_own_format() {
    insta::assert_snapshot!(families::write(&page(), &own(), Form::Prometheus));
}

#[test]
fn a_page_in_openmetrics() {
    insta::assert_snapshot!(families::write(&page(), &own(), Form::OpenMetrics));
}

#[test]
fn nothing_but_names_states_and_figures_is_on_a_page() {
    for form in [Form::Prometheus, Form::OpenMetrics] {
        assert!(!families::write(&page(), &own(), form).contains(SECRET));
    }
}

#[test]
fn what_is_not_known_is_not_there() {
    let nothing = families::write(&Page::default(), &Own::default(), Form::OpenMetrics);
    assert!(!nothing.contains("container_cpu_usage_seconds_total{") && !nothing.contains("process_"), "{nothing}");
    assert!(nothing.contains("nixmox_generation 0\n") && nothing.ends_with("# EOF\n"), "{nothing}");
}

/// Returns the tables of the page about metrics.
fn tables() -> String {
    let mut text = String::new();
    let mut table = |title: &str, rows: Vec<(Family, &str)>| {
        let _ =
            writeln!(text, "\n### {title}\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|");
        for (family, labels) in rows {
            let labels: Vec<String> = labels.split_whitespace().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                family.sample_name(),
                family.kind.word(),
                family.unit().unwrap_or("-"),
                if labels.is_empty() { "-".to_owned() } else { labels.join(", ") },
                family.help,
            );
        }
    };
    let of_each = [(families::KIND, "name stack kind"), (families::STATE, "name stack state")].into_iter();
    table(
        "Each service",
        of_each.chain(families::SERVICE.iter().map(|(family, _)| (*family, "name stack"))).collect(),
    );
    let agent = [(families::BUILD, "version")].into_iter();
    let agent = agent.chain(families::AGENT.iter().map(|(family, _)| (*family, "")));
    let work =
        [(families::OBSERVE, ""), (families::PLAN, ""), (families::STEP, "step"), (families::FAILURES, "step")];
    table("The agent", agent.chain(work).collect());
    let of_gpus = [(gpus::MEMORY, "gpu kind")].into_iter();
    let of_gpus = of_gpus.chain(gpus::SENSORS.iter().map(|(family, _)| (*family, "gpu")));
    let of_services =
        [(gpus::SERVICE_MEMORY, "name stack gpu"), (gpus::BUDGET, "name stack"), (gpus::FAULT, "vendor kind")];
    table("GPUs", of_gpus.chain(of_services).collect());
    let models = [(models::ENGINE, "name stack"), (models::LOADED, "name stack")].into_iter();
    let models = models.chain([(models::MEMORY, "name stack model kind"), (models::INCIDENT, "name stack model")]);
    table("Models", models.collect());
    table("The agent's process", families::PROCESS.iter().map(|(family, _)| (*family, "")).collect());
    text
}

#[test]
fn the_page_about_metrics_has_them_all() {
    const BEGIN: &str = "<!-- Made by UPDATE_REFERENCE=1 cargo test -p nixmox-agent the_page_about_metrics -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, _) = page.split_once(BEGIN).expect("where the tables begin");
    let expected = format!("{before}{BEGIN}{}", tables());
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
}

#[test]
fn names_are_there_once_and_say_their_kind() {
    let tables = tables();
    let mut names: Vec<&str> =
        tables.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for (family, _) in families::SERVICE {
        assert_eq!(family.sample_name().ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
        assert!(!family.name.ends_with("_total") && !family.help.contains(['\n', '\\', '|']), "{}", family.name);
    }
}

/// Gives pages of many services, and counts them.
#[derive(Clone, Default)]
struct Many {
    asked: Arc<AtomicUsize>,
    services: usize,
}

impl Source for Many {
    async fn page(&self) -> Page {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let services = (0..self.services).map(|at| service(&format!("s{at}"), ServiceState::Healthy)).collect();
        Page { status: Arc::new(Status { services, ..Status::default() }), ..Page::default() }
    }
}

/// A server on a thread of its own; stops when it is dropped.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Limits of time that no test reaches.
fn limits() -> Limits {
    Limits { whole: LIMIT * 2, pause: Duration::ZERO, fresh: LIMIT, ..Limits::default() }
}

impl Server {
    fn start(source: Many, limits: Limits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self::on(Listener::Loopback(listener), address, source, limits)
    }

    fn on(listener: Listener, address: SocketAddr, source: Many, limits: Limits) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async { serve(listener, source, limits, stopped).await.unwrap() });
        });
        Self { address, stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn get(&self, headers: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").unwrap();
        read(&mut stream)
    }

    fn expect_served(&self) {
        let answer = self.get("");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the server panicked");
    }
}

/// Reads to the end, whatever kind of end it is.
fn read(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no end within {LIMIT:?}: {error}"),
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_page_is_given_in_the_form_that_is_asked_for() {
    let server = Server::start(Many { services: 2, ..Many::default() }, limits());
    let answer = server.get("");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    assert!(head.ends_with("\r\nConnection: close") && !body.contains("# EOF"), "{head}");
    let answer = server.get("Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(
        answer.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\n# EOF\n"));
}

#[test]
fn a_socket_gives_the_same_and_takes_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    let listener = Listener::Socket(UnixListener::bind(&path).unwrap());
    let _server = Server::on(listener, SocketAddr::from(([127, 0, 0, 1], 0)), Many::default(), limits());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: box.example\r\n\r\n").unwrap();
    assert!(read(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn what_is_no_scrape_is_refused_without_repeating_it() {
    let server = Server::start(Many::default(), limits());
    for (request, status) in [
        ("GET /hunter2 HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nhunter2", "405 Method Not Allowed"),
        ("GET /metrics HTTP/1.1\r\nHost: hunter2.example\r\n\r\n", "421 Misdirected Request"),
        ("hunter2\r\n\r\n", "400 Bad Request"),
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(!answer.contains(SECRET) && answer.contains("\r\nContent-Length: 0\r\n"), "{answer}");
    }
}

#[test]
fn a_huge_request_is_refused_before_it_is_read() {
    let server = Server::start(Many::default(), limits());
    let mut stream = server.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    // The server stops to read at some point, and then ends the connection.
    while stream.write_all(line.as_bytes()).is_ok() {}
    let mut other = server.connect();
    other.write_all(&b"x".repeat(10 << 10)).unwrap();
    assert!(read(&mut other).starts_with("HTTP/1.1 431 "));
    server.expect_served();
}

#[test]
fn who_trickles_or_says_nothing_or_does_not_read_is_cut_off_and_holds_nobody_up() {
    let limits = Limits { whole: Duration::from_secs(2), ..limits() };
    // More than the kernel's buffers take.
    let server = Server::start(Many { services: 20_000, ..Many::default() }, limits);
    let begun = Instant::now();
    let mut silent = server.connect();
    let mut deaf = server.connect();
    deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut trickling = server.connect();
    let trickle = thread::spawn(move || {
        let request = "GET /metrics HTTP/1.1\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
        for byte in request {
            if trickling.write_all(&[byte]).is_err() {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "who trickles is never cut off");
            thread::sleep(Duration::from_millis(20));
        }
    });
    server.expect_served();
    assert_eq!(read(&mut silent), "");
    trickle.join().unwrap();
    assert!(begun.elapsed() >= limits.whole);
    // What it was sent before it was cut off is not all.
    let answer = read(&mut deaf);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
}

#[test]
fn many_get_no_more_than_there_is_and_leave_room_when_they_go() {
    let limits = Limits { connections: 8, ..limits() };
    let server = Server::start(Many::default(), limits);
    let crowd: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!((&mut &*stream).read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let begun = Instant::now();
    while crowd.iter().filter(|stream| is_open(stream)).count() > limits.connections {
        assert!(begun.elapsed() < LIMIT, "more are held than there is room for");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(crowd.iter().filter(|stream| is_open(stream)).count(), limits.connections);
    drop(crowd);
    while !server.get("").starts_with("HTTP/1.1 200 OK\r\n") {
        assert!(begun.elapsed() < LIMIT, "no room became free");
    }
}

#[test]
fn who_asks_again_and_again_is_given_the_page_that_is_there() {
    let many = Many { services: 3, ..Many::default() };
    let asked = Arc::clone(&many.asked);
    let server = Server::start(many, limits());
    for _ in 0..100 {
        server.expect_served();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    server.get("Accept: application/openmetrics-text\r\n");
    assert_eq!(asked.load(Ordering::Relaxed), 2, "the other form");
    drop(server);
    // And a page is not older than that.
    let many = Many::default();
    let asked = Arc::clone(&many.asked);
    let server = Server::start(many, Limits { fresh: Duration::ZERO, ..limits() });
    (0..5).for_each(|_| server.expect_served());
    assert_eq!(asked.load(Ordering::Relaxed), 5);
}

#[test]
fn the_end_of_the_agent_waits_for_nobody() {
    let server = Server::start(Many::default(), limits());
    let _silent = server.connect();
    server.expect_served();
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < LIMIT / 2);
}
