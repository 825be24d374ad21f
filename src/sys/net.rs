//! The loopback interface ([netdevice(7)](https://man7.org/linux/man-pages/man7/netdevice.7.html))
//! and unix sockets ([unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    sendmsg, socket_with, sockopt,
};

use super::check;

/// The longest path that fits into `struct sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// A stream socket. To connect it, and to send on it, waits no longer than `patience` for the other
/// side and then is `EAGAIN`.
///
/// # Errors
/// When there are no descriptors left.
pub fn unix_socket(patience: Duration) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
    Ok(socket)
}

/// Connects to the stream socket at `path`, however long that is.
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED`, `EACCES` and the like; `EAGAIN`: see [`unix_socket`].
pub fn connect_unix(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    let dial = |address: &SocketAddrUnix| connect(socket, address);
    if path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH {
        dial(&SocketAddrUnix::new(path)?)?;
    } else {
        // Engines' paths are long: go through a descriptor, whose name is short.
        let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        dial(&SocketAddrUnix::new(format!("/proc/self/fd/{}", handle.as_raw_fd()).as_str())?)?;
    }
    Ok(())
}

/// Sends a descriptor in one message with `payload`, which must not be empty.
///
/// # Errors
/// `EPIPE` and the like.
pub fn send_descriptor(
    socket: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    payload: &[u8],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send_descriptor`] sent.
///
/// # Errors
/// `ENODATA` when there was no descriptor in the message, or no message any more.
pub fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut bytes = [0u8; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    received.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODATA))
}

/// Turns the interface `lo` of the caller's network namespace on, as every new namespace has it
/// off. A kernel without IPv4 is left as it is.
///
/// # Errors
/// `EPERM` (the namespace belongs to another user namespace), `ENODEV`.
pub fn loopback_up() -> io::Result<()> {
    let socket =
        match socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None) {
            Err(rustix::io::Errno::AFNOSUPPORT) => return Ok(()),
            socket => socket?,
        };
    set_interface_flags(socket, "lo", libc::IFF_UP | libc::IFF_RUNNING)
}

/// The flags (`IFF_UP`, `IFF_LOOPBACK`, …) of an interface of the socket's network namespace.
///
/// # Errors
/// `ENODEV`; `EINVAL` for a name that is too long.
pub fn interface_flags(socket: impl AsFd, name: &str) -> io::Result<i32> {
    let mut request = named(name)?;
    // SAFETY: `request` is a live `struct ifreq` with a NUL-terminated name.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            std::ptr::from_mut(&mut request),
        )
    }))?;
    // SAFETY: the kernel has written the flags, and any bytes are an integer.
    Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// Sets the flags of an interface of the socket's network namespace.
///
/// # Errors
/// `EPERM` (the namespace belongs to another user namespace), `ENODEV`.
pub fn set_interface_flags(socket: impl AsFd, name: &str, flags: i32) -> io::Result<()> {
    let mut request = named(name)?;
    request.ifr_ifru.ifru_flags = flags as i16;
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

fn named(name: &str) -> io::Result<libc::ifreq> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}
