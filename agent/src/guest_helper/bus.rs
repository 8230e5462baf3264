//! The guest's systemd, over the guest's bus.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use zbus::{Connection, OwnedObjectPath};
use zbus_systemd::systemd1::{ManagerProxy, ServiceProxy, UnitProxy};

use super::enter::Guest;
use super::{Deadline, Found, Trouble};

/// The guest's bus, or where it has none, its systemd directly.
pub(super) const SOCKETS: [&str; 2] = ["run/dbus/system_bus_socket", "run/systemd/private"];
/// The index of the socket behind which there is no bus.
const PRIVATE: usize = 1;
/// Failed units that are named.
const FAILED_NAMED_MAX: usize = 3;

/// Asks whether the guest is up: its systemd says `running`, or it has none.
pub(super) fn ready(guest: &Guest, deadline: Deadline) -> Result<Found, Trouble> {
    let Some(stream) = guest.connect(&SOCKETS)? else {
        return Ok(Found { healthy: true, text: "the guest has no systemd; its unit is active".to_owned() });
    };
    blocking(deadline, async {
        let connection = open(stream).await?;
        let manager = manager(&connection).await?;
        let state = manager.system_state().await?;
        if state != "degraded" {
            return Ok(Found { healthy: state == "running", text: state });
        }
        let failed = manager.list_units_filtered(vec!["failed".to_owned()]).await?;
        let mut names: Vec<String> = failed.into_iter().map(|unit| unit.0).collect();
        let more = names.len().saturating_sub(FAILED_NAMED_MAX);
        names.truncate(FAILED_NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Ok(Found { healthy: false, text: format!("degraded: {} failed{more}", names.join(", ")) })
    })
}

/// Asks whether a unit of the guest is active.
pub(super) fn unit(guest: &Guest, unit: &str, deadline: Deadline) -> Result<Found, Trouble> {
    let stream = guest.connect(&SOCKETS)?.ok_or(Trouble::NoSystemd)?;
    blocking(deadline, async {
        let connection = open(stream).await?;
        // Loads it, so that a unit that never ran is `inactive` and one that is not there `not-found`.
        let path = manager(&connection).await?.load_unit(unit.to_owned()).await?;
        let unit = unit_at(&connection, path).await?;
        let (active, sub, load) =
            futures_util::try_join!(unit.active_state(), unit.sub_state(), unit.load_state())?;
        let text = if load == "loaded" { format!("{active} ({sub})") } else { load };
        Ok(Found { healthy: active == "active", text })
    })
}

/// Connects to the guest's systemd.
pub(super) async fn open((socket, stream): (usize, UnixStream)) -> zbus::Result<Connection> {
    let builder = zbus::connection::Builder::unix_stream(stream);
    // systemd's own socket speaks D-Bus without a bus: nobody to say Hello to.
    if socket == PRIVATE { builder.p2p().build().await } else { builder.build().await }
}

/// Returns the guest's manager object.
pub(super) async fn manager(connection: &Connection) -> zbus::Result<ManagerProxy<'_>> {
    ManagerProxy::builder(connection).cache_properties(zbus::proxy::CacheProperties::No).build().await
}

/// Returns a unit of the guest's manager.
pub(super) async fn unit_at(connection: &Connection, path: OwnedObjectPath) -> zbus::Result<UnitProxy<'_>> {
    UnitProxy::builder(connection).path(path).cache_properties(zbus::proxy::CacheProperties::No).build().await
}

/// Asks how a service ended: its `Result`, and its exit status where that is what it ended with.
pub(super) async fn end_at(connection: &Connection, path: OwnedObjectPath) -> zbus::Result<(String, Option<i32>)> {
    // CLD_EXITED of waitid(2): `ExecMainStatus` is an exit status, not a signal.
    const CLD_EXITED: i32 = 1;
    let service = ServiceProxy::builder(connection)
        .path(path)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?;
    let asked = futures_util::try_join!(service.result(), service.exec_main_code(), service.exec_main_status());
    let (result, code, status) = asked?;
    let status = (result == "exit-code" && code == CLD_EXITED).then_some(status);
    Ok((result, status))
}

/// Runs a conversation to its end or to the end of its time.
pub(super) fn blocking<T>(deadline: Deadline, talk: impl Future<Output = zbus::Result<T>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Trouble::Io)?;
    let left = deadline.left()?;
    let result = runtime.block_on(async { tokio::time::timeout(left, talk).await });
    // What the conversation left behind must not be waited for.
    runtime.shutdown_timeout(Duration::ZERO);
    result.map_err(|_elapsed| Trouble::TimedOut)?.map_err(Trouble::Bus)
}
