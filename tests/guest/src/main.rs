//! The static guest.
fn main() {}
