//! What a command prints.

use std::fmt::Arguments;
use std::io::Write;

use crate::log;

/// Writes to stdout. Where that fails (a full disk, a reader that has gone) the command ends with
/// an error: half an answer must not pass for one.
pub(super) fn print(text: Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        log::fatal(&format!("cannot write to stdout: {error}"));
        std::process::exit(1);
    }
}
