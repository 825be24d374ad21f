//! How a process is scheduled and where it may run:
//! [sched_setattr(2)](https://man7.org/linux/man-pages/man2/sched_setattr.2.html),
//! [sched_setaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html).

use std::io;

use super::check;

/// The kernel's `struct sched_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// The size of the structure; filled in by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_OTHER`, ….
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// The nice value, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// The static priority, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds per period, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds after the start of a period, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
    /// The lower bound of the utilisation, with `SCHED_FLAG_UTIL_CLAMP_MIN`.
    pub util_min: u32,
    /// The upper bound of the utilisation, with `SCHED_FLAG_UTIL_CLAMP_MAX`.
    pub util_max: u32,
}

/// Sets the scheduling policy of the calling process.
///
/// # Errors
/// `EPERM` (a real-time policy without the right to it, or `SCHED_DEADLINE` on a part of the
/// CPUs), `EINVAL`, `EBUSY` (no deadline bandwidth is left).
pub fn set_scheduler(attr: &SchedAttr) -> io::Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` is a live `struct sched_attr` that says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&attr), 0) })?;
    Ok(())
}

/// Lets the calling process run on the CPUs whose bits are set in `mask` (CPU 0 is the lowest bit
/// of the first word), as far as its cpuset has them.
///
/// # Errors
/// `EINVAL` when no such CPU is left.
pub fn set_affinity(mask: &[u64]) -> io::Result<()> {
    // SAFETY: `mask` is live and as long as the size says; the kernel only reads it.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr())
    })?;
    Ok(())
}

/// Reads the CPUs that the calling process may run on into `mask`.
///
/// # Errors
/// `EINVAL` when the kernel has more CPUs than `mask` has bits.
pub fn affinity(mask: &mut [u64]) -> io::Result<()> {
    // SAFETY: `mask` is live and writable for as many bytes as the size says.
    check(unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(mask), mask.as_mut_ptr())
    })?;
    Ok(())
}
