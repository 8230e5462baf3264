//! The Varlink contract `io.nixmox.Agent`.
