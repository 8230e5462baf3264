//! How progress is shown: drawn on a terminal, as lines into a pipe, or as the agent's own messages.

use std::io;

use nixmox_api::{RolledBack, ServiceStatus, Update};

use super::Block;
use crate::context::{Context, Moment};
use crate::error::{CtlError, Exit};
use crate::progress::{Goal, Happening, Phase, Progress, Task, Verdict};
use crate::render;

/// How progress is shown.
pub(super) struct Display {
    form: Form,
    /// The generation that is carried out; `None`: the verb makes none.
    generation: Option<u64>,
}

enum Form {
    Drawn(Block),
    Lines,
    Json,
}

impl Display {
    pub(super) fn choose(context: &Context, generation: Option<u64>) -> Self {
        let form = match context.output.screen().size {
            _ if context.options.json => Form::Json,
            Some(_) => Form::Drawn(Block::default()),
            None => Form::Lines,
        };
        Self { form, generation }
    }

    /// Shows what is going to happen.
    pub(super) fn begin(&mut self, progress: &Progress, context: &mut Context) -> io::Result<()> {
        match (&self.form, self.generation) {
            (Form::Lines, Some(generation)) => {
                let line = render::plan_line(progress, generation, progress.begun_usec(), &context.zone);
                context.output.print(&line)
            }
            (Form::Lines | Form::Drawn(_) | Form::Json, _) => Ok(()),
        }
    }

    /// Shows an update.
    pub(super) fn take(
        &mut self,
        progress: &Progress,
        update: &Update,
        happenings: &[Happening],
        context: &mut Context,
    ) -> io::Result<()> {
        match &self.form {
            Form::Json => context.output.json(update),
            Form::Drawn(_) => Ok(()),
            Form::Lines => {
                let lines = happenings.iter().map(|happening| render::log_line(progress, happening, &context.zone));
                let text: String = lines.collect();
                if text.is_empty() { Ok(()) } else { context.output.print(&text) }
            }
        }
    }

    /// Draws the block anew, with what Ctrl-C does below it.
    pub(super) fn draw(&mut self, progress: &Progress, context: &mut Context) -> io::Result<()> {
        self.draw_with(progress, context, Some("Ctrl-C stops watching; the deployment goes on."))
    }

    /// Leaves the block as it is at the end.
    pub(super) fn end(&mut self, progress: &Progress, context: &mut Context) -> io::Result<()> {
        self.draw_with(progress, context, None)
    }

    /// Says that the agent is away.
    pub(super) fn lost(&mut self, progress: &Progress, context: &mut Context) -> io::Result<()> {
        match &mut self.form {
            Form::Json => Ok(()),
            Form::Drawn(block) => {
                block.clear(&mut context.output)?;
                context.output.note("the agent is away; waiting for it. Containers run on.\n")
            }
            Form::Lines => {
                let now = context.clock.now_usec().max(progress.last_usec());
                let text = "away; waiting for it, containers run on";
                context.output.print(&render::subject_line(progress, now, "agent", text, &context.zone))
            }
        }
    }

    /// Says that the agent goes back to the last good generation.
    pub(super) fn went_back(
        &mut self,
        progress: &Progress,
        rolled_back: &RolledBack,
        context: &mut Context,
    ) -> io::Result<()> {
        let RolledBack { from, to, services, .. } = rolled_back;
        let names = services.join(", ");
        let text = format!("generation {from} is not healthy ({names}); going back to generation {to}");
        match &mut self.form {
            Form::Json => Ok(()),
            Form::Drawn(block) => {
                block.clear(&mut context.output)?;
                context.output.note(&format!("{text}\n"))
            }
            Form::Lines => {
                let now = context.clock.now_usec().max(progress.last_usec());
                context.output.print(&render::subject_line(progress, now, "back", &text, &context.zone))
            }
        }
    }

    /// Says how it ended, complains about every service that failed, and returns the exit.
    pub(super) fn summary(&mut self, progress: &Progress, context: &mut Context) -> Result<Exit, CtlError> {
        let failed: Vec<&ServiceStatus> =
            progress.with(Verdict::Failed).filter_map(|task| progress.status(task)).collect();
        let blocked: Vec<_> = progress.with(Verdict::Blocked).collect();
        let now = context.clock.now_usec().max(progress.last_usec());
        if failed.is_empty() && blocked.is_empty() {
            let text = self.success(progress);
            match &self.form {
                Form::Json => {}
                Form::Drawn(_) => context.output.print(&format!("{text}\n"))?,
                Form::Lines => {
                    context.output.print(&render::subject_line(progress, now, "done", &text, &context.zone))?;
                }
            }
            return Ok(Exit::Done);
        }
        if let Form::Lines = self.form {
            // Where it starts again by itself, the line said so; that it is not waited for any more is new.
            let again = |task: &Task| progress.status(task).is_some_and(|status| status.restart_at.is_some());
            let untold = |task: &&Task| !has_told(task.phase) || again(task);
            for task in progress.with(Verdict::Failed).filter(untold) {
                context.output.print(&render::subject_line(progress, now, &task.name, "FAILED", &context.zone))?;
            }
        }
        let screen = context.output.screen();
        let moment = Moment { at_usec: now, zone: context.zone.clone() };
        for status in &failed {
            let held_back = blocked.iter().filter(|task| progress.is_behind(task, &status.name));
            let held_back: Vec<&str> = held_back.map(|task| task.name.as_str()).collect();
            let was_healthy = progress.was_healthy(&status.name);
            let report = render::failure(status, &moment, was_healthy, &held_back);
            context.output.note(&report.text(screen.error_width, screen.error_style))?;
        }
        let behind_others =
            blocked.iter().filter(|task| !failed.iter().any(|status| progress.is_behind(task, &status.name)));
        for task in behind_others {
            if let Some(status) = progress.status(task) {
                let report = render::blocked(status, &progress.blockers(task));
                context.output.note(&report.text(screen.error_width, screen.error_style))?;
            }
        }
        Ok(Exit::Failed)
    }

    fn draw_with(&mut self, progress: &Progress, context: &mut Context, below: Option<&str>) -> io::Result<()> {
        let screen = context.output.screen();
        let (Form::Drawn(block), Some(size)) = (&mut self.form, screen.size) else { return Ok(()) };
        let mut lines = render::frame(progress, context.clock.now_usec(), size, screen.style);
        lines.extend(below.map(|text| screen.style.paint(render::Paint::Dim, text)));
        block.draw(&mut context.output, lines)
    }

    /// Returns `generation 42: 3 healthy in 15s`.
    fn success(&self, progress: &Progress) -> String {
        // To the last event: what was waited for to be sure of it is no part of the work.
        let took = render::elapsed(progress.last_usec().saturating_sub(progress.begun_usec()) / 1000);
        let there: Vec<&ServiceStatus> = progress.tasks().iter().filter_map(|task| progress.status(task)).collect();
        let gone = progress.tasks().len().saturating_sub(there.len());
        let mut counts = Vec::new();
        if !there.is_empty() {
            counts.push(match progress.goal() {
                Goal::Held => format!("{} stopped", there.len()),
                Goal::Up | Goal::Gone | Goal::Released | Goal::Restarted => render::counts(&there),
            });
        }
        if gone > 0 {
            counts.push(format!("{} removed", render::counted(gone, "service")));
        }
        let counts = if counts.is_empty() { "nothing to do".to_owned() } else { counts.join(", ") };
        match self.generation {
            Some(generation) => format!("generation {generation}: {counts} in {took}"),
            None => format!("{counts} in {took}"),
        }
    }
}

/// Whether a line has said that a service failed.
fn has_told(phase: Phase) -> bool {
    match phase {
        Phase::Unhealthy | Phase::Failed => true,
        Phase::Quiet
        | Phase::Stopping
        | Phase::Stopped
        | Phase::Starting
        | Phase::Started
        | Phase::Healthy
        | Phase::Completed
        | Phase::Live
        | Phase::Removed => false,
    }
}
