//! Device rules as properties of the unit.
//!
//! systemd writes its own device program (v2) or the files (v1) again whenever it looks at the
//! unit anew: on daemon-reload, daemon-reexec, set-property. What it does not know is gone then:
//! so each rule of the container, the GPUs' too, is one of its `DeviceAllow=` as well.

use super::Property;
use super::dbus::Value;
use crate::cgroup::devices::{DeviceRule, DeviceRules, DeviceType};
use crate::cgroup::{CgroupError, Mode};

/// The first systemd that takes device numbers without a node or a name for them.
const NUMBERS: u32 = 240;

/// The properties that replace the unit's device rules by these. `names` reads /proc/devices.
///
/// systemd can hold "nothing but these". Where that is not enough (everything but these; a minor
/// number of any major), v2 has gpurun's own program beside systemd's, which therefore gets
/// something wider; on v1 there is one list, which systemd would overwrite.
///
/// # Errors
/// A rule that cannot be kept on v1.
pub(super) fn properties(
    rules: &DeviceRules,
    mode: Mode,
    version: u32,
    names: impl Fn() -> String,
) -> Result<Vec<Property>, CgroupError> {
    let v1 = mode != Mode::V2;
    if rules.default_allow() {
        return match rules.exceptions().first().filter(|_| v1) {
            Some(rule) => Err(refuse(rule, "systemd cannot forbid single devices on cgroup v1")),
            None => Ok(policy("auto", Vec::new())),
        };
    }
    let names = (version < NUMBERS).then(names);
    let mut entries = Vec::new();
    for rule in rules.exceptions() {
        if v1 && rule.major.is_none() && rule.minor.is_some() {
            let reason = "systemd cannot allow one minor number of every major on cgroup v1";
            return Err(refuse(rule, reason));
        }
        entries.extend(path(rule, names.as_deref()).map(|path| (path, rule.access.to_string())));
    }
    Ok(policy("strict", entries))
}

fn refuse(rule: &DeviceRule, reason: &str) -> CgroupError {
    CgroupError::Value {
        field: format!("linux.resources.devices `{rule}`"),
        reason: format!("{reason}; list what is allowed instead, or use the cgroupfs driver"),
    }
}

fn policy(name: &str, entries: Vec<(String, String)>) -> Vec<Property> {
    let list = |entries: Vec<(String, String)>| {
        let entry = |(path, access)| Value::Struct(vec![Value::Text(path), Value::Text(access)]);
        Value::Array("(ss)".to_owned(), entries.into_iter().map(entry).collect())
    };
    vec![
        Property::new("DevicePolicy", Value::text(name)),
        // An empty list takes away what was there; what follows is added.
        Property::new("DeviceAllow", list(Vec::new())),
        Property::new("DeviceAllow", list(entries)),
    ]
}

/// How systemd names these devices (systemd.resource-control(5)). `names` is /proc/devices for a
/// systemd that cannot take numbers, and `None` comes back when that does not know a major.
fn path(rule: &DeviceRule, names: Option<&str>) -> Option<String> {
    let kind = match rule.kind {
        DeviceType::Char => "char",
        DeviceType::Block => "block",
    };
    match (rule.major, rule.minor, names) {
        (Some(major), Some(minor), _) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None, None) => Some(format!("{kind}-{major}")),
        (Some(major), None, Some(names)) => {
            driver(names, rule.kind, major).map(|name| format!("{kind}-{name}"))
        }
        // Wider than a rule with a minor number is; our own program is not.
        (None, _, _) => Some(format!("{kind}-*")),
    }
}

/// The name of a major number in /proc/devices.
pub(super) fn driver(names: &str, kind: DeviceType, major: u32) -> Option<&str> {
    let heading = match kind {
        DeviceType::Char => "Character devices:",
        DeviceType::Block => "Block devices:",
    };
    let section = names.lines().skip_while(|line| *line != heading).skip(1);
    section.take_while(|line| !line.is_empty()).find_map(|line| {
        let (number, name) = line.trim_start().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str =
        "Character devices:\n  1 mem\n195 nvidia-frontend\n\nBlock devices:\n  8 sd\n";

    fn rule(kind: DeviceType, major: Option<u32>, minor: Option<u32>) -> DeviceRule {
        DeviceRule { kind, major, minor, access: "rw".parse().unwrap() }
    }

    fn allowed(rules: &[DeviceRule], mode: Mode, version: u32) -> Result<String, String> {
        let mut all = DeviceRules::deny_all();
        all.allow_each(rules).unwrap();
        let properties =
            properties(&all, mode, version, || NAMES.to_owned()).map_err(|err| err.to_string())?;
        assert_eq!(properties[0].value, Value::text("strict"));
        assert_eq!(properties[1].value, Value::Array("(ss)".to_owned(), Vec::new()));
        Ok(format!("{:?}", properties[2].value))
    }

    #[test]
    fn each_allowed_device_is_named_to_systemd() {
        let (c, b) = (DeviceType::Char, DeviceType::Block);
        let text = allowed(&[rule(c, Some(195), Some(0)), rule(c, Some(136), None)], Mode::V1, 252)
            .unwrap();
        assert!(text.contains("\"/dev/char/195:0\"") && text.contains("\"char-136\""), "{text}");
        assert!(text.contains("Text(\"rw\")"), "{text}");
        assert!(
            allowed(&[rule(b, Some(8), None)], Mode::V1, 239).unwrap().contains("\"block-sd\"")
        );
        assert!(allowed(&[rule(b, None, None)], Mode::V1, 252).unwrap().contains("\"block-*\""));
        assert_eq!(driver(NAMES, c, 195), Some("nvidia-frontend"));
        assert_eq!(driver(NAMES, c, 8), None);
    }

    #[test]
    fn what_systemd_cannot_hold_is_left_to_our_program_or_refused() {
        let odd = [rule(DeviceType::Char, None, Some(3))];
        assert!(allowed(&odd, Mode::V2, 252).unwrap().contains("\"char-*\""));
        assert!(allowed(&odd, Mode::Hybrid, 252).unwrap_err().contains("`c *:3 rw`"));
        let mut all_but = DeviceRules::allow_all();
        assert_eq!(
            properties(&all_but, Mode::V1, 252, String::new).unwrap()[0].value,
            Value::text("auto")
        );
        all_but.deny(rule(DeviceType::Char, Some(1), Some(1))).unwrap();
        assert!(properties(&all_but, Mode::V2, 252, String::new).is_ok());
        assert!(properties(&all_but, Mode::V1, 252, String::new).is_err());
    }
}
