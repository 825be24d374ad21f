//! criu's log file, quoted when something went wrong.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::Error;

use crate::container::json;
use crate::log;

/// How many lines before an error are shown.
const BEFORE: usize = 5;

/// The longest log that is looked through.
const LONGEST: u64 = 256 << 20;

/// The error with which a run of criu ended, with what its log says. The errors in `file` are
/// logged as warnings, each with the lines before it: like `grep -n -B5 Error`.
pub fn explain(error: Error, file: &Path, what: &str) -> Error {
    let Ok(bytes) = json::read(file, LONGEST) else { return error.context(what.to_owned()) };
    let text = String::from_utf8_lossy(&bytes);
    let quoted = errors(&text);
    if !quoted.is_empty() {
        log::warn(format_args!("--- Quoting {:?}", file.display().to_string()));
        quoted.iter().for_each(log::warn);
        log::warn("---");
    }
    let file = file.display();
    match reason(&text) {
        Some(reason) => error.context(format!("{what} (log file: {file}): {reason}")),
        None => error.context(format!("{what} (log file: {file})")),
    }
}

/// What criu could not do, in its own words: the last error but for the one that says that it
/// failed as a whole and what went wrong while it gave up.
pub(super) fn reason(text: &str) -> Option<&str> {
    let is_end = |line: &str| line.contains("FAILED");
    let errors: Vec<&str> =
        text.lines().filter_map(|line| Some(line.split_once("Error (")?.1)).collect();
    let end = errors.iter().position(|line| is_end(line)).unwrap_or(errors.len());
    let says_nothing = |line: &str| line.contains("failed with") || line.contains("exited, status");
    let line = errors.get(..end)?.iter().rev().find(|line| !says_nothing(line))?;
    Some(line.split_once("): ").map_or(*line, |(_, message)| message))
}

/// The lines with `Error` and what stands before them, numbered; `...` marks a gap.
pub(super) fn errors(text: &str) -> Vec<String> {
    let mut before: VecDeque<(usize, &str)> = VecDeque::new();
    let mut found = Vec::new();
    let mut last = 0;
    for (number, line) in (1..).zip(text.lines()) {
        before.push_back((number, line));
        if before.len() > BEFORE + 1 {
            before.pop_front();
        }
        if !line.contains("Error") {
            continue;
        }
        if last != 0 && before.front().is_some_and(|(first, _)| *first > last + 1) {
            found.push("...".to_owned());
        }
        found.extend(before.drain(..).map(|(number, line)| format!("{number}:{line}")));
        last = number;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{errors, reason};

    #[test]
    fn each_error_comes_with_five_lines_before_it_and_none_twice() {
        let mut text: Vec<String> = (1..=20).map(|n| format!("line {n}")).collect();
        text[7] = "Error one".into();
        text[9] = "Error two".into();
        text[19] = "Error three".into();
        let found = errors(&text.join("\n"));
        assert_eq!(found[0], "3:line 3");
        assert_eq!(found[5..8], ["8:Error one", "9:line 9", "10:Error two"]);
        assert_eq!(found[8..10], ["...", "15:line 15"]);
        assert_eq!(found.last().map(String::as_str), Some("20:Error three"));
        assert!(errors("all is well\n").is_empty());
    }

    #[test]
    fn the_reason_is_what_stopped_criu_and_not_that_it_stopped() {
        let text = "(00.07) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE\n\
            (00.18) Error (criu/files-reg.c:2): Can't lookup mount=27 for fd=2 path=/x\n\
            (00.18) Error (criu/cr-dump.c:3): Dump files (pid: 1) failed with -1\n\
            (00.23) Error (criu/cr-dump.c:4): Dumping FAILED.\n\
            (00.24) Error (criu/x.c:5): while giving up\n";
        assert_eq!(reason(text), Some("Can't lookup mount=27 for fd=2 path=/x"));
        assert_eq!(reason("fine\n"), None);
    }
}
