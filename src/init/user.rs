//! From the runtime's identity to that of the user's program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use caps::CapSet;
use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::thread;

use super::program::{CapabilitySets, Program};
use super::root::Root;

/// What can fail on the way.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The groups.
    #[error("cannot set supplementary groups {groups:?}: {source}")]
    Groups {
        /// The wanted groups.
        groups: Vec<u32>,
        /// The reason.
        source: nix::Error,
    },
    /// The ids.
    #[error("cannot become user {uid}, group {gid}: {source}")]
    Ids {
        /// The wanted user.
        uid: u32,
        /// The wanted group.
        gid: u32,
        /// The reason.
        source: nix::Error,
    },
    /// A capability set.
    #[error("cannot set the {set} capabilities: {reason}")]
    Capabilities {
        /// Which set.
        set: &'static str,
        /// The reason.
        reason: String,
    },
    /// The working directory.
    #[error("cannot change to the working directory {cwd:?}: {source}")]
    Cwd {
        /// The directory.
        cwd: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A working directory that is not inside the container.
    #[error("working directory {0:?} is outside the container's root")]
    CwdOutside(PathBuf),
    /// A prctl.
    #[error("cannot {what}: {source}")]
    Prctl {
        /// What for.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// An LSM label.
    #[error("cannot set the {lsm} label {label:?}: {source}")]
    Label {
        /// `AppArmor` or `SELinux`.
        lsm: &'static str,
        /// The label.
        label: String,
        /// The reason.
        source: io::Error,
    },
}

/// Takes on groups, ids and capabilities, and changes to the working directory.
///
/// # Errors
/// Names the step.
pub fn become_user(program: &Program, root: &Root) -> Result<(), UserError> {
    set_groups(program)?;
    // Most directories can be entered as root, some (a user's own on NFS) only as that user.
    let entered = change_directory(program, root).is_ok();
    set_ids(program)?;
    if !entered {
        change_directory(program, root)?;
    }
    check_directory(&program.cwd)?;
    drop_capabilities(&program.capabilities)
}

fn set_groups(program: &Program) -> Result<(), UserError> {
    let groups: Vec<Gid> = program.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match nix::unistd::setgroups(&groups) {
        // A user namespace whose creator had no right to drop groups denies setgroups.
        Err(nix::Error::EPERM) if groups.is_empty() && setgroups_denied() => Ok(()),
        Err(source) => Err(UserError::Groups { groups: program.groups.clone(), source }),
        Ok(()) => Ok(()),
    }
}

fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

fn set_ids(program: &Program) -> Result<(), UserError> {
    let (uid, gid) = (program.uid, program.gid);
    thread::set_keep_capabilities(true)
        .map_err(|err| UserError::Prctl { what: "keep capabilities", source: err.into() })?;
    let (u, g) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setresgid(g, g, g)
        .and_then(|()| nix::unistd::setresuid(u, u, u))
        .map_err(|source| UserError::Ids { uid, gid, source })?;
    thread::set_keep_capabilities(false)
        .map_err(|err| UserError::Prctl { what: "stop keeping capabilities", source: err.into() })
}

/// The directory is resolved inside the root and without magic links: `/proc/self/fd/7` leads
/// nowhere (CVE-2024-21626).
fn change_directory(program: &Program, root: &Root) -> Result<(), UserError> {
    let failed = |source| UserError::Cwd { cwd: program.cwd.clone(), source };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = root.open_in(&program.cwd, flags, Mode::empty()).map_err(failed)?;
    rustix::process::fchdir(&directory).map_err(|err| failed(err.into()))
}

fn check_directory(cwd: &Path) -> Result<(), UserError> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        // Not even searchable by this user: it was entered by descriptor from our root.
        Err(rustix::io::Errno::ACCESS) => Ok(()),
        _ => Err(UserError::CwdOutside(cwd.to_owned())),
    }
}

/// Bounding first: dropping from it takes CAP_SETPCAP, which the later sets may not have.
fn drop_capabilities(sets: &CapabilitySets) -> Result<(), UserError> {
    let failed = |set| {
        move |err: caps::errors::CapsError| UserError::Capabilities { set, reason: err.to_string() }
    };
    let all = caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    // setresuid to another user emptied the effective set.
    caps::set(None, CapSet::Effective, &all).map_err(failed("effective"))?;
    let bounding = caps::read(None, CapSet::Bounding).map_err(failed("bounding"))?;
    for cap in bounding.difference(&sets.bounding) {
        caps::drop(None, CapSet::Bounding, *cap).map_err(failed("bounding"))?;
    }
    caps::set(None, CapSet::Inheritable, &sets.inheritable).map_err(failed("inheritable"))?;
    caps::set(None, CapSet::Effective, &sets.effective).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &sets.permitted).map_err(failed("permitted"))?;
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    for cap in &sets.ambient {
        caps::raise(None, CapSet::Ambient, *cap).map_err(failed("ambient"))?;
    }
    Ok(())
}

/// Asks the LSMs for their labels on the coming exec.
///
/// # Errors
/// `ENOENT` for a profile that is not loaded, and what a policy refuses.
pub fn label_exec(program: &Program) -> Result<(), UserError> {
    if let Some(profile) = &program.apparmor {
        // A machine without AppArmor runs every container unconfined, as under runc.
        if libcontainer::apparmor::is_enabled().unwrap_or(false) {
            libcontainer::apparmor::apply_profile(profile).map_err(|err| UserError::Label {
                lsm: "AppArmor",
                label: profile.clone(),
                source: io::Error::other(err),
            })?;
        }
    }
    if let Some(label) = &program.selinux
        && Path::new("/sys/fs/selinux/enforce").exists()
    {
        write_exec_label(label).map_err(|source| UserError::Label {
            lsm: "SELinux",
            label: label.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Through a proc of our own: the container's /proc may be anything.
fn write_exec_label(label: &str) -> io::Result<()> {
    let fs = mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_create(fs.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let proc = mount::fsmount(fs.as_fd(), flags, MountAttrFlags::empty())?;
    let open = OFlags::WRONLY | OFlags::CLOEXEC;
    let attr = rustix::fs::openat(&proc, "thread-self/attr/exec", open, Mode::empty())?;
    File::from(attr).write_all(label.as_bytes())
}
