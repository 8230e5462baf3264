//! Faults that the fuzz targets have to find: whether they are put in is said at run time, so that one build shows both
//! that nothing is found and that something would be.
//!
//! Behind the feature `planted`, which `fuzz/` alone asks for: the shipped binary has neither the switch nor a fault.

use std::sync::atomic::{AtomicBool, Ordering};

static PLANTED: AtomicBool = AtomicBool::new(false);

/// Puts the faults in, for as long as the process lives.
pub fn plant() {
    PLANTED.store(true, Ordering::Relaxed);
}

/// Returns whether the faults are in.
#[must_use]
pub fn is_planted() -> bool {
    PLANTED.load(Ordering::Relaxed)
}
