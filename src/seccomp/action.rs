//! Profile actions as filter return values (`SECCOMP_RET_*` of linux/seccomp.h).

use oci_spec::runtime::LinuxSeccompAction as Action;

use super::error::SeccompError;

/// `SECCOMP_RET_KILL_THREAD`: also what libseccomp, and so runc, answers to an ABI that the
/// profile does not list.
pub(super) const KILL_THREAD: u32 = 0;
/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
pub(super) const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

const ERRNO: u32 = 0x0005_0000;
/// The kernel's `MAX_ERRNO`.
const MAX_ERRNO: u32 = 4095;

/// The return value for `action`.
///
/// `errno_ret` counts for `SCMP_ACT_ERRNO` and `SCMP_ACT_TRACE` only and defaults to `EPERM`; with
/// other actions it is ignored, as by runc and crun.
pub(super) fn return_value(action: Action, errno_ret: Option<u32>) -> Result<u32, SeccompError> {
    let data = |max| match errno_ret.unwrap_or(libc::EPERM as u32) {
        value if value <= max => Ok(value),
        value => Err(SeccompError::ErrnoRange { action, value, max }),
    };
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => KILL_THREAD,
        Action::ScmpActKillProcess => 0x8000_0000,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => ERRNO | data(MAX_ERRNO)?,
        Action::ScmpActNotify => 0x7fc0_0000,
        Action::ScmpActTrace => 0x7ff0_0000 | data(0xffff)?,
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
    })
}

/// How strict a return value is; the least is the strictest.
///
/// The kernel's own order between filters: the action part as a signed number, seccomp(2).
pub(super) fn strictness(return_value: u32) -> i32 {
    (return_value & 0xffff_0000).cast_signed()
}

/// Whether numbers above the newest known one keep the default action instead of `ENOSYS`.
///
/// As runc: where unknown calls pass anyway, or are a tracer's business.
pub(super) fn lets_pass(action: Action) -> bool {
    matches!(action, Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace)
}
