//! From the runtime's identity to that of the user's program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use caps::CapsHashSet;
use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::thread::{self, CapabilitySet, CapabilitySets as ThreadSets};

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
    #[error("cannot set the {set} capabilities: {source}")]
    Capabilities {
        /// Which set.
        set: &'static str,
        /// The reason.
        source: io::Error,
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
    #[error(
        "cannot set the {lsm} label {label:?}: {source}; is {lsm} enabled here, and the label \
         one that it knows?"
    )]
    Label {
        /// `AppArmor` or `SELinux`.
        lsm: &'static str,
        /// The label.
        label: String,
        /// The reason.
        source: io::Error,
    },
}

/// In a user namespace that has just been entered: from nobody to its root.
///
/// # Errors
/// `EINVAL`: id 0 is not mapped there.
pub fn become_root() -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid).and_then(|()| nix::unistd::setresuid(uid, uid, uid))
}

/// Changes to the working directory as the container's root, where that can. Most directories
/// can be entered so; some (a user's own on NFS) only as that user.
#[must_use]
pub fn enter_directory(program: &Program, root: &Root) -> bool {
    change_directory(program, root).is_ok()
}

/// Takes on groups and ids, and changes to the working directory if that has not been possible
/// before. The capabilities still wait for [`drop_capabilities`].
///
/// # Errors
/// Names the step.
pub fn become_user(program: &Program, root: &Root, entered: bool) -> Result<(), UserError> {
    set_groups(program)?;
    set_ids(program)?;
    if !entered {
        change_directory(program, root)?;
    }
    check_directory(&program.cwd)
}

/// Gives up the caller's groups, on the way into a user namespace that exists: one that an ordinary
/// user has made lets nobody do so inside. Whose own namespace does not let them keeps them.
///
/// # Errors
/// No right to.
pub fn leave_groups(program: &Program) -> Result<(), UserError> {
    if program.keep_groups {
        return Ok(());
    }
    match nix::unistd::setgroups(&[]) {
        Err(nix::Error::EPERM) if setgroups_denied() => Ok(()),
        done => done.map_err(|source| UserError::Groups { groups: Vec::new(), source }),
    }
}

fn set_groups(program: &Program) -> Result<(), UserError> {
    if program.keep_groups {
        return Ok(());
    }
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

fn bits(set: &CapsHashSet) -> CapabilitySet {
    CapabilitySet::from_bits_retain(set.iter().fold(0, |bits, cap| bits | cap.bitmask()))
}

fn capabilities_failed(set: &'static str) -> impl FnOnce(rustix::io::Errno) -> UserError {
    move |err| UserError::Capabilities { set, source: err.into() }
}

/// Leaves no more capabilities to be gained than the program's. That takes CAP_SETPCAP, which
/// another user does not have in force any more.
///
/// # Errors
/// The kernel's.
pub fn bound_capabilities(program: &Program) -> Result<(), UserError> {
    let keep = bits(&program.capabilities.bounding);
    for number in 0..u64::BITS {
        let cap = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(cap) {
            continue;
        }
        match thread::remove_capability_from_bounding_set(cap) {
            Ok(()) => {}
            // Above the newest capability of this kernel.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            // Without CAP_SETPCAP; what is not in it need not be dropped.
            Err(rustix::io::Errno::PERM)
                if thread::capability_is_in_bounding_set(cap) == Ok(false) => {}
            Err(err) => return Err(capabilities_failed("bounding")(err)),
        }
    }
    Ok(())
}

/// Gives up every capability but those that the program is to have or that are `needed` until then.
/// The bounding set is final afterwards.
///
/// # Errors
/// The kernel's.
pub fn keep_capabilities(program: &Program, needed: CapabilitySet) -> Result<(), UserError> {
    bound_capabilities(program)?;
    let wanted = &program.capabilities;
    // The effective and the ambient set are parts of these.
    let keep = bits(&wanted.permitted) | bits(&wanted.inheritable) | needed;
    let own = thread::capabilities(None).map_err(capabilities_failed("permitted"))?;
    let sets = ThreadSets {
        effective: own.effective & keep,
        permitted: own.permitted & keep,
        inheritable: own.inheritable & keep,
    };
    thread::set_capabilities(None, sets).map_err(capabilities_failed("permitted"))
}

/// Has the program's capabilities in force and keeps the runtime's in reserve, so that what is
/// asked of the kernel now is answered as it will be to the program.
///
/// # Errors
/// The kernel's.
pub fn try_capabilities(sets: &Sets) -> Result<(), UserError> {
    let effective = sets.capget.effective;
    let own = thread::capabilities(None).map_err(capabilities_failed("permitted"))?;
    thread::set_capabilities(None, ThreadSets { effective, ..own })
        .map_err(capabilities_failed("effective"))
}

/// Puts the reserve back in force: loading a filter without no_new_privs takes CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's.
pub fn reclaim_capabilities() -> Result<(), UserError> {
    let sets = thread::capabilities(None).map_err(capabilities_failed("permitted"))?;
    thread::set_capabilities(None, ThreadSets { effective: sets.permitted, ..sets })
        .map_err(capabilities_failed("effective"))
}

/// The capabilities that a process will have, in the kernel's words.
#[derive(Debug)]
pub struct Sets {
    capget: ThreadSets,
    ambient: CapabilitySet,
}

impl Sets {
    /// What the program shall have, without what the caller does not have: that cannot be given,
    /// and is left out as runc does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn final_of(program: &Program) -> Result<Self, UserError> {
        let own = thread::capabilities(None).map_err(capabilities_failed("permitted"))?.permitted;
        Ok(Self::of(&program.capabilities, own))
    }

    fn of(wanted: &CapabilitySets, available: CapabilitySet) -> Self {
        let permitted = bits(&wanted.permitted) & available;
        let inheritable = bits(&wanted.inheritable) & available;
        let effective = bits(&wanted.effective) & permitted;
        Self {
            capget: ThreadSets { effective, permitted, inheritable },
            ambient: bits(&wanted.ambient) & permitted & inheritable,
        }
    }
}

/// The last step: one capset(2), and prctl(2) for the ambient set.
///
/// # Errors
/// The kernel's.
pub fn drop_capabilities(sets: &Sets) -> Result<(), UserError> {
    thread::set_capabilities(None, sets.capget).map_err(capabilities_failed("final"))?;
    thread::clear_ambient_capability_set().map_err(capabilities_failed("ambient"))?;
    for cap in sets.ambient.iter() {
        thread::configure_capability_in_ambient_set(cap, true)
            .map_err(capabilities_failed("ambient"))?;
    }
    Ok(())
}

/// Asks the LSMs for their labels on the coming exec. Whether an LSM is there is not looked up:
/// what the container shows under /sys may be anything, and a label that cannot be had is no
/// reason to go on without.
///
/// # Errors
/// No such LSM, a profile that is not loaded, and what a policy refuses.
pub fn label_exec(program: &Program) -> Result<(), UserError> {
    if let Some(profile) = &program.apparmor {
        libcontainer::apparmor::apply_profile(profile).map_err(|err| UserError::Label {
            lsm: "AppArmor",
            label: profile.clone(),
            source: io::Error::other(err),
        })?;
    }
    if let Some(label) = &program.selinux {
        write_label("exec", label)?;
    }
    Ok(())
}

/// The SELinux label of the keys that this process makes from here on; an empty one is its own.
///
/// # Errors
/// No SELinux, and what a policy refuses.
pub fn label_keys(label: &str) -> Result<(), UserError> {
    write_label("keycreate", label)
}

fn write_label(attribute: &str, label: &str) -> Result<(), UserError> {
    write_attribute(attribute, label).map_err(|source| UserError::Label {
        lsm: "SELinux",
        label: label.to_owned(),
        source,
    })
}

/// Through a proc of our own: the container's /proc may be anything.
fn write_attribute(attribute: &str, label: &str) -> io::Result<()> {
    let fs = mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_create(fs.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let proc = mount::fsmount(fs.as_fd(), flags, MountAttrFlags::empty())?;
    let open = OFlags::WRONLY | OFlags::CLOEXEC;
    let path = format!("thread-self/attr/{attribute}");
    let attr = rustix::fs::openat(&proc, path, open, Mode::empty())?;
    File::from(attr).write_all(label.as_bytes())
}
