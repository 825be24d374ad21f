//! What can be wrong with a profile, or with loading it.

use std::io;

use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompFilterFlag};

use super::arch::Arch;

/// Why a profile has no filter, or a filter is not in force.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// gpurun has no system call table for this machine.
    #[error("seccomp: this machine's architecture has no system call table; remove linux.seccomp")]
    NoTable,
    /// `errnoRet` beyond what the kernel returns.
    #[error("seccomp: errnoRet {value} of {action} is above {max}")]
    ErrnoRange {
        /// The action that carries it.
        action: LinuxSeccompAction,
        /// As given.
        value: u32,
        /// The highest value that the kernel hands on.
        max: u32,
    },
    /// A call without a name.
    #[error("seccomp: a system call name is empty")]
    EmptyName,
    /// An argument that no system call has.
    #[error("seccomp: {syscall} has no argument {index}; arguments are 0 to 5")]
    ArgIndex {
        /// The call.
        syscall: String,
        /// As given.
        index: usize,
    },
    /// The condition compiler refused a condition.
    #[error("seccomp: condition on {syscall}: {reason}")]
    Condition {
        /// The call.
        syscall: String,
        /// In the compiler's words.
        reason: String,
    },
    /// Two rules say different things about the same arguments.
    #[error(
        "seccomp: rules for {syscall} on {arch:?} give the same condition two different actions; keep one"
    )]
    Conflict {
        /// The call.
        syscall: String,
        /// The ABI on which they meet.
        arch: Arch,
    },
    /// `SCMP_ACT_NOTIFY` as the default would also stop the start of the container itself.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be the default action")]
    NotifyDefault,
    /// The notify descriptor is handed over with write(2).
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used for write")]
    NotifyWrite,
    /// Nobody would answer the notifications.
    #[error("seccomp: SCMP_ACT_NOTIFY needs listenerPath")]
    NotifyWithoutListener,
    /// The kernel takes that flag with a listener only.
    #[error(
        "seccomp: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY; remove the flag"
    )]
    WaitKillableWithoutNotify,
    /// Longer than `BPF_MAXINSNS`.
    #[error("seccomp: the filter has {0} instructions, the kernel takes 4096; shorten the profile")]
    TooLong(usize),
    /// The running kernel lacks an action.
    #[error("seccomp: this kernel does not support {0}")]
    UnsupportedAction(LinuxSeccompAction),
    /// The running kernel lacks a flag.
    #[error("seccomp: this kernel does not support {0}")]
    UnsupportedFlag(LinuxSeccompFilterFlag),
    /// seccomp(2) failed.
    #[error("seccomp: load filter: {error}{}", hint(.error))]
    Load {
        /// The kernel's answer.
        error: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => " (needs no_new_privs or CAP_SYS_ADMIN)",
        Some(libc::EBUSY) => " (a filter with a listener is already in force)",
        Some(libc::ENOSYS | libc::EINVAL) => " (kernel without CONFIG_SECCOMP_FILTER?)",
        _ => "",
    }
}
