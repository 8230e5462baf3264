//! `nixmoxctl exec` and `shell` on a real terminal.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nixmox_testbed::Testbed;

use crate::house::{BOOTED, LIMIT, boot, is, refuses};
use crate::person::Person;

/// How often something is typed again until it is answered otherwise.
const AGAIN: Duration = Duration::from_millis(200);

/// A shell in a guest, without anybody's settings.
fn bash(guest: &str) -> String {
    format!("nixmoxctl exec -e PS1='guest> ' {guest} bash --norc --noprofile -i")
}

/// Waits until a process with this command line runs in a guest, or none does.
fn runs(bed: &Testbed, guest: &str, pattern: &str, wanted: bool) {
    let not = if wanted { "" } else { "! " };
    let script = format!("{not}nixmoxctl exec -T {guest} pgrep -xf '{pattern}' < /dev/null");
    bed.wait_until(&script, LIMIT).expect("it comes to be so");
}

#[test]
fn a_shell_on_a_terminal_is_a_shell_on_that_terminal() {
    let bed = boot("terminal");
    for guest in BOOTED {
        let mut person = Person::runs(&bed, &bash(guest));
        person.sees("guest> ");
        assert!(person.is_raw());
        person.types("stty size\r");
        person.sees("30 100\r\n");
        person.resizes(50, 132);
        let begun = Instant::now();
        loop {
            person.types("stty size\r");
            if person.sees_within("50 132\r\n", AGAIN) {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{}", person.shown());
        }
        // Its own terminal, found by its own programs.
        person.types("tty; test -O $(tty) && echo own$TERM\r");
        person.sees("/dev/pts/");
        person.sees("ownxterm\r\n");
        // A line is edited by characters.
        person.types("stty -a | grep -ow -- -iutf8 || echo by characters\r");
        person.sees("by characters\r\n");
        // Ctrl-C ends what runs in the foreground, and nothing else.
        person.types("sleep 4711\r");
        runs(&bed, guest, "sleep 4711", true);
        person.types("\u{3}");
        runs(&bed, guest, "sleep 4711", false);
        person.types("echo alive $((40 + 2)) $?\r");
        person.sees("alive 42 130\r\n");
        // All of a long output arrives before the end does.
        person.types("seq 100000; exit 7\r");
        assert_eq!(person.ends(), 7);
        assert!(person.shown().contains("\r\n99999\r\n100000\r\n"), "the tail is missing");

        let mut person = Person::runs(&bed, &format!("nixmoxctl shell {guest}"));
        person.types("shopt -q login_shell && echo login $PWD $LOGNAME; exit 3\r");
        person.sees("login /root root\r\n");
        assert_eq!(person.ends(), 3);
        let mut person = Person::runs(&bed, &format!("nixmoxctl exec {guest} nonesuch; echo $?"));
        person.sees("there is no program `nonesuch`");
        person.sees("127\r\n");
        assert_eq!(person.ends(), 0);
    }
    // Without a terminal here, one is made where it is asked for; its input ends all the same.
    is(
        &bed,
        "echo hi | nixmoxctl exec -t plain sh -c 'test -t 0 && cat > /dev/null && stty size'",
        0,
        "hi\r\n24 80\r\n",
        "",
    );
    // With one here, pipes where they are asked for.
    let mut person = Person::runs(&bed, "nixmoxctl exec -T plain sh -c 'test -t 0 || echo pipes; cat'");
    person.sees("pipes\r\n");
    assert!(!person.is_raw());
    person.types("\u{3}");
    assert_eq!(person.ends(), 130);
}

#[test]
fn who_leaves_takes_the_command_along() {
    let bed = boot("leave");
    let guest = "plain";
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGKILL, 137)] {
        let mut person = Person::runs(
            &bed,
            &format!("trap '' TERM HUP; {}", bash(guest)).replace("; nixmoxctl", "; exec nixmoxctl"),
        );
        person.sees("guest> ");
        person.types("sleep 4711\r");
        runs(&bed, guest, "sleep 4711", true);
        bed.succeed(&format!("pkill -{} -f 'nixmoxctl [e]xec -e PS1'", signal.as_str().trim_start_matches("SIG")))
            .unwrap();
        if signal == Signal::SIGKILL {
            // Nobody was left to give the terminal back.
            drop(person);
        } else {
            assert_eq!(person.ends(), code);
        }
        runs(&bed, guest, "sleep 4711", false);
    }
    // On pipes, and with one that would not listen.
    bed.succeed(&format!("nixmoxctl exec {guest} sh -c 'trap \"\" TERM; sleep 4711; sleep 4711' < /dev/null & pid=$!; until nixmoxctl exec {guest} pgrep -xf 'sleep 4711'; do :; done; kill $pid; wait $pid || test $? = 143")).unwrap();
    runs(&bed, guest, "sleep 4711", false);
    let units = format!("nixmoxctl exec {guest} systemctl list-units --no-legend --plain 'nixmox-exec-*' | wc -l");
    bed.wait_until(&format!("test $({units}) = 1"), LIMIT).expect("nothing is left but that");
    bed.wait_until("test $(pgrep -cf '[g]uest-session') = 0", LIMIT).expect("every child is reaped");
    // By the way out, also where the guest answers to nothing.
    let mut person = Person::runs(&bed, &bash(guest));
    person.sees("guest> ");
    bed.succeed("echo 1 > $(find /sys/fs/cgroup -type d -name container@plain.service)/cgroup.freeze").unwrap();
    person.types("echo nobody hears\r\u{1d}\u{1d}\u{1d}");
    assert_eq!(person.ends(), 129);
    bed.succeed("echo 0 > $(find /sys/fs/cgroup -type d -name container@plain.service)/cgroup.freeze").unwrap();
    // A guest that stops ends it, and says so.
    let mut person = Person::runs(&bed, &bash(guest));
    person.sees("guest> ");
    bed.succeed("cd /srv/guests && nixmoxctl stop plain").unwrap();
    let code = person.ends();
    assert!([129, 137, 143, 126].contains(&code), "{code}: {}", person.shown());
}

#[test]
fn an_agent_that_dies_disturbs_no_command() {
    let bed = boot("survive");
    let mut person = Person::runs(&bed, &bash("plain"));
    person.sees("guest> ");
    for how in ["systemctl kill --signal=KILL nixmox-agent.service", "systemctl restart nixmox-agent.service"] {
        bed.succeed(how).unwrap();
        bed.wait_until("nixmoxctl --all status", LIMIT).expect("it is back");
        person.types("echo still $((40 + 2))\r");
        person.sees("still 42\r\n");
    }
    person.types("exit 7\r");
    assert_eq!(person.ends(), 1);
    assert!(person.shown().contains("how is not known"), "{}", person.shown());
}

#[test]
fn a_guest_has_no_say_in_what_is_opened_for_a_terminal() {
    let bed = boot("planted");
    for guest in BOOTED {
        let plant = |script: &str| {
            is(&bed, &format!("nixmoxctl exec -T {guest} sh -ec '{script}'"), 0, "", "");
            refuses(
                &bed,
                &format!("timeout 120 nixmoxctl exec -t {guest} true < /dev/null"),
                1,
                &["no terminals", "exec -T"],
            );
        };
        plant("mount -t tmpfs tmpfs /dev/pts");
        plant("mkfifo /dev/pts/ptmx");
        plant("rm /dev/pts/ptmx; ln -s /dev/null /dev/pts/ptmx");
        plant("rm /dev/pts/ptmx; ln -s /proc/1/root/dev/ptmx /dev/pts/ptmx");
        plant("rm /dev/pts/ptmx; ln -s ptmx /dev/pts/ptmx");
        // The host's, by a way that leads up and out.
        plant("rm /dev/pts/ptmx; ln -s ../../../../../../dev/pts/no-ptmx /dev/pts/ptmx");
        plant("umount /dev/pts; mount -t tmpfs tmpfs /dev/pts; touch /dev/pts/ptmx");
        // What makes terminals, and is another file: of another devpts, or a device with its number.
        is(&bed, &format!("nixmoxctl exec -T {guest} umount /dev/pts"), 0, "", "");
        is(&bed, &format!("nixmoxctl exec -t {guest} true < /dev/null"), 0, "", "");
    }
}
