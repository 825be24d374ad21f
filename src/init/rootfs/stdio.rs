//! The container's own /dev/null.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, makedev};
use rustix::io::Errno;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};

use crate::init::root::Root;

/// An `O_PATH` descriptor on the container's /dev/null.
///
/// # Errors
/// `ENODEV` when what has that name is not the null device; errors of opening.
pub fn dev_null(root: &Root) -> io::Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let fd = root.resolve_nofollow(path)?;
    if is_null(&fd)? { Ok(fd) } else { Err(Errno::NODEV.into()) }
}

/// Replaces those of stdin, stdout and stderr that are the host's /dev/null by the container's,
/// so that they do not keep a host mount in reach. Without a null device in the container they
/// stay as they are.
pub fn reopen_null(root: &Root) -> io::Result<()> {
    let standard = [stdin(), stdout(), stderr()];
    let mut null = None;
    for (number, fd) in standard.into_iter().enumerate() {
        if !is_open_null(fd)? {
            continue;
        }
        let null = match &null {
            Some(null) => null,
            None => match open_null(root)? {
                Some(opened) => null.insert(opened),
                None => return Ok(()),
            },
        };
        match number {
            0 => dup2_stdin(null)?,
            1 => dup2_stdout(null)?,
            _ => dup2_stderr(null)?,
        }
    }
    Ok(())
}

/// The container's /dev/null, open for reading and writing.
fn open_null(root: &Root) -> io::Result<Option<OwnedFd>> {
    if dev_null(root).is_err() {
        return Ok(None);
    }
    // Neither waits nor becomes a controlling terminal should the file be swapped just now.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = root.open_in(Path::new("/dev/null"), flags, Mode::empty())?;
    if !is_null(&fd)? {
        return Err(Errno::NODEV.into());
    }
    rustix::fs::fcntl_setfl(&fd, OFlags::RDWR)?;
    Ok(Some(fd))
}

fn is_open_null(fd: BorrowedFd<'_>) -> io::Result<bool> {
    match is_null(fd) {
        Err(err) if err.raw_os_error() == Some(Errno::BADF.raw_os_error()) => Ok(false),
        other => other,
    }
}

/// Whether `fd` is the character device 1:3.
fn is_null(fd: impl std::os::fd::AsFd) -> io::Result<bool> {
    let stat = fstat(fd)?;
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(character && stat.st_rdev == makedev(1, 3))
}
