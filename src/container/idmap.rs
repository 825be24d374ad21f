//! The id maps of a new user namespace, and the offsets of a new time namespace.
//! [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use oci_spec::runtime::{LinuxIdMapping, LinuxTimeOffset};
use rustix::process::{Pid, Signal};

use crate::sys::clone::{CloneArgs, Forked, clone3};

/// Maps that the kernel or the machine does not accept.
#[derive(Debug, thiserror::Error)]
pub enum IdMapError {
    /// A user namespace without maps is of no use.
    #[error("a new user namespace needs linux.uidMappings and linux.gidMappings")]
    Missing,
    /// The kernel refuses.
    #[error("cannot write {file} of the container ({map:?}): {source}")]
    Write {
        /// Which file of `/proc/PID`.
        file: &'static str,
        /// What was written.
        map: String,
        /// The reason.
        source: io::Error,
    },
    /// No user namespace for a mount's maps.
    #[error("cannot make a user namespace for the id maps of a mount: {0}")]
    Namespace(io::Error),
    /// An ordinary user's range of ids takes a privileged program, which is not there.
    #[error(
        "an ordinary user maps more than the own id with {helper} (package uidmap; without it map \
         only id {own}, size 1), which cannot be run: {source}"
    )]
    NoHelper {
        /// The program.
        helper: &'static str,
        /// The reason.
        source: io::Error,
        /// The caller's id.
        own: u32,
    },
    /// The program refuses.
    #[error(
        "{said}: this user may map the host ids that {file} gives to the user (`name:first:count`), \
         and linux.{field} asks for {wanted}"
    )]
    Helper {
        /// What the program said.
        said: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The field of the spec.
        field: &'static str,
        /// The ranges of host ids.
        wanted: String,
    },
    /// A clock that cannot be shifted.
    #[error("linux.timeOffsets: {0:?} is not a clock with an offset: use monotonic or boottime")]
    Clock(String),
}

fn lines(mappings: &[LinuxIdMapping]) -> String {
    let mut text = String::new();
    for map in mappings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", map.container_id(), map.host_id(), map.size());
    }
    text
}

/// Writes both maps of the user namespace that process `pid` was born in; each file takes exactly
/// one write.
///
/// # Errors
/// Missing maps, what the kernel refuses, and maps that this user may not write.
pub fn write(pid: i32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<(), IdMapError> {
    if uids.is_empty() || gids.is_empty() {
        return Err(IdMapError::Missing);
    }
    if nix::unistd::geteuid().is_root() {
        put(pid, "uid_map", lines(uids))?;
        return put(pid, "gid_map", lines(gids));
    }
    let own = nix::unistd::geteuid().as_raw();
    if only_id(uids) == Some(own) {
        put(pid, "uid_map", lines(uids))?;
    } else {
        SUBUID.map(pid, own, uids)?;
    }
    let own = nix::unistd::getegid().as_raw();
    if only_id(gids) == Some(own) {
        // Without CAP_SETGID in the parent namespace the kernel wants setgroups off first.
        put(pid, "setgroups", "deny".to_owned())?;
        put(pid, "gid_map", lines(gids))
    } else {
        SUBGID.map(pid, own, gids)
    }
}

/// The host id of a map that has just one: the kernel lets everybody map themselves.
fn only_id(maps: &[LinuxIdMapping]) -> Option<u32> {
    match maps {
        [only] if only.size() == 1 => Some(only.host_id()),
        _ => None,
    }
}

/// A set-user-id program that writes a map after a look into its file
/// ([newuidmap(1)](https://man7.org/linux/man-pages/man1/newuidmap.1.html)). The one program that
/// `create` runs by itself: nothing else gives an ordinary user these ids.
#[derive(Debug)]
struct Helper {
    name: &'static str,
    file: &'static str,
    field: &'static str,
}

const SUBUID: Helper = Helper { name: "newuidmap", file: "/etc/subuid", field: "uidMappings" };
const SUBGID: Helper = Helper { name: "newgidmap", file: "/etc/subgid", field: "gidMappings" };

impl Helper {
    fn map(&self, pid: i32, own: u32, maps: &[LinuxIdMapping]) -> Result<(), IdMapError> {
        let mut command = Command::new(self.name);
        command.arg(pid.to_string());
        for map in maps {
            let numbers = [map.container_id(), map.host_id(), map.size()];
            command.args(numbers.map(|number| number.to_string()));
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|source| IdMapError::NoHelper { helper: self.name, source, own })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = match said.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
            Some(line) => line.to_owned(),
            None => format!("{} failed ({})", self.name, output.status),
        };
        let ranges = maps.iter().map(|map| {
            let last = u64::from(map.host_id()) + u64::from(map.size()).saturating_sub(1);
            format!("{}-{last}", map.host_id())
        });
        let wanted = ranges.collect::<Vec<_>>().join(", ");
        Err(IdMapError::Helper { said, file: self.file, field: self.field, wanted })
    }
}

fn put(pid: i32, file: &'static str, map: String) -> Result<(), IdMapError> {
    std::fs::write(format!("/proc/{pid}/{file}"), &map).map_err(|source| IdMapError::Write {
        file,
        map,
        source,
    })
}

/// A user namespace with these maps and nobody in it, as id-mapped mounts take it.
///
/// # Errors
/// What the kernel refuses.
pub fn namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd, IdMapError> {
    let args = CloneArgs { flags: u64::from(libc::CLONE_NEWUSER.cast_unsigned()), cgroup: None };
    let parent = rustix::process::getpid();
    let (pid, pidfd) = match clone3(&args).map_err(IdMapError::Namespace)? {
        Forked::Child => wait_to_be_killed(parent),
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    let opened = write(pid, uids, gids).and_then(|()| {
        let file = File::open(format!("/proc/{pid}/ns/user")).map_err(IdMapError::Namespace)?;
        Ok(OwnedFd::from(file))
    });
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    super::launch::reap(pid);
    opened
}

/// The process that keeps a namespace alive until there is a descriptor on it. It has copies of all
/// that the runtime has open, the lock on the container among them: it must not outlive that.
fn wait_to_be_killed(parent: Pid) -> ! {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // No signal comes of a death before that.
    if rustix::process::getppid() != Some(parent) {
        std::process::exit(0);
    }
    loop {
        nix::unistd::pause();
    }
}

/// The lines for `/proc/PID/timens_offsets`
/// ([time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html)).
///
/// # Errors
/// An unknown clock.
pub fn time_offsets(
    offsets: Option<&HashMap<String, LinuxTimeOffset>>,
) -> Result<String, IdMapError> {
    let mut text = String::new();
    for (clock, offset) in offsets.into_iter().flatten() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(IdMapError::Clock(clock.clone()));
        }
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{clock} {seconds} {nanoseconds}");
    }
    Ok(text)
}
