//! Power of a testbed: reboot, power off, power cut.
//!
//! What lies on the host's file system survives all of them; `/run` survives a soft reboot alone.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::{sys::signal, unistd::Pid};

use crate::bed::Testbed;

const SOFT_REBOOT_LIMIT: Duration = Duration::from_mins(3);

impl Testbed {
    /// Reboots as `systemctl reboot` does, and waits until the host is up again.
    pub fn reboot(&self) -> Result<()> {
        let before = self.leader();
        ensure!(before != 0, "the host is off");
        self.exec(&["systemctl", "--no-block", "reboot"])?;
        self.wait_for_boot(before).context("the host did not come back from its reboot")
    }

    /// Reboots all but the kernel, as `systemctl soft-reboot` does, and waits until the host is up again. `/run` survives.
    pub fn soft_reboot(&self) -> Result<()> {
        const COUNT: &[&str] = &["systemctl", "show", "-P", "SoftRebootsCount"];
        let before = self.exec(COUNT)?.stdout;
        self.exec(&["systemctl", "--no-block", "soft-reboot"])?;
        let end = Instant::now() + SOFT_REBOOT_LIMIT;
        loop {
            // Not answered while PID 1 executes itself anew.
            let count = self.exec(COUNT)?;
            if count.success() && count.stdout != before {
                // PID 1 is the same process.
                return self.wait_for_boot(0);
            }
            ensure!(Instant::now() < end, "no soft reboot; the console:\n{}", self.console_tail());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shuts down as `systemctl poweroff` does, and waits until the host is off. [`Testbed::start`] boots it again.
    pub fn poweroff(&self) -> Result<()> {
        ensure!(self.leader() != 0, "the host is off");
        self.exec(&["systemctl", "--no-block", "poweroff"])?;
        self.wait_for_off().map(|_| ())
    }

    /// Kills the whole host at once. [`Testbed::start`] boots it again.
    ///
    /// Files keep what was written: this cuts off programs, not the disk's cache.
    pub fn power_cut(&self) -> Result<()> {
        let leader = self.leader();
        ensure!(leader != 0, "the host is off");
        signal::kill(Pid::from_raw(leader), signal::Signal::SIGKILL).context("cannot kill the host's PID 1")?;
        self.wait_for_off().map(|_| ())
    }
}
