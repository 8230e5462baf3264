//! Models as people read them: where they are and what was decided, and what a model would take.

mod estimate;
mod overview;

pub(crate) use estimate::estimate;
pub(crate) use overview::{overview, told};
