//! What a filter answers, asked in the interpreter.

use oci_spec::runtime::LinuxSeccomp;

use super::super::interpreter::{Call, run};
use super::{ARM_FAMILY, X86_FAMILY, everyday, number, profile};
use crate::seccomp::arch::X32_BIT;
use crate::seccomp::{Arch, Filter, SeccompError, compile_for, needs_listener};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL_THREAD: u32 = 0;

fn ask(filter: &Filter, arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    run(filter.program(), &Call { arch: arch.audit(), nr, args })
}

fn call(filter: &Filter, arch: Arch, name: &str, first: u64) -> u32 {
    ask(filter, arch, number(name, arch), [first, 0, 0, 0, 0, 0])
}

fn native(profile: &LinuxSeccomp) -> Filter {
    compile_for(profile, Arch::X86_64).expect("compiles")
}

fn rules(rules: &str) -> LinuxSeccomp {
    profile(&format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rules}]}}"#))
}

#[test]
fn every_action_of_a_rule_reaches_its_call_on_every_abi() {
    for (filter, archs) in [
        (native(&everyday(X86_FAMILY)), [Arch::X86_64, Arch::X86, Arch::X32].as_slice()),
        (
            compile_for(&everyday(ARM_FAMILY), Arch::Aarch64).expect("compiles"),
            &[Arch::Aarch64, Arch::Arm],
        ),
    ] {
        for arch in archs {
            assert_eq!(call(&filter, *arch, "read", 0), ALLOW, "{arch:?}");
            assert_eq!(call(&filter, *arch, "mount", 0), EPERM, "{arch:?}");
            assert_eq!(call(&filter, *arch, "umount2", 0), EPERM, "{arch:?}");
            assert_eq!(call(&filter, *arch, "clone3", 0), ENOSYS, "{arch:?}");
            assert_eq!(call(&filter, *arch, "sync", 0), 0x7ffc_0000, "{arch:?}");
            assert_eq!(call(&filter, *arch, "ptrace", 0), 0x7ff0_0007, "{arch:?}");
            assert_eq!(call(&filter, *arch, "reboot", 0), 0x0003_0000, "{arch:?}");
            assert_eq!(call(&filter, *arch, "init_module", 0), 0x8000_0000, "{arch:?}");
            assert_eq!(call(&filter, *arch, "bpf", 0), KILL_THREAD, "{arch:?}");
        }
    }
}

#[test]
fn conditions_on_arguments_decide() {
    let filter = native(&everyday(X86_FAMILY));
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        assert_eq!(call(&filter, arch, "clone", 0x0120_0011), ALLOW);
        assert_eq!(call(&filter, arch, "clone", 0x1000_0000), EPERM);
        assert_eq!(call(&filter, arch, "personality", 8), ALLOW);
        assert_eq!(call(&filter, arch, "personality", 9), EPERM);
        for (family, answer) in [(2, ALLOW), (37, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM)] {
            assert_eq!(call(&filter, arch, "socket", family), answer, "{family}");
        }
    }
    // Only 64-bit ABIs have upper halves.
    assert_eq!(call(&filter, Arch::X86_64, "personality", 8 | 1 << 32), EPERM);
    assert_eq!(call(&filter, Arch::X86, "personality", 8 | 1 << 32), ALLOW);
}

#[test]
fn an_abi_that_is_not_listed_is_killed() {
    let filter = native(&everyday(r#"["SCMP_ARCH_X86_64"]"#));
    assert_eq!(call(&filter, Arch::X86_64, "read", 0), ALLOW);
    assert_eq!(call(&filter, Arch::X86, "read", 0), KILL_THREAD);
    assert_eq!(call(&filter, Arch::Aarch64, "read", 0), KILL_THREAD);
    assert_eq!(call(&filter, Arch::X32, "read", 0), KILL_THREAD);
    // -1 is a call that a tracer takes away, not an x32 one.
    assert_eq!(ask(&filter, Arch::X86_64, u32::MAX, [0; 6]), EPERM);
}

#[test]
fn the_machines_own_abi_is_in_whatever_is_listed() {
    for archs in ["[]", r#"["SCMP_ARCH_NATIVE"]"#, r#"["SCMP_ARCH_X86"]"#, r#"["SCMP_ARCH_S390X"]"#]
    {
        let filter = native(&everyday(archs));
        assert_eq!(call(&filter, Arch::X86_64, "read", 0), ALLOW, "{archs}");
    }
    let foreign = native(&everyday(ARM_FAMILY));
    assert_eq!(foreign.instructions(), native(&everyday("[]")).instructions());
}

#[test]
fn numbers_above_the_newest_known_one_do_not_exist() {
    let filter = native(&everyday(X86_FAMILY));
    for arch in [Arch::X86_64, Arch::X86] {
        // openat2 is the newest that the profile names.
        assert_eq!(ask(&filter, arch, 437, [0; 6]), ALLOW);
        assert_eq!(ask(&filter, arch, 438, [0; 6]), ENOSYS);
        assert_eq!(ask(&filter, arch, 100_000, [0; 6]), ENOSYS);
    }
    // On x32 the legacy block at 512 is above it: sendmmsg has 538.
    assert_eq!(ask(&filter, Arch::X32, X32_BIT + 460, [0; 6]), EPERM);
    assert_eq!(ask(&filter, Arch::X32, X32_BIT + 539, [0; 6]), ENOSYS);
    assert_eq!(ask(&filter, Arch::X86_64, u32::MAX, [0; 6]), ENOSYS);

    let arm = compile_for(&everyday(ARM_FAMILY), Arch::Aarch64).expect("compiles");
    assert_eq!(ask(&arm, Arch::Aarch64, 438, [0; 6]), ENOSYS);
    assert_eq!(ask(&arm, Arch::Arm, 438, [0; 6]), ENOSYS);
    assert_eq!(call(&arm, Arch::Arm, "set_tls", 0), ALLOW);
    assert_eq!(call(&arm, Arch::Arm, "get_tls", 0), EPERM);
    assert_eq!(ask(&arm, Arch::Arm, 0xf0010, [0; 6]), ENOSYS);
}

#[test]
fn unknown_numbers_keep_a_default_that_lets_pass_or_is_enosys_already() {
    for (default, answer) in [
        (r#""SCMP_ACT_ALLOW""#, ALLOW),
        (r#""SCMP_ACT_LOG""#, 0x7ffc_0000),
        (r#""SCMP_ACT_TRACE""#, 0x7ff0_0001),
        (r#""SCMP_ACT_KILL", "defaultErrnoRet": 38"#, KILL_THREAD),
        (r#""SCMP_ACT_KILL""#, ENOSYS),
    ] {
        let profile = profile(&format!(
            r#"{{"defaultAction": {default},
                "syscalls": [{{"names": ["close"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        ));
        assert_eq!(ask(&native(&profile), Arch::X86_64, 9999, [0; 6]), answer, "{default}");
    }
    let empty = native(&rules(""));
    assert_eq!(ask(&empty, Arch::X86_64, 9999, [0; 6]), EPERM);
}

#[test]
fn a_rule_without_conditions_beats_those_with_some_and_the_first_one_counts() {
    const CONDITIONAL: &str = r#"{"names": ["dup"], "action": "SCMP_ACT_TRAP",
        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}"#;
    const PLAIN: &str = r#"{"names": ["dup"], "action": "SCMP_ACT_ALLOW"}"#;
    const LATER: &str = r#"{"names": ["dup"], "action": "SCMP_ACT_KILL"}"#;
    for list in [
        format!("{CONDITIONAL},{PLAIN}"),
        format!("{PLAIN},{CONDITIONAL}"),
        format!("{PLAIN},{LATER}"),
    ] {
        assert_eq!(call(&native(&rules(&list)), Arch::X86_64, "dup", 1), ALLOW, "{list}");
    }
}

#[test]
fn several_conditions_must_hold_together_unless_they_name_one_argument_twice() {
    let filter = native(&rules(
        r#"{"names": ["dup2"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 1, "value": 7, "op": "SCMP_CMP_GE"},
            {"index": 0, "value": 5, "op": "SCMP_CMP_NE"}]},
           {"names": ["dup3"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 7, "op": "SCMP_CMP_GT"},
            {"index": 0, "value": 3, "op": "SCMP_CMP_LE"}]}"#,
    ));
    let dup2 = number("dup2", Arch::X86_64);
    assert_eq!(ask(&filter, Arch::X86_64, dup2, [4, 7, 0, 0, 0, 0]), ALLOW);
    assert_eq!(ask(&filter, Arch::X86_64, dup2, [5, 7, 0, 0, 0, 0]), EPERM);
    assert_eq!(ask(&filter, Arch::X86_64, dup2, [4, 6, 0, 0, 0, 0]), EPERM);
    for (first, answer) in [(3, ALLOW), (4, EPERM), (7, EPERM), (8, ALLOW)] {
        assert_eq!(call(&filter, Arch::X86_64, "dup3", first), answer, "{first}");
    }
}

#[test]
fn where_two_rules_match_the_stricter_one_wins() {
    let filter = native(&rules(
        r#"{"names": ["dup2"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
           {"names": ["dup2"], "action": "SCMP_ACT_TRAP", "args": [
            {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
    ));
    let dup2 = number("dup2", Arch::X86_64);
    assert_eq!(ask(&filter, Arch::X86_64, dup2, [1, 1, 0, 0, 0, 0]), 0x0003_0000);
    assert_eq!(ask(&filter, Arch::X86_64, dup2, [1, 0, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn i386_reaches_sockets_and_ipc_through_both_doors() {
    let filter = native(&profile(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
            {"names": ["accept", "bind", "semop"], "action": "SCMP_ACT_ALLOW"}]}"#,
    ));
    assert_eq!(call(&filter, Arch::X86, "socketcall", 5), ALLOW);
    assert_eq!(call(&filter, Arch::X86, "socketcall", 2), ALLOW);
    assert_eq!(call(&filter, Arch::X86, "bind", 9), ALLOW);
    assert_eq!(call(&filter, Arch::X86, "socketcall", 1), EPERM);
    assert_eq!(call(&filter, Arch::X86, "ipc", 1), ALLOW);
    assert_eq!(call(&filter, Arch::X86, "ipc", 2), EPERM);
}

#[test]
fn long_programs_jump_far_and_too_long_ones_are_refused() {
    let many = |count: usize| {
        let entries: Vec<_> = (0..count)
            .map(|value| {
                format!(
                    r#"{{"names": ["prctl"], "action": "SCMP_ACT_ALLOW",
                        "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#
                )
            })
            .collect();
        rules(&entries.join(","))
    };
    let filter = native(&many(600));
    for (first, answer) in [(0, ALLOW), (599, ALLOW), (600, EPERM)] {
        assert_eq!(call(&filter, Arch::X86_64, "prctl", first), answer, "{first}");
    }
    assert_eq!(call(&filter, Arch::X86_64, "read", 0), EPERM);
    assert!(matches!(compile_for(&many(1000), Arch::X86_64), Err(SeccompError::TooLong(4097..))));
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    let error = |json: &str| compile_for(&profile(json), Arch::X86_64).expect_err(json);
    let rule = |rule: &str| {
        error(&format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rule}]}}"#))
    };
    assert!(matches!(
        error(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#),
        SeccompError::NotifyDefault
    ));
    assert!(matches!(
        error(r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#),
        SeccompError::ErrnoRange { value: 4096, .. }
    ));
    assert!(matches!(
        error(
            r#"{"defaultAction": "SCMP_ACT_ERRNO",
                "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#
        ),
        SeccompError::WaitKillableWithoutNotify
    ));
    assert!(matches!(
        rule(r#"{"names": ["dup"], "action": "SCMP_ACT_NOTIFY"}"#),
        SeccompError::NotifyWithoutListener
    ));
    assert!(matches!(
        error(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/agent",
                "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}]}"#
        ),
        SeccompError::NotifyWrite
    ));
    assert!(matches!(
        rule(r#"{"names": [""], "action": "SCMP_ACT_ALLOW"}"#),
        SeccompError::EmptyName
    ));
    assert!(matches!(
        rule(
            r#"{"names": ["dup"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#
        ),
        SeccompError::ArgIndex { index: 6, .. }
    ));
    assert!(matches!(
        rule(
            r#"{"names": ["dup"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
               {"names": ["dup"], "action": "SCMP_ACT_TRAP",
                "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}"#
        ),
        SeccompError::Conflict { arch: Arch::X86_64, .. }
    ));
}

#[test]
fn a_listener_is_needed_exactly_when_a_rule_notifies() {
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    );
    assert!(needs_listener(&profile) && native(&profile).needs_listener());
    let without = everyday("[]");
    assert!(!needs_listener(&without) && !native(&without).needs_listener());
}

#[test]
fn the_programs_are_short() {
    let instructions = native(&everyday(X86_FAMILY)).instructions();
    assert!(instructions < 600, "{instructions}");
}
