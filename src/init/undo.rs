//! Taking back out of a rootfs what the journal says was put in.
//!
//! The container may have changed everything since, and the journal may be damaged. So a thing
//! goes only if it is still what was made, every path is resolved inside the rootfs without
//! leaving its mount, and whatever fails does not keep the rest from being done.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::journal::{Created, Journal};
use super::replace::{self, TEMPORARY_PREFIX, is_temporary_of, temporary_name};
use super::root::Root;
use crate::gpu::loader::{READ_LIMIT, cache, conf, musl};

/// Something that could not be taken away.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {} from the container's rootfs: {reason}", path.display())]
pub struct UndoError {
    /// The path in the container.
    pub path: PathBuf,
    /// The system's reason.
    pub reason: io::Error,
}

/// Undoes a journal: removes what it lists from `rootfs`, last entry first. Gives back what
/// could not be removed; what is gone or was changed since is no failure.
#[must_use]
pub fn undo(rootfs: &Path, journal: &[u8]) -> Vec<UndoError> {
    let mut failures = Vec::new();
    let mut records = Journal::records(journal).peekable();
    if records.peek().is_none() {
        return failures;
    }
    let root = match Root::open(rootfs) {
        Ok(root) => root,
        Err(err) if is_gone(&err) => return failures,
        Err(reason) => {
            return vec![UndoError { path: PathBuf::from("/"), reason }];
        }
    };
    let records: Vec<_> = records.collect();
    let mut parents = Parents { root: &root, last: None };
    let noted = noted_temporary_of_cache(&records);
    for (kind, path) in records.into_iter().rev() {
        match remove(&mut parents, kind, path, noted) {
            Err(err) if !is_gone(&err) => {
                failures.push(UndoError { path: path.to_owned(), reason: err });
            }
            _ => {}
        }
    }
    failures
}

/// The directories that things are removed from. Most records follow one of the same directory,
/// so the last one stays open.
struct Parents<'a> {
    root: &'a Root,
    last: Option<(&'a Path, OwnedFd)>,
}

impl<'a> Parents<'a> {
    fn open(&mut self, path: &'a Path) -> io::Result<&OwnedFd> {
        let open = match self.last.take() {
            Some(last) if last.0.as_os_str() == path.as_os_str() => last,
            _ => (path, self.root.dir_on_own_mount(path)?),
        };
        Ok(&self.last.insert(open).1)
    }
}

fn remove<'a>(
    parents: &mut Parents<'a>,
    kind: Created<'_>,
    path: &'a Path,
    noted: Option<&OsStr>,
) -> io::Result<()> {
    let root = parents.root;
    let is_plain = path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let (true, Some(parent), Some(name)) = (is_plain, path.parent(), path.file_name()) else {
        return Err(io::Error::other("the journal is damaged: not a plain absolute path"));
    };
    let parent = parents.open(parent)?;
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_ours = match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (Created::Dir, FileType::Directory) => {
            return match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                // Somebody put something in: it stays.
                Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
                done => Ok(done?),
            };
        }
        (Created::MountPoint, FileType::RegularFile) => stat.st_size == 0,
        (Created::Link(text), FileType::Symlink) => match text {
            Some(text) => fs::readlinkat(parent, name, Vec::new())?.as_bytes() == text.as_bytes(),
            None => true,
        },
        (Created::Node(Some(device)), _) => device.is(&stat),
        (Created::Node(None), FileType::CharacterDevice | FileType::BlockDevice) => true,
        (Created::File, FileType::RegularFile) if path == Path::new(super::gpu::CACHE) => {
            return undo_cache(root, path, parent, name, noted);
        }
        (Created::File, FileType::RegularFile) => is_own_file(root, path)?,
        _ => false,
    };
    if is_ours {
        fs::unlinkat(parent, name, AtFlags::empty())?;
    }
    Ok(())
}

/// Whether a file with content is one that gpurun wrote and nobody rewrote since.
fn is_own_file(root: &Root, path: &Path) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default();
    if name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) || path == Path::new(conf::DROP_IN)
    {
        return Ok(true);
    }
    let is_own: &dyn Fn(&[u8]) -> bool = if path == Path::new(conf::CONF) {
        &|content| content == conf::INCLUDE_ALL
    } else if path == Path::new(&musl::path_file()) {
        &musl::is_own
    } else {
        return Ok(false);
    };
    Ok(read(root, path, READ_LIMIT)?.is_some_and(|content| is_own(&content)))
}

/// The name under which the earlier cache is prepared: the one that the new cache had at first. It
/// is in the journal, so that nothing stays where this ends half-way, and is no name that the
/// container has ever seen.
fn noted_temporary_of_cache<'a>(records: &[(Created<'_>, &'a Path)]) -> Option<&'a OsStr> {
    let cache = Path::new(super::gpu::CACHE);
    let name = cache.file_name().unwrap_or_default();
    let is_it = |path: &&Path| path.parent() == cache.parent() && is_temporary_of(path, name);
    records.iter().map(|(_, path)| *path).rfind(is_it).and_then(Path::file_name)
}

/// Puts the loader's cache back that was there before, or none. One that the container wrote
/// itself stays.
fn undo_cache(
    root: &Root,
    path: &Path,
    parent: &OwnedFd,
    name: &OsStr,
    noted: Option<&OsStr>,
) -> io::Result<()> {
    let Some(content) = read(root, path, cache::READ_LIMIT)? else {
        return Ok(());
    };
    match cache::origin(&content) {
        cache::Origin::Foreign => Ok(()),
        cache::Origin::New => Ok(fs::unlinkat(parent, name, AtFlags::empty())?),
        cache::Origin::Extended(original) => {
            let temporary = match noted {
                Some(noted) => noted.to_owned(),
                None => temporary_name(name)?,
            };
            replace::in_directory(parent, name, &temporary, original, 0o644)
        }
    }
}

/// What a container left there, read with the same care as what an image had there.
fn read(root: &Root, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match root.read(path, limit) {
        Err(err) if Errno::from_io_error(&err) == Some(Errno::FBIG) => Ok(None),
        done => done,
    }
}

/// Nothing is there any more, or something is mounted where it was.
fn is_gone(err: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(err),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
    )
}
