//! GPUs as people read them: what is there and who has it, what would fit, and what is wrong.

mod bar;
mod doctor;
mod fit;
mod flow;
mod memory;
mod overview;
mod words;

pub(crate) use doctor::doctor;
pub(crate) use fit::fit;
pub(crate) use overview::overview;
pub(crate) use words::short;
