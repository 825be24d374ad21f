//! A directory tree of the machine, read by file descriptor.
//!
//! Every path is relative to the tree's root and resolved inside it (`RESOLVE_IN_ROOT`), so that
//! the absolute symbolic links of a driver container, or of a test's made-up machine, lead to the
//! tree's own files. Something that does not exist is `None`; anything else that keeps a path
//! from being read is an error that names it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::reopen;

/// How often a resolution is repeated that a concurrent rename or mount disturbed (`EAGAIN`,
/// openat2(2)).
const RESOLVE_ATTEMPTS: usize = 128;

/// Something of the machine could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct HostError {
    /// What was tried: `open`, `read`, `list`.
    pub action: &'static str,
    /// The path on the machine.
    pub path: PathBuf,
    /// Why it failed.
    pub source: std::io::Error,
}

/// A directory and everything below it.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    root: OwnedFd,
}

/// What `stat` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Regular file, directory, character device, ….
    pub kind: FileType,
    /// Permission bits, without the type.
    pub mode: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Major number of a device node.
    pub major: u32,
    /// Minor number of a device node.
    pub minor: u32,
    /// When it last changed, in nanoseconds since 1970; in proc, when the kernel first looked the
    /// entry up, so that one that was made anew has another time.
    pub changed: i128,
}

/// A file that was found, with its links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The absolute path on the machine, free of links.
    pub path: PathBuf,
    /// What it is.
    pub status: Status,
}

impl Tree {
    /// Opens the directory at `path`.
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(root) => Ok(Self { path: path.to_path_buf(), root }),
            Err(errno) => Err(error("open", path.to_path_buf(), errno)),
        }
    }

    /// The tree below `relative`, with that directory as its root.
    pub fn subtree(&self, relative: impl AsRef<Path>) -> Result<Option<Self>, HostError> {
        let relative = relative.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok(self
            .open_at(relative, flags, "open")?
            .map(|root| Self { path: self.at(relative), root }))
    }

    /// The root's path on the machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself, opened with `O_PATH`.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The path on the machine of `relative`, links not resolved.
    pub fn at(&self, relative: impl AsRef<Path>) -> PathBuf {
        let relative = relative.as_ref();
        self.path.join(relative.strip_prefix("/").unwrap_or(relative))
    }

    /// The content of a file, at most `limit` bytes of it.
    pub fn read(
        &self,
        relative: impl AsRef<Path>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, HostError> {
        let relative = relative.as_ref();
        // A FIFO must not keep the caller waiting for its writer.
        let Some(fd) = self.open_at(relative, OFlags::RDONLY | OFlags::NONBLOCK, "open")? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(limit.min(4096));
        match File::from(fd).take(limit as u64).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(source) => Err(HostError { action: "read", path: self.at(relative), source }),
        }
    }

    /// The content of a text file, at most `limit` bytes of it; what is not UTF-8 is replaced.
    pub fn read_text(
        &self,
        relative: impl AsRef<Path>,
        limit: usize,
    ) -> Result<Option<String>, HostError> {
        Ok(self.read(relative, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What a file is, links followed.
    pub fn status(&self, relative: impl AsRef<Path>) -> Result<Option<Status>, HostError> {
        let relative = relative.as_ref();
        match self.open_at(relative, OFlags::PATH, "stat")? {
            Some(fd) => status_of(fd.as_fd(), || self.at(relative)).map(Some),
            None => Ok(None),
        }
    }

    /// What a file is, without following a link at its end.
    pub fn link_status(&self, relative: impl AsRef<Path>) -> Result<Option<Status>, HostError> {
        let relative = relative.as_ref();
        match self.open_at(relative, OFlags::PATH | OFlags::NOFOLLOW, "stat")? {
            Some(fd) => status_of(fd.as_fd(), || self.at(relative)).map(Some),
            None => Ok(None),
        }
    }

    /// When a file's content was last changed, in seconds since 1970.
    pub fn changed(&self, relative: impl AsRef<Path>) -> Result<Option<i64>, HostError> {
        let relative = relative.as_ref();
        let Some(fd) = self.open_at(relative, OFlags::PATH, "stat")? else {
            return Ok(None);
        };
        let stat =
            rustix::fs::fstat(fd).map_err(|errno| error("stat", self.at(relative), errno))?;
        Ok(Some(stat.st_mtime))
    }

    /// A file with its links resolved.
    pub fn find(&self, relative: impl AsRef<Path>) -> Result<Option<Found>, HostError> {
        self.find_with(relative.as_ref(), OFlags::PATH)
    }

    /// The same, but for a link at its end, which is found itself.
    pub fn find_unfollowed(&self, relative: impl AsRef<Path>) -> Result<Option<Found>, HostError> {
        self.find_with(relative.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    fn find_with(&self, relative: &Path, flags: OFlags) -> Result<Option<Found>, HostError> {
        let Some(fd) = self.open_at(relative, flags, "open")? else {
            return Ok(None);
        };
        let status = status_of(fd.as_fd(), || self.at(relative))?;
        Ok(Some(Found { path: real_path(fd.as_fd(), || self.at(relative))?, status }))
    }

    /// The text of a symbolic link; `None` when there is no such link.
    pub fn link(&self, relative: impl AsRef<Path>) -> Result<Option<PathBuf>, HostError> {
        let relative = relative.as_ref();
        match self.open_at(relative, OFlags::PATH | OFlags::NOFOLLOW, "open")? {
            Some(fd) => Ok(link_text(fd.as_fd(), OsStr::new(""))),
            None => Ok(None),
        }
    }

    /// A directory to list.
    pub fn directory(&self, relative: impl AsRef<Path>) -> Result<Option<Directory>, HostError> {
        let relative = relative.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(fd) = self.open_at(relative, flags, "open")? else {
            return Ok(None);
        };
        let path = real_path(fd.as_fd(), || self.at(relative))?;
        Ok(Some(Directory { fd, path }))
    }

    /// The names in a directory, sorted; empty when there is no such directory.
    pub fn names(&self, relative: impl AsRef<Path>) -> Result<Vec<String>, HostError> {
        let mut names = Vec::new();
        if let Some(directory) = self.directory(relative)? {
            directory.each(|name, _| {
                if let Ok(name) = std::str::from_utf8(name) {
                    names.push(name.to_owned());
                }
            })?;
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A regular file opened for reading; `None` also for something else, which is not opened: that
    /// alone does something to a device or to whoever waits at a FIFO.
    pub fn open_file(&self, relative: impl AsRef<Path>) -> Result<Option<OwnedFd>, HostError> {
        let relative = relative.as_ref();
        let failed = |errno: Errno| error("open", self.at(relative), errno);
        let Some(handle) = self.open_at(relative, OFlags::PATH, "open")? else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&handle).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        match reopen::readable(&handle) {
            Ok(Some(file)) => Ok(Some(file)),
            Ok(None) => Err(failed(Errno::ACCESS)),
            Err(source) => Err(HostError { action: "open", path: self.at(relative), source }),
        }
    }

    fn open_at(
        &self,
        relative: &Path,
        flags: OFlags,
        action: &'static str,
    ) -> Result<Option<OwnedFd>, HostError> {
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..RESOLVE_ATTEMPTS {
            return match rustix::fs::openat2(
                &self.root,
                relative,
                flags,
                Mode::empty(),
                ResolveFlags::IN_ROOT,
            ) {
                Ok(fd) => Ok(Some(fd)),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(Errno::AGAIN) => continue,
                Err(errno) => Err(error(action, self.at(relative), errno)),
            };
        }
        Err(error(action, self.at(relative), Errno::AGAIN))
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// The absolute path on the machine, free of links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `visit` for every entry but `.` and `..` with its name and the type that the
    /// filesystem reports (`Unknown` on a few filesystems). To be called once per `Directory`.
    pub fn each(&self, mut visit: impl FnMut(&[u8], FileType)) -> Result<(), HostError> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
        let mut entries = RawDir::new(&self.fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| error("list", self.path.clone(), errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                visit(name, entry.file_type());
            }
        }
        Ok(())
    }

    /// Whether an entry of this name exists; a link counts whether or not it leads anywhere, and so
    /// does one that cannot be looked at: whoever opens it hears why.
    pub fn has(&self, name: &str) -> bool {
        let found = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        !matches!(found, Err(Errno::NOENT | Errno::NAMETOOLONG))
    }

    /// The text of the symbolic link `name`; `None` when there is no such link.
    pub fn link(&self, name: &str) -> Option<PathBuf> {
        link_text(self.fd.as_fd(), OsStr::new(name))
    }

    /// Opens the regular file `name` for reading. `None`: it is absent, a link or not regular.
    pub fn open_regular(&self, name: &str) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty()).ok()
    }
}

/// The absolute path of an open file, from the kernel.
pub fn real_path(fd: BorrowedFd<'_>, named: impl Fn() -> PathBuf) -> Result<PathBuf, HostError> {
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match rustix::fs::readlink(own.as_str(), Vec::new()) {
        Ok(text) => Ok(PathBuf::from(OsStr::from_bytes(text.as_bytes()))),
        Err(errno) => Err(error("name", named(), errno)),
    }
}

fn link_text(fd: BorrowedFd<'_>, name: &OsStr) -> Option<PathBuf> {
    let text = rustix::fs::readlinkat(fd, name, Vec::new()).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(text.as_bytes())))
}

fn status_of(fd: BorrowedFd<'_>, named: impl Fn() -> PathBuf) -> Result<Status, HostError> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| error("stat", named(), errno))?;
    Ok(Status {
        kind: FileType::from_raw_mode(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        changed: i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec),
    })
}

fn error(action: &'static str, path: PathBuf, errno: Errno) -> HostError {
    HostError { action, path, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    #[test]
    fn absolute_links_lead_into_the_tree() {
        let scratch = Scratch::new();
        scratch.write("real/data", "inside");
        scratch.link("/real/data", "alias");
        let tree = Tree::open(scratch.path()).unwrap();
        assert_eq!(tree.read("alias", 100).unwrap().unwrap(), b"inside");
        let found = tree.find("alias").unwrap().unwrap();
        assert_eq!(found.path, scratch.path().join("real/data"));
        assert_eq!(tree.link("alias").unwrap(), Some("/real/data".into()));
        assert_eq!(tree.link("real/data").unwrap(), None);
    }

    #[test]
    fn what_is_absent_is_none_and_what_is_large_is_cut() {
        let scratch = Scratch::new();
        scratch.write("file", "0123456789");
        let tree = Tree::open(scratch.path()).unwrap();
        assert!(tree.read("absent", 10).unwrap().is_none());
        assert!(tree.read("file/below", 10).unwrap().is_none());
        assert_eq!(tree.read("file", 4).unwrap().unwrap(), b"0123");
        assert!(tree.names("absent").unwrap().is_empty());
        assert_eq!(tree.names(".").unwrap(), ["file"]);
    }

    #[test]
    fn only_a_regular_file_is_opened_as_one() {
        let scratch = Scratch::new();
        scratch.write("file", "x");
        scratch.link("file", "link");
        scratch.link("/dev/null", "out");
        let tree = Tree::open(scratch.path()).unwrap();
        assert!(tree.open_file("file").unwrap().is_some());
        assert!(tree.open_file("link").unwrap().is_some());
        for other in [".", "out", "absent"] {
            assert!(tree.open_file(other).unwrap().is_none(), "{other}");
        }
        if scratch.node("null", 1, 3, 0o666) {
            assert!(tree.open_file("null").unwrap().is_none());
        }
    }

    #[test]
    fn parent_steps_do_not_leave_the_tree() {
        let scratch = Scratch::new();
        scratch.write("sub/file", "x");
        let tree = Tree::open(&scratch.path().join("sub")).unwrap();
        assert!(tree.read("../../../etc/passwd", 10).unwrap().is_none());
        assert_eq!(tree.read("../file", 10).unwrap().unwrap(), b"x");
    }
}
