//! One thin file per subcommand: its arguments, one call into [`crate::container`], its output.

/// In the commands below this hides std's macro, which panics when stdout does not take the text.
macro_rules! print {
    ($($text:tt)*) => { $crate::commands::output::print_or_end(format_args!($($text)*)) };
}

/// As `print!`, with a line end.
macro_rules! println {
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}

pub mod cdi;
pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod explain;
pub mod features;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod gpu;
pub mod hook;
pub mod kill;
pub mod list;
pub mod node;
mod output;
pub mod pause;
pub mod ps;
pub mod restore;
mod root;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;
pub mod version;

use anyhow::{Context, Error, Result};
use clap::CommandFactory;

use crate::cli::{Cli, Global, Rootless, Subcommands};
use crate::container::id::ContainerId;
use crate::container::state::Container;

/// A failed command and its exit status.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// What the caller sees: 1, or 255 where runc's callers expect that.
    pub status: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, status: 1 }
    }
}

/// Carries out the command and returns the exit status: the container's for attached ones.
///
/// # Errors
/// Why it could not be done.
pub fn run(cli: Cli) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    if global.version {
        version::print()?;
        return Ok(0);
    }
    let Some(command) = command else {
        Cli::command().print_help().context("cannot print the help")?;
        return Ok(0);
    };
    match command {
        Subcommands::Run(command) => return Ok(command.run(&global)?),
        Subcommands::Restore(command) => return Ok(command.run(&global)?),
        Subcommands::Doctor(command) => return Ok(command.run(&global)?),
        Subcommands::Exec(command) => {
            return command
                .run(&global)
                .map_err(|error| Failure { error: error.context("exec failed"), status: 255 });
        }
        Subcommands::Create(command) => command.run(&global)?,
        Subcommands::Start(command) => command.run(&global)?,
        Subcommands::State(command) => command.run(&global)?,
        Subcommands::Kill(command) => command.run(&global)?,
        Subcommands::Delete(command) => command.run(&global)?,
        Subcommands::List(command) => command.run(&global)?,
        Subcommands::Ps(command) => command.run(&global)?,
        Subcommands::Events(command) => command.run(&global)?,
        Subcommands::Checkpoint(command) => command.run(&global)?,
        Subcommands::Pause(command) => command.run(&global)?,
        Subcommands::Resume(command) => command.run(&global)?,
        Subcommands::Update(command) => command.run(&global)?,
        Subcommands::Spec(command) => command.run()?,
        Subcommands::Features(command) => command.run()?,
        Subcommands::Explain(command) => command.run()?,
        Subcommands::Cdi(command) => command.run()?,
        Subcommands::Hook(command) => command.run()?,
        Subcommands::Gpu(command) => command.run(&global)?,
        Subcommands::Node(command) => command.run()?,
        Subcommands::Version(_) => version::print()?,
    }
    Ok(0)
}

/// `--rootless`: `None` for `auto`.
fn rootless(global: &Global) -> Option<bool> {
    match global.rootless {
        Rootless::True => Some(true),
        Rootless::False => Some(false),
        Rootless::Auto => None,
    }
}

/// The container that the arguments name.
fn load(global: &Global, id: &str) -> Result<Container> {
    let id = ContainerId::parse(id)?;
    Ok(Container::load(&root::store(global)?, &id)?)
}
