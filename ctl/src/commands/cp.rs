//! `nixmoxctl cp`: files out of a container, or into it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use nixmox_api::{CopyReply, CopyRequest};
use nixmox_core::model::ContainerName;

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render::clean;
use crate::transfer::{Destination, Failed, Source};

/// Copy files between the host and a running container
#[derive(Debug, Args)]
#[command(after_help = "\
One side is NAME:PATH, the other a path here, or - for a tar on standard output
or input. Into a folder that is there, a copy goes under its own name; else it is
called DST. SRC/. means what is in a folder, without the folder.

Modes and times are kept, and as root here also owners, by number; links stay
links. Sockets, FIFOs, devices and bits such as setuid of files from a container
are left behind.

Examples:
  nixmoxctl cp nextcloud:/var/log/nextcloud.log .
  nixmoxctl cp ./site/. web:/srv/www
  nixmoxctl cp postgres:/etc - | tar -t")]
pub(crate) struct Cp {
    /// What to copy
    #[arg(value_name = "SRC", allow_hyphen_values = true)]
    source: OsString,
    /// Where to
    #[arg(value_name = "DST", allow_hyphen_values = true)]
    destination: OsString,
    /// Copy what a link SRC leads to, instead of the link
    #[arg(short = 'L', long)]
    follow_link: bool,
}

/// One side of a copy.
enum Side {
    Container { name: String, path: String },
    Here,
}

impl Cp {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let (source, destination) = (side(&self.source)?, side(&self.destination)?);
        let copied = match (source, destination) {
            (Side::Container { name, path }, Side::Here) => {
                // Before anything is asked for: a place that cannot be is no affair of the container.
                let destination = Destination::find(&context.folder, &self.destination)?.of(&path);
                let request = CopyRequest { name, path, into: false, follow: self.follow_link };
                block_on(async {
                    let mut client = Client::connect(&context.options.socket).await?;
                    let handed = client.copy(&request).await?;
                    let here = tokio::task::spawn_blocking(move || destination.take(handed));
                    finish(here, client.copy_ended()).await
                })?
            }
            (Side::Here, Side::Container { name, path }) => {
                let request = CopyRequest { name, path, into: true, follow: false };
                let source = Source::open(&context.folder, &self.source, self.follow_link)?;
                block_on(async {
                    let mut client = Client::connect(&context.options.socket).await?;
                    let handed = client.copy(&request).await?;
                    let here = tokio::task::spawn_blocking(move || source.give(handed));
                    finish(here, client.copy_ended()).await
                })?
            }
            (Side::Here, Side::Here) | (Side::Container { .. }, Side::Container { .. }) => {
                return Err(CtlError::Usage {
                    what: "one side of a copy is in a container, and the other one is not".to_owned(),
                    hint: "nixmoxctl cp NAME:PATH ., or nixmoxctl cp FILE NAME:PATH".to_owned(),
                });
            }
        };
        if context.options.json {
            context.output.json(&copied)?;
        }
        for skipped in &copied.skipped {
            context.output.note(&format!("skipped {}\n", clean(skipped)))?;
        }
        if copied.skipped_more > 0 {
            context.output.note(&format!("skipped {} more\n", copied.skipped_more))?;
        }
        let all = copied.skipped.is_empty();
        Ok(if all { Exit::Done } else { Exit::Failed })
    }
}

/// Waits for both sides, and puts what they say together.
async fn finish(
    here: tokio::task::JoinHandle<Result<CopyReply, Failed>>,
    there: impl Future<Output = Result<CopyReply, crate::client::ClientError>>,
) -> Result<CopyReply, CtlError> {
    // Fails when the thread panicked; what was copied is then not known.
    let here = here.await.unwrap_or_else(|error| Err(Failed::here("cannot copy", std::io::Error::other(error))));
    let there = there.await?;
    match (here, there.failure) {
        // Of two complaints, that of the side where it began: here the pipe broke, or there.
        (Err(Failed::Here { what, source }), _) => Err(CtlError::Copy { what, source }),
        (Ok(_) | Err(Failed::There), Some(failure)) => {
            Err(CtlError::CopyFailed { what: format!("the container's side: {}", clean(&failure)) })
        }
        (Err(Failed::There), None) => Err(CtlError::CopyFailed { what: "the copy broke off".to_owned() }),
        (Ok(here), None) => {
            let mut skipped = here.skipped;
            skipped.extend(there.skipped);
            Ok(CopyReply {
                // Both count the same; who unpacks knows what has arrived.
                objects: here.objects.min(there.objects),
                bytes: here.bytes.min(there.bytes),
                skipped,
                skipped_more: here.skipped_more.saturating_add(there.skipped_more),
                failure: None,
            })
        }
    }
}

/// Reads one side: `NAME:PATH`, or something here. A file here whose name looks like that is written `./NAME:PATH`.
fn side(text: &OsStr) -> Result<Side, CtlError> {
    let bytes = text.as_bytes();
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return Ok(Side::Here) };
    let name = String::from_utf8_lossy(bytes.get(..colon).unwrap_or_default()).into_owned();
    if name.parse::<ContainerName>().is_err() {
        return Ok(Side::Here);
    }
    match std::str::from_utf8(bytes.get(colon + 1..).unwrap_or_default()) {
        Ok(path) if path.starts_with('/') => Ok(Side::Container { name, path: path.to_owned() }),
        Ok(path) => Ok(Side::Container { name, path: format!("/{path}") }),
        Err(_) => Err(CtlError::Usage {
            what: format!("the path in `{name}` is not UTF-8"),
            hint: "copy the folder that it is in".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_with_a_name_and_a_colon_is_in_a_container() {
        let told = |text: &str| match side(OsStr::new(text)) {
            Ok(Side::Container { name, path }) => format!("{name} {path}"),
            Ok(Side::Here) => "here".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told("web:/etc/passwd"), "web /etc/passwd");
        assert_eq!(told("web:etc/."), "web /etc/.");
        assert_eq!(told("web:"), "web /");
        assert_eq!(told("web:/a:b"), "web /a:b");
        for here in ["-", "file", "./web:/etc", "/srv/web:x", "a b:/etc", ":/etc", ""] {
            assert_eq!(told(here), "here", "{here}");
        }
        assert!(side(OsStr::from_bytes(b"web:/\xff")).is_err());
    }
}
