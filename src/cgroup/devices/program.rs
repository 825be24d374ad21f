//! Device rules as an eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
//!
//! The kernel runs it for every open and mknod of a device node with
//! `{u32 access_type; u32 major; u32 minor}` (linux/bpf.h, `bpf_cgroup_dev_ctx`) and allows the
//! access when it returns 1. The verifier's time grows faster than the number of rules, so rules
//! are grouped by type and major, and consecutive minors become one range.

use super::{Access, DeviceError, DeviceRule, DeviceRules, DeviceType};
use crate::sys::bpf::Insn;

// Operation codes (linux/bpf_common.h, linux/bpf.h): class | size or operation | source.
pub(super) const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
pub(super) const MOVE_REG: u8 = 0xbf; // ALU64 | MOV | X
pub(super) const MOVE: u8 = 0xb7; // ALU64 | MOV | K
pub(super) const AND: u8 = 0x57; // ALU64 | AND | K
pub(super) const SHIFT_RIGHT: u8 = 0x77; // ALU64 | RSH | K
pub(super) const JUMP: u8 = 0x05; // JMP | JA
pub(super) const JUMP_GREATER: u8 = 0x25; // JMP | JGT | K
pub(super) const JUMP_SET: u8 = 0x45; // JMP | JSET | K
pub(super) const JUMP_NOT_EQUAL: u8 = 0x55; // JMP | JNE | K
pub(super) const JUMP_LESS: u8 = 0xa5; // JMP | JLT | K
pub(super) const EXIT: u8 = 0x95; // JMP | EXIT

// Registers. R1 holds the context at entry, R0 the verdict at exit.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Up to this many ranges are tried one after the other.
const LINEAR: usize = 4;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
pub(super) fn kind_number(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::Block => 1,
        DeviceType::Char => 2,
    }
}

/// The program for `rules`.
pub(super) fn assemble(rules: &DeviceRules) -> Result<Vec<Insn>, DeviceError> {
    let mut asm = Assembler::default();
    let (hit, miss) = (asm.label(), asm.label());
    if !rules.exceptions().is_empty() {
        asm.emit(LOAD_WORD, Insn::registers(KIND, CONTEXT), 0, 0);
        asm.emit(LOAD_WORD, Insn::registers(MAJOR, CONTEXT), 4, 0);
        asm.emit(LOAD_WORD, Insn::registers(MINOR, CONTEXT), 8, 0);
        asm.emit(MOVE_REG, Insn::registers(ACCESS, KIND), 0, 0);
        asm.emit(AND, Insn::registers(KIND, 0), 0, 0xffff);
        asm.emit(SHIFT_RIGHT, Insn::registers(ACCESS, 0), 0, 16);
    }
    for kind in DeviceType::ALL {
        let ranges = ranges(rules.exceptions(), kind);
        if ranges.is_empty() {
            continue;
        }
        let other_kind = asm.label();
        asm.jump_if(JUMP_NOT_EQUAL, KIND, i32::from(kind_number(kind)), other_kind);
        // Sorted, so that the ranges for any major come first and the others in groups.
        for group in ranges.chunk_by(|a, b| a.major == b.major) {
            let other_major = asm.label();
            let major = group.first().and_then(|range| range.major);
            if let Some(major) = major {
                asm.jump_if(JUMP_NOT_EQUAL, MAJOR, major.cast_signed(), other_major);
            }
            for ranges in group.chunk_by(|a, b| a.access == b.access) {
                let next = asm.label();
                asm.search(ranges, rules.default_allow(), hit, next);
                asm.bind(next);
            }
            if major.is_some() {
                asm.jump(miss);
            }
            asm.bind(other_major);
        }
        asm.jump(miss);
        asm.bind(other_kind);
    }
    asm.bind(miss);
    asm.emit(MOVE, Insn::registers(VERDICT, 0), 0, i32::from(rules.default_allow()));
    asm.emit(EXIT, 0, 0, 0);
    asm.bind(hit);
    asm.emit(MOVE, Insn::registers(VERDICT, 0), 0, i32::from(!rules.default_allow()));
    asm.emit(EXIT, 0, 0, 0);
    asm.finish()
}

/// Consecutive minors of one major with the same access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    major: Option<u32>,
    /// First and last minor; `None`: any.
    minors: Option<(u32, u32)>,
    access: Access,
}

/// The exceptions of one type, merged, sorted by major.
fn ranges(exceptions: &[DeviceRule], kind: DeviceType) -> Vec<Range> {
    let mut rules: Vec<&DeviceRule> = exceptions.iter().filter(|rule| rule.kind == kind).collect();
    rules.sort_by_key(|rule| (rule.major, rule.access, rule.minor));
    let mut ranges: Vec<Range> = Vec::with_capacity(rules.len());
    for rule in rules {
        if let (Some(last), Some(minor)) = (ranges.last_mut(), rule.minor)
            && (last.major, last.access) == (rule.major, rule.access)
            && let Some((_, end)) = &mut last.minors
            && end.checked_add(1) == Some(minor)
        {
            *end = minor;
            continue;
        }
        let minors = rule.minor.map(|minor| (minor, minor));
        ranges.push(Range { major: rule.major, minors, access: rule.access });
    }
    ranges
}

/// A place in the program that is jumped to before it is known. Jumps go forward only.
#[derive(Clone, Copy)]
struct Label(usize);

#[derive(Default)]
struct Assembler {
    insns: Vec<Insn>,
    /// Per label, the jumps to it that have no distance yet.
    pending: Vec<Vec<usize>>,
    /// Whether the last instruction never goes on to the next one.
    ended: bool,
    too_far: bool,
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.pending.push(Vec::new());
        Label(self.pending.len() - 1)
    }

    /// Adds an instruction. The verifier refuses a program with one that cannot be reached, so
    /// such an instruction is left out.
    fn emit(&mut self, code: u8, regs: u8, off: i16, imm: i32) {
        if !self.ended {
            self.insns.push(Insn { code, regs, off, imm });
            self.ended = code == EXIT || code == JUMP;
        }
    }

    fn jump(&mut self, to: Label) {
        self.jump_with(JUMP, 0, 0, to);
    }

    fn jump_if(&mut self, code: u8, register: u8, value: i32, to: Label) {
        self.jump_with(code, register, value, to);
    }

    fn jump_with(&mut self, code: u8, register: u8, value: i32, to: Label) {
        if !self.ended {
            if let Some(pending) = self.pending.get_mut(to.0) {
                pending.push(self.insns.len());
            }
            self.emit(code, Insn::registers(register, 0), 0, value);
        }
    }

    fn bind(&mut self, label: Label) {
        let here = self.insns.len();
        for at in self.pending.get_mut(label.0).map(std::mem::take).unwrap_or_default() {
            self.ended = false;
            let distance = i16::try_from(here - at - 1);
            self.too_far |= distance.is_err();
            if let (Some(insn), Ok(distance)) = (self.insns.get_mut(at), distance) {
                insn.off = distance;
            }
        }
    }

    /// Jumps to `hit` when one of the ranges (ascending, with one access) matches, else to
    /// `next`. A binary search, because the verifier's work grows with the square of the length
    /// of a path: 200 single minors take 10 ms to load as a chain.
    fn search(&mut self, ranges: &[Range], default_allow: bool, hit: Label, next: Label) {
        if ranges.len() > LINEAR
            && let Some((left, right)) = ranges.split_at_checked(ranges.len() / 2)
            && let Some((_, last)) = left.last().and_then(|range| range.minors)
        {
            let above = self.label();
            self.jump_if(JUMP_GREATER, MINOR, last.cast_signed(), above);
            self.search(left, default_allow, hit, next);
            self.bind(above);
            self.search(right, default_allow, hit, next);
            return;
        }
        for range in ranges {
            self.range(range, default_allow, hit);
        }
        self.jump(next);
    }

    /// Jumps to `hit` when the request matches, goes on otherwise.
    fn range(&mut self, range: &Range, default_allow: bool, hit: Label) {
        let next = self.label();
        match range.minors {
            None => {}
            Some((only, end)) if only == end => {
                self.jump_if(JUMP_NOT_EQUAL, MINOR, only.cast_signed(), next);
            }
            Some((first, last)) => {
                if first > 0 {
                    self.jump_if(JUMP_LESS, MINOR, first.cast_signed(), next);
                }
                self.jump_if(JUMP_GREATER, MINOR, last.cast_signed(), next);
            }
        }
        if default_allow {
            // Denied when any part of the request is.
            self.jump_if(JUMP_SET, ACCESS, i32::from(range.access.bits()), hit);
        } else {
            // Allowed when no part of the request is outside.
            let outside = Access::ALL.difference(range.access);
            if !outside.is_empty() {
                self.jump_if(JUMP_SET, ACCESS, i32::from(outside.bits()), next);
            }
            self.jump(hit);
        }
        self.bind(next);
    }

    fn finish(self) -> Result<Vec<Insn>, DeviceError> {
        if self.too_far { Err(DeviceError::TooLong(self.insns.len())) } else { Ok(self.insns) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::run;
    use super::*;

    /// A small generator of numbers that look random (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        fn rule(&mut self) -> DeviceRule {
            let number = |numbers: &mut Self, bound| {
                (numbers.below(4) > 0).then(|| u32::try_from(numbers.below(bound)).unwrap())
            };
            let letters = ["r", "w", "m", "rw", "rm", "wm", "rwm"];
            DeviceRule {
                kind: DeviceType::ALL[self.below(2) as usize],
                major: number(self, 3),
                minor: number(self, 24),
                access: letters[self.below(7) as usize].parse().unwrap(),
            }
        }
    }

    fn all_requests() -> impl Iterator<Item = (DeviceType, u32, u32, Access)> {
        let accesses = ["r", "w", "m", "rw", "rm", "wm", "rwm"];
        DeviceType::ALL.into_iter().flat_map(move |kind| {
            (0..4).flat_map(move |major| {
                (0..26).flat_map(move |minor| {
                    accesses.map(|access| (kind, major, minor, access.parse().unwrap()))
                })
            })
        })
    }

    #[test]
    fn the_program_decides_like_the_rules() {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut kept = 0;
        for _ in 0..300 {
            let mut rules = match numbers.below(2) {
                0 => DeviceRules::deny_all(),
                _ => DeviceRules::allow_all(),
            };
            for _ in 0..numbers.below(60) {
                let rule = numbers.rule();
                let mut next = rules.clone();
                // A hole is refused; the rules before it are kept.
                let done = if numbers.below(3) > 0 { next.allow(rule) } else { next.deny(rule) };
                if done.is_ok() {
                    rules = next;
                }
            }
            kept += rules.exceptions().len();
            let program = assemble(&rules).unwrap();
            for (kind, major, minor, access) in all_requests() {
                assert_eq!(
                    run(&program, kind, major, minor, access),
                    rules.verdict(kind, major, minor, access),
                    "{kind:?} {major}:{minor} {access} under {rules:?}"
                );
            }
        }
        assert!(kept > 300, "the generated rules are too few to say anything: {kept}");
    }

    #[test]
    fn the_rules_agree_with_the_last_rule_that_is_about_the_device() {
        // For single bits and rules without holes, OCI order means: the last matching rule wins.
        let mut numbers = Numbers(42);
        for _ in 0..300 {
            let mut applied: Vec<(bool, DeviceRule)> = Vec::new();
            let mut rules = DeviceRules::deny_all();
            for _ in 0..8 {
                let (allow, rule) = (numbers.below(3) > 0, numbers.rule());
                let mut next = rules.clone();
                if (if allow { next.allow(rule) } else { next.deny(rule) }).is_ok() {
                    rules = next;
                    applied.push((allow, rule));
                }
            }
            for (kind, major, minor, access) in all_requests() {
                if ![Access::READ, Access::WRITE, Access::MKNOD].contains(&access) {
                    continue;
                }
                let last = applied.iter().rev().find(|(_, rule)| {
                    rule.kind == kind
                        && rule.major.is_none_or(|number| number == major)
                        && rule.minor.is_none_or(|number| number == minor)
                        && rule.access.contains(access)
                });
                let wanted = last.is_some_and(|(allow, _)| *allow);
                assert_eq!(rules.verdict(kind, major, minor, access), wanted, "{applied:?}");
            }
        }
    }

    #[test]
    fn consecutive_minors_become_one_range() {
        let mut rules = DeviceRules::deny_all();
        for minor in (0..8).chain([255]) {
            let access = "rw".parse().unwrap();
            let (kind, major, minor) = (DeviceType::Char, Some(195), Some(minor));
            rules.allow(DeviceRule { kind, major, minor, access }).unwrap();
        }
        let ranges = ranges(rules.exceptions(), DeviceType::Char);
        let minors: Vec<_> = ranges.iter().map(|range| range.minors).collect();
        assert_eq!(minors, [Some((0, 7)), Some((255, 255))]);
        assert!(assemble(&rules).unwrap().len() <= 24);
    }

    #[test]
    fn the_shortest_programs_have_no_dead_end() {
        assert_eq!(assemble(&DeviceRules::deny_all()).unwrap().len(), 2);
        assert_eq!(assemble(&DeviceRules::allow_all()).unwrap().len(), 2);
    }

    #[test]
    fn too_many_rules_are_an_error() {
        let (kind, major, access) = (DeviceType::Char, Some(1), Access::ALL);
        let rule = |minor: u32| DeviceRule { kind, major, minor: Some(minor * 2), access };
        let rules = DeviceRules::from_list((0..20_000_u32).map(rule).collect());
        assert!(matches!(assemble(&rules), Err(DeviceError::TooLong(_))));
    }
}
