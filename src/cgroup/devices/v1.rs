//! The devices controller of cgroup v1: `devices.list`, `devices.allow`, `devices.deny`.
//!
//! Only the difference between what the kernel holds and what is wanted is written, so that a
//! device that is allowed before and after an update is allowed all the time.

use std::path::Path;

use super::rules::same_devices;
use super::{Access, DeviceError, DeviceRule, DeviceRules, DeviceType};
use crate::cgroup::CgroupError;
use crate::cgroup::file;

/// One write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroup) enum Change {
    /// `a` to `devices.allow`: everything, and the exceptions are forgotten.
    AllowAll,
    /// `a` to `devices.deny`: nothing, and the exceptions are forgotten.
    DenyAll,
    /// A line to `devices.allow`.
    Allow(DeviceRule),
    /// A line to `devices.deny`.
    Deny(DeviceRule),
}

/// What leads from the rules in force to the wanted ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::cgroup) struct Transition(pub(super) Vec<Change>);

impl Transition {
    /// Whether devices that are allowed (or denied) before and after are not in between, so that
    /// the processes of the cgroup must stand still meanwhile.
    pub fn is_disruptive(&self) -> bool {
        self.0.len() > 1 && matches!(self.0.first(), Some(Change::AllowAll | Change::DenyAll))
    }
}

/// Reads what is in force and computes what to write.
pub(in crate::cgroup) fn plan(dir: &Path, wanted: &DeviceRules) -> Result<Transition, CgroupError> {
    Ok(transition(&current(dir)?, wanted))
}

/// Writes a transition and reads the result back.
pub(in crate::cgroup) fn write(
    dir: &Path,
    transition: &Transition,
    wanted: &DeviceRules,
) -> Result<(), CgroupError> {
    let mut allow = file::Writer::new(dir, "devices.allow");
    let mut deny = file::Writer::new(dir, "devices.deny");
    for change in &transition.0 {
        match change {
            Change::AllowAll => allow.write("a")?,
            Change::DenyAll => deny.write("a")?,
            Change::Allow(rule) => allow.write(&rule.to_string())?,
            Change::Deny(rule) => deny.write(&rule.to_string())?,
        }
    }
    let after = current(dir)?;
    if let Some(difference) = difference(&after, wanted) {
        return Err(DeviceError::Mismatch { file: dir.join("devices.list"), difference }.into());
    }
    Ok(())
}

/// What `devices.list` says. With a default of allow, the kernel does not tell the exceptions.
fn current(dir: &Path) -> Result<DeviceRules, CgroupError> {
    let text = file::read(dir, "devices.list")?;
    parse(&text).map_err(|line| {
        DeviceError::List { file: dir.join("devices.list"), line: line.to_owned() }.into()
    })
}

/// Parses the lines of `devices.list`; the error is the line.
pub(super) fn parse(text: &str) -> Result<DeviceRules, &str> {
    let mut rules = Vec::new();
    for line in text.lines() {
        match parse_line(line) {
            Some(Line::Everything) => return Ok(DeviceRules::allow_all()),
            Some(Line::Rule(rule)) => rules.push(rule),
            None => return Err(line),
        }
    }
    Ok(DeviceRules::from_list(rules))
}

enum Line {
    Everything,
    Rule(DeviceRule),
}

fn parse_line(line: &str) -> Option<Line> {
    let mut fields = line.split_ascii_whitespace();
    let kind = match fields.next()? {
        "a" => return Some(Line::Everything),
        "c" => DeviceType::Char,
        "b" => DeviceType::Block,
        _ => return None,
    };
    let (major, minor) = fields.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    let access = fields.next()?.parse().ok()?;
    let rule = DeviceRule { kind, major: number(major)?, minor: number(minor)?, access };
    fields.next().is_none().then_some(Line::Rule(rule))
}

pub(super) fn transition(from: &DeviceRules, to: &DeviceRules) -> Transition {
    let mut changes = Vec::new();
    let mut old = from.exceptions();
    // The exceptions to a default of allow are unknown and have to be forgotten by the kernel.
    if from.default_allow() || from.default_allow() != to.default_allow() {
        changes.push(if to.default_allow() { Change::AllowAll } else { Change::DenyAll });
        old = &[];
    }
    let access_of = |rules: &[DeviceRule], rule: &DeviceRule| {
        rules.iter().find(|other| same_devices(other, rule)).map_or(Access::NONE, |r| r.access)
    };
    let missing = |from: &[DeviceRule], to: &[DeviceRule]| -> Vec<DeviceRule> {
        let rest = |rule: &DeviceRule| DeviceRule {
            access: rule.access.difference(access_of(from, rule)),
            ..*rule
        };
        to.iter().map(rest).filter(|rule| !rule.access.is_empty()).collect()
    };
    // First what is new, then what goes: a node that moves from a narrow rule to a wide one is
    // never without either.
    for rule in missing(old, to.exceptions()) {
        changes.push(if to.default_allow() { Change::Deny(rule) } else { Change::Allow(rule) });
    }
    for rule in missing(to.exceptions(), old) {
        changes.push(if to.default_allow() { Change::Allow(rule) } else { Change::Deny(rule) });
    }
    Transition(changes)
}

/// The first thing in which the kernel's list is not the wanted one.
fn difference(got: &DeviceRules, wanted: &DeviceRules) -> Option<String> {
    if got.default_allow() != wanted.default_allow() {
        let word = |rules: &DeviceRules| {
            if rules.default_allow() { "allow" } else { "deny" }
        };
        return Some(format!("the default is {}, not {}", word(got), word(wanted)));
    }
    if wanted.default_allow() {
        return None;
    }
    let missing = wanted.exceptions().iter().find(|rule| !got.exceptions().contains(rule));
    let extra = got.exceptions().iter().find(|rule| !wanted.exceptions().contains(rule));
    missing
        .map(|rule| format!("`{rule}` is missing"))
        .or_else(|| extra.map(|rule| format!("`{rule}` is too much")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> DeviceRules {
        parse(text).unwrap()
    }

    fn text(transition: &Transition) -> Vec<String> {
        let line = |change: &Change| match change {
            Change::AllowAll => "allow a".to_owned(),
            Change::DenyAll => "deny a".to_owned(),
            Change::Allow(rule) => format!("allow {rule}"),
            Change::Deny(rule) => format!("deny {rule}"),
        };
        transition.0.iter().map(line).collect()
    }

    #[test]
    fn a_fresh_cgroup_that_allows_everything_is_closed_first() {
        let to = list("c 1:3 rwm\n");
        let transition = transition(&list("a *:* rwm\n"), &to);
        assert_eq!(text(&transition), ["deny a", "allow c 1:3 rwm"]);
        assert!(transition.is_disruptive());
    }

    #[test]
    fn an_update_writes_the_difference_only_and_opens_before_it_closes() {
        let from = list("c 1:3 rwm\nc 195:0 rw\nc 10:229 r\n");
        let to = list("c 1:3 rwm\nc 195:* rw\nc 10:229 rw\n");
        let transition = transition(&from, &to);
        assert_eq!(text(&transition), ["allow c 10:229 w", "allow c 195:* rw", "deny c 195:0 rw"]);
        assert!(!transition.is_disruptive());
        assert!(text(&super::transition(&to, &to)).is_empty());
    }

    #[test]
    fn a_list_that_the_kernel_would_not_write_is_refused() {
        for line in ["x 1:3 r", "c 1 r", "c 1:x r", "c 1:3", "c 1:3 r extra", "c 1:3 z"] {
            assert_eq!(parse(line), Err(line));
        }
        assert_eq!(parse(""), Ok(DeviceRules::deny_all()));
    }
}
