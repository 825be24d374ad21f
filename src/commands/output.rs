//! What a command prints. A reader that has gone is an error, never a panic.

use std::io::Write;

use anyhow::{Context, Result};

/// Writes `text` to stdout as it is.
///
/// # Errors
/// stdout is closed or full.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write to stdout")
}
