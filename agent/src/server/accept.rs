//! The accept loop: a place for each connection or none, and a session for each that got one.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::audit::Refusals;
use super::connection::Connection;
use super::session::Session;
use super::slots::{Slot, Slots};
use super::{Control, Limits, Peer, Roles};

/// How long to wait after a failed accept: it fails for want of descriptors or memory, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the socket until `stop`: each connection on its own, so that none can hurt another.
///
/// Runs inside a `LocalSet`, on which it starts a task for each connection; all have ended when it returns. A call
/// that was begun is finished, within `Limits::stop`.
///
/// # Errors
///
/// When the listener cannot be used with tokio.
pub async fn serve<C: Control, R: Roles + 'static>(
    listener: StdListener,
    control: C,
    roles: R,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let server =
        Server { control, roles: Rc::new(roles), limits, slots: Rc::default(), refusals: Rc::default(), stop };
    let mut sessions = JoinSet::new();
    let mut failing = false;
    loop {
        // Every arm is cancel-safe, and only the chosen one's value is used.
        let accepted = tokio::select! {
            () = server.stop.cancelled() => break,
            Some(_ended) = sessions.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _address)) => {
                failing = false;
                server.admit(stream, &mut sessions);
            }
            Err(error) => {
                if !failing {
                    warn!(error = &error as &dyn std::error::Error, "cannot accept connections; retrying");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Sessions see `stop` themselves, between two calls.
    let all_ended = async { while sessions.join_next().await.is_some() {} };
    if timeout(limits.stop, all_ended).await.is_err() {
        warn!(sessions = sessions.len(), "sessions did not end in time");
        sessions.shutdown().await;
    }
    Ok(())
}

/// What every session shares.
struct Server<C, R> {
    control: C,
    roles: Rc<R>,
    limits: Limits,
    slots: Rc<Slots>,
    refusals: Rc<Refusals>,
    stop: CancellationToken,
}

impl<C: Control, R: Roles + 'static> Server<C, R> {
    /// Starts a session, or closes the connection when there is no place for it.
    fn admit(&self, stream: UnixStream, sessions: &mut JoinSet<()>) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "cannot tell who connected");
                return;
            }
        };
        let Some(slot) = self.slots.take(peer.uid, self.roles.role(&peer), &self.limits) else {
            self.refusals.turned_away(&peer);
            return;
        };
        sessions.spawn_local(self.session(stream, peer, slot));
    }

    fn session(&self, stream: UnixStream, peer: Peer, slot: Slot) -> impl Future<Output = ()> + 'static {
        let (control, roles, limits) = (self.control.clone(), Rc::clone(&self.roles), self.limits);
        let (refusals, stop) = (Rc::clone(&self.refusals), self.stop.clone());
        async move {
            let _slot = slot;
            let mut role = roles.role(&peer);
            if role.is_none() {
                // A group may have been made since.
                roles.refresh().await;
                role = roles.role(&peer);
            }
            let (uid, pid) = (peer.uid, peer.pid);
            let ended = match Connection::new(stream, limits) {
                Ok(mut connection) => Session { control, peer, role, refusals, stop }.run(&mut connection).await,
                Err(ended) => ended,
            };
            debug!(uid, pid, reason = &ended as &dyn std::error::Error, "connection ended");
        }
    }
}
