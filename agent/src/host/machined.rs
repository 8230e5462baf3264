//! systemd-machined over D-Bus: which machines are registered, and by whom.
//!
//! Owns what is asked of `org.freedesktop.machine1`. machined is started by the bus when it is asked; a host
//! without it has no machines, and its containers cannot start anyway.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nixmox_core::model::ContainerName;
use zbus::{Connection, OwnedObjectPath};
use zbus_systemd::machine1::{MachineProxy, ManagerProxy};

use super::StepError;
use super::bus::{Bus, failed, is_error};

/// How long the registration of a killed nspawn may stay: machined notices the leader's end by itself.
const UNREGISTER_GRACE: Duration = Duration::from_millis(500);
/// How often the registration is looked at within that time.
const UNREGISTER_INTERVAL: Duration = Duration::from_millis(20);
/// SIGRTMIN+3, which asks the systemd of a guest to halt (systemd(1), "Signals"), and which the template has nspawn send. Two of the
/// real-time signals are the C library's.
const HALT_SIGNAL: i32 = 37;

/// machined, as far as containers need it.
#[derive(Debug)]
pub(super) struct Machined {
    bus: Bus,
}

/// A registered machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// The unit that its processes are in; may be empty.
    pub(super) unit: String,
    /// Its PID 1 as the host counts.
    pub(super) leader: u32,
}

impl Machined {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus }
    }

    /// Returns the registered machines that have a container's name. Virtual machines count.
    pub(super) async fn names(&self) -> Result<BTreeMap<ContainerName, OwnedObjectPath>, StepError> {
        let connection = self.bus.connection().await?;
        let machines = match manager(&connection).await?.list_machines().await {
            Ok(machines) => machines,
            Err(error) if is_absent(&error) => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed("ListMachines", "machined", error)),
        };
        Ok(machines
            .into_iter()
            .filter_map(|(name, _class, _service, path)| Some((name.parse().ok()?, path)))
            .collect())
    }

    /// Returns the machine of this name; `None` when there is none.
    pub(super) async fn machine(&self, name: &ContainerName) -> Result<Option<Machine>, StepError> {
        let connection = self.bus.connection().await?;
        let read = async {
            let path = manager(&connection).await?.get_machine(name.to_string()).await?;
            let machine = MachineProxy::builder(&connection)
                .path(path)
                .cache_properties(zbus::proxy::CacheProperties::No)
                .build()
                .await?;
            let (unit, leader) = futures_util::try_join!(machine.unit(), machine.leader())?;
            Ok::<_, Failure>(Machine { unit, leader })
        };
        match read.await {
            Ok(machine) => Ok(Some(machine)),
            Err(Failure::Bus(error)) if is_absent(&error) => Ok(None),
            Err(Failure::Bus(error)) => Err(failed("GetMachine", name.as_str(), error)),
            Err(Failure::Step(error)) => Err(error),
        }
    }

    /// Asks a guest to halt, as nspawn does when it is stopped itself; one that is gone has halted.
    ///
    /// # Errors
    /// `Bus`.
    pub(super) async fn ask_to_halt(&self, name: &ContainerName) -> Result<(), StepError> {
        let connection = self.bus.connection().await?;
        match manager(&connection).await?.kill_machine(name.to_string(), "leader".to_owned(), HALT_SIGNAL).await {
            Err(error) if !is_absent(&error) => Err(failed("KillMachine", name.as_str(), error)),
            _ => Ok(()),
        }
    }

    /// Binds a path of the host to the same path in a container that runs, on top of what is there.
    ///
    /// # Errors
    /// `Bus`: also where the container has users of its own.
    pub(super) async fn bind(&self, name: &ContainerName, path: &Path) -> Result<(), StepError> {
        let connection = self.bus.connection().await?;
        let text = path.to_string_lossy().into_owned();
        let manager = manager(&connection).await?;
        let bound = manager.bind_mount_machine(name.to_string(), text.clone(), text, false, true).await;
        bound.map_err(|e| failed("BindMountMachine", name.as_str(), e))
    }

    /// Waits until this name is free, and frees it when its machine is a leftover of a dead container.
    ///
    /// # Errors
    /// `ForeignMachine` when a machine of this name runs in another unit, or in none; `Bus`.
    pub(super) async fn clear(&self, name: &ContainerName) -> Result<(), StepError> {
        let deadline = tokio::time::Instant::now() + UNREGISTER_GRACE;
        loop {
            let Some(machine) = self.machine(name).await? else { return Ok(()) };
            if machine.unit != name.unit() {
                return Err(StepError::ForeignMachine { name: name.clone(), unit: machine.unit });
            }
            if tokio::time::Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(UNREGISTER_INTERVAL).await;
        }
        tracing::warn!(container = %name, "unregistering the machine that a killed container left behind");
        let connection = self.bus.connection().await?;
        match manager(&connection).await?.unregister_machine(name.to_string()).await {
            Err(error) if !is_absent(&error) => Err(failed("UnregisterMachine", name.as_str(), error)),
            _ => Ok(()),
        }
    }
}

/// A failed call, or no connection to make it on.
enum Failure {
    Bus(zbus::Error),
    Step(StepError),
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        Self::Bus(error)
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

fn is_absent(error: &zbus::Error) -> bool {
    // The object of a machine that ended in between is unknown; machined itself may not be installed.
    const ABSENT: [&str; 3] = [
        "org.freedesktop.machine1.NoSuchMachine",
        "org.freedesktop.DBus.Error.UnknownObject",
        "org.freedesktop.DBus.Error.ServiceUnknown",
    ];
    ABSENT.iter().any(|name| is_error(error, name))
}

async fn manager(connection: &Connection) -> Result<ManagerProxy<'_>, StepError> {
    ManagerProxy::builder(connection)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
        .map_err(|e| failed("connect", "machined", e))
}
