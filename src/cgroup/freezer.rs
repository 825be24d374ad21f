//! Freeze and thaw: `freezer.state` of v1, `cgroup.freeze` of v2.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode as FileMode, OFlags};

use super::{Cgroup, CgroupError, file};

/// How long a freeze may take: a process in an uninterruptible sleep freezes when it wakes.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often somebody else's change of mind is looked for meanwhile, which wakes no poll.
const LOOK: Duration = Duration::from_millis(50);

/// The two interfaces.
enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl Cgroup {
    /// Stops every process of the cgroup and those below; waits until they stand still.
    ///
    /// # Errors
    /// [`CgroupError::FreezeTimeout`], after which the cgroup is thawed again;
    /// [`CgroupError::Thawed`] (v2); write errors.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let freezer = self.freezer()?;
        let done = match &freezer {
            Freezer::V1(dir) => freeze_v1(dir),
            Freezer::V2(dir) => freeze_v2(dir),
        };
        if done.is_err() {
            // Half frozen is worse than running.
            let _ = self.thaw();
        }
        done
    }

    /// Lets the processes run again.
    ///
    /// # Errors
    /// Write errors.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match self.freezer()? {
            Freezer::V1(dir) => file::write(&dir, "freezer.state", "THAWED"),
            Freezer::V2(dir) => file::write(&dir, "cgroup.freeze", "0"),
        }
    }

    /// Whether the cgroup itself (not an ancestor) was asked to be frozen. One that does not
    /// exist is not.
    ///
    /// # Errors
    /// Read errors.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        match self.freezer()? {
            Freezer::V1(dir) | Freezer::V2(dir) => is_frozen_dir(&dir),
        }
    }

    fn freezer(&self) -> Result<Freezer, CgroupError> {
        let v1 = self.hierarchies.iter().find(|hierarchy| hierarchy.has("freezer"));
        match (v1, self.v2_dir()) {
            (Some(v1), _) => Ok(Freezer::V1(v1.dir())),
            (None, Some(dir)) => Ok(Freezer::V2(dir)),
            (None, None) if self.is_refused() => {
                Err(CgroupError::None { action: "freeze its processes" })
            }
            (None, None) => Err(CgroupError::NoController {
                limit: "freezer",
                reason: "the freezer hierarchy is not mounted".to_owned(),
            }),
        }
    }
}

/// Whether this directory is asked to be frozen by itself; `false` where it has no freezer.
pub(super) fn is_frozen_dir(dir: &Path) -> Result<bool, CgroupError> {
    for name in ["cgroup.freeze", "freezer.self_freezing"] {
        match file::read(dir, name) {
            Ok(text) => return Ok(text.trim() == "1"),
            Err(err) if err.is_absent() => {}
            Err(err) => return Err(err),
        }
    }
    Ok(false)
}

/// v1 does not tell when it is done, and a process that forks meanwhile can make it start over:
/// the state is written again until it reads `FROZEN` ([freezer-subsystem]).
///
/// [freezer-subsystem]: https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html
fn freeze_v1(dir: &Path) -> Result<(), CgroupError> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(20);
    loop {
        file::write(dir, "freezer.state", "FROZEN")?;
        if file::read(dir, "freezer.state")?.trim() == "FROZEN" {
            return Ok(());
        }
        if start.elapsed() > FREEZE_TIMEOUT {
            return Err(timeout(dir));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// v2 reports in `cgroup.events`, which wakes a poll when it changes.
fn freeze_v2(dir: &Path) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.events");
    let failed = |source| CgroupError::Read { file: path.clone(), source };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let events = rustix::fs::open(&path, flags, FileMode::empty()).map_err(|e| failed(e.into()))?;
    file::write(dir, "cgroup.freeze", "1")?;
    let start = Instant::now();
    loop {
        if reads_frozen(&events).map_err(failed)? {
            return Ok(());
        }
        let left = FREEZE_TIMEOUT.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(timeout(dir));
        }
        if !is_frozen_dir(dir)? {
            return Err(CgroupError::Thawed(dir.to_owned()));
        }
        let left = left.min(LOOK);
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(failed(err.into())),
        }
    }
}

fn reads_frozen(events: &OwnedFd) -> io::Result<bool> {
    let mut text = [0; 256];
    let length = rustix::io::pread(events, &mut text, 0)?;
    let text = text.get(..length).unwrap_or_default();
    Ok(text.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1"))
}

fn timeout(dir: &Path) -> CgroupError {
    let milliseconds = FREEZE_TIMEOUT.as_millis().try_into().unwrap_or(u64::MAX);
    CgroupError::FreezeTimeout { dir: dir.to_owned(), milliseconds }
}
