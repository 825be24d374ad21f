//! criu's log file, quoted when something went wrong.

use std::collections::VecDeque;
use std::path::Path;

use crate::container::json;
use crate::log;

/// How many lines before an error are shown.
const BEFORE: usize = 5;

/// The longest log that is looked through.
const LONGEST: u64 = 256 << 20;

/// Logs the errors in `file` as warnings, each with the lines before it: like `grep -n -B5 Error`.
pub fn quote(file: &Path) {
    let bytes = match json::read(file, LONGEST) {
        Ok(bytes) => bytes,
        Err(err) => return log::warn(format_args!("{}: {err}", file.display())),
    };
    let lines = errors(&String::from_utf8_lossy(&bytes));
    if lines.is_empty() {
        return;
    }
    log::warn(format_args!("--- Quoting {:?}", file.display().to_string()));
    for line in lines {
        log::warn(line);
    }
    log::warn("---");
}

/// The lines with `Error` and what stands before them, numbered; `...` marks a gap.
fn errors(text: &str) -> Vec<String> {
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
    use super::errors;

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
}
