//! A list of rules, reduced to a default and its exceptions.
//!
//! The OCI spec has an ordered list in which a later rule takes precedence. The kernel's devices
//! controller has a default and a set of exceptions, and asks: default deny, is there *one*
//! exception that covers the whole request; default allow, is there an exception that touches any
//! part of it ([devices](https://docs.kernel.org/admin-guide/cgroup-v1/devices.html)). Applying
//! the rules one after the other to such a set gives a result that no longer depends on an order,
//! means the same on both cgroup versions, and can be compared, stored and merged.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup};
use serde::{Deserialize, Serialize};

use super::rule::SpecRule;
use super::{Access, DeviceError, DeviceRule, DeviceType};

/// The device rules of one cgroup. The empty value denies everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRules {
    /// What happens to a device that no exception is about.
    default_allow: bool,
    /// What is treated the other way; sorted, none covered by another.
    exceptions: Vec<DeviceRule>,
}

/// The most rules that a spec may have. Each is compared with all before it, here and in the kernel.
pub const MAX_RULES: usize = 4096;

/// What every container gets, as in runc: its own terminals, the nodes that the spec says must
/// exist, and mknod of anything (a node is of no use without `r` or `w`).
const DEFAULTS: [(Option<&str>, DeviceRule); 10] = [
    (None, rule(DeviceType::Char, None, None, Access::MKNOD)),
    (None, rule(DeviceType::Block, None, None, Access::MKNOD)),
    (Some("/dev/null"), rule(DeviceType::Char, Some(1), Some(3), Access::ALL)),
    (Some("/dev/random"), rule(DeviceType::Char, Some(1), Some(8), Access::ALL)),
    (Some("/dev/full"), rule(DeviceType::Char, Some(1), Some(7), Access::ALL)),
    (Some("/dev/tty"), rule(DeviceType::Char, Some(5), Some(0), Access::ALL)),
    (Some("/dev/zero"), rule(DeviceType::Char, Some(1), Some(5), Access::ALL)),
    (Some("/dev/urandom"), rule(DeviceType::Char, Some(1), Some(9), Access::ALL)),
    (None, rule(DeviceType::Char, Some(136), None, Access::ALL)),
    (None, rule(DeviceType::Char, Some(5), Some(2), Access::ALL)),
];

const fn rule(
    kind: DeviceType,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
) -> DeviceRule {
    DeviceRule { kind, major, minor, access }
}

impl DeviceRules {
    /// Rules that deny everything.
    #[must_use]
    pub fn deny_all() -> Self {
        Self::default()
    }

    /// Rules that allow everything.
    #[must_use]
    pub fn allow_all() -> Self {
        Self { default_allow: true, exceptions: Vec::new() }
    }

    /// The rules of a container: `linux.resources.devices` on top of deny-all, then what every
    /// container gets. As in runc, a default node whose path is listed in `linux.devices` gets no
    /// rule of its own: the spec's rules decide about it.
    ///
    /// # Errors
    /// [`DeviceError::Invalid`] for a rule that no device can match, [`DeviceError::Hole`] for one
    /// that takes a part out of a wider one, [`DeviceError::TooMany`].
    pub fn for_container(
        rules: &[LinuxDeviceCgroup],
        nodes: &[LinuxDevice],
    ) -> Result<Self, DeviceError> {
        let mut all = Self::from_spec(rules)?;
        for (path, rule) in DEFAULTS {
            if path.is_none_or(|path| nodes.iter().all(|node| node.path() != Path::new(path))) {
                all.allow(rule)?;
            }
        }
        Ok(all)
    }

    /// The rules of the spec alone, on top of deny-all.
    ///
    /// # Errors
    /// As [`DeviceRules::for_container`].
    pub fn from_spec(rules: &[LinuxDeviceCgroup]) -> Result<Self, DeviceError> {
        if rules.len() > MAX_RULES {
            return Err(DeviceError::TooMany(rules.len()));
        }
        let mut all = Self::deny_all();
        for (index, rule) in rules.iter().enumerate() {
            let rule =
                SpecRule::parse(rule).map_err(|reason| DeviceError::Invalid { index, reason })?;
            all.apply(&rule)?;
        }
        Ok(all)
    }

    /// Allows some more: the GPU devices of the plan, at create and again at every update, whose
    /// resources come from an engine that does not know them.
    ///
    /// # Errors
    /// [`DeviceError::Hole`], where everything but a wider set of devices is allowed.
    pub fn allow_each<'r>(
        &mut self,
        rules: impl IntoIterator<Item = &'r DeviceRule>,
    ) -> Result<(), DeviceError> {
        rules.into_iter().try_for_each(|rule| self.allow(*rule))
    }

    /// Allows what `rule` covers.
    ///
    /// # Errors
    /// As [`DeviceRules::allow_each`].
    pub fn allow(&mut self, rule: DeviceRule) -> Result<(), DeviceError> {
        if self.default_allow {
            return self.subtract(&rule);
        }
        self.add(rule);
        Ok(())
    }

    /// Denies what `rule` covers.
    ///
    /// # Errors
    /// [`DeviceError::Hole`], where a wider set of devices is allowed.
    pub fn deny(&mut self, rule: DeviceRule) -> Result<(), DeviceError> {
        if !self.default_allow {
            return self.subtract(&rule);
        }
        self.add(rule);
        Ok(())
    }

    /// Whether nothing is denied.
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    /// What happens to a device that no exception is about.
    #[must_use]
    pub fn default_allow(&self) -> bool {
        self.default_allow
    }

    /// What is allowed (with a default of deny) or denied (with a default of allow).
    #[must_use]
    pub fn exceptions(&self) -> &[DeviceRule] {
        &self.exceptions
    }

    /// The kernel's answer to one request.
    #[must_use]
    pub fn verdict(&self, kind: DeviceType, major: u32, minor: u32, access: Access) -> bool {
        let excepted = self.exceptions.iter().any(|rule| {
            rule.kind == kind
                && rule.major.is_none_or(|number| number == major)
                && rule.minor.is_none_or(|number| number == minor)
                && if self.default_allow {
                    !rule.access.intersection(access).is_empty()
                } else {
                    rule.access.contains(access)
                }
        });
        excepted != self.default_allow
    }

    fn apply(&mut self, rule: &SpecRule) -> Result<(), DeviceError> {
        if rule.is_default() {
            *self = if rule.allow { Self::allow_all() } else { Self::deny_all() };
            return Ok(());
        }
        for kind in DeviceType::ALL {
            if rule.kind.is_none_or(|only| only == kind) {
                let SpecRule { allow, major, minor, access, .. } = *rule;
                let rule = DeviceRule { kind, major, minor, access };
                if allow { self.allow(rule)? } else { self.deny(rule)? }
            }
        }
        Ok(())
    }

    fn add(&mut self, mut new: DeviceRule) {
        // The kernel keeps one entry per set of devices and joins the access.
        if let Some(same) = self.exceptions.iter().find(|old| same_devices(old, &new)) {
            new.access = new.access.union(same.access);
        }
        let covered = |old: &DeviceRule| covers(old, &new) && old.access.contains(new.access);
        if self.exceptions.iter().any(covered) {
            return;
        }
        self.exceptions.retain(|old| !(covers(&new, old) && new.access.contains(old.access)));
        let place = self.exceptions.partition_point(|old| order(old) < order(&new));
        self.exceptions.insert(place, new);
    }

    fn subtract(&mut self, rule: &DeviceRule) -> Result<(), DeviceError> {
        for old in &mut self.exceptions {
            if !overlaps(rule, old) || old.access.intersection(rule.access).is_empty() {
                continue;
            }
            if !covers(rule, old) {
                return Err(DeviceError::Hole { rule: Box::new(*rule), wider: Box::new(*old) });
            }
            old.access = old.access.difference(rule.access);
        }
        self.exceptions.retain(|old| !old.access.is_empty());
        Ok(())
    }

    /// A rule set read from the kernel, whose entries are as the kernel keeps them.
    pub(super) fn from_list(rules: Vec<DeviceRule>) -> Self {
        let mut exceptions = rules;
        exceptions.sort_by_key(order);
        Self { default_allow: false, exceptions }
    }
}

/// The order in which exceptions are kept.
fn order(rule: &DeviceRule) -> (DeviceType, Option<u32>, Option<u32>) {
    (rule.kind, rule.major, rule.minor)
}

/// Whether two rules are about exactly the same devices.
pub(super) fn same_devices(a: &DeviceRule, b: &DeviceRule) -> bool {
    order(a) == order(b)
}

/// Whether every device of `inner` is one of `outer`'s.
fn covers(outer: &DeviceRule, inner: &DeviceRule) -> bool {
    let all = |outer: Option<u32>, inner: Option<u32>| outer.is_none() || outer == inner;
    outer.kind == inner.kind && all(outer.major, inner.major) && all(outer.minor, inner.minor)
}

/// Whether some device is in both.
fn overlaps(a: &DeviceRule, b: &DeviceRule) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    a.kind == b.kind && meet(a.major, b.major) && meet(a.minor, b.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Result<DeviceRules, DeviceError> {
        DeviceRules::from_spec(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
    }

    fn text(rules: &DeviceRules) -> String {
        let list: Vec<String> = rules.exceptions.iter().map(ToString::to_string).collect();
        format!("{}: {}", if rules.default_allow { "allow" } else { "deny" }, list.join(", "))
    }

    #[test]
    fn a_spec_without_rules_leaves_the_defaults_of_every_container() {
        let rules = DeviceRules::for_container(&[], &[]).unwrap();
        assert_eq!(
            text(&rules),
            "deny: c *:* m, c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, \
             c 5:2 rwm, c 136:* rwm, b *:* m"
        );
    }

    #[test]
    fn a_listed_default_node_gets_no_default_rule() {
        let node: LinuxDevice =
            serde_json::from_str(r#"{"path":"/dev/null","type":"c","major":1,"minor":3}"#).unwrap();
        let rules = DeviceRules::for_container(&[], &[node]).unwrap();
        assert!(!rules.verdict(DeviceType::Char, 1, 3, Access::READ));
        assert!(rules.verdict(DeviceType::Char, 1, 5, Access::READ));
    }

    #[test]
    fn a_privileged_container_may_do_everything() {
        let all = [serde_json::from_str(r#"{"allow":true,"access":"rwm"}"#).unwrap()];
        assert!(DeviceRules::for_container(&all, &[]).unwrap().allows_everything());
    }

    #[test]
    fn a_later_rule_takes_precedence() {
        let one = r#"{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"}"#;
        let none = r#"{"allow":false,"type":"c","major":10,"minor":229,"access":"wm"}"#;
        assert_eq!(text(&rules(&format!("[{one},{none}]")).unwrap()), "deny: c 10:229 r");
        assert_eq!(text(&rules(&format!("[{none},{one}]")).unwrap()), "deny: c 10:229 rwm");
        let deny_all = r#"{"allow":false,"access":"rwm"}"#;
        assert_eq!(text(&rules(&format!("[{one},{deny_all}]")).unwrap()), "deny: ");
        let deny_chars = r#"{"allow":false,"type":"c","access":"rw"}"#;
        assert_eq!(text(&rules(&format!("[{one},{deny_chars}]")).unwrap()), "deny: c 10:229 m");
    }

    #[test]
    fn a_hole_in_a_wider_rule_is_refused() {
        let err = rules(
            r#"[{"allow":true,"type":"c","major":195,"access":"rwm"},
                {"allow":false,"type":"c","major":195,"minor":0,"access":"r"}]"#,
        )
        .unwrap_err();
        let message = err.to_string();
        assert!(message.contains("c 195:0 r") && message.contains("c 195:* rwm"), "{message}");
        let err = rules(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","access":"m"},
                {"allow":true,"type":"b","major":8,"minor":0,"access":"m"}]"#,
        );
        assert!(matches!(err, Err(DeviceError::Hole { .. })));
    }

    #[test]
    fn type_a_with_a_number_is_not_taken_for_everything() {
        let rules = rules(r#"[{"allow":true,"type":"a","major":195,"access":"rw"}]"#).unwrap();
        assert_eq!(text(&rules), "deny: c 195:* rw, b 195:* rw");
    }

    #[test]
    fn what_a_wider_rule_covers_is_not_kept() {
        let wide = r#"{"allow":true,"type":"c","major":195,"access":"rwm"}"#;
        let narrow = r#"{"allow":true,"type":"c","major":195,"minor":3,"access":"rw"}"#;
        for list in [format!("[{wide},{narrow}]"), format!("[{narrow},{wide}]")] {
            assert_eq!(text(&rules(&list).unwrap()), "deny: c 195:* rwm");
        }
    }

    #[test]
    fn the_message_for_a_bad_rule_names_its_place_and_field() {
        let err = rules(
            r#"[{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":195,"minor":9999999,"access":"rw"}]"#,
        )
        .unwrap_err();
        assert_eq!(err.to_string(), "invalid device rule 1: minor 9999999 is not in 0..=1048575");
        let err = rules(r#"[{"allow":true,"type":"p","access":"r"}]"#).unwrap_err();
        assert!(err.to_string().contains("type \"p\""));
        assert!(rules(r#"[{"allow":true}]"#).unwrap_err().to_string().contains("access"));
    }

    #[test]
    fn there_is_an_end_to_the_rules_of_a_spec() {
        let rule: LinuxDeviceCgroup =
            serde_json::from_str(r#"{"allow":true,"type":"c","major":1,"access":"r"}"#).unwrap();
        let mut list = vec![rule.clone(); MAX_RULES];
        assert!(DeviceRules::from_spec(&list).is_ok());
        list.push(rule);
        let error = DeviceRules::from_spec(&list).unwrap_err().to_string();
        assert!(error.contains("4097 rules") && error.contains("4096"), "{error}");
    }

    #[test]
    fn gpu_rules_join_what_the_engine_sent() {
        let gpu = [0, 1, 255].map(|minor| DeviceRule {
            kind: DeviceType::Char,
            major: Some(195),
            minor: Some(minor),
            access: "rw".parse().unwrap(),
        });
        let mut rules = DeviceRules::for_container(&[], &[]).unwrap();
        rules.allow_each(&gpu).unwrap();
        assert!(rules.verdict(DeviceType::Char, 195, 255, "rw".parse().unwrap()));
        assert!(!rules.verdict(DeviceType::Char, 195, 2, Access::READ));
        let again = rules.clone();
        rules.allow_each(&gpu).unwrap();
        assert_eq!(rules, again);
        let mut everything = DeviceRules::allow_all();
        everything.allow_each(&gpu).unwrap();
        assert!(everything.allows_everything());
    }

    #[test]
    fn rules_survive_the_state_file() {
        let rules = DeviceRules::for_container(&[], &[]).unwrap();
        let json = serde_json::to_string(&rules).unwrap();
        assert!(json.contains(r#"{"type":"c","major":136,"minor":null,"access":"rwm"}"#), "{json}");
        assert_eq!(serde_json::from_str::<DeviceRules>(&json).unwrap(), rules);
    }
}
