//! The command line: runc's, with commands of gpurun's own.

pub(crate) mod go_flags;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use usage::UsageError;

use crate::commands;

/// How help looks: runc's headings.
const HELP: &str = "NAME:\n   {bin} - {about}\n\nUSAGE:\n   {usage}\n\n{all-args}{after-help}";

/// Which commands are whose.
const OWN: &str = "explain, doctor, gpu, cdi, node and hook are gpurun's own; the others are runc's.\n\
                   'gpurun help COMMAND' tells more about one.";

/// An OCI container runtime with native GPU support.
#[derive(Debug, Parser)]
#[command(
    name = "gpurun",
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_override_self = true,
    help_template = HELP,
    after_help = OWN
)]
pub struct Cli {
    /// Options before the command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Option<Subcommands>,
}

/// Options before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory of the containers' state [default: /run/gpurun]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Append log lines to this file instead of stderr
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log what is decided and why
    #[arg(long)]
    pub debug: bool,
    /// Have systemd manage the cgroups
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Ignore cgroup permission errors: true, false or auto
    #[arg(long, value_name = "BOOL", default_value = "auto")]
    pub rootless: Rootless,
    /// Ignored, as in runc: criu is looked for in $PATH
    #[arg(long, value_name = "PATH", hide = true)]
    pub criu: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::SetTrue)]
    pub version: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// logrus text
    Text,
    /// logrus JSON
    Json,
}

/// Whether to run without root's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    /// Yes
    #[value(aliases = ["1", "t", "T", "TRUE", "True"])]
    True,
    /// No
    #[value(aliases = ["0", "f", "F", "FALSE", "False"])]
    False,
    /// If not started by root
    #[value(aliases = ["AUTO", "Auto"])]
    Auto,
}

/// No arguments.
#[derive(Debug, Args)]
pub struct Nothing {}

/// The value of a switch that may be turned off as well as on.
///
/// # Errors
/// Go's words.
pub fn parse_bool(text: &str) -> Result<bool, &'static str> {
    go_flags::go_bool(text).ok_or("parse error")
}

/// Makes [`Subcommands`] and teaches clap about it as its derive macro would, but so that only the
/// options of the command that is given are built: a container's life is three short processes,
/// and building all commands' options is work that none of them needs.
macro_rules! subcommands {
    ($($(#[doc = $about:literal])+ $variant:ident($args:ty) = $name:literal,)+) => {
        /// The commands.
        #[derive(Debug)]
        pub enum Subcommands {
            $($(#[doc = $about])+ $variant($args),)+
        }

        impl Subcommand for Subcommands {
            fn augment_subcommands(cmd: Command) -> Command {
                // A table and a loop: one expression with all of them would take 50 KiB of stack.
                const ALL: &[(&str, &str, fn(Command) -> Command)] = &[$((
                    $name,
                    concat!($($about),+),
                    |cmd| finish(<$args>::augment_args(cmd), $name, concat!($($about),+)),
                ),)+];
                ALL.iter().fold(cmd, |cmd, (name, about, deferred)| {
                    cmd.subcommand(Command::new(*name).about(about.trim()).defer(*deferred))
                })
            }

            fn augment_subcommands_for_update(cmd: Command) -> Command {
                Self::augment_subcommands(cmd)
            }

            fn has_subcommand(name: &str) -> bool {
                [$($name),+].contains(&name)
            }
        }

        impl FromArgMatches for Subcommands {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($name, found)) => {
                        <$args>::from_arg_matches(found).map(Self::$variant)
                    })+
                    _ => Err(clap::Error::new(ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

/// What all commands have in common, and the same words about one in its help as in the list.
fn finish(cmd: Command, name: &str, about: &'static str) -> Command {
    cmd.about(about.trim())
        .long_about(None)
        .args_override_self(true)
        .help_template(help(name))
        .mut_subcommands(|inner| {
            let template = help(&format!("{name} {}", inner.get_name()));
            inner.help_template(template)
        })
}

fn help(command: &str) -> String {
    HELP.replace("{bin}", &format!("gpurun {command}"))
}

subcommands! {
    /// Create a container
    Create(commands::create::Create) = "create",
    /// Run the program of a created container
    Start(commands::start::Start) = "start",
    /// Print the state of a container as JSON
    State(commands::state::State) = "state",
    /// Send a signal to a container
    Kill(commands::kill::Kill) = "kill",
    /// Remove a container
    Delete(commands::delete::Delete) = "delete",
    /// Create a container, run its program and wait for it
    Run(commands::run::Run) = "run",
    /// Run another process in a container
    Exec(Box<commands::exec::Exec>) = "exec",
    /// List containers
    List(commands::list::List) = "list",
    /// List the processes of a container
    Ps(commands::ps::Ps) = "ps",
    /// Print what a container uses, and when it runs out of memory, as JSON lines
    Events(commands::events::Events) = "events",
    /// Freeze a container
    Pause(commands::pause::Pause) = "pause",
    /// Thaw a container
    Resume(commands::pause::Resume) = "resume",
    /// Save a running container to files with CRIU
    Checkpoint(Box<commands::checkpoint::Checkpoint>) = "checkpoint",
    /// Bring a saved container back with CRIU
    Restore(Box<commands::restore::Restore>) = "restore",
    /// Change the limits of a container
    Update(Box<commands::update::Update>) = "update",
    /// Write a config.json to start from
    Spec(commands::spec::Spec) = "spec",
    /// Print what this runtime can do as JSON
    Features(commands::features::Features) = "features",
    /// Print the version
    Version(Nothing) = "version",
    /// Print which GPUs and files a bundle would get, and why
    Explain(commands::explain::Explain) = "explain",
    /// Look what is wrong with this machine or with a bundle, and say what to do
    Doctor(commands::doctor::Doctor) = "doctor",
    /// List the GPUs of this machine and which containers have them
    Gpu(commands::gpu::Gpu) = "gpu",
    /// List, check or write the Container Device Interface files of this machine
    Cdi(commands::cdi::Cdi) = "cdi",
    /// Make gpurun a runtime of an engine on this machine, or install it
    Node(Box<commands::node::Node>) = "node",
    /// Do the work of a CDI file's hook, called by another runtime
    Hook(commands::hook::Hook) = "hook",
}

impl Cli {
    /// Parses a command line as runc's users write it.
    ///
    /// # Errors
    /// A request for help, or what is wrong.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, Refused> {
        let args = spell_out_help(args.into_iter().collect());
        let normal = go_flags::normalize(args.clone())
            .map_err(|message| Refused::Usage(UsageError::new(&args, message)))?;
        Self::try_parse_from(normal).map_err(|error| match error.use_stderr() {
            true => Refused::Usage(UsageError::from_clap(&args, &error)),
            false => Refused::Help(error),
        })
    }
}

/// `gpurun help COMMAND` as `gpurun COMMAND --help`. clap has such a command of its own, for which
/// it would copy all others on every call.
fn spell_out_help(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|arg| arg == "help" || arg == "h") {
        args.remove(1);
        args.push("--help".into());
    }
    args
}

/// Why there is nothing to carry out.
#[derive(Debug)]
pub enum Refused {
    /// Help was asked for; it prints itself.
    Help(clap::Error),
    /// The command line cannot be understood.
    Usage(UsageError),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_has_no_contradiction() {
        Cli::command().debug_assert();
    }
}
