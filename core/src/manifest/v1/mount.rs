//! Host paths and memory file systems in a container: short forms and tables.

use std::ops::Range;

use schemars::{Schema, json_schema};

use crate::manifest::form::{Entry, Located, Misfit, Reader, Value, read_text, table, table_form};
use crate::model::Bytes;

table! {
    /// A host path bound into the container. The short form is `"SOURCE:TARGET"` or `"SOURCE:TARGET:ro"`; a path
    /// with a `:` needs the table. Blanks, quotes, backslashes and `*?[]` cannot occur in either path.
    #[foreign(
        "src" => "write `source`",
        "dst" => "write `target`",
        "destination" => "write `target`",
        "type" => "host paths are mounted with `mounts`, memory file systems with `tmpfs`",
        "readonly" => "write `read_only`",
    )]
    #[short(mount_schema())]
    pub struct Mount {
        /// The path on the host, relative to this file or absolute. It must be there at the start, unless `create`
        /// says otherwise; the container waits for the mount points it lies on.
        #[key(Refused, Restart, "source = \"/srv/nextcloud\"")]
        pub source: String,

        /// The absolute path in the container; made if it is missing. `/nix`, `/proc`, `/sys`, `/dev`, `/run/host`
        /// and what is below them belong to systemd-nspawn and to the template.
        #[key(Refused, Restart, "target = \"/var/lib/nextcloud/data\"")]
        pub target: String,

        /// Whether the container may only read it.
        #[key(Default("false"), Restart, "read_only = true")]
        pub read_only: bool,

        /// Whether a missing source is made, as an empty directory owned by root. The agent may do so below `/srv`, `/mnt`
        /// and `/media`; elsewhere its unit has to allow it (`ReadWritePaths=`).
        #[key(Default("false"), Restart, "create = true")]
        pub create: bool,

        /// Whether the start is refused when nothing is mounted at the source: a disk that is missing must not look
        /// like an empty one.
        #[key(Default("false"), Restart, "must_be_mountpoint = true")]
        pub must_be_mountpoint: bool,
    }
}

table_form!(
    Mount,
    "a mount such as `\"/srv/data:/var/lib/data:ro\"` or `{ source = \"…\", target = \"…\" }`",
    read_mount
);

table! {
    /// A memory file system in the container. The short form is `"TARGET"` or `"TARGET:SIZE"`.
    #[short(json_schema!({ "type": "string", "pattern": "^/", "examples": ["/var/cache", "/var/cache:512M"] }))]
    pub struct Tmpfs {
        /// The absolute path in the container; the same paths are refused as for mounts.
        #[key(Refused, Restart, "target = \"/var/cache\"")]
        pub target: String,

        /// How much it may hold.
        #[key(Means("half of the host's memory"), Restart, "size = \"512M\"")]
        pub size: Bytes,
    }
}

table_form!(Tmpfs, "a path such as `\"/var/cache\"` or `\"/var/cache:512M\"`, or `{ target = \"…\" }`", read_tmpfs);

fn mount_schema() -> Schema {
    json_schema!({
        "type": "string",
        "pattern": "^[^:]+:/[^:]*(:(ro|rw))?$",
        "examples": ["/srv/data:/var/lib/data", "./config:/etc/app:ro"]
    })
}

/// The parts of a text between colons, each with its place.
fn parts(text: &str) -> Vec<(&str, Range<usize>)> {
    let mut start = 0;
    text.split(':')
        .map(|part| {
            let range = start..start + part.len();
            start = range.end + 1;
            (part, range)
        })
        .collect()
}

fn entry<T>(value: T, text: &str, part: Range<usize>, whole: &Value<'_>, reader: &Reader<'_>) -> Entry<T> {
    Entry::Read(Located { value, span: reader.source().inside(&whole.span(), text, part) })
}

fn read_mount(text: &str, value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Mount> {
    let parts = parts(text);
    let read_only = read_text(text, value, reader, |text| match parts.as_slice() {
        [(source, _), (target, _)] if !source.is_empty() && !target.is_empty() => Ok(false),
        [(source, _), (target, _), (mode, part)] if !source.is_empty() && !target.is_empty() => match *mode {
            "ro" => Ok(true),
            "rw" => Ok(false),
            mode => {
                let misfit = Misfit::new(format!("unknown mode `{mode}`")).at(part.clone());
                Err(misfit.help("write `ro`, or nothing; a path with a `:` needs the table form"))
            }
        },
        [_] => {
            let misfit = Misfit::new(format!("`{text}` has no target"));
            Err(misfit.help(format!("write \"{text}:TARGET\", with the absolute path in the container")))
        }
        [..] => Err(Misfit::new(format!("`{text}` is not SOURCE:TARGET or SOURCE:TARGET:ro"))
            .help("a path with a `:` needs the table form: { source = \"…\", target = \"…\" }")),
    })?;
    let mut parts = parts.into_iter();
    let ((source, source_part), (target, target_part)) = (parts.next()?, parts.next()?);
    Some(Mount {
        source: entry(source.to_owned(), text, source_part, value, reader),
        target: entry(target.to_owned(), text, target_part, value, reader),
        read_only: if read_only { Entry::Read(Located { value: true, span: value.span() }) } else { Entry::Absent },
        ..Mount::default()
    })
}

fn read_tmpfs(text: &str, value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Tmpfs> {
    let (target, size) = text.split_once(':').map_or((text, None), |(target, size)| (target, Some(size)));
    if target.is_empty() {
        return read_text(text, value, reader, |_| {
            Err(Misfit::new("the target is missing").help("for example \"/var/cache:512M\""))
        });
    }
    let target = entry(target.to_owned(), text, 0..target.len(), value, reader);
    let Some(size) = size else { return Some(Tmpfs { target, ..Tmpfs::default() }) };
    let part = text.len() - size.len()..text.len();
    let size = read_text(text, value, reader, |_| {
        <Bytes as crate::manifest::form::Text>::from_text(size).map_err(|misfit| misfit.at(part.clone()))
    });
    let size = size.map_or(Entry::Unreadable, |size| entry(size, text, part, value, reader));
    Some(Tmpfs { target, size, ..Tmpfs::default() })
}
