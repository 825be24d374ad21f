//! A readable descriptor on what an `O_PATH` descriptor refers to, without walking its path again.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{self, CWD, Mode, OFlags};

/// `PROC_SUPER_MAGIC` (linux/magic.h).
const PROC_MAGIC: i128 = 0x9fa0;

/// Opens the very file that `handle` refers to, for reading and without waiting. `None` where there
/// is no procfs to do it by: a container may have none, or something else on /proc.
///
/// # Errors
/// Of openat(2).
pub fn readable(handle: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(own) = fs::openat(CWD, "/proc/self/fd", flags, Mode::empty()) else {
        return Ok(None);
    };
    // The field's type differs between architectures; this one holds them all.
    if i128::from(fs::fstatfs(&own)?.f_type) != PROC_MAGIC {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match fs::openat(&own, handle.as_raw_fd().to_string(), flags, Mode::empty()) {
        // The procfs of another pid namespace, or one that may not be used.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}
