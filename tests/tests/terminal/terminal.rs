//! A program on a pseudo terminal of its own: what it writes there, and what a person types.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

use crate::agent::{Agent, LIMIT};
use crate::screen::{HEIGHT, Screen, WIDTH};

/// A terminal on which `nixmoxctl` runs.
pub(crate) struct Terminal {
    /// What is seen.
    pub(crate) screen: Screen,
    /// The side of the person.
    person: File,
    /// The side of the program; held, so that its settings can be read when the program is gone.
    program: OwnedFd,
    settings: Termios,
    child: Child,
    written: Vec<u8>,
    /// How much of it is on the screen.
    shown: usize,
}

impl Terminal {
    /// Runs `nixmoxctl` with these arguments, which a shell splits; it may go on as a pipe.
    pub(crate) fn run(agent: &Agent, arguments: &str) -> Self {
        Self::run_with(agent, &[], arguments)
    }

    /// The same with variables of the environment.
    pub(crate) fn run_with(agent: &Agent, environment: &[(&str, &str)], arguments: &str) -> Self {
        let (program, socket) = agent.client();
        let (first, pipe) =
            arguments.split_once(" |").map_or((arguments, ""), |(first, _)| (first, &arguments[first.len()..]));
        let script = format!("set -o pipefail; {} {first} {socket}{pipe}", program.display());
        Self::spawn(agent, environment, &script)
    }

    /// Opens a bash to type into, in which `nixmoxctl` leads to the agent.
    pub(crate) fn shell(agent: &Agent) -> Self {
        let (program, _) = agent.client();
        let folder = program.parent().unwrap().display();
        let settings = agent.folder().join("inputrc");
        // Without what the screen of these tests does not know.
        std::fs::write(&settings, "set enable-bracketed-paste off\nset bell-style none\n").unwrap();
        let socket = agent.folder().join("socket").display().to_string();
        let environment = [
            ("PATH", &*format!("{folder}:/usr/bin:/bin")),
            ("NIXMOX_SOCKET", &socket),
            ("INPUTRC", settings.to_str().unwrap()),
            ("TERM", "dumb"),
        ];
        Self::spawn(agent, &environment, "PS1='> ' exec bash --noprofile --norc -i")
    }

    /// Runs a script of bash.
    fn spawn(agent: &Agent, environment: &[(&str, &str)], script: &str) -> Self {
        let size = Winsize {
            ws_row: HEIGHT.try_into().unwrap(),
            ws_col: WIDTH.try_into().unwrap(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).unwrap();
        let settings = tcgetattr(&pair.slave).unwrap();
        let end = || pair.slave.try_clone().unwrap();
        // A session whose terminal this is: the kernel turns a typed ^C into SIGINT for those in the foreground.
        let child = Command::new("setsid")
            .args(["--ctty", "bash", "-c", script])
            .current_dir(agent.folder())
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("TERM", "xterm"), ("TZ", "UTC"), ("LANG", "C.UTF-8")])
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            screen: Screen::default(),
            person: pair.master.into(),
            program: pair.slave,
            settings,
            child,
            written: Vec::new(),
            shown: 0,
        }
    }

    /// Types keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the terminal another size; the kernel tells who is in the foreground.
    pub(crate) fn resize(&mut self, width: u16, height: u16) {
        let mut stty = Command::new("stty");
        stty.args(["cols", &width.to_string(), "rows", &height.to_string()]);
        assert!(stty.stdin(self.program.try_clone().unwrap()).status().unwrap().success());
        self.screen.resize(width.into(), height.into());
    }

    /// Sends a signal to everything that runs on the terminal.
    pub(crate) fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Types Ctrl-C.
    pub(crate) fn press_ctrl_c(&mut self) {
        self.type_text("\x03");
    }

    /// Types a text.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the screen is so, at the end of a frame.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Screen) -> bool) {
        self.until_seen(what, |screen| !screen.is_half_drawn && holds(screen));
    }

    /// Waits until the screen is so, whoever draws it: only the client's own frames have an end.
    pub(crate) fn until_seen(&mut self, what: &str, holds: impl Fn(&Screen) -> bool) {
        let begun = Instant::now();
        while !holds(&self.screen) {
            let ended = self.child.try_wait().unwrap();
            let read = self.read(20);
            let text = self.screen.text();
            assert!(read || ended.is_none(), "the program ended before {what}: {ended:?}\n{text}");
            assert!(begun.elapsed() < LIMIT, "waited in vain until {what}:\n{text}");
        }
    }

    /// Waits for the program's end, takes what it wrote until then, and returns its exit status, as a shell tells it.
    pub(crate) fn end(&mut self) -> i32 {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LIMIT, "the program does not end:\n{}", self.screen.text());
            self.read(20);
        };
        while self.read(0) {}
        // A shell whose pipeline ended by Ctrl-C may pass it on to itself (bash(1), "SIGNALS").
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("it ended")
    }

    /// Returns everything that was written so far.
    pub(crate) fn written(&self) -> String {
        String::from_utf8(self.written.clone()).unwrap()
    }

    /// Fails unless the terminal is left as it was found, with the cursor at the beginning of a line.
    pub(crate) fn assert_as_found(&self) {
        assert!(tcgetattr(&self.program).unwrap() == self.settings, "the settings of the terminal");
        assert!(!self.screen.is_cursor_hidden, "the cursor");
        assert_eq!(self.screen.column(), 0, "where a prompt goes:\n{}", self.screen.text());
    }

    /// Takes what is written within so many milliseconds, and of several frames the first; returns whether that is
    /// anything.
    fn read(&mut self, milliseconds: u16) -> bool {
        if self.shown == self.written.len() {
            let mut ready = [PollFd::new(self.person.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(milliseconds)).unwrap() == 0 {
                return false;
            }
            let mut bytes = [0; 4096];
            let read = self.person.read(&mut bytes).unwrap();
            self.written.extend_from_slice(&bytes[..read]);
        }
        let new = &self.written[self.shown..];
        let frame = new.windows(3).position(|end| end == b"\x1b[J").map_or(new.len(), |at| at + 3);
        self.screen.write(&new[..frame]);
        self.shown += frame;
        frame > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Errors: it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
