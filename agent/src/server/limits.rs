//! What one client, and all of them together, may take from the agent.

use std::time::Duration;

/// Limits of the server; tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest wait for a message, from when the server is ready for it to its last byte. Neither the time of a call
    /// nor that of a watch counts.
    pub idle: Duration,
    /// Longest time for the client to take a message.
    pub write: Duration,
    /// Size of a message from a client, in bytes.
    pub message_bytes: usize,
    /// Connections altogether.
    pub connections: usize,
    /// Connections of one user other than root.
    pub connections_per_user: usize,
    /// Connections of `connections` that only operators get, so that others cannot lock them out.
    pub connections_for_operators: usize,
    /// Connections of all users together who have no role: one person may have many users (subuid(5)).
    pub connections_without_role: usize,
    /// How long sessions are given to end when the server stops.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            write: Duration::from_secs(5),
            message_bytes: 1 << 20,
            connections: 64,
            connections_per_user: 8,
            connections_for_operators: 8,
            connections_without_role: 16,
            stop: Duration::from_secs(5),
        }
    }
}
