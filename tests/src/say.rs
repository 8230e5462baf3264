//! What a test tells the person who runs it, also when it passes.

use std::io::Write as _;

/// Writes lines to standard error, past the test program's capture.
pub fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // With standard error gone there is nobody to tell.
    let _ = writeln!(stderr, "{text}");
}
