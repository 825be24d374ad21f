//! Argument comparisons, compiled by seccompiler.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Op};
use seccompiler::{
    BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, sock_filter,
};

use super::error::SeccompError;

/// The kernel's limit, linux/seccomp.h.
const ARGUMENTS: usize = 6;

/// One comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub arg: u8,
    /// How.
    pub op: Op,
    /// With what.
    pub value: u64,
    /// Which bits take part; all of them unless `op` is `MASKED_EQ`.
    pub mask: u64,
}

impl Condition {
    fn new(syscall: &str, arg: &LinuxSeccompArg) -> Result<Self, SeccompError> {
        let index = arg.index();
        if index >= ARGUMENTS {
            return Err(SeccompError::ArgIndex { syscall: syscall.to_owned(), index });
        }
        // For MASKED_EQ the profile's first value is the mask (runtime-spec, config-linux.md).
        let (value, mask) = match arg.op() {
            Op::ScmpCmpMaskedEq => (arg.value_two().unwrap_or(0) & arg.value(), arg.value()),
            _ => (arg.value(), u64::MAX),
        };
        Ok(Self { arg: index as u8, op: arg.op(), value, mask })
    }

    /// As a 32-bit ABI sees it: the upper halves do not exist.
    pub fn narrow(self) -> Self {
        Self { value: self.value & 0xffff_ffff, mask: self.mask & 0xffff_ffff, ..self }
    }

    /// "Argument `arg` equals `value`".
    pub fn equals(arg: u8, value: u64) -> Self {
        Self { arg, op: Op::ScmpCmpEq, value, mask: u64::MAX }
    }
}

/// The alternatives (OR) of conditions (AND) that a profile entry's `args` mean.
///
/// One alternative with all of them, in the order of the arguments; but when an argument is named
/// twice, one alternative per comparison: so runc has always read it. Empty means unconditional.
pub(super) fn alternatives(
    syscall: &str,
    args: &[LinuxSeccompArg],
) -> Result<Vec<Vec<Condition>>, SeccompError> {
    let mut conditions =
        args.iter().map(|arg| Condition::new(syscall, arg)).collect::<Result<Vec<_>, _>>()?;
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    conditions.sort_by_key(|condition| condition.arg);
    let repeated = !conditions.is_sorted_by(|a, b| a.arg < b.arg);
    Ok(if repeated {
        conditions.into_iter().map(|condition| vec![condition]).collect()
    } else {
        vec![conditions]
    })
}

/// Code that goes on to the next instruction when all `conditions` hold, and else skips that one.
pub(super) fn code(
    syscall: &str,
    conditions: &[Condition],
    wide: bool,
) -> Result<BpfProgram, SeccompError> {
    let failed = |error: seccompiler::BackendError| SeccompError::Condition {
        syscall: syscall.to_owned(),
        reason: error.to_string(),
    };
    let len = if wide { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
    let conditions = conditions
        .iter()
        .map(|condition| {
            let op = match condition.op {
                Op::ScmpCmpNe => SeccompCmpOp::Ne,
                Op::ScmpCmpLt => SeccompCmpOp::Lt,
                Op::ScmpCmpLe => SeccompCmpOp::Le,
                Op::ScmpCmpEq => SeccompCmpOp::Eq,
                Op::ScmpCmpGe => SeccompCmpOp::Ge,
                Op::ScmpCmpGt => SeccompCmpOp::Gt,
                Op::ScmpCmpMaskedEq => SeccompCmpOp::MaskedEq(condition.mask),
            };
            SeccompCondition::new(condition.arg, len.clone(), op, condition.value)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let mut code = BpfProgram::from(SeccompRule::new(conditions).map_err(failed)?);
    // seccompiler opens a rule with a jump over a jump that only its own rule chain uses.
    if matches!(code.first(), Some(sock_filter { code: 0x05, k: 1, .. })) {
        code.drain(..2);
    }
    Ok(code)
}
