//! The command line: what can be asked for, and how the program begins and ends.
//!
//! Reads arguments and environment, nothing else: no runtime is built and no file read before they make sense.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser as PathOrEmpty, TypedValueParser as _};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum as _};
use jiff::tz::TimeZone;
use nixmox_api::AgentError;

use crate::client::{Client, ClientError};
use crate::commands;
use crate::completion;
use crate::context::{Clock, Context, block_on};
use crate::error::{Circumstances, CtlError, Exit};
use crate::machine::Machine;
use crate::output::{ColorChoice, Output};
use crate::pager;

/// Docker Compose for nixos-containers: declares, starts, checks and keeps the services of a stack
#[derive(Debug, Parser)]
#[command(name = "nixmoxctl", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Names after a command are always names of services; without any, the whole stack is meant. The stack is that of \
the nixmox.toml in this folder or the nearest one above, unless -f or -s says otherwise.

Exit codes: 0 done, 1 failed, 2 usage, 3 would change (plan --exit-code), 4 agent unreachable, 5 not permitted, \
130 waiting was stopped with Ctrl-C.";

/// The heading of the options that every command has.
pub(crate) const EVERYWHERE: &str = "Options of every command";

/// The options that every command has.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The stack file, instead of the nearest nixmox.toml
    #[arg(short, long, global = true, value_name = "FILE", env = "NIXMOX_FILE", value_parser = PathOrEmpty::new().map(PathBuf::from), hide_env_values = true, help_heading = EVERYWHERE)]
    pub(crate) file: Option<PathBuf>,
    /// A stack that the host holds, for commands that need no stack file
    #[arg(short, long, global = true, value_name = "STACK", help_heading = EVERYWHERE)]
    pub(crate) stack: Option<String>,
    /// All stacks of the host, for the same commands
    #[arg(long, global = true, conflicts_with = "stack", help_heading = EVERYWHERE)]
    pub(crate) all: bool,
    /// Print what the agent says as JSON, one document per line
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// Print long results at once, not in a pager
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) no_pager: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true, help_heading = EVERYWHERE)]
    pub(crate) color: ColorChoice,
    /// Where the agent listens
    #[arg(long, global = true, hide = true, value_name = "PATH", env = "NIXMOX_SOCKET", default_value = nixmox_api::SOCKET)]
    pub(crate) socket: PathBuf,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(commands::up::Up),
    Down(commands::down::Down),
    #[command(alias = "ps")]
    Status(commands::status::StatusOf),
    Why(commands::why::Why),
    Top(commands::top::Top),
    Graph(commands::graph::Drawn),
    Gpu(commands::gpu::GpuOf),
    Offload(commands::offload::OffloadOf),
    Logs(commands::logs::Logs),
    Events(commands::events::Events),
    Analyze(commands::analyze::Analyze),
    Plan(commands::plan::Plan),
    Start(commands::start::Start),
    Stop(commands::stop::Stop),
    Restart(commands::restart::Restart),
    Exec(commands::exec::Exec),
    Shell(commands::shell::Shell),
    Cp(commands::cp::Cp),
    Check(commands::check::Check),
    #[command(hide = true)]
    Config(commands::config::Config),
    Schema(commands::schema::Schema),
    #[command(alias = "ls")]
    Stacks(commands::stacks::Stacks),
    Generations(commands::generations::Generations),
    Diff(commands::diff::Diff),
    Rollback(commands::rollback::Rollback),
    Paths(commands::paths::Paths),
    Import(commands::import::ImportOf),
    #[command(hide = true)]
    Module(commands::module::Module),
    Rm(commands::rm::Rm),
    Completions(commands::completions::Completions),
}

/// Runs the program with the process's own arguments and surroundings; returns the exit code.
#[must_use]
pub fn main_with_environment() -> u8 {
    if let Some(code) = completion::answer_if_asked(Cli::command) {
        return code;
    }
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own text: help and version to stdout, complaints to stderr.
            let printed = error.print();
            return if printed.is_err() {
                Exit::OutputClosed.code()
            } else {
                u8::try_from(error.exit_code()).unwrap_or(2)
            };
        }
    };
    // What programs read is not for a pager.
    let is_paged = !cli.options.no_pager && !cli.options.json;
    let pager = is_paged.then(|| pager::Choice::of(|name| std::env::var_os(name))).flatten();
    let mut context = Context {
        output: Output::of_process(cli.options.color, pager),
        options: cli.options,
        folder: std::env::current_dir().unwrap_or_else(|_deleted| PathBuf::from("/")),
        machine: Machine::real(),
        clock: Clock::System,
        zone: TimeZone::system(),
        answers: std::io::stdin()
            .is_terminal()
            .then(|| Box::new(std::io::stdin().lock()) as Box<dyn std::io::BufRead>),
    };
    run(&cli.command, &mut context).code()
}

/// Reads the arguments, the program's name first.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = Cli::command().color(color_of_help(&arguments));
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Returns what `--color` says, read before the arguments are understood: help, and complaints about them, are coloured
/// as everything else.
fn color_of_help(arguments: &[OsString]) -> clap::ColorChoice {
    let before = arguments.iter().take_while(|argument| *argument != "--");
    let mut words = before.filter_map(|argument| argument.to_str()).flat_map(|argument| argument.split('='));
    let said = words.find(|word| *word == "--color").and_then(|_| words.next());
    match said.and_then(|word| ColorChoice::from_str(word, false).ok()).unwrap_or_default() {
        ColorChoice::Auto => clap::ColorChoice::Auto,
        ColorChoice::Always => clap::ColorChoice::Always,
        ColorChoice::Never => clap::ColorChoice::Never,
    }
}

/// Carries a command out and complains where it fails.
pub(crate) fn run(command: &Command, context: &mut Context) -> Exit {
    let ended = command.check_options(&context.options).and_then(|()| command.run(context));
    let was_paged = context.output.close();
    ended.unwrap_or_else(|error| {
        // Somebody left the pager: that is no fault.
        let is_left = was_paged && error.exit() == Exit::OutputClosed;
        if is_left { Exit::Done } else { complain(&error, context) }
    })
}

impl Command {
    /// Refuses `-s` and `--all` where they would be ignored: somebody who names a stack must not change another.
    fn check_options(&self, options: &Options) -> Result<(), CtlError> {
        let given = match (&options.stack, options.all) {
            (Some(_), _) => "-s",
            (None, true) => "--all",
            (None, false) => return Ok(()),
        };
        let (what, hint) = match self {
            Self::Up(_) | Self::Plan(_) | Self::Check(_) | Self::Config(_) => {
                ("this command takes its stack from a stack file", "-f FILE")
            }
            Self::Why(_) | Self::Exec(_) | Self::Shell(_) | Self::Cp(_) | Self::Paths(_) | Self::Rm(_) => {
                ("names of services are unique on the host", "the same with the name alone")
            }
            Self::Completions(_) => ("a script is of no stack", "nixmoxctl completions SHELL"),
            Self::Import(_) => ("the file that is imported names its stack", "nixmoxctl import compose FILE"),
            Self::Module(_) => ("the stacks are those of the folder", "nixmoxctl module up FOLDER"),
            Self::Schema(_) => ("a schema is of no stack", "nixmoxctl schema"),
            Self::Generations(_) | Self::Diff(_) => ("a generation is of the whole host", "the same without it"),
            Self::Rollback(_) if options.all => ("one stack at a time goes back", "-s STACK"),
            Self::Rollback(_) => return Ok(()),
            Self::Events(_) | Self::Analyze(_) | Self::Stacks(_) | Self::Gpu(_) | Self::Offload(_)
                if options.all =>
            {
                return Ok(());
            }
            Self::Analyze(_) => ("what came of the last request is of the whole host", "nixmoxctl analyze"),
            Self::Events(_) => {
                ("events are of the whole host, or of services that are named", "nixmoxctl events NAME")
            }
            Self::Gpu(_) => ("GPUs are of the whole host", "nixmoxctl gpu"),
            Self::Offload(_) => {
                ("models are told of the whole host, or of services that are named", "nixmoxctl offload NAME")
            }
            Self::Stacks(_) => ("all stacks are listed", "nixmoxctl stacks"),
            Self::Down(_)
            | Self::Status(_)
            | Self::Logs(_)
            | Self::Top(_)
            | Self::Graph(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Restart(_) => {
                return Ok(());
            }
        };
        Err(CtlError::Usage { what: format!("{what}; {given} means nothing here"), hint: hint.to_owned() })
    }

    fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        match self {
            Self::Up(up) => up.run(context),
            Self::Down(down) => down.run(context),
            Self::Status(status) => status.run(context),
            Self::Why(why) => why.run(context),
            Self::Top(top) => top.run(context),
            Self::Graph(graph) => graph.run(context),
            Self::Gpu(gpu) => gpu.run(context),
            Self::Offload(offload) => offload.run(context),
            Self::Logs(logs) => logs.run(context),
            Self::Events(events) => events.run(context),
            Self::Analyze(analyze) => analyze.run(context),
            Self::Plan(plan) => plan.run(context),
            Self::Start(start) => start.run(context),
            Self::Stop(stop) => stop.run(context),
            Self::Restart(restart) => restart.run(context),
            Self::Exec(exec) => exec.run(context),
            Self::Shell(shell) => shell.run(context),
            Self::Cp(cp) => cp.run(context),
            Self::Check(check) => check.run(context),
            Self::Config(config) => config.run(context),
            Self::Schema(schema) => schema.run(context),
            Self::Stacks(stacks) => stacks.run(context),
            Self::Generations(generations) => generations.run(context),
            Self::Diff(diff) => diff.run(context),
            Self::Rollback(rollback) => rollback.run(context),
            Self::Paths(paths) => paths.run(context),
            Self::Import(import) => import.run(context),
            Self::Module(module) => module.run(context),
            Self::Rm(rm) => rm.run(context),
            Self::Completions(completions) => completions.run(context),
        }
    }
}

/// Returns what the agent said when it refused, on a line.
fn as_json(refused: &AgentError) -> String {
    // A type of the wire can always be written.
    serde_json::to_string(refused).map(|line| line + "\n").unwrap_or_default()
}

/// Says why something failed; returns the exit code for it.
pub(crate) fn complain(error: &CtlError, context: &mut Context) -> Exit {
    let exit = error.exit();
    if exit == Exit::OutputClosed {
        return exit;
    }
    let agent_version = if error.is_of_versions() {
        block_on(async { Ok(Client::version(&context.options.socket).await) }).ok().flatten()
    } else {
        None
    };
    let about = Circumstances { machine: &context.machine, agent_version };
    let screen = context.output.screen();
    let text = match error {
        CtlError::Client(ClientError::Agent(refused)) if context.options.json => as_json(refused),
        CtlError::Manifest(manifest) => manifest.text(screen.error_width, screen.error_style),
        _ => error.report(&about).text(screen.error_width, screen.error_style),
    };
    // With stderr gone there is nobody left to tell.
    let _unheard = context.output.note(&text);
    exit
}
