//! Models that should be on the GPU and are not.

/// A model that should be on the GPU and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The model.
    pub model: String,
    /// What was found, in one line with the numbers.
    pub found: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Returns which models are not where they should be.
#[must_use]
pub fn incidents(_scene: &super::arbiter::Scene<'_>) -> Vec<Incident> {
    todo!()
}
