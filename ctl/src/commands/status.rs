//! `nixmoxctl status`: what the services do, and what is wrong with those that are not well.

use clap::Args;
use nixmox_api::{Status, Update};

use super::selection::Selection;
use crate::client::{Client, Message, Mirror, Watch};
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::follow::Block;
use crate::render;

/// Show what the services do
#[derive(Debug, Args)]
#[command(after_help = "\
Outside a stack, all stacks of the host are shown.

Examples:
  nixmoxctl status               the stack of this folder
  nixmoxctl status postgres      one service
  nixmoxctl status -w --all      everything on the host, as it changes")]
pub(crate) struct StatusOf {
    /// Only these services
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Go on showing, as it changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

impl StatusOf {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let selection = Selection::find(context)?.unwrap_or(Selection::All);
        block_on(async {
            if self.watch {
                return self.follow(&selection, context).await;
            }
            let mut client = Client::connect(&context.options.socket).await?;
            let status = selection.narrow(client.status().await?, &self.names)?;
            let text = text(&status, &selection, context);
            if context.options.json {
                context.output.json(&status)?;
            } else {
                context.output.print(&text)?;
            }
            Ok(Exit::Done)
        })
    }

    async fn follow(&self, selection: &Selection, context: &mut Context) -> Result<Exit, CtlError> {
        let mut watch = Watch::begin(context.options.socket.clone()).await?;
        let mut mirror = Mirror::default();
        let mut block = Block::default();
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        // Ages go on even where nothing happens.
        let mut clock = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            // Every arm is cancel-safe.
            let message = tokio::select! {
                _ = &mut stop => {
                    block.leave(&mut context.output)?;
                    return Ok(Exit::Done);
                }
                message = watch.next() => Some(message?),
                // Into a pipe only news are worth the whole text again.
                _ = clock.tick(), if context.output.screen().size.is_some() => None,
            };
            match message {
                Some(Message::Update(update)) => {
                    let narrowed = self.narrow(selection, &mirror, &update)?;
                    mirror.take(&update);
                    if context.options.json {
                        if let Some(update) = narrowed {
                            context.output.json(&update)?;
                        }
                        continue;
                    }
                }
                Some(Message::Lost) => {
                    block.forget();
                    context.output.note("the agent is away; waiting for it\n")?;
                    continue;
                }
                None => {}
            }
            if mirror.number().is_none() || context.options.json {
                continue;
            }
            let status = selection.narrow(mirror.status().clone(), &self.names)?;
            let mut text = text(&status, selection, context);
            if context.output.screen().size.is_some_and(|size| text.lines().count() >= size.height) {
                text = render::status_in_short(&status, &context.moment(), context.output.screen());
            }
            block.draw(&mut context.output, text.lines().map(str::to_owned).collect())?;
        }
    }

    /// Returns what of an update is about the services that are meant; `None`: nothing. `before` is without it.
    fn narrow(&self, selection: &Selection, before: &Mirror, update: &Update) -> Result<Option<Update>, CtlError> {
        let mut update = update.clone();
        if let Some(status) = update.status.take() {
            update.status = Some(selection.narrow(status, &self.names)?);
            return Ok(Some(update));
        }
        let service = update.current.as_ref().or_else(|| before.service(&update.service));
        let is_meant = update.service.is_empty()
            || match self.names.as_slice() {
                [] => service.is_none_or(|service| selection.has(&service.stack)),
                names => names.contains(&update.service),
            };
        Ok(is_meant.then_some(update))
    }
}

fn text(status: &Status, selection: &Selection, context: &Context) -> String {
    let screen = context.output.screen();
    // With what hinders the agent, such as state that a later version wrote: then nothing it knows is up.
    let text = render::status(status, &context.moment(), screen.width(), screen.style);
    match selection {
        _ if !status.stacks.is_empty() => text,
        Selection::OfFile(stack) | Selection::Named(stack) => {
            format!("{text}{stack}   is not up; try: nixmoxctl up\n")
        }
        Selection::All if text.is_empty() => "no stacks yet; try: nixmoxctl up\n".to_owned(),
        Selection::All => text,
    }
}

#[cfg(test)]
mod tests {
    use nixmox_api::{ServiceStatus, StackStatus};

    use super::*;
    use crate::testing::sample::{event, service, snapshot, three};

    /// The stacks `cloud` and `media`; jellyfin is of `media`.
    fn before() -> Mirror {
        let mut status = three();
        status.stacks.push(StackStatus { name: "media".to_owned(), ..status.stacks[0].clone() });
        status.services.push(ServiceStatus { stack: "media".to_owned(), ..service("jellyfin") });
        let mut mirror = Mirror::default();
        mirror.take(&snapshot(status));
        mirror
    }

    fn names(update: Option<Update>) -> Vec<String> {
        let services = update.and_then(|update| update.status).map(|status| status.services).unwrap_or_default();
        services.into_iter().map(|service| service.name).collect()
    }

    #[test]
    fn a_watch_tells_programs_only_of_what_was_named() {
        let (mirror, of_cloud) = (before(), Selection::Named("cloud".to_owned()));
        let whole = snapshot(mirror.status().clone());
        let all = StatusOf { names: Vec::new(), watch: true };
        let caddy = StatusOf { names: vec!["caddy".to_owned()], watch: true };
        assert_eq!(names(all.narrow(&of_cloud, &mirror, &whole).unwrap()), ["postgres", "nextcloud", "caddy"]);
        assert_eq!(names(caddy.narrow(&Selection::All, &mirror, &whole).unwrap()), ["caddy"]);
        let tells = |of: &StatusOf, selection: &Selection, name: &str| {
            // Without a status of its own, as when it is removed.
            of.narrow(selection, &mirror, &event(1, 0, "removed", name, None)).unwrap().is_some()
        };
        assert!(tells(&all, &of_cloud, "caddy") && !tells(&all, &of_cloud, "jellyfin"));
        assert!(tells(&caddy, &Selection::All, "caddy") && !tells(&caddy, &Selection::All, "postgres"));
        assert!(tells(&caddy, &Selection::All, ""), "what is about no service is for everybody");
    }

    #[test]
    fn a_watch_of_a_service_that_is_not_there_ends_at_once() {
        let status = StatusOf { names: vec!["caddi".to_owned()], watch: true };
        let first = snapshot(before().status().clone());
        let error = status.narrow(&Selection::All, &Mirror::default(), &first).unwrap_err();
        assert_eq!(error.to_string(), "there is no service `caddi`");
    }
}
