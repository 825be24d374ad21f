//! Processes of a container, named so that a reused pid is never taken for one.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd::Pid;
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};

/// A process by pid and start time; two different processes never share both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid in the runtime's pid namespace.
    pub pid: i32,
    /// Clock ticks after boot at which it started: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

/// What is left of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs (or sleeps, or is stopped).
    Alive,
    /// It is gone, a zombie, or its pid belongs to another process by now.
    Ended,
}

impl ProcessId {
    /// Names the process that has `pid` now; `None` when there is none.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let (_, start_time) = read_stat(pid)?;
        Some(Self { pid, start_time })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        match read_stat(self.pid) {
            Some((state, start)) if start == self.start_time && !matches!(state, b'Z' | b'X') => {
                Liveness::Alive
            }
            _ => Liveness::Ended,
        }
    }

    /// Whether it has ended, or will as soon as it runs: a SIGKILL is waiting for it.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        // The name in it may hold any byte.
        let status = std::fs::read(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let is_killed = has_pending_kill(&String::from_utf8_lossy(&status));
        is_killed || self.liveness() == Liveness::Ended
    }

    /// A descriptor on it, with its pid. `None`: it has ended.
    #[must_use]
    pub fn open(&self) -> Option<(i32, OwnedFd)> {
        self.pidfd().ok().map(|pidfd| (self.pid, pidfd))
    }

    fn pidfd(&self) -> Result<OwnedFd, Errno> {
        let pid = rustix::process::Pid::from_raw(self.pid).ok_or(Errno::ESRCH)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|err| Errno::from_raw(err.raw_os_error()))?;
        // The descriptor is on whoever has the pid now.
        match self.liveness() {
            Liveness::Alive => Ok(pidfd),
            Liveness::Ended => Err(Errno::ESRCH),
        }
    }

    /// Sends a signal (0: only asks). A process that has ended is `ESRCH`.
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`, `EINVAL`; those of opening a descriptor.
    pub fn signal(&self, number: i32) -> Result<(), Errno> {
        crate::sys::process::pidfd_send_signal(self.pidfd()?.as_fd(), number)
    }
}

/// kill(2) with any signal number, real-time ones included.
///
/// # Errors
/// The kernel's.
pub fn send(pid: i32, number: i32) -> Result<(), Errno> {
    let pid = Pid::from_raw(pid);
    match signal::Signal::try_from(number) {
        Ok(known) => signal::kill(pid, known),
        Err(_) if number == 0 => signal::kill(pid, None),
        Err(_) => crate::sys::process::kill(pid.as_raw(), number),
    }
}

/// Whether `/proc/PID/status` has a SIGKILL among the signals that the process, or its first thread,
/// has yet to take.
fn has_pending_kill(status: &str) -> bool {
    status.lines().any(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
    })
}

/// The state letter and the start time out of `/proc/PID/stat`
/// ([proc_pid_stat(5)](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html)).
fn read_stat(pid: i32) -> Option<(u8, u64)> {
    if pid <= 0 {
        return None;
    }
    // One read gives the whole line; what is needed stands in its first few hundred bytes.
    let mut line = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    parse_stat(line.get(..length)?)
}

pub(super) fn parse_stat(stat: &[u8]) -> Option<(u8, u64)> {
    // The name stands in parentheses and may itself hold blanks and parentheses.
    let after = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = std::str::from_utf8(stat.get(after + 1..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = b"42 (a) S (b) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n";
        assert_eq!(parse_stat(stat), Some((b'Z', 777)));
        assert_eq!(parse_stat(b"42 (x"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_kill_that_waits_is_seen_among_other_signals() {
        assert!(has_pending_kill("SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(has_pending_kill("SigPnd:\t0000000000000000\nShdPnd:\t0000000000004100\n"));
        assert!(!has_pending_kill("ShdPnd:\t0000000000004000\nSigBlk:\t0000000000000100\n"));
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = ProcessId::of(std::process::id() as i32).expect("own process");
        assert_eq!(me.liveness(), Liveness::Alive);
        let other = ProcessId { start_time: me.start_time + 1, ..me };
        assert_eq!(other.liveness(), Liveness::Ended);
        assert_eq!(other.signal(0), Err(Errno::ESRCH));
        assert_eq!((me.signal(0), me.signal(65)), (Ok(()), Err(Errno::EINVAL)));
    }
}
