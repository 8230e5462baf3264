//! Tab in real shells, with a real agent. What is offered is tested in the client; here it is that shells get it.

use std::process::{Command, Stdio};

use crate::agent::Agent;
use crate::terminal::Terminal;

/// Opens a bash with the completion set up.
fn bash(agent: &Agent) -> Terminal {
    let mut terminal = Terminal::shell(agent);
    terminal.until("bash is there", |screen| screen.text().ends_with(">\n"));
    terminal.type_text("source <(nixmoxctl completions bash)\n");
    terminal.until("the script is read", |screen| {
        screen.text().lines().filter(|line| line.starts_with('>')).count() == 2
    });
    terminal
}

/// Types a line that ends with Tab, waits until it has become another one, and gives that up.
fn becomes(terminal: &mut Terminal, typed: &str, line: &str) {
    terminal.type_text(typed);
    terminal.type_text("\t");
    let is_seen = format!("> {}", line.trim_end());
    terminal.until(&is_seen, |screen| {
        let text = screen.text();
        text.lines().last() == Some(is_seen.as_str()) && screen.column() == 2 + line.len()
    });
    // Ctrl-A, Ctrl-K: the line is empty again.
    terminal.type_text("\x01\x0b");
    terminal.until("the line is empty", |screen| screen.text().lines().last() == Some(">"));
}

#[test]
fn bash_completes_commands_names_options_and_files() {
    let agent = Agent::start();
    agent.up();
    std::fs::create_dir(agent.folder().join("my plans")).unwrap();
    let mut terminal = bash(&agent);
    becomes(&mut terminal, "nixmoxctl rest", "nixmoxctl restart ");
    becomes(&mut terminal, "nixmoxctl restart po", "nixmoxctl restart postgres ");
    becomes(&mut terminal, "nixmoxctl restart postgres ne", "nixmoxctl restart postgres nextcloud ");
    becomes(&mut terminal, "nixmoxctl status -s cl", "nixmoxctl status -s cloud ");
    becomes(&mut terminal, "nixmoxctl status --stack=cl", "nixmoxctl status --stack=cloud ");
    becomes(&mut terminal, "nixmoxctl up --no-d", "nixmoxctl up --no-deps ");
    becomes(&mut terminal, "nixmoxctl -f nixm", "nixmoxctl -f nixmox.toml ");
    becomes(&mut terminal, "nixmoxctl up --plan my", "nixmoxctl up --plan my\\ plans/");
    // The stack file knows what the host does not any more, and the other way round.
    agent.down();
    becomes(&mut terminal, "nixmoxctl up ne", "nixmoxctl up nextcloud ");
    terminal.type_text("nixmoxctl status \t\t");
    terminal.type_text("# nothing is there to choose from");
    terminal.until("it is typed", |screen| {
        screen.text().lines().last() == Some("> nixmoxctl status # nothing is there to choose from")
    });
}

/// Runs a script of a shell that may not be installed; `None` then.
fn of_shell(agent: &Agent, shell: &str, options: &[&str], script: &str) -> Option<String> {
    let (program, _) = agent.client();
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let mut command = Command::new(shell);
    command.args(options).arg("-c").arg(script).current_dir(agent.folder()).stdin(Stdio::null());
    command.env_clear().env("PATH", path).env("HOME", agent.folder());
    command.env("NIXMOX_SOCKET", agent.folder().join("socket"));
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{shell}: {error}"),
    }
}

#[test]
fn fish_completes_if_it_is_there() {
    let agent = Agent::start();
    agent.up();
    let script = "nixmoxctl completions fish | source; \
                  for line in 'nixmoxctl restart po' 'nixmoxctl rest' 'nixmoxctl --file=nixm' 'nixmoxctl restart zz'; \
                  complete --do-complete $line; end";
    let Some(found) = of_shell(&agent, "fish", &["--no-config"], script) else { return };
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 3, "{found}");
    assert!(lines[0].starts_with("postgres\t") && lines[0].ends_with(", of cloud"), "{found}");
    assert_eq!(lines[1], "restart\tRestart services now");
    assert!(lines[2].starts_with("--file=nixmox.toml"), "{found}");
}

#[test]
fn zsh_completes_if_it_is_there() {
    let agent = Agent::start();
    agent.up();
    // What zsh's own completion system would do with it is printed instead.
    let script =
        "_describe() { print -rl -- ${(P)@[-1]} }; _files() { print files }; compset() { print -r -- \"$@\" }
                  compdef() { print compdef \"$@\" }; source <(nixmoxctl completions zsh)
                  t() { local -a words=(\"$@\"); local CURRENT=$# PREFIX=${@[-1]}; _nixmoxctl }
                  t nixmoxctl restart po; t nixmoxctl rest; t nixmoxctl --file=nixm; t nixmoxctl restart zz; true";
    let Some(found) = of_shell(&agent, "zsh", &["-f"], script) else { return };
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines[0], "compdef _nixmoxctl nixmoxctl");
    assert!(lines[1].starts_with("postgres:") && lines[1].ends_with(", of cloud"), "{found}");
    assert_eq!(lines[2..], ["restart:Restart services now", "-P 1 *=", "files"]);
}
