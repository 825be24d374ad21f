//! The command line: runc's, with `explain` added.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{
    ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand,
    ValueEnum,
};

use crate::commands;

/// An OCI container runtime with native GPU support.
#[derive(Debug, Parser)]
// Of an option given twice the last one counts, as with Go's flag packages: a wrapper may put its
// own `--root` before the caller's.
#[command(name = "gpurun", disable_version_flag = true, disable_help_subcommand = true)]
#[command(args_override_self = true)]
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
    #[arg(long, value_name = "BOOL", default_value = "auto", hide = true)]
    pub rootless: Rootless,
    /// Path to criu (accepted for compatibility)
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
    True,
    /// No
    False,
    /// If not started by root
    Auto,
}

/// No arguments.
#[derive(Debug, Args)]
pub struct Nothing {}

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
                cmd.subcommands([$(
                    Command::new($name).about(concat!($($about),+).trim()).defer(|cmd| {
                        let about = concat!($($about),+).trim();
                        <$args>::augment_args(cmd).about(about).long_about(None)
                    }),
                )+])
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
    /// Freeze a container
    Pause(commands::pause::Pause) = "pause",
    /// Thaw a container
    Resume(commands::pause::Resume) = "resume",
    /// Change the limits of a container
    Update(Box<commands::update::Update>) = "update",
    /// Write a config.json to start from
    Spec(commands::spec::Spec) = "spec",
    /// Print what this runtime can do as JSON
    Features(commands::features::Features) = "features",
    /// Print which GPUs and files a bundle would get, and why
    Explain(commands::explain::Explain) = "explain",
    /// Print the version
    Version(Nothing) = "version",
}

impl Cli {
    /// Parses a command line as runc's users write it: also long options with a single dash.
    ///
    /// # Errors
    /// clap's, which prints itself.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(double_dashes(args.into_iter().collect()))
    }
}

/// Go's flag parser takes `-bundle` for `--bundle`. Only what stands before the first positional
/// argument is an option of ours: what follows belongs to the container's program.
fn double_dashes(mut args: Vec<OsString>) -> Vec<OsString> {
    // Knowing the options costs time, and engines write two dashes.
    let may_be_long = |arg: &OsString| {
        let arg = arg.as_encoded_bytes();
        arg.len() > 2 && arg[0] == b'-' && arg[1] != b'-'
    };
    if !args.iter().skip(1).any(may_be_long) {
        return args;
    }
    let mut program = Cli::command();
    program.build();
    let mut command: &Command = &program;
    let mut index = 1;
    while index < args.len() {
        let Some(text) = args[index].to_str().map(str::to_owned) else { return args };
        index += 1;
        if text == "--" {
            return args;
        }
        let Some(name) = text.strip_prefix('-').filter(|name| !name.is_empty()) else {
            match command.find_subcommand(&text) {
                Some(found) => command = found,
                None => return args,
            }
            continue;
        };
        let (name, has_value) = match name.trim_start_matches('-').split_once('=') {
            Some((name, _)) => (name, true),
            None => (name.trim_start_matches('-'), false),
        };
        let long = command.get_arguments().find(|arg| arg.get_long() == Some(name));
        if long.is_some() && !text.starts_with("--") {
            args[index - 1] = OsString::from(format!("-{text}"));
        }
        let short =
            |arg: &&clap::Arg| name.chars().count() == 1 && arg.get_short() == name.chars().next();
        let option = long.or_else(|| command.get_arguments().find(short));
        if option.is_some_and(|arg| arg.get_action().takes_values()) && !has_value {
            index += 1;
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(args: &[&str]) -> Vec<String> {
        double_dashes(args.iter().map(OsString::from).collect())
            .into_iter()
            .map(|arg| arg.into_string().expect("utf-8"))
            .collect()
    }

    #[test]
    fn long_options_with_one_dash_are_understood_up_to_the_containers_own_arguments() {
        assert_eq!(
            doubled(&["gpurun", "-root", "/x", "create", "-bundle=b", "-pid-file", "p", "id"]),
            ["gpurun", "--root", "/x", "create", "--bundle=b", "--pid-file", "p", "id"]
        );
        assert_eq!(
            doubled(&["gpurun", "exec", "-u", "1", "id", "find", "-user", "-tty"]),
            ["gpurun", "exec", "-u", "1", "id", "find", "-user", "-tty"]
        );
        assert_eq!(doubled(&["gpurun", "kill", "id", "-9"]), ["gpurun", "kill", "id", "-9"]);
    }

    #[test]
    fn the_definition_has_no_contradiction() {
        Cli::command().debug_assert();
    }
}
