//! Bytes from one descriptor to another, on threads of their own: standard input may be a file, a pipe or a terminal, and
//! none of them can be waited for in one way without changing it for whoever shares it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::thread;

use rustix::io::Errno;
use tokio::sync::mpsc::UnboundedSender;

/// As much as a pipe holds (pipe(7)).
const CHUNK: usize = 64 * 1024;
/// What a terminal takes for the end of its input: `VEOF` of termios(3).
const END_OF_INPUT: &[u8] = &[4];

/// How the copying of an output ended.
#[derive(Debug)]
pub(super) enum Copied {
    /// Nothing more comes.
    ToTheEnd,
    /// Nobody reads this process's output any more.
    ReaderLeft(io::Error),
}

/// Where the input goes.
pub(super) enum Input {
    Pipe(File),
    Terminal(File),
}

/// Copies an input. The thread ends with the input, with its reader, or with the process.
pub(super) fn input(mut from: File, to: Input) {
    let (mut to, last) = match to {
        Input::Pipe(pipe) => (pipe, &[] as &[u8]),
        Input::Terminal(terminal) => (terminal, END_OF_INPUT),
    };
    thread::spawn(move || {
        // A command that reads no more, or a terminal that hung up, ends it too.
        if copy(&mut from, &mut to).is_ok() {
            let _ended = to.write_all(last);
        }
    });
}

/// Copies an output of the command, and tells the end.
pub(super) fn output(mut from: File, mut to: File, told: UnboundedSender<Copied>) {
    thread::spawn(move || {
        let copied = match copy(&mut from, &mut to) {
            Ok(()) => Copied::ToTheEnd,
            Err(error) => Copied::ReaderLeft(error),
        };
        // Whoever left does not want to know.
        let _gone = told.send(copied);
    });
}

/// Copies until the end of what is read; fails when it cannot be written.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(buffer.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A terminal whose other side is closed says so (pty(7)); whatever else: nothing more can be read.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
            Err(_unreadable) => return Ok(()),
        }
    }
}
