//! Putting a file of a rootfs in the place of another, in one step.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::unguessable;

/// The start of the name under which a file is prepared; no image has a reason to use it.
pub const TEMPORARY_PREFIX: &str = ".gpurun-";

/// As [`Parent::replace_file`](super::parent::Parent::replace_file), for the file `name` in
/// `parent` and without a note in a journal; `temporary` is the name under which it is prepared.
///
/// # Errors
/// As there.
pub fn in_directory(
    parent: &OwnedFd,
    name: &OsStr,
    temporary: &OsStr,
    content: &[u8],
    mode: u32,
) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let old = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .ok()
        .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let mode = Mode::from_raw_mode(old.as_ref().map_or(mode, |stat| stat.st_mode & 0o777));
    let fd = match fs::openat(parent, temporary, flags, mode) {
        Err(Errno::EXIST) => {
            // Left by an earlier run that was killed; the name is ours alone.
            fs::unlinkat(parent, temporary, AtFlags::empty())?;
            fs::openat(parent, temporary, flags, mode)?
        }
        other => other?,
    };
    let written = (|| {
        use std::io::Write;
        fs::fchmod(&fd, mode)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(content)?;
        if let Some(old) = old {
            let ours = fs::fstat(&file)?;
            if (ours.st_uid, ours.st_gid) != (old.st_uid, old.st_gid) {
                let (uid, gid) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
                // An owner that this user namespace does not know cannot be given.
                let _ = fs::fchown(&file, Some(uid), Some(gid));
            }
            let time = Timespec { tv_sec: old.st_mtime, tv_nsec: old.st_mtime_nsec as _ };
            fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        }
        fs::renameat(parent, temporary, parent, name)?;
        Ok(())
    })();
    if written.is_err() {
        let _ = fs::unlinkat(parent, temporary, AtFlags::empty());
    }
    written
}

/// A name under which a file is prepared before it is renamed into place; one that nobody knows
/// beforehand, so that nobody can put something in its way.
///
/// # Errors
/// Of [`unguessable::part`].
pub fn temporary_name(name: &OsStr) -> io::Result<OsString> {
    let mut temporary = OsString::from(TEMPORARY_PREFIX);
    temporary.push(name);
    temporary.push("-");
    temporary.push(unguessable::part()?);
    Ok(temporary)
}

/// Whether the file at `path` has a name that [`temporary_name`] gave, of whatever version.
#[must_use]
pub fn is_temporary_of(path: &Path, name: &OsStr) -> bool {
    let bytes = path.file_name().unwrap_or_default().as_bytes();
    bytes
        .strip_prefix(TEMPORARY_PREFIX.as_bytes())
        .and_then(|rest| rest.strip_prefix(name.as_bytes()))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
}
