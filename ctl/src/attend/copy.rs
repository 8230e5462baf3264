//! Bytes from one descriptor to another, on threads of their own: standard input may be a file, a pipe or a terminal, and
//! none of them can be waited for in one way without changing it for whoever shares it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::mpsc::UnboundedSender;

/// As much as a pipe holds (pipe(7)).
const CHUNK: usize = 64 * 1024;
/// What a terminal takes for the end of its input: `VEOF` of termios(3).
const END_OF_INPUT: &[u8] = &[4];

/// `^]`, the way out of a command that answers to nothing, as machinectl(1) has it.
const ESCAPE: u8 = 0x1d;
/// How often it is pressed.
const ESCAPES: u8 = 3;
/// And within which time.
const ESCAPES_WITHIN: Duration = Duration::from_secs(1);

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

/// Copies what a person types, and tells when they press the way out. That is heard also while the command takes no input:
/// who reads does not wait for who writes, and nobody types much.
pub(super) fn typed(mut from: File, mut to: File, left: UnboundedSender<()>) {
    let (read, written) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in written {
            // A terminal that hung up.
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ended = to.write_all(END_OF_INPUT);
    });
    thread::spawn(move || {
        let (mut buffer, mut escape) = (vec![0; CHUNK], Escape::default());
        loop {
            let bytes = match from.read(&mut buffer) {
                Ok(count @ 1..) => buffer.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return,
            };
            if escape.is_in(bytes, Instant::now()) {
                let _left_already = left.send(());
                return;
            }
            // Whoever no longer writes leaves the way out open.
            let _hung_up = read.send(bytes.to_vec());
        }
    });
}

/// The way out, as far as it was pressed.
#[derive(Debug, Default)]
struct Escape {
    pressed: u8,
    since: Option<Instant>,
}

impl Escape {
    /// Takes in what was typed; returns whether it was pressed to the end.
    fn is_in(&mut self, bytes: &[u8], now: Instant) -> bool {
        for byte in bytes {
            let recent = self.since.is_some_and(|since| now.duration_since(since) <= ESCAPES_WITHIN);
            self.pressed = match (*byte == ESCAPE, recent) {
                (false, _) => 0,
                (true, true) => self.pressed.saturating_add(1),
                (true, false) => 1,
            };
            if self.pressed == 1 {
                self.since = Some(now);
            }
            if self.pressed >= ESCAPES {
                return true;
            }
        }
        false
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_pressed_thrice_within_a_second_and_nothing_else() {
        let now = Instant::now();
        let at = |milliseconds| now + Duration::from_millis(milliseconds);
        assert!(Escape::default().is_in(b"ls\x1d\x1d\x1d", now));
        assert!(!Escape::default().is_in(b"\x1d\x1dx\x1d\x1d", now));
        let mut escape = Escape::default();
        assert!(!escape.is_in(b"\x1d", now));
        assert!(!escape.is_in(b"\x1d", at(500)));
        assert!(!escape.is_in(b"\x1d", at(1_500)), "too slow: that is a first one");
        assert!(!escape.is_in(b"\x1d", at(1_600)));
        assert!(escape.is_in(b"\x1d", at(2_400)));
    }
}
