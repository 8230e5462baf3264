//! Many clients, and clients of other users. Only root can become them.

use std::os::unix::net::UnixStream;
use std::thread;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Group, geteuid};
use nixmox_agent::server::{GroupRoles, Limits, Role};
use serde_json::json;

use crate::harness::{Everybody, Raw, Setup, TestServer, limits};

const NOBODY: u32 = 65534;

/// Returns whether this process can become other users, and says so where it cannot.
fn can_become_others() -> bool {
    #[allow(clippy::print_stderr, reason = "a test that does nothing says so")]
    if !geteuid().is_root() {
        eprintln!("skipped: only root can connect as other users");
    }
    geteuid().is_root()
}

/// Runs something as another user, on a thread of its own.
///
/// The system calls are made directly, since those of libc change every thread of the process (credentials(7),
/// nptl(7)); to the kernel a thread that connects is as good as a process.
fn as_user<T: Send + 'static>(uid: u32, gid: u32, groups: Vec<u32>, run: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(move || {
        let call = |number, arguments: [libc::c_long; 3]| {
            #[allow(unsafe_code, reason = "libc has no call for one thread alone")]
            // SAFETY: the calls read nothing but the list of groups, which lives until they return.
            let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        };
        let count = libc::c_long::try_from(groups.len()).unwrap();
        call(libc::SYS_setgroups, [count, groups.as_ptr() as libc::c_long, 0]);
        call(libc::SYS_setresgid, [gid.into(); 3]);
        call(libc::SYS_setresuid, [uid.into(); 3]);
        run()
    })
    .join()
    .expect("it works as another user too")
}

#[test]
fn roles_follow_the_groups_that_the_kernel_reports() {
    if !can_become_others() {
        return;
    }
    // Groups that every Debian and NixOS has stand for ours.
    let (observers, operators) = ("audio", "disk");
    let gid = |name| Group::from_name(name).unwrap().expect("the group is there").gid.as_raw();
    let (observer_gid, operator_gid) = (gid(observers), gid(operators));
    let server = TestServer::start(Setup::default(), move || GroupRoles::look_up(observers, operators));
    let many = |last: u32| (100_000..100_300).chain([last]).collect::<Vec<_>>();
    let cases = [
        ("nobody", NOBODY, NOBODY, vec![], None),
        ("nobody in other groups", NOBODY, NOBODY, vec![100_000], None),
        ("nobody in very many other groups", NOBODY, NOBODY, many(100_300), None),
        ("an observer by a supplementary group", NOBODY, NOBODY, vec![observer_gid], Some(Role::Observer)),
        ("an observer by the primary group", NOBODY, observer_gid, vec![], Some(Role::Observer)),
        ("an operator by a supplementary group", NOBODY, NOBODY, vec![1, operator_gid], Some(Role::Operator)),
        ("an operator by the last of very many groups", NOBODY, NOBODY, many(operator_gid), Some(Role::Operator)),
        ("in both groups", NOBODY, NOBODY, vec![observer_gid, operator_gid], Some(Role::Operator)),
        ("root's group alone", NOBODY, 0, vec![0], None),
        ("root without groups", 0, NOBODY, vec![], Some(Role::Operator)),
    ];
    for (who, uid, gid, groups, expected) in cases {
        let path = server.path();
        let (looked, changed) = as_user(uid, gid, groups, move || {
            let mut client = Raw::new(UnixStream::connect(path).expect("everybody may connect"));
            let looked = client.call("io.nixmox.Agent.Status", json!({}));
            let changed = client.call("io.nixmox.Agent.Start", json!({ "names": ["web"] }));
            (looked.get("error").is_none(), changed.get("error").is_none())
        });
        assert_eq!((looked, changed), (expected.is_some(), expected == Some(Role::Operator)), "{who}");
    }
    let changes = server.fake.calls();
    assert_eq!(changes.iter().filter(|call| *call == "start by 65534").count(), 3, "{changes:?}");
    assert_eq!(changes.len(), 4, "{changes:?}");
}

#[test]
fn a_thousand_idle_connections_of_one_user_lock_nobody_out() {
    const CONNECTIONS: usize = 1000;
    if !can_become_others() {
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).unwrap();
    // They may stay for as long as the test takes.
    let limits = Limits { idle: crate::harness::LIMIT * 2, ..Limits::default() };
    let server =
        TestServer::start(Setup { limits, ..Setup::default() }, || async { Everybody(Some(Role::Observer)) });
    let path = server.path();
    let crowd = as_user(NOBODY, NOBODY, vec![], move || {
        (0..CONNECTIONS).map(|_| UnixStream::connect(&path).expect("it may connect")).collect::<Vec<_>>()
    });
    assert_eq!(crowd.len(), CONNECTIONS);
    for uid in [NOBODY - 1, 0] {
        let path = server.path();
        as_user(uid, NOBODY, vec![], move || {
            Raw::new(UnixStream::connect(path).expect("it may connect")).expect_served();
        });
    }
    // Those within the limit are served, the others were closed at once.
    let open = crowd.iter().filter(|stream| still_open(stream)).count();
    assert_eq!(open, limits.connections_per_user);
    drop(crowd);
    // And with the crowd gone there is room for that user too.
    let path = server.path();
    as_user(NOBODY, NOBODY, vec![], move || {
        let mut client = connect_until_admitted(&path);
        client.expect_served();
    });
}

/// Returns whether the server has not closed this connection; it has seen all of them when this is called.
fn still_open(stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match std::io::Read::read(&mut &*stream, &mut [0]) {
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// Connects again until the server has noticed that places are free.
fn connect_until_admitted(path: &std::path::Path) -> Raw {
    let begun = std::time::Instant::now();
    loop {
        let mut client = Raw::new(UnixStream::connect(path).expect("it may connect"));
        let call = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";
        if std::io::Write::write_all(&mut client.0, call).is_ok() && client.receive().is_some() {
            return client;
        }
        assert!(begun.elapsed() < crate::harness::LIMIT, "no place became free");
    }
}

#[test]
fn users_together_cannot_take_the_places_of_operators() {
    if !can_become_others() {
        return;
    }
    let limits = Limits { connections: 6, connections_per_user: 2, connections_for_operators: 2, ..limits() };
    let setup = Setup { limits, ..Setup::default() };
    let server = TestServer::start(setup, || GroupRoles::look_up("audio", "disk"));
    let mut taken = Vec::new();
    for uid in 50_001..50_004 {
        let path = server.path();
        taken.extend(as_user(uid, NOBODY, vec![], move || [0, 1].map(|_| UnixStream::connect(&path).unwrap())));
    }
    server.connect().expect_served();
    let open = taken.iter().filter(|stream| still_open(stream)).count();
    assert_eq!(open, limits.connections - limits.connections_for_operators);
}
