//! `tmpcopyup`: a tmpfs that starts with the content of the directory that it covers.
//!
//! The directory comes from the image. It is walked by descriptor, links are copied and never
//! followed, and nothing but regular files is opened for reading.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, mkdirat, mknodat,
    openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::error::Reason;
use super::mounts::Cause;

/// Deeper trees than this are refused: each level holds two descriptors.
const DEEPEST: usize = 64;

/// The most that the kernel lets a list of attributes, or one of them, be (`XATTR_LIST_MAX`).
const LONGEST_ATTRIBUTES: usize = 64 << 10;

/// Copies what is in the directory `from` into the directory `into`.
pub fn copy(from: BorrowedFd<'_>, into: BorrowedFd<'_>) -> Result<(), Cause> {
    let done = readable(from).and_then(|from| directory(&from, into, DEEPEST));
    done.map_err(|reason| Cause::System { doing: "copy the directory into the tmpfs", reason })
}

/// A directory descriptor that can be listed, from one that may be `O_PATH`.
fn readable(dir: BorrowedFd<'_>) -> Result<OwnedFd, Reason> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, c".", flags, Mode::empty())?)
}

fn directory(from: &OwnedFd, into: BorrowedFd<'_>, depth: usize) -> Result<(), Reason> {
    let deeper = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    for entry in Dir::read_from(from)? {
        let name = entry?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(into, &name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = openat(from, &name, flags, Mode::empty())?;
                let copy = openat(into, &name, flags, Mode::empty())?;
                directory(&source, copy.as_fd(), deeper)?;
                finish(&source, &copy, &stat)?;
            }
            FileType::RegularFile => regular(from, into, &name)?,
            FileType::Symlink => {
                symlinkat(readlinkat(from, &name, Vec::new())?, into, &name)?;
                finish_at(into, &name, &stat)?;
            }
            FileType::Socket => {}
            kind => {
                mknodat(
                    into,
                    &name,
                    kind,
                    Mode::from_raw_mode(stat.st_mode & 0o7777),
                    stat.st_rdev,
                )?;
                finish_at(into, &name, &stat)?;
            }
        }
    }
    Ok(())
}

fn regular(from: &OwnedFd, into: BorrowedFd<'_>, name: &CString) -> Result<(), Reason> {
    // O_NONBLOCK: what was a file a moment ago may be a FIFO now.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let source = openat(from, name, flags | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::AGAIN.into());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat(into, name, flags, Mode::RUSR)?;
    let (mut source, mut copy) = (File::from(source), File::from(copy));
    std::io::copy(&mut source, &mut copy)?;
    finish(&OwnedFd::from(source), &OwnedFd::from(copy), &stat)
}

/// Gives an open copy of `source` its owner, mode, extended attributes and times.
fn finish(source: &OwnedFd, copy: &OwnedFd, stat: &Stat) -> Result<(), Reason> {
    fchown(copy, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    attributes(source, copy)?;
    Ok(futimens(copy, &times(stat))?)
}

/// Copies what programs notice: users' attributes, capabilities of files, access lists. Those of
/// an overlay are none of the copy's. What the tmpfs or a user namespace cannot hold is left out.
fn attributes(source: &OwnedFd, copy: &OwnedFd) -> Result<(), Reason> {
    let mut names = Vec::with_capacity(LONGEST_ATTRIBUTES);
    match flistxattr(source, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(err) => return Err(err.into()),
    }
    for name in names.split(|byte| *byte == 0) {
        let wanted = name.starts_with(b"user.")
            || name == b"security.capability"
            || name.starts_with(b"system.posix_acl_");
        if !wanted {
            continue;
        }
        let mut value = Vec::with_capacity(LONGEST_ATTRIBUTES);
        match fgetxattr(source, name, spare_capacity(&mut value)) {
            Ok(_) => {}
            // Gone since it was listed.
            Err(Errno::NODATA) => continue,
            Err(err) => return Err(err.into()),
        }
        match fsetxattr(copy, name, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// As [`finish`] for what is not opened; the copy is in a tmpfs that nobody else sees.
fn finish_at(into: BorrowedFd<'_>, name: &CString, stat: &Stat) -> Result<(), Reason> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(into, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(into, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
