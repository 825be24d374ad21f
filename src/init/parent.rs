//! A directory of a rootfs in which files and links are made.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::journal::{Created, Journal};
use super::replace;

/// A directory inside a root, resolved once for all that is created in it. Only good for as long
/// as nothing is mounted on it or above it.
#[derive(Debug)]
pub struct Parent {
    path: PathBuf,
    fd: OwnedFd,
    /// Not in a mount of the container: what is created here has to be noted.
    in_image: bool,
}

impl Parent {
    /// The directory `fd`, which was resolved from `path`.
    pub(super) fn new(path: &Path, fd: OwnedFd, in_image: bool) -> Self {
        Self { path: path.to_owned(), fd, in_image }
    }

    /// Whether this is the directory that was resolved from `path`.
    pub(super) fn is(&self, path: &Path) -> bool {
        // As bytes: comparing components is slow, and a false "no" does no harm.
        self.path.as_os_str() == path.as_os_str()
    }

    /// Whether it is in the image, and not in something that is mounted in the container (a volume
    /// of the user may be a directory of the host).
    pub fn is_in_image(&self) -> bool {
        self.in_image
    }

    /// An `O_PATH` descriptor on what has the name here; a link is not followed.
    ///
    /// # Errors
    /// `ENOENT` and other errors of openat.
    pub fn open(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.fd, name, flags, Mode::empty())?)
    }

    /// Creates an empty file to mount a file on.
    ///
    /// # Errors
    /// `EEXIST`; `EROFS`; errors of the journal; `EAGAIN` when somebody puts something else there
    /// at once.
    pub fn create_file(&self, name: &OsStr, journal: &mut Journal) -> io::Result<OwnedFd> {
        if self.in_image {
            journal.record(Created::MountPoint, &self.path.join(name))?;
        }
        // mknod and not open(2): a descriptor that is open for writing would keep the filesystem
        // from being made read-only.
        fs::mknodat(&self.fd, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
        let fd = self.open(name)?;
        match FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(fd),
            _ => Err(Errno::AGAIN.into()),
        }
    }

    /// Makes a symbolic link with the text `target`, where nothing has the name.
    ///
    /// # Errors
    /// `EEXIST` when something has it, `EROFS`, and errors of the journal.
    pub fn create_link(
        &self,
        name: &OsStr,
        target: &Path,
        journal: &mut Journal,
    ) -> io::Result<()> {
        if self.in_image {
            let text = Some(target.as_os_str());
            journal.record(Created::Link(text), &self.path.join(name))?;
        }
        Ok(fs::symlinkat(target, &self.fd, name)?)
    }

    /// Puts a file with the given content here, replacing what is there in one step; a link there
    /// is replaced, not followed. A regular file hands its mode, owner and time of change on to the
    /// new one, so that the old content can be put back as if nothing had been.
    ///
    /// # Errors
    /// `EROFS`, `EISDIR`, `EBUSY` (a mount point), `ENOSPC` and the like; nothing is left behind.
    pub fn replace_file(
        &self,
        name: &OsStr,
        content: &[u8],
        mode: u32,
        journal: &mut Journal,
    ) -> io::Result<()> {
        let temporary = replace::temporary_name(name)?;
        if self.in_image {
            journal.record(Created::File, &self.path.join(&temporary))?;
        }
        replace::in_directory(&self.fd, name, &temporary, content, mode)
    }
}
