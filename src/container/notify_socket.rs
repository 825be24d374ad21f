//! `NOTIFY_SOCKET`: how a service in a container tells systemd that it is ready
//! ([sd_notify(3)](https://man7.org/linux/man-pages/man3/sd_notify.3.html)).
//!
//! The service manager believes only messages of the unit's own processes, and its socket is not
//! in the container. So the container gets a socket of its own in `/run/notify`; the runtime waits
//! there for `READY=1`, passes it on, and names the container's init as the main process. As in
//! runc, nothing else is passed on, and nothing after that.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    self, AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};

use super::store::StateDir;
use crate::log;

/// Where the container finds the socket's directory.
const DIRECTORY: &str = "/run/notify";
/// The socket in it.
const NAME: &str = "notify.sock";
/// The longest message that is read; systemd's own limit is the same.
const MESSAGE: usize = 4096;
/// How long systemd may take to say that it has read everything.
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The socket of the service manager that started this process.
#[must_use]
pub fn of_environment() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}

/// What the container's program finds in its environment.
#[must_use]
pub fn environment() -> (&'static str, String) {
    ("NOTIFY_SOCKET", format!("{DIRECTORY}/{NAME}"))
}

/// Adds the mount of the directory that [`make_directory`] makes in the state directory `dir`.
pub fn add_mount(spec: &mut Spec, dir: &Path) {
    let mut mount = Mount::default();
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
    mount
        .set_destination(DIRECTORY.into())
        .set_source(Some(dir.join("notify")))
        .set_typ(None)
        .set_options(Some(options));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
}

/// Makes the directory that the container sees, empty until somebody binds the socket.
///
/// # Errors
/// The file system's.
pub fn make_directory(dir: &StateDir) -> Result<()> {
    let path = dir.path().join("notify");
    DirBuilder::new()
        .mode(0o755)
        .create(&path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// The container's socket, and the service manager's.
#[derive(Debug)]
pub struct NotifySocket {
    container: OwnedFd,
    manager: OwnedFd,
}

impl NotifySocket {
    /// Binds the socket of the container whose state is in `dir`. `None`: it was created without.
    ///
    /// # Errors
    /// Whatever keeps it from being bound, and a manager's socket that cannot be connected to.
    pub fn bind(dir: &StateDir, manager: &OsStr) -> Result<Option<Self>> {
        let path = dir.path().join("notify");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            directory => directory.with_context(|| format!("cannot open {}", path.display()))?,
        };
        let manager = connect(manager)
            .with_context(|| format!("cannot connect to NOTIFY_SOCKET {}", manager.display()))?;
        // State directories have long names, and the kernel takes 107 bytes.
        let short = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
        let bind = || -> io::Result<OwnedFd> {
            let socket = datagram()?;
            net::bind(&socket, &SocketAddrUnix::new(short.as_str())?)?;
            // For the container's users; the directory is nobody else's.
            fs::set_permissions(&short, Permissions::from_mode(0o777))?;
            Ok(socket)
        };
        let container = bind().context("cannot make the container's notify socket")?;
        Ok(Some(Self { container, manager }))
    }

    /// The line with `READY=` of the next message, if there is one now.
    fn ready(&self) -> Option<Vec<u8>> {
        let mut message = [MaybeUninit::uninit(); MESSAGE];
        let (message, _) = net::recv(&self.container, &mut message, RecvFlags::DONTWAIT).ok()?;
        let (message, _) = message;
        message.split(|byte| *byte == b'\n').find(|l| l.starts_with(b"READY=")).map(<[u8]>::to_vec)
    }

    /// If a message that the container is ready has come: passes it on, with `pid` as the main
    /// process. True when there is no more to do.
    pub fn pass_on(&self, pid: i32) -> bool {
        let Some(mut line) = self.ready() else { return false };
        line.push(b'\n');
        let main = format!("MAINPID={pid}\n");
        for message in [&line[..], main.as_bytes()] {
            if let Err(error) = net::send(&self.manager, message, SendFlags::NOSIGNAL) {
                log::warn(format!("cannot pass READY on to NOTIFY_SOCKET: {error}"));
            }
        }
        true
    }

    /// Waits until the process behind `pidfd` says that it is ready, or ends; then until the
    /// service manager has read that, because it can tell only as long as this process lives to
    /// which unit a message belongs.
    ///
    /// # Errors
    /// When waiting itself fails.
    pub fn wait(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds =
                [PollFd::new(&self.container, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err).context("cannot wait for READY=1"),
            }
            let ended = !fds[1].revents().is_empty();
            if self.pass_on(pid) {
                return self.barrier().context("cannot wait for the service manager");
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// `BARRIER=1`: the manager closes the descriptor when it gets there. Older ones do not know
    /// it; then this takes as long as it may.
    fn barrier(&self) -> io::Result<()> {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [theirs.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let text = [IoSlice::new(b"BARRIER=1")];
        net::sendmsg(&self.manager, &text, &mut control, SendFlags::NOSIGNAL)?;
        drop(theirs);
        match poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&BARRIER)) {
            Ok(0) => log::warn("the service manager did not answer BARRIER=1 within 30 s"),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
        Ok(())
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

fn datagram() -> io::Result<OwnedFd> {
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// A path, or an abstract name after `@`.
fn connect(manager: &OsStr) -> io::Result<OwnedFd> {
    let address = match manager.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        _ => SocketAddrUnix::new(manager)?,
    };
    let socket = datagram()?;
    net::connect(&socket, &address)?;
    Ok(socket)
}
