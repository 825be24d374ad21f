//! From verdicts to a classic BPF program.
//!
//! The program asks for the audit architecture, then searches the runs of numbers by halves: about
//! two instructions per run, seven or eight comparisons to any call of Docker's profile. Jumps
//! only go forward, so the code is written from its end: at each jump the distance is known, and
//! one that does not fit in 8 bits becomes a jump over a `JA`.

use libc::sock_filter;

use super::action::KILL_THREAD;
use super::arch::{Arch, X32_BIT};
use super::condition;
use super::error::SeccompError;
use super::resolve::{Resolved, Table, Verdict, push};

/// The kernel's `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
/// Offsets in the kernel's `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;

const LD_W_ABS: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

/// The program for `resolved`.
pub(super) fn assemble(resolved: &Resolved<'_>) -> Result<Vec<sock_filter>, SeccompError> {
    let mut code = Reversed(Vec::with_capacity(1024));
    code.ret(KILL_THREAD);
    // The machine's own ABI is the first one, and so the last one to be written.
    for table in resolved.tables.iter().rev().filter(|table| table.arch != Arch::X32) {
        let after = code.0.len();
        let runs = runs(table, resolved);
        code.search(&runs, resolved.default)?;
        code.load(NR);
        let body = code.0.len() - after;
        code.0.push(statement(JA, body as u32));
        code.0.push(sock_filter { code: JEQ_K, jt: 1, jf: 0, k: table.arch.audit() });
    }
    code.load(ARCH);
    if code.0.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong(code.0.len()));
    }
    code.0.reverse();
    Ok(code.0)
}

/// All runs under one audit architecture.
fn runs<'t>(table: &'t Table<'_>, resolved: &'t Resolved<'_>) -> Vec<(u32, Verdict<'t>)> {
    let mut runs = table.runs(resolved.default, resolved.enosys);
    if table.arch != Arch::X86_64 {
        return runs;
    }
    match resolved.tables.iter().find(|table| table.arch == Arch::X32) {
        Some(x32) => {
            for (first, verdict) in x32.runs(resolved.default, resolved.enosys) {
                push(&mut runs, first, verdict);
            }
        }
        None => {
            push(&mut runs, X32_BIT, Verdict::Return(KILL_THREAD));
            // A tracer skips a call by setting its number to -1; the filter then runs again.
            push(&mut runs, u32::MAX, Verdict::Return(resolved.default));
        }
    }
    runs
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// A program whose last instruction comes first.
struct Reversed(Vec<sock_filter>);

impl Reversed {
    fn ret(&mut self, value: u32) {
        self.0.push(statement(RET_K, value));
    }

    fn load(&mut self, offset: u32) {
        self.0.push(statement(LD_W_ABS, offset));
    }

    /// A binary search for the run that the accumulator is in.
    fn search(&mut self, runs: &[(u32, Verdict<'_>)], default: u32) -> Result<(), SeccompError> {
        let (low, high) = runs.split_at(runs.len() / 2);
        let Some((first, verdict)) = high.first() else {
            return Ok(());
        };
        if low.is_empty() {
            return self.verdict(verdict, default);
        }
        self.search(high, default)?;
        let after = self.0.len();
        self.search(low, default)?;
        let distance = self.0.len() - after;
        match u8::try_from(distance) {
            Ok(jt) => self.0.push(sock_filter { code: JGE_K, jt, jf: 0, k: *first }),
            Err(_) => {
                self.0.push(statement(JA, distance as u32));
                self.0.push(sock_filter { code: JGE_K, jt: 0, jf: 1, k: *first });
            }
        }
        Ok(())
    }

    fn verdict(&mut self, verdict: &Verdict<'_>, default: u32) -> Result<(), SeccompError> {
        let rules = match verdict {
            Verdict::Return(value) => {
                self.ret(*value);
                return Ok(());
            }
            Verdict::Rules(rules) => rules,
        };
        self.ret(default);
        for rule in rules.rules.iter().rev() {
            self.ret(rule.action);
            let code = condition::code(rules.syscall, &rule.conditions, rules.wide)?;
            self.0.extend(code.iter().rev().map(|instruction| sock_filter {
                code: instruction.code,
                jt: instruction.jt,
                jf: instruction.jf,
                k: instruction.k,
            }));
        }
        Ok(())
    }
}
