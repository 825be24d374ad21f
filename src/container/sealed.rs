//! Keeping the runtime's own program out of containers' reach.
//!
//! A process of the runtime that a container can see gives it `/proc/PID/exe`: a way to the
//! binary on the host, through a mount that may be writable (CVE-2019-5736). Two measures close
//! it:
//!
//! - A process that enters a container whose processes can see it (`exec`, and `create` into a
//!   shared pid namespace) first executes itself again from a detached read-only mount of its
//!   binary. Nobody can write through that mount, and nobody can make it writable. An ordinary
//!   user, who has no right to mount, executes a sealed copy in memory instead; also before
//!   `create`, because the init of such a user cannot hide itself as root's does.
//! - A container may name `/proc/self/exe` as its program. The runtime, started that way, finds
//!   that its executable is not the file that its name leads to, and refuses to do anything.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, memfd_create};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::sys::mount::{MountAttr, mount_setattr};

const EXE: &str = "/proc/self/exe";

/// Refuses to run when this program was started through another process's `/proc/PID/exe`.
///
/// # Errors
/// It was.
pub fn refuse_borrowed_binary() -> Result<()> {
    let named = fs::read_link(EXE).context("cannot look at /proc/self/exe: is /proc mounted?")?;
    let running = fs::metadata(EXE).context("cannot look at /proc/self/exe")?;
    let same = fs::metadata(&named)
        .is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino()));
    if same || is_sealed()? {
        return Ok(());
    }
    bail!(
        "refusing to run: the executable is not {}: it was started through /proc, or replaced at \
         this moment",
        named.display()
    )
}

/// Makes sure that this process's executable cannot be written through `/proc/PID/exe`, if need
/// be by executing it again from a read-only mount. Comes back only when it is so.
///
/// # Errors
/// When such a mount cannot be made.
pub fn seal() -> Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let exe = open_exe()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let sealed = match open_tree(exe.as_fd(), "", flags) {
        Err(rustix::io::Errno::PERM) => {
            sealed_copy().context("cannot protect the runtime's binary (memfd_create)")?
        }
        mount => {
            let mount = mount.context("cannot protect the runtime's binary (open_tree)")?;
            let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
            mount_setattr(&mount, &read_only, false)
                .context("cannot protect the runtime's binary (mount_setattr)")?;
            mount
        }
    };
    let c_string = |text: &OsStr| CString::new(text.as_bytes());
    let args: Vec<CString> = std::env::args_os().flat_map(|arg| c_string(&arg)).collect();
    let env: Vec<CString> = std::env::vars_os()
        .flat_map(|(name, value)| {
            c_string(&[&name, OsStr::new("="), &value].into_iter().collect::<std::ffi::OsString>())
        })
        .collect();
    let Err(error) = nix::unistd::fexecve(&sealed, &args, &env);
    Err(error).context("cannot execute the protected binary")
}

/// A copy that nobody can write ([memfd_create(2)]).
///
/// [memfd_create(2)]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // A kernel before 6.3 does not know the flag, and needs none.
    let copy = match memfd_create("gpurun", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create("gpurun", flags)?,
        other => other?,
    };
    let mut copy = File::from(copy);
    io::copy(&mut File::open(EXE)?, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SEALS)?;
    Ok(copy.into())
}

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

fn open_exe() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(EXE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Whether the executable lies on a read-only mount, ours or the system's, or is a sealed copy.
fn is_sealed() -> Result<bool> {
    let exe = open_exe().context("cannot look at /proc/self/exe: is /proc mounted?")?;
    let mount = rustix::fs::fstatvfs(&exe).context("cannot look at the runtime's binary")?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Not readable, or not a file in memory.
    let seals = File::open(EXE).ok().and_then(|exe| rustix::fs::fcntl_get_seals(exe).ok());
    Ok(seals.is_some_and(|seals| seals.contains(SEALS)))
}
