//! What is shown of a build while it goes on: on a terminal a block that is drawn anew, else a line now and then, and one at
//! the end. All of it on stderr; results are the command's.

use std::io;
use std::time::{Duration, Instant};

use super::log::Log;
use crate::context::Context;
use crate::follow::Block;
use crate::render::{self, of_program};

/// What is done before this time is over is not worth a look.
const QUIET: Duration = Duration::from_millis(300);
/// How often a line is written where nothing can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is shown.
pub(super) struct View {
    begun: Instant,
    /// What nix does, and what that is about.
    doing: &'static str,
    about: Vec<String>,
    /// `None`: stderr is no terminal.
    block: Option<Block>,
    lines: u32,
}

impl View {
    pub(super) fn new(context: &Context, doing: &'static str, about: &[String]) -> Self {
        let block = context.output.screen().error_size.map(|_| Block::of_notes());
        Self { begun: Instant::now(), doing, about: about.to_vec(), block, lines: 0 }
    }

    /// Returns the time since it began, in milliseconds: the clock of the log.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Shows how far it is.
    pub(super) fn draw(&mut self, log: &Log, context: &mut Context) -> io::Result<()> {
        let (since, now_ms) = (self.begun.elapsed(), self.now_ms());
        let screen = context.output.screen();
        match (&mut self.block, screen.error_size) {
            (Some(block), Some(size)) if since >= QUIET => {
                let lines = render::build(log, self.doing, &self.about, now_ms, size, screen.error_style);
                block.draw(&mut context.output, lines)
            }
            (None, _) if since >= LINE_EVERY * (self.lines + 1) => {
                self.lines += 1;
                context.output.note(&render::build_line(log, self.doing, &self.about, now_ms))
            }
            _ => Ok(()),
        }
    }

    /// Shows what nix says.
    pub(super) fn say(&mut self, text: &str, context: &mut Context) -> io::Result<()> {
        if let Some(block) = &mut self.block {
            block.clear(&mut context.output)?;
        }
        let is_colored = context.output.screen().error_style.has_color();
        context.output.note(&(of_program(text.trim_end(), is_colored) + "\n"))
    }

    /// Takes it off the screen.
    pub(super) fn clear(&mut self, context: &mut Context) -> io::Result<()> {
        if let Some(block) = &mut self.block {
            block.clear(&mut context.output)?;
        }
        Ok(())
    }

    /// Says what was done.
    pub(super) fn summary(&self, log: &Log, context: &mut Context) -> io::Result<()> {
        let done = render::build_summary(log, self.now_ms());
        done.map_or(Ok(()), |done| context.output.note(&done))
    }
}
