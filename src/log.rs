//! The log: logrus-shaped lines, as engines read them.
//!
//! stdout and stderr of most commands belong to the container, so nothing is written there but
//! the one line of a fatal error. With `--log FILE` every line is appended to that file, which
//! several commands share.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;

/// The longest message; what a bundle says can be of any length.
const MAX_MESSAGE: usize = 8 << 10;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

#[derive(Debug)]
struct Logger {
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

/// Opens the log once, at the start of the program.
///
/// # Errors
/// When the file cannot be opened for appending.
pub fn open(path: Option<&Path>, format: Format, debug: bool) -> io::Result<()> {
    let file = path
        .map(|path| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .custom_flags(libc::O_NONBLOCK)
                .open(path)
        })
        .transpose()?;
    let _ = LOGGER.set(Logger { file, format, debug });
    Ok(())
}

/// An error with its causes on one line. Messages of most of our errors end with their cause
/// already, or have the remedy after it: nothing is said twice.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !line.ends_with(&text) && !line.contains(&format!("{text}; ")) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// Something that a person who looks for a reason wants to know.
pub fn debug(message: impl Display) {
    if LOGGER.get().is_some_and(|logger| logger.debug) {
        write("debug", &message.to_string());
    }
}

/// Something that went on differently than asked.
pub fn warn(message: impl Display) {
    // Without a file the container's stderr is all there is, and it is not ours.
    if LOGGER.get().is_some_and(|logger| logger.file.is_some() || logger.debug) {
        write("warning", &message.to_string());
    }
}

/// The reason for a failure: into the log, and as one line on stderr.
pub fn fatal(message: &str) {
    write("error", message);
    if LOGGER.get().is_some_and(|logger| logger.file.is_some()) {
        to_stderr(message);
    }
}

/// One line on stderr, which may be full or closed: `eprintln!` would panic. It may be a terminal
/// as well, and the message name what a bundle or an image says: no control character is written.
pub fn to_stderr(message: &str) {
    let mut line = String::with_capacity(message.len().min(MAX_MESSAGE) + 1);
    for letter in shortened(message, MAX_MESSAGE).chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}

/// A text that is longer than `limit` bytes loses its middle: what it is about stands at its
/// beginning, the reason at its end.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    const GAP: &str = " … ";
    let half = limit.saturating_sub(GAP.len()) / 2;
    let (mut head, mut tail) = (half, text.len() - half);
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    let part = |range| text.get(range).unwrap_or_default();
    format!("{}{GAP}{}", part(0..head), part(tail..text.len())).into()
}

fn write(level: &str, message: &str) {
    let message = &*shortened(message, MAX_MESSAGE);
    let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let format = LOGGER.get().map_or(Format::Text, |logger| logger.format);
    let mut line = match format {
        Format::Json => {
            serde_json::to_string(&Line { level, msg: message, time: &time }).unwrap_or_default()
        }
        Format::Text => format!("time={time:?} level={level} msg={message:?}"),
    };
    line.push('\n');
    // One write a line: other commands append to the same file.
    let _ = match LOGGER.get().and_then(|logger| logger.file.as_ref()) {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::one_line;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read x: {source}")]
    struct Failed {
        source: std::io::Error,
    }

    #[test]
    fn a_cause_that_the_message_names_already_is_not_repeated() {
        let source = std::io::Error::from_raw_os_error(libc::ENOENT);
        let error = Err::<(), _>(Failed { source }).context("cannot start").expect_err("error");
        assert_eq!(
            one_line(&error),
            "cannot start: cannot read x: No such file or directory (os error 2)"
        );
    }
}
