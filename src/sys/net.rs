//! The loopback interface ([netdevice(7)](https://man7.org/linux/man-pages/man7/netdevice.7.html))
//! and unix sockets ([unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::check;

/// The longest path that fits into `struct sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// Connects to the stream socket at `path`, however long that is.
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED`, `EACCES` and the like.
pub fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let dial = |address: &SocketAddrUnix| rustix::io::retry_on_intr(|| connect(&socket, address));
    if path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH {
        dial(&SocketAddrUnix::new(path)?)?;
    } else {
        // Engines' paths are long: go through a descriptor, whose name is short.
        let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        dial(&SocketAddrUnix::new(format!("/proc/self/fd/{}", handle.as_raw_fd()).as_str())?)?;
    }
    Ok(socket)
}

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
