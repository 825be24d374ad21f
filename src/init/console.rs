//! The container's terminal.
//!
//! The pty pair is made from the container's own devpts, so that `ttyname` works in it, and is
//! checked to be what it says: a image may hold anything under these names (CVE-2025-52565). The
//! slave comes from the master (`TIOCGPTPEER`), never from a path.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::mount::{self, MoveMountFlags, OpenTreeFlags};
use rustix::net::{self, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pty::{self, OpenptFlags};
use rustix::termios::{self, Winsize};

use super::journal::Journal;
use super::program::Program;
use super::root::Root;

/// `DEVPTS_SUPER_MAGIC` (linux/magic.h).
const DEVPTS_MAGIC: u64 = 0x1cd1;
/// The inode of `ptmx` in a devpts (fs/devpts/inode.c).
const PTMX_INODE: u64 = 2;

/// A terminal that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// There is no devpts.
    #[error("a terminal needs a devpts mounted on /dev/pts: {0}")]
    Ptmx(io::Error),
    /// Something else lies in its place.
    #[error("/dev/pts/ptmx is not the ptmx of a devpts: the image or a mount hides it")]
    NotPtmx,
    /// A step on the way.
    #[error("cannot {what}: {source}")]
    Step {
        /// Which.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
}

fn step(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> ConsoleError {
    move |err| ConsoleError::Step { what, source: err.into() }
}

/// Makes the pty, sends the master through `socket`, and returns the slave. With `console`, it is
/// also on /dev/console.
///
/// # Errors
/// Names the step.
pub fn make(
    root: &Root,
    socket: BorrowedFd<'_>,
    program: &Program,
    console: Option<&mut Journal>,
) -> Result<OwnedFd, ConsoleError> {
    let master = open_ptmx(root)?;
    pty::unlockpt(&master).map_err(step("unlock the pty"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave =
        pty::ioctl_tiocgptpeer(&master, flags).map_err(step("open the pty's other side"))?;
    if let Some((rows, columns)) = program.console_size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        termios::tcsetwinsize(&slave, size).map_err(step("set the terminal's size"))?;
    }
    // The program's user must be able to open its own terminal.
    match fs::fchown(&slave, Some(fs::Uid::from_raw(program.uid)), None) {
        // A user that is not mapped cannot own it; the program has it open all the same.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
        other => other.map_err(step("give the terminal to the user"))?,
    }
    if let Some(journal) = console {
        mount_console(root, &slave, journal)?;
    }
    send_master(socket, &master)?;
    Ok(slave)
}

/// Puts the slave on descriptors 0 to 2 as the controlling terminal of the calling session leader.
///
/// # Errors
/// Names the step.
pub fn attach(slave: &OwnedFd) -> Result<(), ConsoleError> {
    rustix::process::ioctl_tiocsctty(slave).map_err(step("take the controlling terminal"))?;
    rustix::stdio::dup2_stdin(slave).map_err(step("put the terminal on stdin"))?;
    rustix::stdio::dup2_stdout(slave).map_err(step("put the terminal on stdout"))?;
    rustix::stdio::dup2_stderr(slave).map_err(step("put the terminal on stderr"))?;
    Ok(())
}

fn open_ptmx(root: &Root) -> Result<OwnedFd, ConsoleError> {
    let path = Path::new("/dev/pts/ptmx");
    // Looked at before it is opened: opening an unknown device can have effects.
    let found = root.resolve(path).map_err(ConsoleError::Ptmx)?;
    check_ptmx(&found)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = root.open_in(path, flags, Mode::empty()).map_err(ConsoleError::Ptmx)?;
    check_ptmx(&master)?;
    Ok(master)
}

fn check_ptmx(fd: &OwnedFd) -> Result<(), ConsoleError> {
    let stat = fs::fstat(fd).map_err(step("look at ptmx"))?;
    let filesystem = fs::fstatfs(fd).map_err(step("look at ptmx"))?;
    let device = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
    let real = filesystem.f_type as u64 == DEVPTS_MAGIC
        && stat.st_ino == PTMX_INODE
        && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && device == (5, 2);
    if real { Ok(()) } else { Err(ConsoleError::NotPtmx) }
}

fn mount_console(root: &Root, slave: &OwnedFd, journal: &mut Journal) -> Result<(), ConsoleError> {
    let failed = |source| ConsoleError::Step { what: "mount the terminal on /dev/console", source };
    let (dev, name) =
        (root.parent(Path::new("/dev"), journal).map_err(failed)?, "console".as_ref());
    let target = match dev.open(name) {
        Err(err) if err.raw_os_error() == Some(libc::ENOENT) => dev.create_file(name, journal),
        found => found,
    };
    let target = target.map_err(failed)?;
    let kind = fs::fstat(&target).map_err(|err| failed(err.into()))?.st_mode;
    if !matches!(FileType::from_raw_mode(kind), FileType::RegularFile | FileType::CharacterDevice) {
        return Err(failed(io::Error::from_raw_os_error(libc::ELOOP)));
    }
    let tree = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let detached = mount::open_tree(slave.as_fd(), "", tree).map_err(|err| failed(err.into()))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    mount::move_mount(detached.as_fd(), "", target.as_fd(), "", flags)
        .map_err(|err| failed(err.into()))
}

/// One message with the master and, as engines expect, its name as the payload.
///
/// # Errors
/// When nobody listens any more.
pub fn send_master(socket: BorrowedFd<'_>, master: &OwnedFd) -> Result<(), ConsoleError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let name = [IoSlice::new(b"/dev/ptmx")];
    net::sendmsg(socket, &name, &mut control, SendFlags::NOSIGNAL)
        .map_err(step("send the terminal to the console socket"))?;
    Ok(())
}
