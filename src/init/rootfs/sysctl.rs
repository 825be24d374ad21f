//! `linux.sysctl`, written through a procfs that nobody else has had in hand.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::{Errno, write};

use super::bind::PROC_ROOT_INO;
use super::detached::Blueprint;
use super::error::Reason;
use super::target;
use crate::init::root::Root;

/// Why a sysctl could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// No procfs to write to.
    #[error("cannot write sysctls: no procfs of the container's own can be opened: {0}")]
    Procfs(Reason),
    /// The kernel refused the file or the value.
    #[error("cannot write sysctl {key:?} = {value:?}: {reason}")]
    Write {
        /// The key in the spec.
        key: String,
        /// The value in the spec.
        value: String,
        /// The kernel's answer; `no such file or directory`: the kernel has no such sysctl here.
        reason: Reason,
    },
}

/// Writes `sysctls`, whose keys [`validate_sysctls`](super::validate_sysctls) has accepted. The
/// process must be in the container's namespaces; runs before the masks of
/// [`finish`](super::finish()).
///
/// What is mounted on or below the container's /proc has no influence: the files are reached
/// through a procfs mount of its own, without links and without crossing into another mount. `root`
/// is where the container's is found if none can be mounted.
///
/// # Errors
/// [`SysctlError`], at the first sysctl that fails.
pub fn write_sysctls<'a>(
    root: Option<&Root>,
    sysctls: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), SysctlError> {
    let mut procfs = None;
    for (key, value) in sysctls {
        let procfs = match &procfs {
            Some(procfs) => procfs,
            None => procfs.insert(own_procfs(root).map_err(SysctlError::Procfs)?),
        };
        write_one(procfs, key, value).map_err(|reason| {
            let (key, value) = (key.clone(), value.clone());
            SysctlError::Write { key, value, reason }
        })?;
    }
    Ok(())
}

/// A procfs mount without anything mounted over it.
fn own_procfs(root: Option<&Root>) -> Result<OwnedFd, Reason> {
    let plan = Blueprint { fstype: "proc", source: None, data: &[], attrs: 0, superblock: 0 };
    let refused = match plan.make_detached() {
        Err(reason) if reason.is(Errno::PERM) => reason,
        done => return done,
    };
    let Some(root) = root else { return Err(refused) };
    // A user namespace may mount procfs only where it sees a whole one. The container's own /proc
    // will do if it is one; what covers parts of it is refused when a file is opened.
    let found = root.resolve_nofollow(Path::new("/proc"))?;
    let procfs = target::is_procfs(found.as_fd()).unwrap_or(false);
    if procfs && fstat(&found)?.st_ino == PROC_ROOT_INO { Ok(found) } else { Err(refused) }
}

fn write_one(procfs: &OwnedFd, key: &str, value: &str) -> Result<(), Reason> {
    let path = Path::new("sys").join(file_of(key));
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(procfs, path, flags, Mode::empty(), resolve)?;
    // One write: the kernel takes a value as a whole.
    if write(&file, value.as_bytes())? == value.len() { Ok(()) } else { Err(Errno::INVAL.into()) }
}

/// Whether it belongs to the network namespace.
#[must_use]
pub fn is_of_network(key: &str) -> bool {
    dotted(key).starts_with("net.")
}

/// `key` with dots as separators and slashes where a name contains a dot, whichever of the two
/// spellings of sysctl(8) it has: the first separator tells.
#[must_use]
pub fn dotted(key: &str) -> String {
    if matches!(key.chars().find(|letter| matches!(letter, '.' | '/')), Some('/')) {
        swapped(key)
    } else {
        key.to_owned()
    }
}

/// The file of the sysctl below /proc/sys.
fn file_of(key: &str) -> PathBuf {
    PathBuf::from(swapped(&dotted(key)))
}

fn swapped(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_key_name_the_same_file() {
        assert_eq!(file_of("net.ipv4.ip_forward"), Path::new("net/ipv4/ip_forward"));
        assert_eq!(file_of("net/ipv4/ip_forward"), Path::new("net/ipv4/ip_forward"));
        let vlan = Path::new("net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(file_of("net.ipv4.conf.eth0/100.forwarding"), vlan);
        assert_eq!(file_of("net/ipv4/conf/eth0.100/forwarding"), vlan);
        assert_eq!(dotted("kernel/shmmax"), "kernel.shmmax");
        assert_eq!(dotted(""), "");
    }
}
