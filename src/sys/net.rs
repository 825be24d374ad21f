//! The loopback interface ([netdevice(7)](https://man7.org/linux/man-pages/man7/netdevice.7.html)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::check;

/// Turns the interface `lo` of the caller's network namespace on, as every new namespace has it
/// off.
///
/// # Errors
/// `EPERM` (the namespace belongs to another user namespace), `ENODEV`.
pub fn loopback_up(socket: impl AsFd) -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: `request` is a live `struct ifreq` with a NUL-terminated name and flags set.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            std::ptr::from_mut(&mut request),
        )
    }))?;
    Ok(())
}
