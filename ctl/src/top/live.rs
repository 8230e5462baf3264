//! The live view: waits for keys, figures, events of the agent and signals, and draws.
//!
//! States come by a watch, which survives a restart of the agent; figures are asked for on a connection of their own
//! each time, since an idle one is closed.

use std::time::Duration;

use nixmox_api::{Status, UsageReply};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::frame::frame;
use super::keys::Key;
use super::rates::{Sample, Sampler};
use super::scene::{Scene, rows};
use super::terminal::Terminal;
use super::view::{Next, Sort, View};
use crate::client::{Client, ClientError, Message, Mirror, Watch};
use crate::context::Context;
use crate::error::CtlError;

/// When the second sample comes: until then there are no rates to look at.
const SOON: Duration = Duration::from_millis(500);

/// Shows what the services use until somebody quits. `narrow` leaves of a status what is meant.
pub(crate) async fn live(
    context: &mut Context,
    every: Duration,
    sort: Sort,
    narrow: impl Fn(Status) -> Result<Status, CtlError>,
) -> Result<(), CtlError> {
    let mut watch = Watch::begin(context.options.socket.clone()).await?;
    let mut mirror = Mirror::default();
    // A name that is not there is complained about before the screen is taken.
    while mirror.number().is_none() {
        if let Message::Update(update) = watch.next().await? {
            mirror.take(&update);
        }
    }
    narrow(mirror.status().clone())?;
    let mut signals = Signals::new()?;
    let mut terminal = Terminal::enter()?;
    let mut live = Live::new(every, sort);
    let mut asked = JoinSet::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut soon = std::pin::pin!(sleep(SOON.min(every)));
    let mut was_soon = false;
    loop {
        live.scene.rows = rows(&narrow_if_there(mirror.status(), &narrow), live.sample.as_ref());
        draw(context, &live)?;
        // Every arm is cancel-safe, and only the chosen one's value is used: what is asked goes on in its task.
        let wake = tokio::select! {
            keys = terminal.keys() => Wake::Typed(keys),
            wake = signals.next() => wake,
            message = watch.next() => Wake::Told(message?),
            () = &mut soon, if !was_soon => {
                was_soon = true;
                Wake::Due
            }
            _ = ticks.tick() => Wake::Due,
            Some(Ok(answer)) = asked.join_next() => Wake::Answered(answer),
        };
        match wake {
            Wake::Typed(keys) if live.press(&keys) == Next::Quit => return Ok(()),
            Wake::Typed(_) => {}
            Wake::Ended => return Ok(()),
            Wake::Resized => context.output.measure(),
            Wake::Told(Message::Update(update)) => {
                live.scene.is_away = false;
                mirror.take(&update);
            }
            Wake::Told(Message::Lost) => live.scene.is_away = true,
            Wake::Due => ask(&mut asked, context),
            Wake::Answered(Ok(reply)) => live.take(reply),
            // The watch notices it too, and gives up when it has waited long enough.
            Wake::Answered(Err(error)) if error.may_pass() => {}
            Wake::Answered(Err(error)) => return Err(error.into()),
        }
    }
}

/// What there is to do.
enum Wake {
    Typed(Vec<Key>),
    Told(Message),
    Answered(Result<UsageReply, ClientError>),
    /// It is time to ask.
    Due,
    /// The terminal has another size.
    Resized,
    /// A signal asks for the end.
    Ended,
}

/// What is shown.
struct Live {
    view: View,
    scene: Scene,
    sampler: Sampler,
    sample: Option<Sample>,
}

impl Live {
    fn new(every: Duration, sort: Sort) -> Self {
        let interval_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        Self {
            view: View { sort, ..View::default() },
            scene: Scene { interval_ms, ..Scene::default() },
            sampler: Sampler::default(),
            sample: None,
        }
    }

    fn press(&mut self, keys: &[Key]) -> Next {
        let quits = keys.iter().any(|key| self.view.press(*key, &self.scene.rows) == Next::Quit);
        if quits { Next::Quit } else { Next::Stay }
    }

    fn take(&mut self, reply: UsageReply) {
        let sample = self.sampler.take(reply);
        self.scene.at_usec = sample.at_usec;
        self.sample = Some(sample);
    }
}

/// Asks for figures, unless the last question is still open.
fn ask(asked: &mut JoinSet<Result<UsageReply, ClientError>>, context: &Context) {
    if asked.is_empty() {
        let socket = context.options.socket.clone();
        asked.spawn(async move { Client::connect(&socket).await?.usage().await });
    }
}

/// Returns what is meant of a status; nothing when what was named is not there any more.
fn narrow_if_there(status: &Status, narrow: &impl Fn(Status) -> Result<Status, CtlError>) -> Status {
    narrow(status.clone()).unwrap_or_default()
}

fn draw(context: &mut Context, live: &Live) -> Result<(), CtlError> {
    let screen = context.output.screen();
    let Some(size) = screen.size else { return Ok(()) };
    let lines = frame(&live.view, &live.scene, &context.moment(), size, screen.style);
    // ECMA-48: from the top left corner, each line up to its end, then the rest of the screen.
    let text = format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"));
    Ok(context.output.print(&text)?)
}

/// The signals that are waited for.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    resized: Signal,
}

impl Signals {
    fn new() -> Result<Self, CtlError> {
        let listen = |kind| signal(kind).map_err(CtlError::Runtime);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            resized: listen(SignalKind::window_change())?,
        })
    }

    /// Waits for the next one. Cancel-safe.
    async fn next(&mut self) -> Wake {
        let Self { interrupt, terminate, hangup, resized } = self;
        tokio::select! {
            _ = interrupt.recv() => Wake::Ended,
            _ = terminate.recv() => Wake::Ended,
            _ = hangup.recv() => Wake::Ended,
            _ = resized.recv() => Wake::Resized,
        }
    }
}
