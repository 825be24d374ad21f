//! Answers that are kept from one container to the next.
//!
//! Small files in a directory that only its owner can enter, on a filesystem that a reboot empties.
//! A cache only saves work: what cannot be read or written is as if it were not there, and whoever
//! reads an answer has to see by its content whether it still holds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::process::geteuid;

/// Where the machine's root keeps them.
const DIRECTORY: &str = "/run/gpurun-cache";

/// The same for an ordinary user, below `XDG_RUNTIME_DIR`.
const OWN_DIRECTORY: &str = "gpurun-cache";

/// An answer is never larger.
const LARGEST: u64 = 1 << 20;

/// Where answers are kept. The directory is made when there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// Nowhere.
    None,
    /// The user's own place, if there is one.
    Usual,
    /// In this directory.
    At(PathBuf),
}

impl Cache {
    fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::None => None,
            Self::At(directory) => Some(directory.clone()),
            Self::Usual if is_machines_root() => Some(DIRECTORY.into()),
            Self::Usual => {
                let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
                own.is_absolute().then(|| own.join(OWN_DIRECTORY))
            }
        }
    }

    /// The answer of this name, if this user wrote it.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let directory = self.open()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&directory, name, flags, Mode::empty()).ok()?;
        if !is_own(&file, FileType::RegularFile)? {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(file).take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= LARGEST).then_some(bytes)
    }

    /// Keeps an answer, as one step: a reader sees the old one or this one. `None`: not kept.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Option<()> {
        match fs::mkdir(self.directory()?, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(_) => return None,
        }
        let directory = self.open()?;
        let fresh = format!(".{name}.{}", std::process::id());
        // Of a process that had the same number and was killed.
        let _ = fs::unlinkat(&directory, &fresh, AtFlags::empty());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = fs::openat(&directory, &fresh, flags, Mode::RUSR | Mode::WUSR).ok()?;
        let written = File::from(file).write_all(bytes).ok();
        let kept = written.and_then(|()| fs::renameat(&directory, &fresh, &directory, name).ok());
        if kept.is_none() {
            let _ = fs::unlinkat(&directory, &fresh, AtFlags::empty());
        }
        kept
    }

    /// The directory, if nobody else can have put anything into it.
    fn open(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fs::open(self.directory()?, flags, Mode::empty()).ok()?;
        is_own(&directory, FileType::Directory)?.then_some(directory)
    }
}

/// Whether the caller is root, and not in somebody's user namespace.
pub(super) fn is_machines_root() -> bool {
    geteuid().is_root() && !crate::sys::process::in_user_namespace().unwrap_or(true)
}

/// Whether it is of this kind, this user's, and closed to everyone else.
fn is_own(file: &OwnedFd, kind: FileType) -> Option<bool> {
    let stat = fs::fstat(file).ok()?;
    Some(
        FileType::from_raw_mode(stat.st_mode) == kind
            && stat.st_uid == geteuid().as_raw()
            && stat.st_mode & 0o077 == 0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    #[test]
    fn an_answer_is_kept_and_replaced() {
        let scratch = Scratch::new();
        let cache = Cache::At(scratch.path().join("cache"));
        assert_eq!(cache.read("a"), None);
        cache.write("a", b"one").unwrap();
        cache.write("a", b"two").unwrap();
        assert_eq!(cache.read("a").as_deref(), Some(&b"two"[..]));
        let names: Vec<_> = std::fs::read_dir(scratch.path().join("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["a"]);
        let mode = |path: &str| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(scratch.path().join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("cache"), mode("cache/a")), (0o700, 0o600));
    }

    #[test]
    fn what_somebody_else_can_have_written_does_not_count() {
        let scratch = Scratch::new();
        let cache = Cache::At(scratch.path().join("cache"));
        cache.write("a", b"one").unwrap();
        let change = |path: &str, mode: u32| {
            fs::chmod(scratch.path().join(path), Mode::from_raw_mode(mode)).unwrap();
        };
        change("cache/a", 0o644);
        assert_eq!(cache.read("a"), None);
        change("cache/a", 0o600);
        change("cache", 0o770);
        assert_eq!((cache.read("a"), cache.write("a", b"x")), (None, None));
        change("cache", 0o700);
        assert!(cache.read("a").is_some());
        scratch.link("a", "cache/link");
        assert_eq!(cache.read("link"), None);
        scratch.link("cache", "other");
        assert_eq!(Cache::At(scratch.path().join("other")).read("a"), None);
        std::fs::write(scratch.path().join("cache/a"), vec![0; (1 << 20) + 1]).unwrap();
        assert_eq!(cache.read("a"), None);
        assert_eq!(Cache::At(scratch.path().join("no/such/cache")).write("a", b""), None);
        assert_eq!((Cache::None.write("a", b""), Cache::None.read("a")), (None, None));
    }
}
