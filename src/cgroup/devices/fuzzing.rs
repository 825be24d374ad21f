//! Device rules: what the spec's list means, what the list of exceptions says, what the program
//! answers, and what cgroup v1's files come to hold.

use oci_spec::runtime::LinuxDeviceCgroup;
use serde_json::json;

use super::rules::same_devices;
use super::v1::{self, Change};
use super::{Access, DeviceRule, DeviceRules, DeviceType, interpreter, program};
use crate::fuzzing::{Choices, Target, text};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "device_rules", run: device_rules },
    Target { name: "devices_list", run: devices_list },
];

const ACCESS: [&str; 8] = ["rwm", "r", "w", "m", "rw", "rm", "wm", "mwr"];
/// Few numbers, so that rules meet, and the ends of what there is.
const MAJORS: [i64; 6] = [-1, 0, 1, 195, 4094, 4095];
const MINORS: [i64; 12] = [-1, 0, 1, 2, 3, 4, 5, 6, 254, 255, 0xf_fffe, 0xf_ffff];

/// One rule as the spec has it.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    allow: bool,
    kind: &'static str,
    major: i64,
    minor: i64,
    access: &'static str,
}

impl Wanted {
    fn read(choices: &mut Choices<'_>) -> Self {
        let first = choices.byte();
        Self {
            allow: first & 1 == 1,
            kind: ["a", "c", "c", "b"][usize::from(first >> 1) % 4],
            major: choices.one(&MAJORS),
            minor: choices.one(&MINORS),
            access: ACCESS[usize::from(first >> 4) % ACCESS.len()],
        }
    }

    fn spec(&self) -> LinuxDeviceCgroup {
        let Self { allow, kind, major, minor, access } = self;
        let rule = json!({"allow": allow, "type": kind, "major": major, "minor": minor,
                          "access": access});
        serde_json::from_value(rule).unwrap()
    }

    fn is_about(&self, kind: DeviceType, major: u32, minor: u32, access: &str) -> bool {
        (self.kind == "a" || self.kind == kind.letter().to_string())
            && (self.major == -1 || self.major == i64::from(major))
            && (self.minor == -1 || self.minor == i64::from(minor))
            && self.access.contains(access)
    }
}

/// The last rule that is about the device and this access decides; without one it is denied.
fn oracle(list: &[Wanted], kind: DeviceType, major: u32, minor: u32, access: &str) -> bool {
    list.iter()
        .rev()
        .find(|rule| rule.is_about(kind, major, minor, access))
        .is_some_and(|r| r.allow)
}

fn device_rules(data: &[u8]) {
    let mut choices = Choices(data);
    let mut list = Vec::new();
    while !choices.is_empty() && list.len() < 64 {
        list.push(Wanted::read(&mut choices));
    }
    // A part taken out of something wider is refused; the rules before it are looked at.
    let (rules, list) = loop {
        let spec: Vec<_> = list.iter().map(Wanted::spec).collect();
        match DeviceRules::from_spec(&spec) {
            Ok(rules) => break (rules, list),
            Err(error) => {
                assert!(!error.to_string().contains('\n'));
                list.pop();
            }
        }
    };
    let program = program::assemble(&rules).expect("few rules fit");
    assert!(program.len() <= 16 + 32 * rules.exceptions().len(), "{} instructions", program.len());
    let near = |number: i64| [number - 1, number, number + 1];
    let majors = list.iter().flat_map(|rule| near(rule.major)).chain([7]);
    let majors: Vec<u32> = majors.filter_map(|number| number.try_into().ok()).collect();
    let minors = list.iter().flat_map(|rule| near(rule.minor)).chain([7]);
    let mut minors: Vec<u32> = minors.filter_map(|number| number.try_into().ok()).collect();
    minors.sort_unstable();
    minors.dedup();
    let mut seen = Vec::new();
    for major in majors {
        if seen.contains(&major) {
            continue;
        }
        seen.push(major);
        for minor in &minors {
            for kind in DeviceType::ALL {
                check(&list, &rules, &program, (kind, major, *minor));
            }
        }
    }
    let json = serde_json::to_string(&rules).expect("JSON");
    assert_eq!(serde_json::from_str::<DeviceRules>(&json).expect("read back"), rules);
    written_to_v1(&rules);
}

fn check(
    list: &[Wanted],
    rules: &DeviceRules,
    program: &[crate::sys::bpf::Insn],
    (kind, major, minor): (DeviceType, u32, u32),
) {
    let verdict = |access: &str| {
        let access: Access = access.parse().expect("an access");
        let verdict = rules.verdict(kind, major, minor, access);
        let by_program = interpreter::run(program, kind, major, minor, access);
        assert_eq!(by_program, verdict, "{kind:?} {major}:{minor} {access} under {rules:?}");
        verdict
    };
    for access in ["r", "w", "m"] {
        let wanted = oracle(list, kind, major, minor, access);
        assert_eq!(verdict(access), wanted, "{kind:?} {major}:{minor} {access} by {list:?}");
    }
    // Several at once: never more than each alone.
    for access in ["rw", "rm", "wm", "rwm"] {
        let each = access
            .chars()
            .all(|one| oracle(list, kind, major, minor, one.encode_utf8(&mut [0; 4])));
        assert!(!verdict(access) || each, "{kind:?} {major}:{minor} {access} by {list:?}");
    }
}

/// What the kernel's list is after the changes that lead from any other list to this one.
fn written_to_v1(rules: &DeviceRules) {
    let before = [
        DeviceRules::allow_all(),
        DeviceRules::deny_all(),
        v1::parse("c 1:3 rwm\nb *:* m\nc 195:* rw\nc 136:0 r\n").expect("a list"),
    ];
    for before in before {
        let mut default_allow = before.default_allow();
        let mut held: Vec<DeviceRule> = before.exceptions().to_vec();
        for change in v1::transition(&before, rules).0 {
            match change {
                Change::AllowAll | Change::DenyAll => {
                    default_allow = change == Change::AllowAll;
                    held.clear();
                }
                Change::Allow(rule) | Change::Deny(rule) => {
                    let adds = matches!(change, Change::Allow(_)) != default_allow;
                    apply(&mut held, &rule, adds);
                }
            }
        }
        assert_eq!(default_allow, rules.default_allow());
        assert_eq!(held.len(), rules.exceptions().len(), "{held:?} is not {rules:?}");
        assert!(held.iter().all(|rule| rules.exceptions().contains(rule)), "{held:?}, {rules:?}");
    }
}

/// One line written to `devices.allow` or `devices.deny` (`dev_exception_add`, `dev_exception_rm`).
fn apply(held: &mut Vec<DeviceRule>, rule: &DeviceRule, adds: bool) {
    match held.iter_mut().find(|known| same_devices(known, rule)) {
        Some(known) if adds => known.access = known.access.union(rule.access),
        Some(known) => known.access = known.access.difference(rule.access),
        None if adds => held.push(*rule),
        None => {}
    }
    held.retain(|rule| !rule.access.is_empty());
}

/// `devices.list` of cgroup v1.
fn devices_list(data: &[u8]) {
    let text = text(data);
    match v1::parse(text) {
        Err(line) => assert!(text.contains(line)),
        Ok(rules) if rules.default_allow() => assert!(rules.exceptions().is_empty()),
        Ok(rules) => {
            let written: String =
                rules.exceptions().iter().map(|rule| format!("{rule}\n")).collect();
            assert_eq!(v1::parse(&written), Ok(rules));
        }
    }
}
