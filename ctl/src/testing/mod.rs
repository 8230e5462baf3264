//! What tests of whole commands need: a simulated agent, a stack on disk, fixed surroundings.

mod agent;
pub(crate) mod gpus;
pub(crate) mod manual;
pub(crate) mod models;
pub(crate) mod sample;

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use jiff::tz::TimeZone;

use crate::cli;
use crate::context::{Clock, Context};
use crate::machine::Machine;
use crate::output::{Output, Screen, Size};
use crate::render::Style;

pub(crate) use agent::{Agent, Script};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Where a command runs.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) socket: PathBuf,
    /// The terminal; `None`: a pipe.
    pub(crate) size: Option<Size>,
    /// What the person at the terminal types; `None`: nobody is there.
    pub(crate) answer: Option<&'static str>,
    /// What `NIXMOX_FILE` says.
    pub(crate) file: Option<PathBuf>,
    /// Whether nothing but ASCII can be shown.
    pub(crate) is_ascii: bool,
    /// The machine; one on which nothing is installed.
    pub(crate) machine: Machine,
}

impl Place {
    /// A folder without a stack, a pipe, and no agent.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let machine = Machine::below(&folder.join("machine"), "/nonexistent".into());
        let socket = folder.join("agent.sock");
        Self { folder: folder.to_owned(), socket, size: None, answer: None, file: None, is_ascii: false, machine }
    }

    /// Runs a command with this agent.
    pub(crate) fn with(agent: &Agent) -> Self {
        Self::in_folder(agent.folder())
    }

    /// Runs it on a terminal.
    pub(crate) fn on_terminal(self, width: usize) -> Self {
        Self { size: Some(Size { width, height: 24 }), ..self }
    }

    /// Runs a command, its arguments parted by blanks, and returns how it ended.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        let socket = self.socket.display().to_string();
        let is_file_given = arguments.split_whitespace().any(|argument| argument == "-f");
        let arguments = ["nixmoxctl"].into_iter().chain(arguments.split_whitespace());
        let arguments = arguments.chain(["--socket", &socket]).map(Into::into);
        let cli = match cli::parse(arguments) {
            Ok(cli) => cli,
            Err(error) => {
                return Ran { code: 2, out: String::new(), err: error.to_string() };
            }
        };
        let (out, err) = (Written::default(), Written::default());
        let screen = Screen {
            size: self.size,
            error_size: self.size,
            error_width: self.size.map(|size| size.width),
            style: Style::default().in_ascii(self.is_ascii),
            error_style: Style::default(),
        };
        // The environment of whoever runs the tests must not be seen.
        let file = if is_file_given { cli.options.file } else { self.file.clone() };
        let options = cli::Options { file, ..cli.options };
        let mut context = Context {
            output: Output::new(Box::new(out.clone()), Box::new(err.clone()), screen),
            options,
            folder: self.folder.clone(),
            machine: self.machine.clone(),
            clock: Clock::Fixed(sample::NOW * 1_000_000),
            zone: TimeZone::UTC,
            answers: self.answer.map(|text| Box::new(text.as_bytes()) as Box<dyn io::BufRead>),
        };
        let code = cli::run(&cli.command, &mut context).code();
        Ran { code, out: out.text(), err: err.text() }
    }
}

impl Ran {
    /// Returns everything as one text to compare; the test's own folder is called `/stack`.
    pub(crate) fn told(&self, folder: &Path) -> String {
        let text = format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err);
        let canonical = folder.canonicalize().unwrap();
        text.replace(&canonical.display().to_string(), "/stack").replace(&folder.display().to_string(), "/stack")
    }
}

#[derive(Clone, Default)]
struct Written(Rc<RefCell<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
