//! One command at a time changes a container: a lock on its state directory.
//!
//! It is flock(2) on the directory itself, so it goes with its holder, however that ends, and
//! leaves nothing behind. `create` and `restore` hold it while they work, `start` while it lets the
//! program go, `update` until what it changed is written down, `delete` until nothing is left.
//! Commands that write nothing down take none.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::store::StateDir;

/// How long another command may take, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    directory: File,
}

/// A lock that is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another command has it.
    #[error("another command is at work on the container{}: try again when it has ended", holder.map_or_else(String::new, |pid| format!(" (process {pid})")))]
    Busy {
        /// Its process, where the kernel tells.
        holder: Option<u32>,
    },
    /// The container has been deleted meanwhile.
    #[error("the container has been deleted meanwhile")]
    Gone,
    /// Any other failure.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The state directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of a container at once or not at all.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn try_take(dir: &StateDir) -> Result<Self, LockError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |source| LockError::Io { path: dir.path().to_owned(), source };
        let directory = match rustix::fs::open(dir.path(), flags, Mode::empty()) {
            Ok(directory) => File::from(directory),
            Err(rustix::io::Errno::NOENT) => return Err(LockError::Gone),
            Err(err) => return Err(failed(err.into())),
        };
        // Dropping it unlocks nothing that it does not have.
        let lock = Self { directory };
        lock.lock().map_err(|err| match err {
            LockError::Io { source, .. } => failed(source),
            other => other,
        })?;
        Ok(lock)
    }

    /// Takes the lock, waiting for another command for [`PATIENCE`].
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(dir: &StateDir) -> Result<Self, LockError> {
        patiently(|| Self::try_take(dir))
    }

    /// Gives the lock up; another process may have a copy of its descriptor. It can be taken back
    /// with [`Lock::again`].
    pub fn release(&self) {
        let _ = flock(&self.directory, FlockOperation::Unlock);
    }

    /// Takes it back, or keeps it.
    ///
    /// # Errors
    /// [`LockError`]: what is there now may belong to somebody else.
    pub fn again(&self) -> Result<(), LockError> {
        patiently(|| self.lock())
    }

    fn lock(&self) -> Result<(), LockError> {
        let failed = |source| LockError::Io { path: PathBuf::new(), source };
        let operation = FlockOperation::NonBlockingLockExclusive;
        let locked = rustix::io::retry_on_intr(|| flock(&self.directory, operation));
        let meta = self.directory.metadata().map_err(failed)?;
        match locked {
            // Its last holder has removed it.
            Ok(()) if meta.nlink() == 0 => Err(LockError::Gone),
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
                Err(LockError::Busy { holder: holder(&locks, meta.dev(), meta.ino()) })
            }
            Err(err) => Err(failed(err.into())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}

fn patiently<T>(mut attempt: impl FnMut() -> Result<T, LockError>) -> Result<T, LockError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        match attempt() {
            Err(LockError::Busy { .. }) if Instant::now() < deadline => {}
            done => return done,
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Who holds the lock on a file
/// ([proc_locks(5)](https://man7.org/linux/man-pages/man5/proc_locks.5.html)).
pub(super) fn holder(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, found, ..] if *found == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::id::ContainerId;
    use crate::container::store::Store;

    #[test]
    fn one_has_it_until_it_is_dropped_and_nobody_when_the_directory_has_gone() {
        let root = std::env::temp_dir().join(format!("gpurun-lock-{}", std::process::id()));
        let store = Store::new(root.clone());
        let dir = store.claim(&ContainerId::parse("a").expect("id")).expect("directory");
        let first = Lock::try_take(&dir).expect("free");
        match Lock::try_take(&dir).expect_err("taken") {
            LockError::Busy { holder } => assert_eq!(holder, Some(std::process::id())),
            other => panic!("{other}"),
        }
        first.release();
        let second = Lock::try_take(&dir).expect("free again");
        dir.remove().expect("removed");
        drop(second);
        assert!(matches!(first.again(), Err(LockError::Gone)));
        assert!(matches!(Lock::take(&dir), Err(LockError::Gone)));
        std::fs::remove_dir(&root).expect("removed");
    }
}
