//! What is offered on Tab: commands, options, names of the agent or of the stack file.

use std::os::unix::net::UnixListener;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::completion::{Answer, complete};
use crate::testing::{Agent, Script, sample};

/// Returns what a line can go on with; it ends with the word at the cursor, which may be empty.
fn asked(folder: &Path, line: &str) -> Answer {
    let socket = folder.join("agent.sock").display().to_string();
    let words = ["nixmoxctl", "--socket", &socket].into_iter().chain(line.split(' ')).map(Into::into).collect();
    complete(Cli::command(), words, folder)
}

fn words(folder: &Path, line: &str) -> Vec<String> {
    match asked(folder, line) {
        Answer::Words(candidates) => candidates.into_iter().map(|candidate| candidate.word).collect(),
        Answer::Files => panic!("`{line}` asks for a file"),
    }
}

/// The stack `cloud` on the host, and a stack file with two of its services and a new one.
fn agent() -> Agent {
    let mut status = sample::status();
    let mut media = status.stacks[0].clone();
    media.name = "media".to_owned();
    status.stacks.push(media);
    status.services.push(nixmox_api::ServiceStatus { stack: "media".to_owned(), ..sample::service("jellyfin") });
    let agent = Agent::start(Script::default().reply("Status", &status));
    write_stack(agent.folder());
    agent
}

fn write_stack(folder: &Path) {
    let system = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-postgres";
    let stack = "format = 1\n[stack]\nname = \"cloud\"\ninclude = [\"*/service.toml\"]\n";
    // What is half written is completed too.
    let services = format!("[services.postgres]\nsystem = \"{system}\"\n[services.new]\nsystem = \n");
    std::fs::write(folder.join("nixmox.toml"), stack.to_owned() + &services).unwrap();
    std::fs::create_dir(folder.join("photos")).unwrap();
    std::fs::write(folder.join("photos/service.toml"), format!("system = \"{system}\"\n")).unwrap();
}

#[test]
fn names_of_running_services_come_from_the_agent() {
    let agent = agent();
    for verb in ["status", "why", "stop", "start", "restart", "down", "paths"] {
        let found = words(agent.folder(), &format!("{verb} "));
        assert_eq!(found, ["postgres", "nextcloud", "caddy", "wiki", "paperless", "jellyfin"], "{verb}");
    }
    assert_eq!(words(agent.folder(), "stop p"), ["postgres", "paperless"]);
    assert_eq!(words(agent.folder(), "stop postgres -d p"), ["paperless"], "what was named is not named twice");
    assert_eq!(words(agent.folder(), "gpu fit postgres p"), ["paperless"], "also below a command of a command");
    assert_eq!(words(agent.folder(), "gpu doctor n"), ["nextcloud"]);
    assert_eq!(words(agent.folder(), "stop nope"), [""; 0]);
    let Answer::Words(found) = asked(agent.folder(), "stop pap") else { panic!("a name") };
    assert_eq!(found[0].about, "stopped, of cloud");
}

#[test]
fn names_of_what_is_to_come_up_come_from_the_stack_file() {
    let agent = agent();
    for verb in ["up", "plan"] {
        assert_eq!(words(agent.folder(), &format!("{verb} ")), ["postgres", "new", "photos"], "{verb}");
        assert!(agent.calls("Status").is_empty(), "{verb}");
    }
    assert_eq!(words(agent.folder(), "rm "), ["new", "photos"], "what the host holds is refused");
    let elsewhere = tempfile::tempdir().unwrap();
    let file = agent.folder().join("nixmox.toml").display().to_string();
    assert_eq!(words(elsewhere.path(), &format!("up -f {file} ph")), ["photos"]);
    assert_eq!(words(elsewhere.path(), &format!("--file={file} plan n")), ["new"]);
    assert_eq!(words(elsewhere.path(), "up "), [""; 0]);
}

#[test]
fn without_an_agent_the_stack_file_is_asked_and_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    write_stack(folder.path());
    assert_eq!(words(folder.path(), "restart p"), ["postgres", "photos"]);
    assert_eq!(words(folder.path(), "status -s "), [""; 0]);
    // An agent that takes the connection and stays silent: what waits for it is given up.
    let _silent = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    assert_eq!(words(folder.path(), "status -s "), [""; 0]);
    assert_eq!(words(folder.path(), "restart p"), ["postgres", "photos"]);
}

#[test]
fn stacks_are_those_of_the_host_and_narrow_the_services() {
    let agent = agent();
    for line in ["-s ", "status --stack ", "status -w -s "] {
        assert_eq!(words(agent.folder(), line), ["cloud", "media"], "{line}");
    }
    assert_eq!(words(agent.folder(), "status --stack=m"), ["--stack=media"]);
    assert_eq!(words(agent.folder(), "-s media restart "), ["jellyfin"]);
    assert_eq!(words(agent.folder(), "restart -s media "), ["jellyfin"]);
}

#[test]
fn commands_options_and_their_values_need_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let commands = words(folder.path(), "");
    assert!(commands.starts_with(&["up".to_owned(), "down".to_owned(), "status".to_owned()]), "{commands:?}");
    assert!(!commands.iter().any(|word| word == "config" || word.starts_with('-')), "{commands:?}");
    assert_eq!(words(folder.path(), "re"), ["restart"]);
    assert_eq!(words(folder.path(), "completions "), ["bash", "zsh", "fish"]);
    assert_eq!(words(folder.path(), "status --color a"), ["auto", "always"]);
    assert_eq!(words(folder.path(), "--color=n"), ["--color=never"]);
    assert_eq!(words(folder.path(), "up --no-d"), ["--no-deps"]);
    let options = words(folder.path(), "rm -");
    assert!(options.iter().all(|word| word.starts_with("--")), "{options:?}");
    assert!(options.contains(&"--data".to_owned()) && options.contains(&"--json".to_owned()), "{options:?}");
}

#[test]
fn names_of_files_are_left_to_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["-f ", "up --file=ab", "up --plan ", "plan -o x"] {
        assert_eq!(asked(folder.path(), line), Answer::Files, "{line}");
    }
    assert_eq!(asked(folder.path(), "up "), Answer::Words(Vec::new()));
}
