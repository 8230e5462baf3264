//! Following work until it is settled: what all verbs that change something have in common.
//!
//! Owns the order of things: watch first, then ask for the change, so that no event is missed; then take updates,
//! show them, and stop when every service is settled. What is settled is `progress`'s to say, what it looks like
//! `render`'s.

mod block;
mod display;
mod trial;
mod wait;

use std::pin::pin;
use std::time::Duration;

use nixmox_api::{AgentError, Applied, Done, Request, RolledBack, StackStatus, Status};
use tokio::time::Instant;

pub(crate) use block::Block;
use display::Display;
use trial::Trial;
pub(crate) use wait::Wait;

use crate::client::{Client, ClientError, Message, Mirror, Watch};
use crate::context::Context;
use crate::error::{CtlError, Exit};
use crate::progress::{Goal, Progress, Task, Verdict};

/// How often times are drawn anew, and open questions asked again.
const TICK: Duration = Duration::from_millis(250);

/// How long an idle agent must show the same settled state before it counts though nothing proves it: drift that
/// nobody corrects keeps a plan from ever saying `unchanged`.
const QUIET: Duration = Duration::from_secs(3);

/// How long a service must wait for room on a GPU: what is asked to end, and what a driver gives back, may take a while.
const ROOM: Duration = Duration::from_secs(15);

/// How long a busy agent must show nothing of what was taken down.
const STEADY: Duration = Duration::from_secs(1);

/// How long the last updates are waited for once all is settled.
const DRAIN: Duration = Duration::from_millis(30);

/// What is opened before a change is asked for.
pub(crate) struct Opening {
    /// The connection to ask on.
    pub(crate) client: Client,
    watch: Watch,
    mirror: Mirror,
}

/// What is watched for.
struct Follow {
    client: Option<Client>,
    watch: Watch,
    progress: Progress,
    /// What was applied: the planner is asked whether it is reached. `None`: the state alone tells.
    request: Option<Request>,
    /// The generation up to which nobody else changed the stack, and the stack.
    generation: Option<(u64, String)>,
    /// The generation that was made.
    made: u64,
    display: Display,
    trial: Trial,
    /// Since when the state has looked settled.
    settled_since: Option<Instant>,
}

impl Opening {
    /// Connects, begins to watch, and takes the first snapshot.
    pub(crate) async fn begin(context: &Context) -> Result<Self, CtlError> {
        let socket = &context.options.socket;
        let client = Client::connect(socket).await?;
        let mut watch = Watch::begin(socket.clone()).await.map_err(for_a_change)?;
        let mut mirror = Mirror::default();
        while mirror.number().is_none() {
            match watch.next().await.map_err(for_a_change)? {
                Message::Update(update) => mirror.take(&update),
                Message::Lost => {}
            }
        }
        Ok(Self { client, watch, mirror })
    }

    /// Returns the snapshot before the change.
    pub(crate) fn status(&self) -> &Status {
        self.mirror.status()
    }

    /// Follows `up`.
    pub(crate) async fn follow_up(
        self,
        context: &mut Context,
        request: Request,
        applied: &Applied,
        wait: Wait,
    ) -> Result<Exit, CtlError> {
        let generation = Some((applied.generation, request.stack.clone()));
        let tasks = tasks_of(&request, applied, self.status());
        let progress = Progress::new(Goal::Up, tasks, self.mirror, context.clock.now_usec(), applied.number);
        let display = Display::choose(context, Some(applied.generation));
        let follow = Follow {
            client: Some(self.client),
            watch: self.watch,
            progress,
            request: Some(Request { base: None, ..request }),
            generation,
            made: applied.generation,
            display,
            trial: Trial::default(),
            settled_since: None,
        };
        follow.run(context, wait).await
    }

    /// Follows `rollback`: what it changes, until that is well.
    pub(crate) async fn follow_back(
        self,
        context: &mut Context,
        stack: &str,
        applied: &Applied,
        wait: Wait,
    ) -> Result<Exit, CtlError> {
        let before = |name: &str| self.mirror.service(name);
        let planned = applied.plan.services.iter();
        let tasks = planned.map(|planned| Task::of_plan(planned, before(&planned.name))).collect();
        let follow = Follow {
            client: Some(self.client),
            watch: self.watch,
            progress: Progress::new(Goal::Up, tasks, self.mirror, context.clock.now_usec(), applied.number),
            request: None,
            generation: Some((applied.generation, stack.to_owned())),
            made: applied.generation,
            display: Display::choose(context, Some(applied.generation)),
            trial: Trial::default(),
            settled_since: None,
        };
        follow.run(context, wait).await
    }

    /// Follows a verb that the agent has answered with the services concerned.
    pub(crate) async fn follow_verb(
        self,
        context: &mut Context,
        goal: Goal,
        verb: &'static str,
        done: &Done,
        wait: Wait,
    ) -> Result<Exit, CtlError> {
        let tasks = done.services.iter().map(|name| Task::of_verb(verb, name, self.mirror.service(name))).collect();
        if context.options.json {
            context.output.json(done)?;
        }
        self.follow(context, goal, tasks, done.number, wait).await
    }

    /// Follows tasks.
    pub(crate) async fn follow(
        self,
        context: &mut Context,
        goal: Goal,
        tasks: Vec<Task>,
        number: u64,
        wait: Wait,
    ) -> Result<Exit, CtlError> {
        let follow = Follow {
            client: Some(self.client),
            watch: self.watch,
            progress: Progress::new(goal, tasks, self.mirror, context.clock.now_usec(), number),
            request: None,
            generation: None,
            made: 0,
            display: Display::choose(context, None),
            trial: Trial::default(),
            settled_since: None,
        };
        follow.run(context, wait).await
    }
}

/// The services that `up` is about, in the plan's order; one that the plan does not mention is unchanged.
fn tasks_of(request: &Request, applied: &Applied, before: &Status) -> Vec<Task> {
    let meant = |name: &str| {
        let declared = request.services.iter().any(|service| service.name == name);
        declared && (request.only.is_empty() || request.only.iter().any(|only| only == name))
    };
    let status_of = |name: &str| before.services.iter().find(|status| status.name == name);
    let planned = applied.plan.services.iter();
    let planned = planned.filter(|planned| meant(&planned.name) || planned.change == "remove");
    let mut tasks: Vec<Task> = planned.map(|planned| Task::of_plan(planned, status_of(&planned.name))).collect();
    for service in request.services.iter().filter(|service| meant(&service.name)) {
        if !tasks.iter().any(|task| task.name == service.name) {
            tasks.push(Task::of_verb("unchanged", &service.name, status_of(&service.name)));
        }
    }
    tasks
}

impl Follow {
    async fn run(mut self, context: &mut Context, wait: Wait) -> Result<Exit, CtlError> {
        self.display.begin(&self.progress, context)?;
        if wait.detach {
            return Ok(Exit::Done);
        }
        let mut stop = pin!(tokio::signal::ctrl_c());
        let deadline = wait.timeout.map(|timeout| Instant::now() + timeout.0);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.display.draw(&self.progress, context)?;
            // Every arm is cancel-safe and only the chosen arm's value is used. In this order: what was told already
            // is taken before anything is asked.
            let message = tokio::select! {
                biased;
                _ = &mut stop => {
                    self.display.end(&self.progress, context)?;
                    context.output.note("stopped watching; the deployment goes on\n")?;
                    return Ok(Exit::Interrupted);
                }
                () = until(deadline) => {
                    self.display.end(&self.progress, context)?;
                    return Err(self.late(wait));
                }
                message = self.watch.next() => Some(message?),
                _ = ticks.tick() => None,
            };
            if let Some(message) = message {
                self.take(&message, context).await?;
                // Asked at once when the last is settled; the ticks are for what is not reached yet then.
                match (self.progress.is_settled(), self.settled_since) {
                    (true, None) => ticks.reset_immediately(),
                    (true, Some(_)) => {}
                    (false, _) => self.settled_since = None,
                }
            } else if self.is_over().await? {
                self.drain(context).await?;
                if self.progress.is_settled() {
                    return self.end(context);
                }
            }
        }
    }

    async fn take(&mut self, message: &Message, context: &mut Context) -> Result<(), CtlError> {
        match message {
            Message::Lost => {
                self.progress.lost();
                self.display.lost(&self.progress, context)?;
            }
            Message::Update(update) => {
                self.trial.take(update);
                let happenings = self.progress.take(update);
                self.display.take(&self.progress, update, &happenings, context)?;
                self.check_superseded(context).await?;
            }
        }
        Ok(())
    }

    /// Takes the last updates: the answer that all is settled may have overtaken them on a connection of its own.
    async fn drain(&mut self, context: &mut Context) -> Result<(), CtlError> {
        let end = Instant::now() + DRAIN;
        while let Ok(Ok(message)) = tokio::time::timeout_at(end, self.watch.next()).await {
            self.take(&message, context).await?;
        }
        Ok(())
    }

    /// Complains when somebody made a newer generation of the stack: what was asked for will never be reached.
    async fn check_superseded(&mut self, context: &mut Context) -> Result<(), CtlError> {
        let Some((watched, stack)) = self.generation.clone() else { return Ok(()) };
        let host = self.progress.mirror().host();
        if host.generation <= watched {
            return Ok(());
        }
        // A newer generation may be about another stack.
        let Some(status) = self.ask(async |client| client.status().await).await? else { return Ok(()) };
        let newest = status.stacks.iter().find(|there| there.name == stack);
        if let Some(newest) = newest
            && let Some(rolled_back) = newest.rolled_back.clone().filter(|back| back.from == self.made)
        {
            return self.go_back(rolled_back, newest.generation, stack, context);
        }
        let (newer, by) = match newest {
            Some(newest) if newest.generation <= watched => {
                self.generation = Some((status.host.generation, stack));
                return Ok(());
            }
            Some(newest) => (newest.generation, newest.changed_by.name.clone()),
            None => (status.host.generation, status.host.generation_by.name.clone()),
        };
        Err(CtlError::Superseded { watched, newer, by })
    }

    /// Goes on with what the agent brings back in place of a generation that failed.
    fn go_back(
        &mut self,
        rolled_back: RolledBack,
        generation: u64,
        stack: String,
        context: &mut Context,
    ) -> Result<(), CtlError> {
        self.display.went_back(&self.progress, &rolled_back, context)?;
        self.progress = self.trial.go_back(rolled_back, generation, &self.progress, &stack, context);
        (self.request, self.settled_since) = (None, None);
        self.generation = Some((generation, stack));
        Ok(())
    }

    /// Returns whether every task is settled, and that of the time after the request.
    async fn is_over(&mut self) -> Result<bool, CtlError> {
        if !self.progress.is_settled() {
            self.settled_since = None;
            return Ok(false);
        }
        let since = *self.settled_since.get_or_insert_with(Instant::now);
        if self.trial.is_open(&self.progress, self.made, self.stack(), since.elapsed()) {
            return Ok(false);
        }
        if since.elapsed() < ROOM && self.progress.tasks().iter().any(|task| self.progress.waits_for_gpu(task)) {
            return Ok(false);
        }
        // The agent's own word that all that changed is well; nothing is asked of the planner where nothing was declared.
        let is_good = self.stack().is_some_and(|stack| stack.good);
        if self.trial.went_back() || (self.request.is_none() && is_good) {
            return Ok(true);
        }
        // What is taken down may be out of sight between two of its steps; what else is under way is no reason to
        // wait for long.
        let busy = self.progress.mirror().host().busy;
        if self.progress.goal() == Goal::Gone && busy && since.elapsed() < STEADY {
            return Ok(false);
        }
        if !busy && since.elapsed() >= QUIET {
            return Ok(true);
        }
        let open: Vec<String> = {
            // A live change that fails is tried again and again, so the agent stays busy with it.
            let refused = |task: &Task| since.elapsed() >= QUIET && self.progress.is_refused(task);
            let tasks = self.progress.tasks().iter();
            let tasks = tasks.filter(|task| !self.progress.is_proven(task) && !refused(task));
            tasks.map(|task| task.name.clone()).collect()
        };
        if open.is_empty() {
            return Ok(true);
        }
        let Some(request) = self.request.clone() else { return Ok(false) };
        // The planner that made the plan says whether it is carried out: nothing else can tell an old healthy
        // instance from a new one, or a limit that was set from one that was not.
        let Some(plan) = self.ask(async |client| client.plan(&request).await).await? else { return Ok(false) };
        Ok(open.iter().all(|name| {
            let planned = plan.services.iter().find(|planned| planned.name == *name);
            match planned.map(|planned| planned.change.as_str()) {
                None | Some("unchanged") => true,
                Some("blocked") => !self.progress.with(Verdict::Reached).any(|task| task.name == *name),
                Some(_) => false,
            }
        }))
    }

    /// Asks the agent; `None` when it is away at the moment.
    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<Option<T>, CtlError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => match Client::connect(self.watch.socket()).await {
                Ok(client) => client,
                Err(error) if error.may_pass() => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        match question(&mut client).await {
            Ok(answer) => {
                self.client = Some(client);
                Ok(Some(answer))
            }
            Err(error) if error.may_pass() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the stack that was applied, as the agent has it.
    fn stack(&self) -> Option<&StackStatus> {
        let (_, stack) = self.generation.as_ref()?;
        self.progress.mirror().status().stacks.iter().find(|there| there.name == *stack)
    }

    fn end(&mut self, context: &mut Context) -> Result<Exit, CtlError> {
        self.display.end(&self.progress, context)?;
        if let Some(error) = self.trial.complain(&self.progress, context)? {
            return Err(error);
        }
        self.display.summary(&self.progress, context)
    }

    fn late(&self, wait: Wait) -> CtlError {
        let pending = self.progress.with(Verdict::Pending).map(|task| task.name.clone()).collect();
        let limit = wait.timeout.map(|timeout| timeout.to_string()).unwrap_or_default();
        CtlError::Late { limit, pending }
    }
}

/// Names the role that a change needs: who gets the one for looking alone would be refused again.
fn for_a_change(error: ClientError) -> ClientError {
    match error {
        ClientError::Agent(AgentError::NotPermitted { .. }) => ClientError::Agent(AgentError::NotPermitted {
            role: "operator".to_owned(),
            method: "a change of the host".to_owned(),
            hint: String::new(),
        }),
        other => other,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
