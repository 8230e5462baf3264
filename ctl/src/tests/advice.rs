//! Complaints that look at the machine: what is installed, who asks, what git tracks, which versions meet.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use nixmox_api::AgentError;
use tempfile::TempDir;

use crate::build::{BuildError, Failure};
use crate::client::ClientError;
use crate::error::{Circumstances, CtlError};
use crate::machine::Machine;
use crate::manifest::ManifestError;
use crate::render::Style;
use crate::testing::{Agent, Place, Script, sample};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn an_agent_that_is_not_there_is_not_installed_not_started_or_ended() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::in_folder(folder.path());
    let mut text = place.run("status").told(folder.path());
    write(&folder.path().join("machine/usr/lib/systemd/system/nixmox-agent.socket"), "");
    text += &place.run("status").told(folder.path());
    // The file stays when the listener goes.
    drop(UnixListener::bind(folder.path().join("agent.sock")).unwrap());
    text += &place.run("status").told(folder.path());
    assert_snapshot!(text);
}

#[test]
fn a_refusal_names_the_group_and_whether_to_join_it_or_to_log_in_again() {
    let refused = |role: &str, method: &str| AgentError::NotPermitted {
        role: role.to_owned(),
        method: method.to_owned(),
        hint: "ask for membership".to_owned(),
    };
    let script = Script::default()
        .refuse("Status", &refused("observer", "Status"))
        .refuse("Restart", &refused("operator", "Restart"))
        .watch(vec![sample::snapshot(sample::status())]);
    let agent = Agent::start(script);
    let place = Place::with(&agent);
    let file = |name: &str, text: &str| write(&agent.folder().join("machine").join(name), text);
    let mut text = place.run("status").told(agent.folder());
    file("etc/passwd", "root:x:0:0::/root:/bin/sh\nanna:x:1000:50::/home/anna:/bin/sh\n");
    file("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nGid:\t50\t50\t50\t50\nGroups:\t27 50\n");
    file("etc/group", "nixmox:x:985:anna\nnixmox-operator:x:986:\n");
    text += &place.run("status").told(agent.folder());
    text += &place.run("restart caddy").told(agent.folder());
    file("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nGid:\t50\t50\t50\t50\nGroups:\t27 985\n");
    text += &place.run("status").told(agent.folder());
    assert_snapshot!(text);
}

#[test]
fn every_complaint_about_the_agent_the_files_and_the_build_says_what_to_try() {
    let (socket, path) = (PathBuf::from("/run/a"), PathBuf::from("/srv/a"));
    let io = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let (service, installables) = ("web".to_owned(), vec![".#web".to_owned()]);
    let status = std::os::unix::process::ExitStatusExt::from_raw(256);
    let json = || serde_json::from_str::<bool>("x").unwrap_err();
    let client = [
        ClientError::Missing { socket: socket.clone() },
        ClientError::Refused { socket: socket.clone() },
        ClientError::Denied { socket: socket.clone() },
        ClientError::Unreachable { socket, source: io() },
        ClientError::Lost { source: zlink::Error::UnexpectedEof },
        ClientError::Silent { seconds: 30 },
        ClientError::Unknown { method: "Logs".to_owned() },
        ClientError::Foreign { source: zlink::Error::MissingParameters },
        ClientError::Agent(AgentError::Refused { reason: "the host shuts down".to_owned(), hint: String::new() }),
    ];
    let failure = Failure {
        command: "build",
        status,
        installables: installables.clone(),
        builders: Vec::new(),
        hidden: None,
    };
    let build = [
        BuildError::Link { service: service.clone(), link: path.clone(), source: io() },
        BuildError::NotInStore { service: service.clone(), link: path.clone(), target: path.clone() },
        BuildError::Module { service, module: path.clone(), source: io() },
        BuildError::NoNixpkgs { module: path.clone() },
        BuildError::Unknown { installable: ".#web".to_owned() },
        BuildError::NotBuilt { installables: installables.clone() },
        BuildError::Roots { place: path.clone(), source: io() },
        BuildError::NoNix { installables: installables.clone() },
        BuildError::Nix(io()),
        BuildError::Failed(Box::new(failure)),
        BuildError::Answer { command: "build", source: json() },
        BuildError::NotOnePath { installable: ".#web".to_owned() },
    ];
    let others = [
        CtlError::Manifest(ManifestError::NotFound { folder: path.clone() }),
        CtlError::Manifest(ManifestError::Read { path: path.clone(), source: io() }),
        CtlError::File { action: "read", path: path.clone(), source: io() },
        CtlError::File { action: "write", path: path.clone(), source: io() },
        CtlError::Stopped,
        CtlError::PlanFile { path, source: json() },
        CtlError::Superseded { watched: 1, newer: 2, by: "anna".to_owned() },
        CtlError::Late { limit: "1min".to_owned(), pending: vec!["web".to_owned()] },
    ];
    let machine = Machine::below(Path::new("/nonexistent"), OsString::new());
    let about = Circumstances { machine: &machine, agent_version: None };
    let all = client.into_iter().map(CtlError::Client).chain(build.into_iter().map(CtlError::Build)).chain(others);
    for error in all {
        let text = error.report(&about).text(Some(80), Style::default());
        assert!(text.starts_with("error: ") && text.contains("\n  try   "), "{error:?}: {text}");
        // A word that is longer than the line stays whole.
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}

/// A folder for programs that tests bring, in front of those of the machine.
fn path_with(programs: &Path) -> OsString {
    let mut path = programs.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    path
}

fn program(path: &Path, script: &str) {
    write(path, &format!("#!/bin/sh\n{script}"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A stack whose only system is the output of a flake beside it.
struct Flake {
    folder: TempDir,
    place: Place,
}

impl Flake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(
            &folder.path().join("stack/nixmox.toml"),
            "format = 1\n[stack]\nname = \"cloud\"\n[services.postgres]\nsystem = \".#postgres\"\n",
        );
        let programs = folder.path().join("programs");
        let machine = Machine::below(&folder.path().join("machine"), path_with(&programs));
        let place = Place { machine, ..Place::in_folder(&folder.path().join("stack")) };
        Self { folder, place }
    }

    /// Brings a program; `nix` tells of its fault itself, as the real one does.
    fn with(self, name: &str, script: &str) -> Self {
        program(&self.folder.path().join("programs").join(name), script);
        self
    }

    fn file(&self, name: &str, text: &str) {
        write(&self.stack().join(name), text);
    }

    fn stack(&self) -> PathBuf {
        self.folder.path().join("stack")
    }

    fn git(&self, arguments: &[&str]) {
        let status = Command::new("git").arg("-C").arg(self.stack()).args(arguments).status().unwrap();
        assert!(status.success(), "git {arguments:?}");
    }

    fn plan(&self) -> String {
        self.place.run("plan").told(&self.stack())
    }
}

/// As Nix 2.26 fails, with the place of the store and the trace left out. It writes to the terminal itself.
const FAILING_NIX: &str = "echo \"error: path '/nix/store/0ccnxa25whszw7mgbgyzdm4nqc0zwnm8-source/flake.nix' does not exist\" >&2\nexit 1\n";

#[test]
fn files_that_git_does_not_track_are_named_when_a_flake_cannot_be_built() {
    let flake = Flake::new().with("nix", FAILING_NIX);
    flake.file("flake.nix", "{ outputs = _: { postgres = import ./postgres.nix; }; }");
    flake.file("postgres.nix", "{ }");
    let mut text = "no repository\n".to_owned() + &flake.plan();
    flake.git(&["init", "--quiet"]);
    text += "\nthe flake itself\n";
    text += &flake.plan();
    flake.git(&["add", "flake.nix"]);
    text += "\nwhat it imports\n";
    text += &flake.plan();
    flake.file("my keys.nix", "{ }");
    flake.file("b.nix", "{ }");
    flake.file("c.nix", "{ }");
    flake.file("notes.txt", "");
    std::os::unix::fs::symlink("/nix/store/x", flake.stack().join("result")).unwrap();
    text += "\nmany\n";
    text += &flake.plan();
    flake.file(".gitignore", "*.nix\n*.txt\nresult\n");
    flake.git(&["add", ".gitignore", "nixmox.toml"]);
    text += "\nignored\n";
    text += &flake.plan();
    flake.git(&["add", "--force", "."]);
    text += "\nall is tracked\n";
    text += &flake.plan();
    assert_snapshot!(text);
}

#[test]
fn a_repository_of_somebody_else_is_told_as_that() {
    let refusal = "echo \"fatal: detected dubious ownership in repository at '$2'\" >&2; exit 128\n";
    let flake = Flake::new().with("nix", FAILING_NIX).with("git", refusal);
    flake.file("flake.nix", "{ }");
    assert_snapshot!(flake.plan());
}

#[test]
fn without_nix_it_is_said_where_it_is_or_where_to_get_it() {
    let mut flake = Flake::new();
    flake.place.machine = Machine::below(&flake.folder.path().join("machine"), "/nonexistent".into());
    let mut text = flake.plan();
    write(&flake.folder.path().join("machine/nix/var/nix/profiles/default/bin/nix"), "");
    text += &flake.plan().replace(&flake.folder.path().display().to_string(), "");
    assert_snapshot!(text);
}

#[test]
fn an_agent_of_another_version_is_told_with_both_versions() {
    let invalid = AgentError::Invalid {
        problems: vec!["parameters: unknown field `prune`, expected `stack`".to_owned()],
        hint: "do client and agent have the same version?".to_owned(),
    };
    let mut text = String::new();
    for version in ["0.0.9", "9.0.0", env!("CARGO_PKG_VERSION")] {
        let agent = Agent::start(Script::default().unknown("Stacks").refuse("Paths", &invalid).version(version));
        text += &Place::with(&agent).run("stacks").told(agent.folder());
        text += &Place::with(&agent).run("paths caddy").told(agent.folder());
    }
    let told = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    assert_snapshot!(told);
}
