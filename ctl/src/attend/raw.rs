//! The terminal of this process, handed through to a command: it neither echoes nor edits lines nor makes signals.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// A terminal in raw mode; dropping it gives it back as it was found.
pub(super) struct Raw {
    found: Termios,
}

impl Raw {
    /// Puts the terminal on standard input into raw mode; `None`: there is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let raw = Self { found: tcgetattr(stdin.as_fd())? };
        let found = raw.found.clone();
        let say = std::panic::take_hook();
        // A panic ends the process without dropping anything (`panic = "abort"`).
        std::panic::set_hook(Box::new(move |panic| {
            restore(&found);
            say(panic);
        }));
        raw.enter_again()?;
        Ok(Some(raw))
    }

    /// Does so again, after somebody else had the terminal.
    pub(super) fn enter_again(&self) -> io::Result<()> {
        let mut settings = self.found.clone();
        settings.make_raw();
        Ok(tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &settings)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.found);
    }
}

fn restore(found: &Termios) {
    // What was written before is shown as it was meant; with the terminal gone there is nothing to give back.
    let _gone = tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, found);
}
