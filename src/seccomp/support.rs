//! What this build knows and this kernel takes; the `seccomp` block of the `features` command.

use oci_spec::runtime::{
    LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator,
};

use super::arch::Arch;
use crate::sys::seccomp as sys;

/// The release of the kernel up to whose system calls names are known, such as "6.18".
pub use super::syscalls::KERNEL;

/// Every action of a profile that is compiled.
pub const ACTIONS: &[Action] = &[
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKill,
    Action::ScmpActKillProcess,
    Action::ScmpActKillThread,
    Action::ScmpActLog,
    Action::ScmpActNotify,
    Action::ScmpActTrace,
    Action::ScmpActTrap,
];

/// Every comparison of an argument.
pub const OPERATORS: &[Operator] = &[
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpMaskedEq,
    Operator::ScmpCmpNe,
];

/// Every flag, whether this kernel takes it or not.
pub const FLAGS: &[Flag] = &[
    Flag::SeccompFilterFlagLog,
    Flag::SeccompFilterFlagSpecAllow,
    Flag::SeccompFilterFlagTsync,
    Flag::SeccompFilterFlagWaitKillableRecv,
];

/// The ABIs whose calls this machine's filters check; none where there is no table for it.
///
/// Others are accepted in a profile and mean nothing: the kernel cannot run them.
#[must_use]
pub fn archs() -> &'static [Arch] {
    Arch::native().map_or(&[], Arch::family)
}

/// Those of [`FLAGS`] that the running kernel takes.
#[must_use]
pub fn supported_flags() -> Vec<Flag> {
    FLAGS.iter().copied().filter(|flag| flag_available(*flag)).collect()
}

/// Whether the running kernel takes `flag`.
pub(super) fn flag_available(flag: Flag) -> bool {
    let companion = match flag {
        Flag::SeccompFilterFlagWaitKillableRecv => sys::NEW_LISTENER,
        _ => 0,
    };
    sys::flags_available(bit(flag) | companion)
}

/// Whether `action` is younger than seccomp(2) itself (Linux 3.17).
pub(super) fn is_newer(action: Action) -> bool {
    matches!(action, Action::ScmpActKillProcess | Action::ScmpActLog | Action::ScmpActNotify)
}

/// `SECCOMP_FILTER_FLAG_*`.
pub(super) fn bit(flag: Flag) -> u64 {
    match flag {
        Flag::SeccompFilterFlagLog => sys::LOG,
        Flag::SeccompFilterFlagTsync => sys::TSYNC,
        Flag::SeccompFilterFlagSpecAllow => sys::SPEC_ALLOW,
        Flag::SeccompFilterFlagWaitKillableRecv => sys::WAIT_KILLABLE_RECV,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_current_kernel_takes_every_flag_and_action() {
        assert_eq!(supported_flags(), FLAGS);
        for action in ACTIONS {
            let value = super::super::action::return_value(*action, None).unwrap();
            assert!(sys::action_available(value), "{action}");
        }
        assert!(!sys::flags_available(1 << 30));
        assert!(!sys::action_available(0x7ffe_0000));
    }
}
