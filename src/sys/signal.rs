//! Signal dispositions and masks.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::check;

/// One past the highest signal of Linux.
const SIGNALS: std::ops::Range<libc::c_int> = 1..65;

/// `struct sigaction` as the kernel has it, all zero: `SIG_DFL`, no flags, an empty mask.
const DEFAULT: [u64; 4] = [0; 4];

/// Gives every signal its default action back. An ignored signal stays ignored across exec: the
/// Rust runtime ignores SIGPIPE, and a shell that starts something in the background SIGINT and
/// SIGQUIT. By the system call, because the C library hides two real-time signals.
pub fn default_actions() {
    for signal in SIGNALS {
        default_action(signal);
    }
}

/// Gives SIGCHLD its default action: with an ignored one, which a caller can leave to us, the
/// kernel reaps our children itself and we never hear how they ended.
pub fn hear_of_children() {
    default_action(libc::SIGCHLD);
}

/// Lets `command` start with every signal at its default and none blocked, whatever this process
/// does with them meanwhile.
pub fn default_in(command: &mut Command) {
    let reset = || {
        default_actions();
        // SAFETY: as in `default_action`; the kernel only reads one word of `DEFAULT`.
        let done = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
        check(done).map(drop)
    };
    // SAFETY: between fork and exec `reset` makes system calls and nothing else: it neither
    // allocates nor takes a lock.
    unsafe { command.pre_exec(reset) };
}

fn default_action(signal: libc::c_int) {
    // SAFETY: no handler function is installed, so nothing can run in signal context; `DEFAULT`
    // is as large as the kernel's structure. SIGKILL and SIGSTOP are refused, as they must be.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            DEFAULT.as_ptr(),
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}
