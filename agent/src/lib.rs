//! The privileged agent.
