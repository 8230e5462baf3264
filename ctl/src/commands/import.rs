//! `nixmoxctl import`: makes a stack of what another program has. Asks neither the agent nor nix.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::{CtlError, Exit};
use crate::import::{self, Import, Source, Surroundings};
use crate::render;

/// Make a stack of another program's file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixmoxctl import compose                 # compose.yaml or its like, here
  nixmoxctl import compose cloud/compose.yml -o /etc/nixmox/cloud

`nixmoxctl import compose --help` says what is read and where it is written.")]
pub(crate) struct ImportOf {
    #[command(subcommand)]
    from: From,
}

/// What can be imported.
#[derive(Debug, Subcommand)]
enum From {
    Compose(Compose),
}

/// Make a stack of a Docker Compose file
#[derive(Debug, Args)]
#[command(after_help = "\
Writes nixmox.toml, a flake, and for each service with a well-known image a folder with service.toml and \
service.nix, which uses NixOS's own module. All else is listed, with the line, the reason and the way out. Variables \
come from the environment and from .env beside FILE. No secret is written: service.toml names files for them, and \
the list says what belongs into each.

Examples:
  nixmoxctl import compose                      # compose.yaml or its like, here
  nixmoxctl import compose cloud/compose.yml -o /etc/nixmox/cloud
  docker compose config | nixmoxctl import compose -
  nixmoxctl import compose --json compose.yml | jq -r '.findings[].reason'")]
struct Compose {
    /// The Compose file, or - for standard input [default: compose.yaml, compose.yml or docker-compose.yml here]
    // `file` is the id of an option that every command has.
    #[arg(value_name = "FILE", id = "compose_file")]
    file: Option<PathBuf>,
    /// Where to write [default: a new folder here, named after the stack]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// The names that Compose looks for, in its order.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The longest file, in bytes: far more than a person writes.
const LENGTH_MAX: u64 = 1 << 20;

impl ImportOf {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        match &self.from {
            From::Compose(compose) => compose.run(context),
        }
    }
}

impl Compose {
    fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let source = self.source(&context.folder)?;
        let variable = |name: &str| std::env::var(name).ok();
        let surroundings = Surroundings { variable: &variable, read: &read };
        let import = import::compose(&source, &surroundings)?;
        let output = self.output.clone().unwrap_or_else(|| PathBuf::from(&import.stack));
        import::write(&context.folder.join(&output), &import.files, self.force)?;
        tell(&import, &source, &output, context)?;
        Ok(if import.services.is_empty() { Exit::Failed } else { Exit::Done })
    }

    fn source(&self, folder: &Path) -> Result<Source, CtlError> {
        let named = self.file.clone().or_else(|| {
            let found = NAMES.into_iter().find(|name| folder.join(name).is_file());
            found.map(PathBuf::from)
        });
        let Some(named) = named else {
            return Err(CtlError::Usage {
                what: format!("there is no {} or {} here", NAMES[0], NAMES[3]),
                hint: "name the file: nixmoxctl import compose FILE".to_owned(),
            });
        };
        if named.as_os_str() == "-" {
            let text = text_of(io::stdin().lock()).map_err(|source| unreadable(&named, source))?;
            return Ok(Source { name: "standard input".to_owned(), folder: folder.to_owned(), text });
        }
        let path = folder.join(&named);
        let text = read(&path).map_err(|source| unreadable(&named, source))?;
        let folder = path.parent().unwrap_or(folder);
        let folder = folder.canonicalize().map_err(|source| unreadable(folder, source))?;
        Ok(Source { name: named.display().to_string(), folder, text })
    }
}

fn unreadable(path: &Path, source: io::Error) -> CtlError {
    CtlError::File { action: "read", path: path.to_owned(), source }
}

/// Returns the text of a file of a sane size.
fn read(path: &Path) -> io::Result<String> {
    // Opening a FIFO waits for somebody to write into it.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    text_of(File::open(path)?)
}

fn text_of(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LENGTH_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LENGTH_MAX) {
        return Err(io::Error::other(format!("it is longer than {} MiB", LENGTH_MAX >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let right = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = right.split(|byte| *byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8; save the file as UTF-8"))
    })
}

fn tell(import: &Import, source: &Source, output: &Path, context: &mut Context) -> io::Result<()> {
    if context.options.json {
        return context.output.json(&render::import_json(import, &source.name, output));
    }
    let screen = context.output.screen();
    context.output.print(&render::import(import, &source.name, output, screen.width(), screen.style))
}
