//! The processes of the cgroup: join, list, kill.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::{Cgroup, CgroupError, Driver, Hierarchy, Mode, file};

/// v1's cpuset and v2's threaded mode answer EINVAL while another change is under way.
const JOIN_TRIES: u32 = 5;
/// How often the list is read again for processes that were forked meanwhile.
const KILL_ROUNDS: u32 = 100;

impl Cgroup {
    /// Moves a process into the cgroup, in every hierarchy. Not needed after `CLONE_INTO_CGROUP`.
    ///
    /// # Errors
    /// [`CgroupError::Write`]: `ESRCH` (it ended), `ENOENT` (no such cgroup), `ENOSPC` (cpuset
    /// without CPUs), `EOPNOTSUPP` (v2: threaded).
    pub fn join(&self, pid: i32) -> Result<(), CgroupError> {
        let text = pid.to_string();
        let join = |hierarchy: &Hierarchy| join_dir(&hierarchy.dir(), &text);
        match (self.hierarchies.iter().try_for_each(join), &self.driver) {
            // An ordinary user may not move a process from where they logged in; systemd may.
            (Err(err), Driver::Systemd(unit)) if err.is_permission() => self.attach(unit, pid),
            (joined, _) => joined,
        }
    }

    /// This cgroup, but in v2 the one below it that process `pid` is in: where a container has
    /// divided its cgroup (systemd or Docker in it), another process can only join its init.
    ///
    /// # Errors
    /// Read errors.
    pub fn where_process_is(&self, pid: i32) -> Result<Self, CgroupError> {
        if self.mode != Mode::V2 {
            return Ok(self.clone());
        }
        let text = file::read_path(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let mut there = self.clone();
        let place = text.lines().find_map(|line| line.strip_prefix("0::/"));
        if let (Some(hierarchy), Some(place)) = (there.hierarchies.first_mut(), place) {
            let place = Path::new(place);
            if place.starts_with(&hierarchy.path) {
                place.clone_into(&mut hierarchy.path);
            }
        }
        Ok(there)
    }

    /// The processes of the cgroup and of those below it, sorted. Empty when there is no such
    /// cgroup.
    ///
    /// # Errors
    /// Read errors.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        match self.process_dir() {
            Some(dir) => of_subtree(&dir),
            None => Ok(Vec::new()),
        }
    }

    /// Sends a signal to every process of the cgroup and of those below it. SIGKILL leaves none
    /// alive, also when they fork meanwhile or are frozen; it is `cgroup.kill` where the kernel
    /// has that (v2, Linux 5.14), otherwise the processes are frozen, signalled and thawed.
    ///
    /// # Errors
    /// Read errors, a signal that is refused (`EPERM`), [`CgroupError::StillAlive`].
    pub fn kill_all(&self, signal: Signal) -> Result<(), CgroupError> {
        if signal != Signal::SIGKILL {
            let was_frozen = self.is_frozen()?;
            // Without a freezer, or with a process that does not freeze, a signal may miss what is
            // forked at this very moment; that is better than not to send it.
            let frozen = !was_frozen && self.freeze().is_ok();
            let sent = self.signal_each(signal);
            if frozen {
                self.thaw()?;
            }
            return sent.map(drop);
        }
        if let Some(dir) = self.v2_dir() {
            match file::write(&dir, "cgroup.kill", "1") {
                Ok(()) if self.mode == Mode::V2 => return Ok(()),
                Ok(()) => {}
                Err(err) if err.is_absent() => {}
                // A threaded cgroup cannot be killed as a whole.
                Err(err) if err.errno() == Some(libc::EOPNOTSUPP) => {}
                Err(err) => return Err(err),
            }
        }
        for round in 0..KILL_ROUNDS {
            if self.pids()?.is_empty() {
                return Ok(());
            }
            let frozen = self.freeze().is_ok();
            let sent = self.signal_each(signal);
            // Also a container that was paused before: a frozen process does not die on v1.
            if frozen || self.is_frozen()? {
                self.thaw()?;
            }
            if sent? == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(u64::from(round.min(10))));
        }
        let dir = self.process_dir().unwrap_or_default();
        Err(CgroupError::StillAlive { dir, count: self.pids()?.len() })
    }

    /// Signals every process that is not a zombie; returns how many there were.
    fn signal_each(&self, signal: Signal) -> Result<usize, CgroupError> {
        let own = Pid::this().as_raw();
        let mut count = 0;
        for pid in self.pids()? {
            // A pid of another pid namespace reads as 0, which kill(2) takes for a group.
            if pid <= 0 || pid == own {
                continue;
            }
            match signal::kill(Pid::from_raw(pid), signal) {
                Ok(()) => count += 1,
                Err(Errno::ESRCH) => {}
                Err(err) => {
                    return Err(CgroupError::Write {
                        file: PathBuf::from(format!("/proc/{pid}")),
                        value: signal.to_string(),
                        source: err.into(),
                    });
                }
            }
        }
        Ok(count)
    }

    /// The directory whose processes are the container's: of the controller that no engine moves
    /// processes out of.
    pub(super) fn process_dir(&self) -> Option<PathBuf> {
        self.controller_dir("devices").or_else(|| self.hierarchies.first().map(Hierarchy::dir))
    }
}

fn join_dir(dir: &Path, pid: &str) -> Result<(), CgroupError> {
    let mut tries = 1;
    loop {
        match file::write(dir, "cgroup.procs", pid) {
            Err(err) if err.errno() == Some(libc::EINVAL) && tries < JOIN_TRIES => {
                std::thread::sleep(Duration::from_millis(1 << tries));
                tries += 1;
            }
            done => return done,
        }
    }
}

/// The processes of one directory alone.
pub(super) fn of_dir(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let text = match file::read(dir, "cgroup.procs") {
        // A threaded cgroup lists threads only.
        Err(err) if err.errno() == Some(libc::EOPNOTSUPP) => file::read(dir, "cgroup.threads")?,
        Err(err) if err.is_absent() => return Ok(Vec::new()),
        text => text?,
    };
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The processes of a directory and of all below it, sorted, each once.
pub(super) fn of_subtree(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let mut pids = BTreeSet::new();
    collect(dir, &mut pids)?;
    Ok(pids.into_iter().collect())
}

fn collect(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    pids.extend(of_dir(dir)?);
    let failed = |source| CgroupError::Directory { action: "open", dir: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}
