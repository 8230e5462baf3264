//! Questions to guests, their logs, and the removal of their data.

use std::time::{Duration, Instant};

use nixmox_agent::host::live::Live;
use nixmox_agent::host::{Host, ProbeResult, StepError};
use nixmox_core::model::{PrivateUsers, Probe};

use crate::inside::{LIMIT, open, shell, wait_until};
use crate::service::{assigned, files, name};

/// The time that a question is given to which no answer comes.
const IN_VAIN: Duration = Duration::from_secs(3);

async fn ask(host: &Live, text: &str, probe: impl Into<Option<Probe>>) -> (bool, String) {
    ask_within(LIMIT, host, text, probe).await
}

async fn ask_within(limit: Duration, host: &Live, text: &str, probe: impl Into<Option<Probe>>) -> (bool, String) {
    let ProbeResult { healthy, output } = host.probe(&name(text), probe.into().as_ref(), limit).await;
    (healthy, output)
}

fn http(url: &str) -> Probe {
    Probe::Http(url.to_owned())
}

fn exec(words: &[&str]) -> Probe {
    Probe::Exec(words.iter().map(|word| (*word).to_owned()).collect())
}

/// Asks until the answer is good.
async fn until_healthy(host: &Live, text: &str, probe: Option<Probe>) -> String {
    until(host, text, probe, |healthy, _| healthy).await.1
}

/// Asks until the answer is so.
async fn until(
    host: &Live,
    text: &str,
    probe: Option<Probe>,
    holds: impl Fn(bool, &str) -> bool,
) -> (bool, String) {
    let begin = Instant::now();
    loop {
        let (healthy, output) = ask(host, text, probe.clone()).await;
        if holds(healthy, &output) {
            return (healthy, output);
        }
        assert!(begin.elapsed() < LIMIT, "{output}");
    }
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn asks_a_static_guest_for_its_health() {
    let host = open();
    assert_eq!(ask(&host, "web", None).await, (false, "systemd -> the container does not run".to_owned()));
    for (number, text) in [(1, "web"), (2, "sick")] {
        let service = assigned(text, text, number);
        host.start(&service, &files(&service)).await.expect("it starts");
    }
    assert_eq!(until_healthy(&host, "web", Some(http("http://localhost/"))).await, "http://localhost/ -> 200");
    until_healthy(&host, "web", Some(Probe::Tcp(5432))).await;
    let listens = |_, output: &str| !output.contains("connection refused");
    let sick = until(&host, "sick", Some(http("http://sick/x?y")), listens).await;
    assert_eq!(sick, (false, "http://sick/x?y -> 503".to_owned()));
    let refused = (false, "http://localhost:81/ -> connection refused".to_owned());
    assert_eq!(ask(&host, "web", http("http://localhost:81/")).await, refused);
    let (healthy, output) = ask(&host, "web", None).await;
    assert!(healthy, "{output}");
    let (healthy, output) = ask(&host, "web", exec(&["true"])).await;
    assert!(!healthy && output.contains("no systemd"), "{output}");

    // Twenty questions at once, and how long one takes.
    let begin = Instant::now();
    let many = (0..20).map(|_| ask(&host, "web", http("http://localhost/")));
    assert!(futures_util::future::join_all(many).await.iter().all(|(healthy, _)| *healthy));
    println!("20 probes at once: {:?}", begin.elapsed());
    let begin = Instant::now();
    ask(&host, "web", http("http://localhost/")).await;
    println!("one probe: {:?}", begin.elapsed());

    // The guest's own network is asked, not the host's.
    shell("systemd-run -q --unit=decoy busybox httpd -f -p 127.0.0.1:8099 -h /");
    wait_until("exec 3<>/dev/tcp/127.0.0.1/8099");
    let (healthy, output) = ask(&host, "web", Some(Probe::Tcp(8099))).await;
    assert!(!healthy, "{output}");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn asks_a_booted_guest_and_its_systemd() {
    let host = open();
    for (number, text, users) in [(1, "plain", PrivateUsers::No), (2, "mapped", PrivateUsers::Pick)] {
        let mut service = assigned(text, "debian", number);
        service.service.private_users = users;
        service.service.environment.insert("GREETING".to_owned(), "hi there".to_owned());
        host.start(&service, &files(&service)).await.expect("it boots");
        assert_eq!(until_healthy(&host, text, None).await, "systemd -> running");
        let greeting = shell(&format!("systemd-run -M {text} -q --wait --pipe /bin/sh -c 'echo $$GREETING'"));
        assert_eq!(greeting, "hi there", "of a service of {text}");
        assert_eq!(shell("stat -c %a /run/nixmox/env"), "700");
        let unit = |unit: &str| Probe::Unit(unit.to_owned());
        let active = (true, "dbus.service -> active (running)".to_owned());
        assert_eq!(ask(&host, text, unit("dbus.service")).await, active);
        let missing = (false, "nope.service -> not-found".to_owned());
        assert_eq!(ask(&host, text, unit("nope.service")).await, missing);
        assert_eq!(ask(&host, text, exec(&["echo", "hi"])).await, (true, "echo hi -> exit 0: hi".to_owned()));
        let failed = ask(&host, text, exec(&["/bin/sh", "-c", "id -u; echo oh no >&2; exit 3"])).await;
        assert!(!failed.0 && failed.1.ends_with("-> exit 3: 0 oh no"), "{failed:?}");
        let begin = Instant::now();
        let (healthy, output) = ask_within(IN_VAIN, &host, text, exec(&["sleep", "60"])).await;
        assert!(!healthy && output.ends_with("no answer in time"), "{output}");
        assert!(begin.elapsed() < Duration::from_secs(30), "it is not waited for to its end");
        // A flood neither hangs the command nor fills the answer.
        let (healthy, output) = ask(&host, text, exec(&["head", "-c", "3000000", "/dev/zero"])).await;
        assert!(healthy && output.len() < 400, "{output}");
        shell(&format!("systemctl -M {text} is-system-running"));

        // A failed unit makes the guest degraded, and is named.
        shell(&format!("systemd-run -M {text} -q --unit=broken --wait false || true"));
        let degraded = (false, "systemd -> degraded: broken.service failed".to_owned());
        assert_eq!(ask(&host, text, None).await, degraded);
        host.stop(&name(text)).await.expect("it stops");
    }
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_hostile_guest_leads_the_helper_nowhere() {
    let host = open();
    let web = assigned("web", "web", 1);
    host.start(&web, &files(&web)).await.expect("it starts");
    let socket = || {
        let root = format!("/proc/{}/root", shell("machinectl show web -p Leader --value"));
        shell(&format!("mkdir -p {root}/run/dbus"));
        format!("{root}/run/dbus/system_bus_socket")
    };
    let planted = socket();
    // A link to a socket of the host leads back into the guest, where that socket is not.
    shell("test -S /run/systemd/journal/stdout");
    shell(&format!("ln -s /run/systemd/journal/stdout {planted}"));
    let (healthy, output) = ask(&host, "web", None).await;
    assert!(healthy && output.contains("no systemd"), "{output}");
    // The host's own bus, bound in by its owner, is not the guest's.
    shell(&format!("rm {planted} && touch {planted}"));
    shell("machinectl bind web /run/dbus/system_bus_socket /run/dbus/system_bus_socket");
    shell(&format!("test -S {planted}"));
    let (healthy, output) = ask(&host, "web", exec(&["touch", "/run/escaped"])).await;
    assert!(!healthy && output.contains("not a process of the guest"), "{output}");
    shell("test ! -e /run/escaped");
    // Something that never answers, and is no socket.
    host.stop(&name("web")).await.expect("it stops");
    host.start(&web, &files(&web)).await.expect("it starts");
    shell(&format!("mkfifo {}", socket()));
    let begin = Instant::now();
    ask_within(IN_VAIN, &host, "web", None).await;
    assert!(begin.elapsed() < LIMIT);
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn tells_the_last_lines_and_deletes_what_is_left() {
    let host = open();
    let talker = assigned("talker", "talker", 1);
    host.start(&talker, &files(&talker)).await.expect("it starts");
    let begin = Instant::now();
    let lines = loop {
        let lines = host.log_tail(&name("talker"), 2).await;
        if lines.iter().any(|line| line.contains("last line")) || begin.elapsed() > LIMIT {
            break lines;
        }
    };
    assert!(lines.len() == 2 && lines[1].contains("last line"), "{lines:?}");
    println!("log_tail: {:?}", begin.elapsed());

    let debian = assigned("debian", "debian", 2);
    host.start(&debian, &files(&debian)).await.expect("it boots");
    shell("systemd-run -M debian -q --wait systemd-cat -p err -t postgres echo out of memory");
    let begin = Instant::now();
    loop {
        let lines = host.log_tail(&name("debian"), 20).await;
        if lines.iter().any(|line| line.contains("postgres") && line.contains("out of memory")) {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "{lines:?}");
    }

    let error = host.remove_data(&name("debian")).await.expect_err("it runs");
    assert!(matches!(error, StepError::StillRunning { .. }), "{error}");
    host.stop(&name("debian")).await.expect("it stops");
    // What somebody else's conf file says to be theirs is not deleted, however long it has not run.
    for theirs in ["ln -s /dev/null", "install -m 644 /dev/null"] {
        let path = "/etc/nixos-containers/debian.conf";
        shell(&format!("mv {path} /root/kept.conf; {theirs} {path}"));
        let error = host.remove_data(&name("debian")).await.expect_err("somebody else's");
        assert!(matches!(error, StepError::ForeignData { .. }), "{error}");
        shell(&format!("test -e /var/lib/nixos-containers/debian/etc; mv /root/kept.conf {path}"));
    }
    // Something of the host that is mounted in there is not deleted.
    shell(
        "cd /var/lib/nixos-containers/debian; mkdir -p srv /root/kept var/empty; touch /root/kept/file; mount --bind /root/kept srv",
    );
    let error = host.remove_data(&name("debian")).await.expect_err("something is mounted there");
    assert!(matches!(&error, StepError::File { path, .. } if path.ends_with("debian/srv")), "{error}");
    shell(
        "umount /var/lib/nixos-containers/debian/srv; chattr +i /var/lib/nixos-containers/debian/var/empty || true",
    );
    host.remove_data(&name("debian")).await.expect("it is deleted");
    shell("test ! -e /var/lib/nixos-containers/debian && test -e /root/kept/file");
    host.remove_data(&name("debian")).await.expect("deleting it again does nothing");
}
