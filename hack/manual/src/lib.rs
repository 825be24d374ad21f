//! What of gpurun's package is written by a program: man pages, completions, the example
//! configuration. All of it comes from where it is defined: the command line, and
//! docs/configuration.md.

pub mod completions;
pub mod configuration;
pub mod pages;

use clap::{Command, CommandFactory};

/// gpurun's command line, all of it.
#[must_use]
pub fn command() -> Command {
    let mut command = gpurun::cli::Cli::command();
    command.build();
    command
}
