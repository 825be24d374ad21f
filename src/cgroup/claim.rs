//! Whose a cgroup is.
//!
//! Two containers that share a cgroup would limit, freeze and kill each other. So `create` takes a
//! cgroup only while nobody is in it, keeps others from it until its own process is, and remembers
//! which one it was: a directory of the same name may be another container's later.
//!
//! What tells them apart is the inode (in cgroup v2 the cgroup's id). An empty cgroup that was
//! there before, an ended container's, is therefore not used but made again.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, fstat};

use super::create::{Made, make_dirs};
use super::{Cgroup, CgroupError, freezer, tree};

/// How long another `create` may take until its process is in the cgroup.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps other containers from a cgroup that has no process yet, until it is dropped. It is
/// flock(2) on the directory, so it goes with its holder, however that ends.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    dir: OwnedFd,
    /// Which cgroup it is.
    pub(super) id: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A child has a copy of the descriptor.
        let _ = flock(&self.dir, FlockOperation::Unlock);
    }
}

/// Makes a cgroup that nobody else has, and claims it. Returns whether it is new; one that the
/// caller may not replace (it is another user's, or what is above it is) is used as it is.
pub(super) fn make(
    dir: &Path,
    mount: &Path,
    made: &mut Made,
) -> Result<(Claim, bool), CgroupError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        let fresh = make_dirs(dir, mount, made)?;
        match Claim::try_take(dir)? {
            Taken::Claimed(claim) if fresh => {
                made.push(dir);
                return Ok((claim, true));
            }
            Taken::Claimed(claim) => {
                refuse_inhabited(dir)?;
                tree::clear(dir)?;
                if !claim.is_own() || fs::remove_dir(dir).is_err() {
                    return Ok((claim, false));
                }
            }
            Taken::Gone => {}
            Taken::Busy => {
                refuse_inhabited(dir)?;
                if Instant::now() >= deadline {
                    return Err(CgroupError::Claimed { dir: dir.to_owned() });
                }
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }
}

/// What has become of an attempt.
enum Taken {
    Claimed(Claim),
    /// Somebody else is about to put a process there.
    Busy,
    /// It is not there any more.
    Gone,
}

impl Claim {
    fn try_take(path: &Path) -> Result<Taken, CgroupError> {
        let failed = |err| failed("lock", path, err);
        let Some(dir) = tree::open(path)? else { return Ok(Taken::Gone) };
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Taken::Busy),
            locked => locked.map_err(failed)?,
        }
        let id = fstat(&dir).map_err(failed)?.st_ino;
        let claim = Self { dir, id };
        // Its last holder may have replaced it.
        Ok(match id_of(path) {
            Some(now) if now == id => Taken::Claimed(claim),
            _ => Taken::Gone,
        })
    }

    /// Whether it is the caller's, who would make it again as it is.
    fn is_own(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        fstat(&self.dir).is_ok_and(|stat| stat.st_uid == own)
    }
}

fn failed(action: &'static str, dir: &Path, err: rustix::io::Errno) -> CgroupError {
    CgroupError::Directory { action, dir: dir.to_owned(), source: err.into() }
}

fn id_of(dir: &Path) -> Option<u64> {
    Some(rustix::fs::stat(dir).ok()?.st_ino)
}

/// A cgroup that was there before must be an empty, running one.
pub(super) fn refuse_inhabited(dir: &Path) -> Result<(), CgroupError> {
    let Some(open) = tree::open(dir)? else { return Ok(()) };
    let count = tree::pids(dir, open)?.len();
    if count > 0 {
        return Err(CgroupError::NotEmpty { dir: dir.to_owned(), count });
    }
    if freezer::is_frozen_dir(dir)? {
        return Err(CgroupError::Frozen { dir: dir.to_owned() });
    }
    Ok(())
}

impl Cgroup {
    /// Remembers which cgroup it is, for one that systemd has made.
    pub fn recognise(&mut self) {
        self.id = self.process_dir().and_then(|dir| id_of(&dir));
    }

    /// Whether it is known which cgroup it was.
    #[must_use]
    pub fn is_recognised(&self) -> bool {
        self.id.is_some()
    }

    /// Whether another cgroup, so another container's, has its place by now.
    #[must_use]
    pub fn is_anothers(&self) -> bool {
        let now = || id_of(&self.process_dir()?);
        self.id.is_some_and(|id| now().is_some_and(|now| now != id))
    }

    /// The directory that has its processes, and where it is. `None`: there is none, or another's.
    pub(super) fn own_dir(&self) -> Result<Option<(PathBuf, OwnedFd)>, CgroupError> {
        let Some(place) = self.process_dir() else { return Ok(None) };
        let Some(dir) = tree::open(&place)? else { return Ok(None) };
        let Some(id) = self.id else { return Ok(Some((place, dir))) };
        let now = fstat(&dir).map_err(|err| failed("look at", &place, err))?.st_ino;
        Ok((now == id).then_some((place, dir)))
    }

    /// Removes a cgroup of which nobody knows whose it is (a `create` was killed right after it had
    /// made it), unless somebody is in it or about to be. Returns whether it has gone.
    ///
    /// # Errors
    /// As [`Cgroup::delete`].
    pub fn delete_if_unused(&self) -> Result<bool, CgroupError> {
        let taken = self.process_dir().map_or(Ok(Taken::Gone), |dir| Claim::try_take(&dir))?;
        // A claim is kept until it has gone.
        match taken {
            Taken::Busy => Ok(false),
            _ if !self.pids()?.is_empty() => Ok(false),
            Taken::Claimed(_) | Taken::Gone => self.delete(),
        }
    }
}
