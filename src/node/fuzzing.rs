//! Diffs, and the installer's variables.

use super::diff;
use super::install::environment::Environment;
use crate::fuzzing::{Target, text};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "unified_diff", run: unified_diff },
    Target { name: "installer_environment", run: installer_environment },
];

/// Two texts with a zero byte between them.
fn unified_diff(data: &[u8]) {
    let text = text(data);
    let (before, after) = text.split_once('\0').unwrap_or((text, ""));
    let diff = diff::unified("f", Some(before), Some(after));
    assert_eq!(diff.is_empty(), before == after);
    assert_eq!(patched(before, &diff), after, "{diff}");
    for (one, other) in [(None, Some(after)), (Some(before), None)] {
        let diff = diff::unified("f", one, other);
        let after = other.unwrap_or_default();
        assert_eq!(patched(one.unwrap_or_default(), &diff), after, "{diff}");
    }
}

/// What patch(1) makes of a text, by the numbers in the heads of the hunks.
fn patched(before: &str, diff: &str) -> String {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let mut lines = diff.split_inclusive('\n').skip(2).peekable();
    let (mut at, mut out) = (0, String::new());
    while let Some(head) = lines.next() {
        let head = head.strip_prefix("@@ -").and_then(|head| head.strip_suffix(" @@\n"));
        let (from, to) = head.and_then(|head| head.split_once(" +")).expect("a head");
        let [from, to] = [from, to].map(|range| {
            let (begin, count) = range.split_once(',').unwrap_or((range, "1"));
            [begin, count].map(|number| number.parse::<usize>().expect("a number"))
        });
        // A range without lines stands behind the line that it names.
        let begin = from[0] - usize::from(from[1] > 0);
        out.extend(old[at..begin].iter().copied());
        assert_eq!(out.split_inclusive('\n').count(), to[0] - usize::from(to[1] > 0));
        at = begin;
        let (mut gone, mut new) = (0, 0);
        while gone < from[1] || new < to[1] {
            let line = lines.next().expect("as many lines as the head says");
            let (sign, mut line) = line.split_at(1);
            if lines.next_if_eq(&"\\ No newline at end of file\n").is_some() {
                line = line.strip_suffix('\n').expect("a line end that is not there");
            }
            if sign != "+" {
                assert_eq!(old[at], line, "not the line that is there");
                (at, gone) = (at + 1, gone + 1);
            }
            if sign != "-" {
                out += line;
                new += 1;
            }
            assert!([" ", "-", "+"].contains(&sign), "{sign:?}");
        }
    }
    out.extend(old[at..].iter().copied());
    out
}

/// Variables, one a line.
fn installer_environment(data: &[u8]) {
    let lines: Vec<(&str, &str)> =
        text(data).lines().filter_map(|line| line.split_once('=')).collect();
    let read = |extra: &str| {
        Environment::read(|name| {
            let found = lines.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned()).or_else(|| Some(extra.to_owned()))
        })
    };
    let found = Environment::read(|name| {
        lines.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    });
    assert_eq!(read(""), found, "an empty variable is not an absent one");
    match found {
        Ok(found) => {
            let values: Vec<&str> = lines.iter().map(|(_, value)| *value).collect();
            for name in &found.names {
                assert!(!name.is_empty() && name.trim() == name);
                assert!(values.iter().any(|value| value.contains(name.as_str())));
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\n'), "an error of two lines: {error}");
        }
    }
}
