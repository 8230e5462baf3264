//! What the reconcile task knows of engines that run models: what they say, what was decided, and what was measured.

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Offloads {}
