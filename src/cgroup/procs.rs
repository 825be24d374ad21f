//! The processes of the cgroup: join, list, kill.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::{Cgroup, CgroupError, Driver, Hierarchy, Mode, file, tree};

/// v1's cpuset and v2's threaded mode answer EINVAL while another change is under way.
const JOIN_TRIES: u32 = 5;
/// How long killed processes may take to go. Longer means that one hangs in the kernel (state D).
pub const KILL_TIMEOUT: Duration = Duration::from_secs(10);

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
        // A container may give its cgroups any names.
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = fs::read(&path).map_err(|source| CgroupError::Read { file: path, source })?;
        let mut there = self.clone();
        let place = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"));
        if let (Some(hierarchy), Some(place)) = (there.hierarchies.first_mut(), place) {
            let place = Path::new(OsStr::from_bytes(place));
            if place.starts_with(&hierarchy.path) {
                place.clone_into(&mut hierarchy.path);
                there.id = None;
            }
        }
        Ok(there)
    }

    /// The processes of the cgroup and of those below it, sorted. Empty when there is no such
    /// cgroup, or another container's by now.
    ///
    /// # Errors
    /// Read errors.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        match self.own_dir()? {
            Some((place, dir)) => Ok(tree::pids(&place, dir)?.into_iter().collect()),
            None => Ok(Vec::new()),
        }
    }

    /// Sends a signal to every process of the cgroup and of those below it. SIGKILL leaves none
    /// alive, also when they fork meanwhile or are frozen: see [`Cgroup::kill`].
    ///
    /// # Errors
    /// Read errors, a signal that is refused (`EPERM`), [`CgroupError::StillAlive`].
    pub fn kill_all(&self, signal: Signal) -> Result<(), CgroupError> {
        if signal == Signal::SIGKILL {
            return self.kill(Instant::now() + KILL_TIMEOUT);
        }
        if self.is_anothers() {
            return Ok(());
        }
        let was_frozen = self.is_frozen()?;
        // Without a freezer, or with a process that does not freeze, a signal may miss what is
        // forked at this very moment; that is better than not to send it.
        let frozen = !was_frozen && self.freeze().is_ok();
        let sent = self.signal_each(signal);
        if frozen {
            self.thaw()?;
        }
        sent.map(drop)
    }

    /// Kills every process of the cgroup and of those below it: by `cgroup.kill` where the kernel
    /// has that (v2, Linux 5.14), which does not wait for their end; otherwise they are frozen,
    /// signalled and thawed until there are none.
    ///
    /// # Errors
    /// [`CgroupError::StillAlive`] when there are some at the deadline; read errors, `EPERM`.
    pub fn kill(&self, deadline: Instant) -> Result<(), CgroupError> {
        if self.mode == Mode::V2 && self.kill_as_a_whole()? {
            return Ok(());
        }
        // One that hangs in the kernel keeps the others from being frozen each time anew.
        let mut freezes = true;
        let mut pause = Duration::ZERO;
        while !self.pids()?.is_empty() {
            freezes = freezes && self.freeze().is_ok();
            let sent = self.signal_each(Signal::SIGKILL);
            // Also a container that was paused before: a frozen process does not die on v1.
            if freezes || self.is_frozen()? {
                self.thaw()?;
            }
            if sent? == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return self.hanging()?.map_or(Ok(()), |pid| Err(CgroupError::StillAlive { pid }));
            }
            std::thread::sleep(pause);
            pause = (pause + Duration::from_millis(1)).min(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends SIGKILL to what is in the cgroup at this moment, without waiting for anything.
    ///
    /// # Errors
    /// Those of [`Cgroup::kill`].
    pub fn kill_at_once(&self) -> Result<(), CgroupError> {
        if self.mode == Mode::V2 && self.kill_as_a_whole()? {
            return Ok(());
        }
        match self.signal_each(Signal::SIGKILL)? {
            0 => Ok(()),
            _ => self.thaw(),
        }
    }

    /// A process that is there still, one in an uninterruptible sleep (state D) before others: a
    /// parent waits for such a child.
    ///
    /// # Errors
    /// Read errors.
    pub fn hanging(&self) -> Result<Option<i32>, CgroupError> {
        let pids = self.pids()?;
        let asleep = pids.iter().find(|pid| {
            let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name before it may hold parentheses, and any byte.
            String::from_utf8_lossy(&stat)
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('D'))
        });
        Ok(asleep.or(pids.first()).copied())
    }

    /// `cgroup.kill` of cgroup v2; whether the kernel has that.
    fn kill_as_a_whole(&self) -> Result<bool, CgroupError> {
        let Some((place, dir)) = self.own_dir()? else { return Ok(true) };
        match file::write_in(dir.as_fd(), &place, "cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(err) if err.is_absent() => Ok(false),
            // A threaded cgroup cannot be killed as a whole.
            Err(err) if err.errno() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(err) => Err(err),
        }
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
    file::pids(|name| file::read(dir, name))
}
