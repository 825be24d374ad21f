//! What a command prints. A reader that has gone is an error, never a panic.

use std::fmt::Arguments;
use std::io::Write;

use anyhow::{Context, Result};

use crate::log;

/// Writes `text` to stdout as it is.
///
/// # Errors
/// stdout is closed or full.
pub fn print(text: &str) -> Result<()> {
    write(format_args!("{text}"))
}

/// Writes to stdout. Where that fails (a full disk, a reader that has gone) the command ends with
/// an error: half an answer must not pass for one.
pub(super) fn print_or_end(text: Arguments<'_>) {
    if let Err(error) = write(text) {
        log::fatal(&log::one_line(&error));
        std::process::exit(1);
    }
}

fn write(text: Arguments<'_>) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_fmt(text).and_then(|()| stdout.flush()).context("cannot write to stdout")
}
