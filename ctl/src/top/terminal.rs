//! The terminal while it is a screen: keys come one by one, and what was there before comes back at the end.
//!
//! However the program ends: by a key, by an error, by a signal that is waited for, and by a panic, whose message is
//! then seen.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::sys::termios::{InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use super::keys::{Key, parse};

/// Reads of keys that may wait until the view has time for them.
const TYPED_AHEAD: usize = 16;

/// What enters the other screen and hides the cursor (xterm, DEC private modes 1049 and 25), and what undoes it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The settings to go back to; `None`: there is no screen. For the hook of a panic, which belongs to nobody.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal as a screen, until it is dropped.
#[derive(Debug)]
pub(super) struct Terminal {
    keys: mpsc::Receiver<Vec<Key>>,
}

impl Terminal {
    /// Makes the terminal a screen.
    pub(super) fn enter() -> io::Result<Self> {
        let (typed, keys) = mpsc::channel(TYPED_AHEAD);
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let before = tcgetattr(&stdin)?;
            let mut unedited = before.clone();
            // No line editing, no echo, and Ctrl-C, Ctrl-Z and Ctrl-S are keys (termios(3)).
            let edits = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN;
            unedited.local_flags.remove(edits);
            unedited.input_flags.remove(InputFlags::IXON);
            for (index, value) in [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)] {
                if let Some(place) = unedited.control_chars.get_mut(index as usize) {
                    *place = value;
                }
            }
            leave_on_panic();
            *before_lock() = Some(before);
            tcsetattr(&stdin, SetArg::TCSADRAIN, &unedited)?;
            // A terminal cannot be waited for beside other things without making it non-blocking for everybody who has
            // it; the thread ends with the program.
            thread::spawn(move || read(&typed));
        }
        let entered = Self { keys };
        write(ENTER)?;
        Ok(entered)
    }

    /// Waits for keys; for ever where none can come. Cancel-safe.
    pub(super) async fn keys(&mut self) -> Vec<Key> {
        match self.keys.recv().await {
            Some(keys) => keys,
            None => std::future::pending().await,
        }
    }
}

/// Reads keys until the terminal is gone, which is told as Ctrl-C.
fn read(typed: &mpsc::Sender<Vec<Key>>) {
    let mut bytes = [0; 256];
    loop {
        // Without the lock of stdin, which is held for the answers to questions.
        let keys = match nix::unistd::read(io::stdin(), &mut bytes) {
            Ok(0) => vec![Key::Interrupt],
            Ok(read) => parse(bytes.get(..read).unwrap_or_default()),
            Err(nix::Error::EINTR) => continue,
            Err(_gone) => vec![Key::Interrupt],
        };
        let is_over = keys == [Key::Interrupt];
        if typed.blocking_send(keys).is_err() || is_over {
            break;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        leave();
    }
}

/// Brings back what was there before. What fails then cannot be told any more.
fn leave() {
    let _ = write(LEAVE);
    if let Some(before) = before_lock().take() {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &before);
    }
}

fn leave_on_panic() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if before_lock().is_some() {
            leave();
        }
        next(panic);
    }));
}

fn before_lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Output, Stdio};

    use nix::pty::openpty;

    use super::*;

    /// How a screen ends in the child: by a panic, by an error, or as it should.
    const END: &str = "NIXMOXCTL_TEST_SCREEN_ENDS_BY";

    /// Runs the test below in a process of its own, on a terminal of its own; returns what it wrote there, what it
    /// complained about, and whether the settings are as before.
    fn on_a_terminal(end: &str) -> (String, Output, bool) {
        let pair = openpty(None, None).unwrap();
        let before = tcgetattr(&pair.slave).unwrap();
        let side = || Stdio::from(pair.slave.try_clone().unwrap());
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1", "top::terminal::tests::in_a_process_of_its_own"])
            .env(END, end)
            .stdin(side())
            .stdout(side())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let is_as_before = tcgetattr(&pair.slave).unwrap() == before;
        (written(pair.slave, pair.master.into()), output, is_as_before)
    }

    /// Returns what was written to a terminal that nobody writes to any more.
    fn written(program: OwnedFd, mut person: File) -> String {
        drop(program);
        let mut bytes = Vec::new();
        // Ends with an error once the other side is closed (pty(7)).
        let _ = person.read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn in_a_process_of_its_own() {
        let Ok(end) = std::env::var(END) else { return };
        // As in the program that is shipped: nothing is unwound, so no drop helps.
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            std::process::abort();
        }));
        let on_screen = || -> io::Result<()> {
            let _terminal = Terminal::enter()?;
            let flags = tcgetattr(io::stdin())?.local_flags;
            assert!(!flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG), "{flags:?}");
            match end.as_str() {
                "panic" => panic!("on purpose"),
                "error" => Err(io::ErrorKind::Other.into()),
                _ => Ok(()),
            }
        };
        assert_eq!(on_screen().is_ok(), end == "return");
    }

    #[test]
    fn whatever_ends_it_the_terminal_is_as_it_was() {
        for end in ["return", "error", "panic"] {
            let (written, output, is_as_before) = on_a_terminal(end);
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), end != "panic", "{end}: {complaint}");
            assert!(is_as_before, "{end}: the settings");
            let (entered, left) = (written.find(ENTER), written.rfind(LEAVE));
            assert!(entered.is_some() && entered < left, "{end}: {written:?}");
            // Told once the screen is left, where it can be read.
            assert_eq!(complaint.contains("on purpose"), end == "panic", "{complaint}");
        }
    }
}
