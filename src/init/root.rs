//! The container's root directory as a descriptor, and every way to walk and change it.
//!
//! Nothing in a rootfs is trusted. A path inside it is resolved exactly once, by the kernel, with
//! `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: symbolic links are followed as the
//! container would follow them, never out of it. What comes back is a descriptor, and everything
//! after that works on the descriptor. See [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html).

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::dangling;
use super::held::{self, Held};
use super::journal::{Created, Journal};
use super::parent::Parent;
use crate::reopen;

/// How often a resolution is repeated when the kernel says that the tree changed under it.
const RETRIES: usize = 128;

/// The root directory of a container that is being set up.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// Where `fd` is, asked for once.
    own: OnceCell<Spot>,
    /// Mounts that the runtime has made in it and keeps hold of.
    held: Held,
}

/// What tells a file or directory of a mount namespace from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    mount: u64,
    device: (u32, u32),
    inode: u64,
}

impl Spot {
    fn of(fd: impl AsFd) -> io::Result<Self> {
        let wanted = StatxFlags::MNT_ID | StatxFlags::INO;
        let stat = fs::statx(fd, "", AtFlags::EMPTY_PATH, wanted)?;
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        Ok(Self { mount: stat.stx_mnt_id, device, inode: stat.stx_ino })
    }
}

/// Where something is, as seen from the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// It is the root itself.
    Root,
    /// It is on the root's own mount.
    OwnMount,
    /// It is on something that is mounted inside the root (a volume of the user may be a directory
    /// of the host).
    OtherMount,
}

/// The id of the mount that `fd` is on.
///
/// # Errors
/// Of statx.
pub fn mount_id(fd: impl AsFd) -> io::Result<u64> {
    held::mount_id(fd.as_fd(), "", AtFlags::EMPTY_PATH)
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Root {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, own: OnceCell::new(), held: Held::default() }
    }
}

impl Root {
    /// Opens `path` on the host as a root.
    ///
    /// # Errors
    /// When it is not a directory that can be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from(fs::open(path, flags, Mode::empty())?))
    }

    /// Keeps hold of a mount that was made at `place`, if it is one on which more is built: paths
    /// below it start there from now on.
    pub fn hold(&mut self, place: &Path, mount: OwnedFd) {
        self.held.keep(place, mount);
    }

    /// Closes what is held: paths start at the root again.
    pub fn let_go(&mut self) {
        self.held = Held::default();
    }

    /// The place of a mount that is held and can no longer be found there.
    ///
    /// # Errors
    /// Of statx.
    pub fn find_moved(&self) -> io::Result<Option<&'static str>> {
        self.held.find_moved(self.as_fd())
    }

    /// Resolves `path` inside the root to an `O_PATH` descriptor, following links inside the root.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP` (a loop or a magic link), `EAGAIN` (someone renames without
    /// end), and other errors of openat2.
    pub fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_in(path, OFlags::PATH, Mode::empty())
    }

    /// As [`Root::resolve`], but the last component itself may be a link and is not followed.
    ///
    /// # Errors
    /// As [`Root::resolve`].
    pub fn resolve_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_in(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// As [`Root::resolve`], with `None` for a path that does not exist.
    ///
    /// # Errors
    /// As [`Root::resolve`], without `ENOENT` and `ENOTDIR`.
    pub fn find(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        absent_is_none(self.resolve(path))
    }

    /// Opens `path` with any flags, resolved inside the root.
    ///
    /// # Errors
    /// As [`Root::resolve`].
    pub fn open_in(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.open_with(path, flags, mode, ResolveFlags::empty())
    }

    fn open_with(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        if let Some((mount, rest)) = self.held.below(path)
            && !resolve.contains(ResolveFlags::NO_XDEV)
        {
            match open_at(mount, rest, flags, mode, ResolveFlags::BENEATH) {
                // A link that leads out of it, from the root of the container.
                Err(Errno::XDEV) => {}
                done => return Ok(done?),
            }
        }
        Ok(open_at(&self.fd, path, flags, mode, resolve | ResolveFlags::IN_ROOT)?)
    }

    /// Where what `fd` refers to is.
    ///
    /// # Errors
    /// Of statx.
    pub fn whereabouts(&self, fd: impl AsFd) -> io::Result<Whereabouts> {
        let own = match self.own.get() {
            Some(own) => own,
            None => {
                let own = Spot::of(self)?;
                self.own.get_or_init(|| own)
            }
        };
        let spot = Spot::of(fd)?;
        Ok(match spot.mount == own.mount {
            true if spot == *own => Whereabouts::Root,
            true => Whereabouts::OwnMount,
            false => Whereabouts::OtherMount,
        })
    }

    /// Whether what `fd` refers to is on the root's own mount.
    ///
    /// # Errors
    /// Of statx.
    pub fn is_own_mount(&self, fd: impl AsFd) -> io::Result<bool> {
        Ok(self.whereabouts(fd)? != Whereabouts::OtherMount)
    }

    /// The directory at `path`, or an error where the way leads over another mount.
    ///
    /// # Errors
    /// As [`Root::resolve`], and `EXDEV`.
    pub fn dir_on_own_mount(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), ResolveFlags::NO_XDEV)
    }

    /// Reads a regular file of at most `limit` bytes. `None`: it does not exist, or is something
    /// else than a regular file (a FIFO or a device is never opened).
    ///
    /// # Errors
    /// `EFBIG` for a larger file, and read errors.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(handle) = self.find(path)? else {
            return Ok(None);
        };
        if FileType::from_raw_mode(fs::fstat(&handle)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match reopen::readable(&handle)? {
            Some(fd) => fd,
            None => match absent_is_none(self.open_in(path, flags, Mode::empty()))? {
                Some(fd) => fd,
                None => return Ok(None),
            },
        };
        // Without procfs the name was resolved a second time, so look again.
        let stat = fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > limit {
            return Err(Errno::FBIG.into());
        }
        let mut bytes = Vec::new();
        std::fs::File::from(fd).take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(Errno::FBIG.into());
        }
        Ok(Some(bytes))
    }

    /// Resolves `path` to a directory, creating it and its parents (mode 0755) where missing.
    ///
    /// # Errors
    /// `ENOTDIR` when something else is in the way; `EROFS`; errors of the journal.
    pub fn ensure_dir(&self, path: &Path, journal: &mut Journal) -> io::Result<OwnedFd> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        match self.open_in(path, directory, Mode::empty()) {
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {}
            done => return done,
        }
        let plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && path.is_absolute()
            && path.components().all(plain)
        {
            let dir = self.ensure_dir(parent, journal)?;
            if let Err(Errno::NOENT) = fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                self.note(&dir, Created::Dir, path, journal)?;
                match fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(err) => return Err(err.into()),
                }
                let flags = directory | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return Ok(fs::openat(&dir, name, flags, Mode::empty())?);
            }
        }
        // `..`, or a link that leads to nothing.
        let path = dangling::through_links(self, path)?;
        let mut walked = PathBuf::from("/");
        let mut dir = self.open_in(&walked, directory, Mode::empty())?;
        for component in path.components() {
            match component {
                Component::Normal(name) => walked.push(name),
                Component::ParentDir => {
                    walked.pop();
                    dir = self.open_in(&walked, directory, Mode::empty())?;
                    continue;
                }
                _ => continue,
            }
            dir = match self.open_in(&walked, directory, Mode::empty()) {
                Ok(fd) => fd,
                Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {
                    let Some(Component::Normal(name)) = walked.components().next_back() else {
                        return Err(err);
                    };
                    self.note(&dir, Created::Dir, &walked, journal)?;
                    match fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(err) => return Err(err.into()),
                    }
                    self.open_in(&walked, directory, Mode::empty())?
                }
                Err(err) => return Err(err),
            };
        }
        Ok(dir)
    }

    /// Resolves `path` to something that a file can be mounted on, creating an empty file (and
    /// its parents) where nothing is.
    ///
    /// # Errors
    /// `EISDIR` when a directory is there; `EROFS`.
    pub fn ensure_file(&self, path: &Path, journal: &mut Journal) -> io::Result<OwnedFd> {
        if let Some(fd) = self.find(path)? {
            if FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) == FileType::Directory {
                return Err(Errno::ISDIR.into());
            }
            return Ok(fd);
        }
        let path = &dangling::through_links(self, path)?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = self.parent(path.parent().unwrap_or(Path::new("/")), journal)?;
        match parent.create_file(name, journal) {
            Err(err) if Errno::from_io_error(&err) == Some(Errno::EXIST) => self.resolve(path),
            done => done,
        }
    }

    /// The directory at `path`, created where missing, to create several files in.
    ///
    /// # Errors
    /// As [`Root::ensure_dir`].
    pub fn parent(&self, path: &Path, journal: &mut Journal) -> io::Result<Parent> {
        let fd = self.ensure_dir(path, journal)?;
        let in_image = self.is_own_mount(&fd)?;
        Ok(Parent::new(path, fd, in_image))
    }

    /// As [`Root::parent`], for one of many paths: `last` keeps the directory for the next one,
    /// which most likely is in it as well.
    ///
    /// # Errors
    /// As [`Root::ensure_dir`].
    pub fn parent_again<'p>(
        &self,
        path: &Path,
        last: &'p mut Option<Parent>,
        journal: &mut Journal,
    ) -> io::Result<&'p Parent> {
        let parent = match last.take() {
            Some(last) if last.is(path) => last,
            _ => self.parent(path, journal)?,
        };
        Ok(last.insert(parent))
    }

    /// The directory that holds the last component of `path` (created where missing) and that
    /// component's name.
    ///
    /// # Errors
    /// `EINVAL` for a path without a last component; otherwise as [`Root::ensure_dir`].
    pub fn ensure_parent<'p>(
        &self,
        path: &'p Path,
        journal: &mut Journal,
    ) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.ensure_dir(parent, journal)?, name))
    }

    /// Notes in the journal what is about to be created in `parent`, if that is in the image:
    /// what is created in a mount of the container (a tmpfs on /dev) goes away with it.
    fn note(
        &self,
        parent: &OwnedFd,
        kind: Created,
        path: &Path,
        journal: &mut Journal,
    ) -> io::Result<()> {
        if self.is_own_mount(parent)? { journal.record(kind, path) } else { Ok(()) }
    }
}

fn open_at(
    start: &OwnedFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let (flags, resolve) = (flags | OFlags::CLOEXEC, resolve | ResolveFlags::NO_MAGICLINKS);
    for _ in 0..RETRIES {
        match fs::openat2(start, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Turns "there is nothing" into `None`.
fn absent_is_none(result: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match result {
        Ok(fd) => Ok(Some(fd)),
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests;
