//! The one connection to the system bus, kept alive.
//!
//! Owns connecting, the time limit of calls, and connecting again with back-off when the bus goes away. Which
//! signals are wanted and what they mean is the business of `systemd`, `machined` and `changes`.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::sync::watch;
use zbus::{Connection, MatchRule, MessageStream};

use super::StepError;

/// How long one method call may take. systemd answers nothing while it reloads: 0.3 s with 100 units.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long a call waits for a connection that is being made anew.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);
/// Signals kept per match rule before the reader of the socket waits.
const SIGNALS_QUEUED_MAX: Option<NonZeroUsize> = NonZeroUsize::new(256);

/// A handle on the system bus; `None` while there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Bus(watch::Receiver<Option<Connection>>);

impl Bus {
    /// Returns a handle, and where its connections are published.
    pub(super) fn new() -> (watch::Sender<Option<Connection>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Returns the connection, waiting a little for one that is being made.
    ///
    /// # Errors
    /// `StepError::Bus` when there is none in time.
    pub(super) async fn connection(&self) -> Result<Connection, StepError> {
        let mut current = self.0.clone();
        let wait = tokio::time::timeout(CONNECTION_LIMIT, current.wait_for(Option::is_some)).await;
        match wait {
            Ok(Ok(connection)) => {
                connection.clone().ok_or_else(|| failed("connect", "the system bus", zbus::Error::InvalidReply))
            }
            Ok(Err(closed)) => Err(failed("connect", "the system bus", closed)),
            Err(elapsed) => Err(failed("connect", "the system bus", elapsed)),
        }
    }
}

/// Connects to the system bus.
///
/// # Errors
/// What the bus or its socket answered.
pub(super) async fn connect() -> zbus::Result<Connection> {
    zbus::connection::Builder::system().method_timeout(CALL_LIMIT).build().await
}

/// Subscribes to the signals of one match rule.
///
/// # Errors
/// What the bus answered.
pub(super) async fn subscribe(connection: &Connection, rule: MatchRule<'_>) -> zbus::Result<MessageStream> {
    MessageStream::for_match_rule(rule.into_owned(), connection, SIGNALS_QUEUED_MAX).await
}

/// Returns the error of a failed call.
pub(super) fn failed(
    call: &'static str,
    subject: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StepError {
    StepError::Bus { call, subject: subject.into(), source: source.into() }
}

/// Returns whether a step failed because the bus or systemd was away for a moment: a bus that restarts, or a systemd
/// that replaces itself (`systemctl daemon-reexec`) and drops the calls that it had not answered. A bus that has enough of our calls to
/// answer (`max_replies_per_connection`, dbus-daemon(1)) is there again a moment later, too.
pub(super) fn is_away(error: &StepError) -> bool {
    // D-Bus specification, "Message Bus Messages"; the name of systemd has no owner until the new one connects.
    const AWAY: [&str; 5] = [
        "org.freedesktop.DBus.Error.LimitsExceeded",
        "org.freedesktop.DBus.Error.NoReply",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.Disconnected",
    ];
    let StepError::Bus { source, .. } = error else { return false };
    match source.downcast_ref::<zbus::Error>() {
        Some(zbus::Error::InputOutput(error)) => error.kind() != std::io::ErrorKind::TimedOut,
        Some(error) => AWAY.iter().any(|name| is_error(error, name)),
        None => false,
    }
}

/// Returns whether an error is the D-Bus error of this name.
pub(super) fn is_error(error: &zbus::Error, name: &str) -> bool {
    match error {
        zbus::Error::MethodError(found, _, _) => found.as_str() == name,
        zbus::Error::FDO(found) => zbus::DBusError::name(found.as_ref()).as_str() == name,
        // Not our enum, and it may grow: everything else is not an answer of the other side.
        _ => false,
    }
}
