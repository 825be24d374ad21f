//! Profiles: any JSON, and made-up ones whose filters are asked beside an oracle.

use libc::sock_filter;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator as Op};
use serde_json::{Value, json};

use super::interpreter::{Call, run};
use super::syscalls::{Number, lookup};
use super::{Arch, action, compile_for};
use crate::fuzzing::{Choices, Target};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "seccomp_json", run: seccomp_json },
    Target { name: "seccomp_rules", run: seccomp_rules },
];

const NATIVE: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
const ARCHS: [&str; 6] = [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_S390X",
];
const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_KILL",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const NAMES: [&str; 12] = [
    "read",
    "write",
    "clone",
    "clone3",
    "personality",
    "mmap",
    "socket",
    "futex_time64",
    "set_tls",
    "mseal",
    "no_such_call",
    "io_setup",
];
const VALUES: [u64; 8] = [0, 1, 2, 0x7fff_ffff, 0xffff_ffff, 1 << 32, u64::MAX, 0x7e02_0000];

/// What the kernel's checker asks of a program (`bpf_check_classic`, `seccomp_check_filter`).
fn is_loadable(program: &[sock_filter]) {
    assert!((1..=4096).contains(&program.len()));
    for (at, insn) in program.iter().enumerate() {
        let next = |distance: usize| {
            assert!(at + 1 + distance < program.len(), "a jump out of the program at {at}");
        };
        match insn.code {
            0x06 => {}
            0x05 => next(insn.k as usize),
            0x15 | 0x25 | 0x35 | 0x45 => {
                next(insn.jt.into());
                next(insn.jf.into());
            }
            0x20 => {
                assert!(insn.k < 64 && insn.k.is_multiple_of(4));
                next(0);
            }
            0x54 => next(0),
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn seccomp_json(data: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(data) else { return };
    for native in NATIVE {
        match compile_for(&profile, native) {
            Ok(filter) => is_loadable(filter.program()),
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
}

fn rule(choices: &mut Choices<'_>) -> Value {
    let names: Vec<&str> = (0..1 + choices.byte() % 3).map(|_| choices.one(&NAMES)).collect();
    let count = choices.byte() % 4;
    let args: Vec<Value> = (0..count)
        .map(|_| {
            json!({"index": choices.byte() % 6, "op": choices.one(&OPERATORS),
                   "value": choices.one(&VALUES), "valueTwo": choices.one(&VALUES)})
        })
        .collect();
    let action = choices.one(&ACTIONS);
    json!({"names": names, "action": action, "errnoRet": choices.byte() % 3, "args": args})
}

fn seccomp_rules(data: &[u8]) {
    let mut choices = Choices(data);
    let default = choices.one(&ACTIONS);
    let archs = choices.byte();
    let archs: Vec<&str> = ARCHS
        .iter()
        .enumerate()
        .filter(|(at, _)| archs & 1 << at != 0)
        .map(|(_, it)| *it)
        .collect();
    let mut entries = Vec::new();
    while choices.0.len() > 64 && entries.len() < 16 {
        entries.push(rule(&mut choices));
    }
    let profile = json!({"defaultAction": default, "architectures": archs, "syscalls": entries});
    let profile: LinuxSeccomp = serde_json::from_value(profile).expect("a profile");
    for native in NATIVE {
        let Ok(filter) = compile_for(&profile, native) else { continue };
        let program = filter.program();
        is_loadable(program);
        let mut asked = choices.clone();
        for name in NAMES {
            let Some(Number::Ordinary(nr)) = lookup(name).and_then(|it| it.on(native)) else {
                continue;
            };
            for nr in [u32::from(nr), u32::from(nr) + 1] {
                let args = [(); 6].map(|()| match asked.byte() {
                    0xff => asked.number(),
                    other => VALUES[usize::from(other) % VALUES.len()],
                });
                let call = Call { arch: native.audit(), nr, args };
                let wanted = oracle(&profile, native, &call);
                assert_eq!(run(program, &call), wanted, "{call:x?} under {profile:?}");
            }
        }
        // Another machine's call is never let through.
        let call = Call { arch: 0x8000_0016, nr: 0, args: [0; 6] };
        assert_eq!(run(program, &call), action::KILL_THREAD);
    }
}

/// The answer to a call of the machine's own ABI, from the profile's rules one by one.
fn oracle(profile: &LinuxSeccomp, native: Arch, call: &Call) -> u32 {
    let value = |action, errno| action::return_value(action, errno).expect("a small errno");
    let number = |name: &str| match lookup(name).and_then(|numbers| numbers.on(native)) {
        Some(Number::Ordinary(number)) => Some(u32::from(number)),
        _ => None,
    };
    let default_action = profile.default_action();
    let default = value(default_action, profile.default_errno_ret());
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let names = entries.iter().flat_map(|entry| entry.names());
    let newest = names.filter_map(|name| number(name)).max().unwrap_or(0);
    use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrace};
    let passes = matches!(default_action, ScmpActAllow | ScmpActLog | ScmpActTrace);
    if call.nr > newest && newest != 0 && !passes {
        return action::ENOSYS;
    }
    let mut conditional: Vec<u32> = Vec::new();
    for entry in entries {
        let verdict = value(entry.action(), entry.errno_ret());
        let names = entry.names().iter().filter(|name| number(name) == Some(call.nr)).count();
        if names == 0 || verdict == default {
            continue;
        }
        let args = entry.args().as_deref().unwrap_or_default();
        if args.is_empty() {
            // The first of the rules without conditions beats all others.
            return verdict;
        }
        let holds = |arg: &oci_spec::runtime::LinuxSeccompArg| {
            let (found, value) = (call.args[arg.index()], arg.value());
            match arg.op() {
                Op::ScmpCmpEq => found == value,
                Op::ScmpCmpNe => found != value,
                Op::ScmpCmpLt => found < value,
                Op::ScmpCmpLe => found <= value,
                Op::ScmpCmpGe => found >= value,
                Op::ScmpCmpGt => found > value,
                Op::ScmpCmpMaskedEq => found & value == arg.value_two().unwrap_or(0) & value,
            }
        };
        let mut indexes: Vec<usize> = args.iter().map(|arg| arg.index()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        // An argument that is named twice makes alternatives of them.
        let alternatives = indexes.len() != args.len();
        if if alternatives { args.iter().any(holds) } else { args.iter().all(holds) } {
            conditional.push(verdict);
        }
    }
    conditional.into_iter().min_by_key(|verdict| action::strictness(*verdict)).unwrap_or(default)
}
