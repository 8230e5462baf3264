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
