//! Trees of files as a stream: packed on one side, unpacked on the other, as `cp -a` would have it.
//!
//! Either side may be a guest whose root is hostile and changes the tree meanwhile, and the stream may be made by one. So
//! nothing is ever followed: what is packed is opened component by component and looked at before it is opened, and what
//! is unpacked is made below one folder that no link and no `..` leads out of. What cannot be carried is skipped and
//! named. The stream is tar (`pax`, POSIX.1-2017), so that other programs read and write it too.
//!
//! ```text
//!  an object ──pack──▶ headers and contents (tar) ──unpack──▶ below a folder
//! ```
//!
//! Owns no path names of the outside: both ends are descriptors, and who opens them decides what they may lead to.

mod header;
mod pack;
mod report;
mod unpack;

pub use pack::{PackError, pack};
pub use report::Report;
pub use unpack::{Target, UnpackError, unpack};

#[cfg(test)]
mod tests;
