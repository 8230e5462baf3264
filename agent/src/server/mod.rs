//! The wire: a call becomes an access check, a handler, a reply. Nothing else.
//!
//! Owns the sockets and the limits on what a client may do to the agent. What a call means is `Control`'s:
//! the reconcile task's handle implements it, and handlers never wait for work, only for that task's answer
//! that a change was written down.
//!
//! ```text
//! listener ─▶ serve ─▶ one session per connection ─▶ Method (table: name, role) ─▶ Control ─▶ reply
//!             slots     Connection: framing, limits    refused before parameters are read
//! ```
//!
//! The loop of a session is ours, not zlink's `Server`: that one writes a reply into a buffer that grows by 256 bytes
//! and begins anew each time, which takes 18 to 30 ms for the 60 kB of a snapshot of 100 services (`serde_json`: 0.2 ms);
//! it does not read while it streams, so it does not notice a client that left; and it takes descriptors in. zlink
//! gives the contract, the errors and the client.

mod accept;
mod audit;
mod connection;
mod control;
mod limits;
mod listener;
mod method;
mod parameters;
mod peer;
mod roles;
mod session;
mod slots;

pub use accept::serve;
pub use control::{Attended, Control};
pub use limits::Limits;
pub(crate) use listener::bind_for;
pub use listener::{ListenerError, bind, from_systemd};
pub use peer::Peer;
pub(crate) use roles::group_id;
pub use roles::{GROUP_OBSERVER, GROUP_OPERATOR, GroupRoles, Role, Roles};
#[cfg(feature = "testing")]
pub use session::serve_stream;
