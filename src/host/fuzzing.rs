//! ELF files and patterns.

use std::io::Write;

use rustix::fs::MemfdFlags;

use super::{elf, glob};
use crate::fuzzing::{Target, text};
use crate::gpu::compatibility;

pub(crate) const TARGETS: &[Target] =
    &[Target { name: "elf", run }, Target { name: "glob", run: glob }];

fn run(data: &[u8]) {
    let file = rustix::fs::memfd_create("elf", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut file = std::fs::File::from(file);
    file.write_all(data).expect("written");
    let found = elf::identify(&file);
    assert_eq!(elf::identify(&file), found);
    assert!(found.is_none() || data.starts_with(b"\x7fELF"));
    if let Some(soname) = found.and_then(|identity| identity.soname) {
        assert!(!soname.is_empty() && soname.len() <= 255 && soname != "." && soname != "..");
        assert!(soname.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
        assert!(data.windows(soname.len()).any(|window| window == soname.as_bytes()));
    }
    for limit in [16, compatibility::LONGEST_NOTE] {
        if let Some(section) = elf::section(&file, compatibility::SECTION, limit) {
            assert!(section.len() <= limit && section.len() <= data.len());
            let _ = compatibility::Note::from_section(&section);
        }
    }
}

/// A pattern and names, one a line.
fn glob(data: &[u8]) {
    let mut lines = text(data).split('\n');
    let pattern = lines.next().unwrap_or_default();
    // The oracle takes time and room by the product.
    let pattern: String = pattern.chars().take(256).collect();
    for name in lines.take(16) {
        let name: String = name.chars().take(256).collect();
        assert_eq!(glob::matches(&pattern, &name), oracle(&pattern, &name), "{pattern} {name}");
        if !glob::is_pattern(&pattern) {
            assert_eq!(glob::matches(&pattern, &name), pattern == name);
        }
    }
}

/// A part of a pattern.
enum Part {
    Any,
    One(Box<dyn Fn(char) -> bool>),
}

/// The parts of a pattern; one that is cut off stands for no character.
fn parts(pattern: &str) -> Vec<Part> {
    let mut rest = pattern.chars();
    let mut parts = Vec::new();
    while let Some(first) = rest.next() {
        let part = match first {
            '*' => Part::Any,
            '?' => Part::One(Box::new(|_| true)),
            '[' => match set(rest.as_str()) {
                Some((is_in, after)) => {
                    rest = after.chars();
                    Part::One(is_in)
                }
                None => Part::One(Box::new(|_| false)),
            },
            literal => Part::One(Box::new(move |c| c == literal)),
        };
        parts.push(part);
    }
    parts
}

type Set = Box<dyn Fn(char) -> bool>;

/// A set, of which the text begins behind the bracket, and what follows it. A bracket that is first
/// is one of the set.
fn set(text: &str) -> Option<(Set, &str)> {
    let first = text.chars().next()?.len_utf8();
    let end = first + text[first..].find(']')?;
    let inside: Vec<char> = text[..end].chars().collect();
    let (is_not, inside) = match inside.first() {
        Some('^' | '!') => (true, inside[1..].to_vec()),
        _ => (false, inside),
    };
    let is_in = move |c: char| {
        let (mut at, mut found) = (0, false);
        while at < inside.len() {
            let is_range = inside.get(at + 1) == Some(&'-') && at + 2 < inside.len();
            let last = if is_range { inside[at + 2] } else { inside[at] };
            found |= (inside[at]..=last).contains(&c);
            at += if is_range { 3 } else { 1 };
        }
        found != is_not
    };
    Some((Box::new(is_in), &text[end + 1..]))
}

/// Every way to match at once, a character of the name after the other.
fn oracle(pattern: &str, name: &str) -> bool {
    let parts = parts(pattern);
    let skip_stars = |reached: &mut Vec<bool>| {
        for (at, part) in parts.iter().enumerate() {
            reached[at + 1] |= reached[at] && matches!(part, Part::Any);
        }
    };
    let mut reached = vec![false; parts.len() + 1];
    reached[0] = true;
    skip_stars(&mut reached);
    for character in name.chars() {
        let mut next = vec![false; parts.len() + 1];
        for (at, part) in parts.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match part {
                Part::Any => next[at] = true,
                Part::One(is_it) => next[at + 1] |= is_it(character),
            }
        }
        skip_stars(&mut next);
        reached = next;
    }
    reached[parts.len()]
}
