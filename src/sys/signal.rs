//! Signal dispositions.

/// One past the highest signal of Linux.
const SIGNALS: std::ops::Range<libc::c_int> = 1..65;

/// `struct sigaction` as the kernel has it, all zero: `SIG_DFL`, no flags, an empty mask.
const DEFAULT: [u64; 4] = [0; 4];

/// Gives every signal its default action back. An ignored signal stays ignored across exec: the
/// Rust runtime ignores SIGPIPE, and a shell that starts something in the background SIGINT and
/// SIGQUIT. By the system call, because the C library hides two real-time signals.
pub fn default_actions() {
    for signal in SIGNALS {
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
}
