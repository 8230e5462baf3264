//! Another NixOS system in a running guest, switched to by the guest's own systemd as a transient unit.
//!
//! The unit outlives whoever asked for it: a later helper finds it, and waits for its end. It stays until somebody has read how
//! it ended.
//!
//! ```text
//! absent ── start ──▶ runs ──▶ active (exited) ── stop ───▶ absent: switched
//!    ▲                 ├─────▶ failed ────────── reset ───▶ absent: not switched
//!    └── stop, reset ──┴─ one of another system, once it has ended
//! ```
//!
//! On the way the guest's systemd and its bus may be replaced (switch-to-configuration(8)): each look has a connection of its own,
//! and one that fails is taken again.

use std::time::Duration;

use zbus::{Connection, Variant};
use zbus_systemd::systemd1::ManagerProxy;

use super::bus::{self, SOCKETS};
use super::enter::Guest;
use super::{Deadline, Found, Trouble};

const UNIT: &str = "nixmox-switch.service";
/// The time between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Time by which the guest's systemd ends the switch before the helper gives up on it.
const MARGIN: Duration = Duration::from_secs(2);

/// What is seen of the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Absent,
    Runs,
    Done,
    /// How it failed.
    Failed(String),
}

/// Switches the guest to a system, or waits for the end of a switch to it that is on its way.
pub(super) fn run(guest: &Guest, system: &str, deadline: Deadline) -> Result<Found, Trouble> {
    let title = format!("Switch to {system}");
    let mut begun = false;
    loop {
        match look(guest, deadline) {
            // Seen at once: nothing of the guest has changed since that could have cut us off.
            Err(error) if !begun => return Err(error),
            Err(Trouble::Bus(_) | Trouble::NoSystemd | Trouble::Io(_)) => {}
            Err(error) => return Err(error),
            Ok((Seen::Absent, _)) if begun => return Ok(failed("it was stopped by somebody")),
            Ok((Seen::Absent, _)) => {
                start(guest, system, &title, deadline)?;
                begun = true;
            }
            Ok((Seen::Runs, ours)) => begun |= ours == title,
            Ok((seen @ (Seen::Done | Seen::Failed(_)), ours)) => {
                clear(guest, &seen, deadline)?;
                if ours == title {
                    return Ok(match seen {
                        Seen::Failed(how) => failed(&how),
                        Seen::Absent | Seen::Runs | Seen::Done => {
                            Found { healthy: true, text: "switched".to_owned() }
                        }
                    });
                }
            }
        }
        std::thread::sleep(PAUSE.min(deadline.left()?));
    }
}

fn failed(how: &str) -> Found {
    Found { healthy: false, text: how.to_owned() }
}

/// Returns what is seen of the unit, and what it is for.
fn look(guest: &Guest, deadline: Deadline) -> Result<(Seen, String), Trouble> {
    talk(guest, deadline, async |connection, manager| {
        let path = match manager.get_unit(UNIT.to_owned()).await {
            Ok(path) => path,
            Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".NoSuchUnit") => {
                return Ok((Seen::Absent, String::new()));
            }
            Err(error) => return Err(error),
        };
        let unit = bus::unit_at(connection, path.clone()).await?;
        let (active, title, job) = futures_util::try_join!(unit.active_state(), unit.description(), unit.job())?;
        let seen = match active.as_str() {
            // It waits for its turn.
            _ if job.0 != 0 => Seen::Runs,
            "active" => Seen::Done,
            "failed" => {
                let (result, status) = bus::end_at(connection, path).await?;
                Seen::Failed(status.map_or(result, |status| format!("exit {status}")))
            }
            "inactive" => Seen::Absent,
            _ => Seen::Runs,
        };
        Ok((seen, title))
    })
}

fn start(guest: &Guest, system: &str, title: &str, deadline: Deadline) -> Result<(), Trouble> {
    let program = format!("{system}/bin/switch-to-configuration");
    let limit = deadline.left()?.saturating_sub(MARGIN).max(MARGIN);
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    talk(guest, deadline, async |_, manager| {
        let properties = vec![
            ("Description", Variant::from(title)),
            ("Type", Variant::from("oneshot")),
            ("RemainAfterExit", Variant::from(true)),
            ("ExecStart", Variant::from(vec![(program.as_str(), vec![program.as_str(), "test"], false)])),
            // Nobody may be there to end it.
            ("TimeoutStartUSec", Variant::from(limit)),
            ("StartLimitIntervalUSec", Variant::from(0_u64)),
        ];
        let aux: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let body = (UNIT, "fail", properties, aux);
        manager.inner().call_method("StartTransientUnit", &body).await.map(drop)
    })
}

/// Takes away a unit that has ended.
fn clear(guest: &Guest, seen: &Seen, deadline: Deadline) -> Result<(), Trouble> {
    talk(guest, deadline, async |_, manager| match seen {
        Seen::Failed(_) => manager.reset_failed_unit(UNIT.to_owned()).await,
        Seen::Done | Seen::Absent | Seen::Runs => {
            manager.stop_unit(UNIT.to_owned(), "replace".to_owned()).await.map(drop)
        }
    })
}

/// Talks to the guest's systemd, on a connection for this alone.
fn talk<T>(
    guest: &Guest,
    deadline: Deadline,
    work: impl AsyncFnOnce(&Connection, &ManagerProxy<'_>) -> zbus::Result<T>,
) -> Result<T, Trouble> {
    let stream = guest.connect(&SOCKETS)?.ok_or(Trouble::NoSystemd)?;
    bus::blocking(deadline, async {
        let connection = bus::open(stream).await?;
        let manager = bus::manager(&connection).await?;
        work(&connection, &manager).await
    })
}
