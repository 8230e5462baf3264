//! A static guest: PID 1 of a container that behaves, or misbehaves, as a file beside its `init` says.
//!
//! ```text
//!  start ──▶ read behaviour ──▶ log, ports, load ──▶ READY=1 ──▶ reap children ──SIGRTMIN+3, +4 or SIGTERM──▶ take time ──▶ marker ──▶ exit 0
//! ```
//!
//! Needs nothing of its root file system. Standard output and standard error are its log.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the standard streams of PID 1 are a container's log"
)]

mod behaviour;
mod environment;
mod gpu;
mod notify;
mod open;
mod serve;

use std::{
    fs,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        reboot::{RebootMode, reboot},
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::SignalFd,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::behaviour::{Behaviour, Delay};

/// Written at the end of an orderly stop: proves that the guest was allowed its own time.
const STOPPED_FILE: &str = "/var/lib/guest/stopped";
/// What nspawn ends with when its guest reboots; one that merely exits with it has failed (systemd-nspawn(1)).
const REBOOTED: u8 = 133;
/// `SIGRTMIN+3` as glibc counts: what `systemd-nspawn --kill-signal=SIGRTMIN+3` sends for "halt" (systemd(1), signals).
const HALT_SIGNAL: i32 = 37;
/// `SIGRTMIN+4`: what `machinectl poweroff` sends.
const POWER_OFF_SIGNAL: i32 = 38;
/// How long it waits after a child that it may not have before it tries again.
const FORK_PAUSE: Duration = Duration::from_millis(100);
/// How much earlier than it is due a line may be printed.
const WRITE_AHEAD: Duration = Duration::from_millis(20);
/// Exit status for a behaviour that cannot be read.
const BAD_BEHAVIOUR: i32 = 64;

fn main() {
    // As a child of itself it only waits: see `keep_children`.
    if std::env::args().nth(1).as_deref() == Some("idle") {
        loop {
            thread::park();
        }
    }
    // Further programs in one: a static guest has a single one.
    gpu::run_as_asked();
    let behaviour = match read_behaviour() {
        Ok(behaviour) => behaviour,
        Err(text) => {
            eprintln!("guest: {text}");
            process::exit(BAD_BEHAVIOUR);
        }
    };
    // All of them, before any thread starts: the set type has no names for real-time signals, and they are read below.
    let signals = SigSet::all();
    if let Err(errno) = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None) {
        eprintln!("guest: cannot block signals: {errno}");
    }
    for line in &behaviour.log {
        println!("{line}");
    }
    let _ = fs::create_dir_all("/var/lib/guest");
    if let Some((code, after)) = behaviour.exit {
        if after.is_zero() {
            process::exit(code.into());
        }
        thread::spawn(move || {
            thread::sleep(after);
            println!("ending with status {code}");
            if code == REBOOTED {
                // Returns only where it is not allowed; then the status says so.
                let _ = reboot(RebootMode::RB_AUTOBOOT);
            }
            process::exit(code.into());
        });
    }
    listen(&behaviour);
    gpu::begin(&behaviour);
    run(&behaviour.run);
    load(&behaviour);
    match behaviour.ready {
        Delay::After(time) => {
            thread::spawn(move || {
                thread::sleep(time);
                if let Err(error) = notify::ready() {
                    eprintln!("guest: cannot notify: {error}");
                }
            });
        }
        Delay::Never => {}
    }
    obey(&signals, behaviour.stop)
}

fn read_behaviour() -> Result<Behaviour, String> {
    // The first argument is the path that was asked for, `SYSTEM_PATH/init`, also where that is a link to a shared program.
    let init = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let file = init.parent().unwrap_or_else(|| Path::new("/")).join("behaviour");
    let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Behaviour::parse(&text)
}

/// Takes the dead and waits for the request to end. Wakes up for signals alone: an idle guest costs nothing.
fn obey(signals: &SigSet, stop: Delay) -> ! {
    let descriptor = SignalFd::new(signals);
    loop {
        let number = match descriptor.as_ref().map(SignalFd::read_signal) {
            Ok(Ok(Some(signal))) => i32::try_from(signal.ssi_signo).unwrap_or_default(),
            Ok(Ok(None)) => continue,
            Ok(Err(errno)) | Err(&errno) => {
                eprintln!("guest: cannot read signals: {errno}");
                process::exit(71);
            }
        };
        if number == Signal::SIGCHLD as i32 {
            reap();
        } else if [HALT_SIGNAL, POWER_OFF_SIGNAL, Signal::SIGTERM as i32].contains(&number) {
            // Beside the loop, so that the dead are taken meanwhile.
            thread::spawn(move || end(stop));
        }
    }
}

fn end(stop: Delay) {
    let Delay::After(time) = stop else {
        println!("asked to end; not now");
        return;
    };
    println!("asked to end");
    thread::sleep(time);
    if let Err(error) = fs::write(STOPPED_FILE, "stopped\n") {
        eprintln!("guest: cannot write {STOPPED_FILE}: {error}");
    }
    println!("ended");
    process::exit(0);
}

fn listen(behaviour: &Behaviour) {
    // Of the run before.
    let _ = fs::remove_file(serve::LISTENS_FILE);
    let (after, status) = (behaviour.listen_after, behaviour.http_status);
    for port in behaviour.http.clone() {
        thread::spawn(move || {
            thread::sleep(after);
            if let Err(error) = serve::http(port, status) {
                eprintln!("guest: cannot listen on {port}: {error}");
            }
        });
    }
    for port in behaviour.udp.clone() {
        thread::spawn(move || {
            thread::sleep(after);
            if let Err(error) = serve::udp(port) {
                eprintln!("guest: cannot listen on {port}: {error}");
            }
        });
    }
    for port in behaviour.tcp.clone() {
        thread::spawn(move || {
            thread::sleep(after);
            if let Err(error) = serve::tcp(port) {
                eprintln!("guest: cannot listen on {port}: {error}");
            }
        });
    }
}

/// Starts a program beside this guest; whoever asked for it sees how it fares.
fn run(command: &[String]) {
    let Some((program, arguments)) = command.split_first() else { return };
    let begun = process::Command::new(program).args(arguments).envs(environment::of_services()).spawn();
    if let Err(error) = begun {
        eprintln!("guest: cannot start {program}: {error}");
    }
}

fn load(behaviour: &Behaviour) {
    if let Some((rate, count)) = behaviour.write {
        thread::spawn(move || write(rate, count));
    }
    if !behaviour.open.is_empty() {
        let paths = behaviour.open.clone();
        thread::spawn(move || open::try_again_and_again(&paths));
    }
    if behaviour.hog > 0 {
        let size = behaviour.hog * 1024 * 1024;
        thread::spawn(move || {
            // Not zero, so that every page is really written.
            let memory = vec![1_u8; size];
            println!("holding {} bytes", std::hint::black_box(&memory).len());
            loop {
                thread::park();
            }
        });
    }
    if behaviour.spin {
        thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    if behaviour.forks > 0 {
        let wanted = behaviour.forks;
        thread::spawn(move || keep_children(wanted));
    }
}

/// Prints numbered lines at this rate; whoever does not take them in time makes it slower.
fn write(rate: u32, count: u32) {
    let begun = Instant::now();
    for number in 1..=count {
        let due = begun + Duration::from_secs(1) * (number - 1) / rate;
        // Not for every line: a timer is not that exact.
        if due > Instant::now() + WRITE_AHEAD {
            thread::sleep(due - Instant::now());
        }
        println!("line {number} of {count}");
    }
}

fn keep_children(wanted: u32) {
    let mut failed = false;
    let mut children = 0;
    while children < wanted {
        // Never waited for here: `reap` takes the dead.
        match process::Command::new("/proc/self/exe").arg("idle").spawn() {
            Ok(_) => children += 1,
            Err(error) => {
                if !failed {
                    eprintln!("guest: cannot fork: {error}");
                    failed = true;
                }
                thread::sleep(FORK_PAUSE);
            }
        }
    }
}

/// Takes the exit status of every process that has died so far and whose parent is gone.
fn reap() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
