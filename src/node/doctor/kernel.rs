//! What containers are made of, each tried.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
    open_tree,
};

use super::Caller;
use crate::container::idmap;
use crate::finding::Finding;
use crate::init::namespaces::NEWTIME;
use crate::sys::clone::{CloneArgs, try_clone};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::{fd, seccomp};

/// `MOUNT_ATTR_RDONLY` and `MOUNT_ATTR_IDMAP` (linux/mount.h).
const RDONLY: u64 = 1;
const IDMAP: u64 = 0x0010_0000;

/// Something that the kernel must or may be able to do.
struct Feature {
    check: &'static str,
    /// What is lost without it; `None`: everything.
    loses: Option<&'static str>,
    /// What brings it.
    remedy: &'static str,
    attempt: fn() -> io::Result<()>,
}

const FEATURES: [Feature; 12] = [
    Feature {
        check: "openat2",
        loses: None,
        remedy: "use Linux 5.6 or newer; in a container, a seccomp profile that knows openat2",
        attempt: open_in_root,
    },
    Feature {
        check: "mount API",
        loses: None,
        remedy: "use Linux 5.2 or newer; in a container, a seccomp profile that allows fsopen, \
                 fsmount, open_tree and move_mount",
        attempt: || mounted().map(drop),
    },
    Feature {
        check: "mount_setattr",
        loses: None,
        remedy: "use Linux 5.12 or newer",
        attempt: set_attributes,
    },
    Feature {
        check: "clone3",
        loses: None,
        remedy: "use Linux 5.3 or newer; in a container, a seccomp profile that knows clone3",
        attempt: || cloned(0),
    },
    Feature {
        check: "close_range",
        loses: None,
        remedy: "use Linux 5.11 or newer",
        // From a number that no descriptor has.
        attempt: || fd::close_on_exec_from(1 << 24),
    },
    Feature {
        check: "namespaces",
        loses: None,
        remedy: "use a kernel with CONFIG_NAMESPACES, PID_NS, NET_NS, IPC_NS and UTS_NS",
        attempt: || {
            let all = libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS;
            cloned(all)
        },
    },
    Feature {
        check: "cgroup namespaces",
        loses: Some(
            "containers that ask for their own, as Docker's and Kubernetes' do on cgroup v2",
        ),
        remedy: "use a kernel with CONFIG_CGROUPS, Linux 4.6 or newer",
        attempt: || cloned(libc::CLONE_NEWCGROUP),
    },
    Feature {
        check: "user namespaces",
        loses: Some("containers of ordinary users, and those with users of their own"),
        remedy: "sysctl user.max_user_namespaces (0 forbids them), or use a kernel with \
                 CONFIG_USER_NS",
        attempt: || cloned(libc::CLONE_NEWUSER),
    },
    Feature {
        check: "time namespaces",
        loses: Some("containers that ask for one"),
        remedy: "use a kernel with CONFIG_TIME_NS, Linux 5.6 or newer",
        attempt: || cloned(NEWTIME.bits()),
    },
    Feature {
        check: "idmapped mounts",
        loses: Some("mounts with uidMappings on the root file system"),
        remedy: "use Linux 5.12 or newer and a file system that can (ext4, xfs, btrfs, overlayfs)",
        attempt: map_ids,
    },
    Feature {
        check: "seccomp",
        loses: None,
        remedy: "use a kernel with CONFIG_SECCOMP_FILTER",
        attempt: || has(seccomp::action_available(libc::SECCOMP_RET_ERRNO)),
    },
    Feature {
        check: "seccomp notifications",
        loses: Some("profiles with SCMP_ACT_NOTIFY"),
        remedy: "use Linux 5.0 or newer",
        attempt: || has(seccomp::action_available(libc::SECCOMP_RET_USER_NOTIF)),
    },
];

/// Tries everything. For a program with one thread: some attempts fork.
#[must_use]
pub fn check(caller: &Caller) -> Vec<Finding> {
    FEATURES.iter().map(|feature| judge(feature, (feature.attempt)(), caller)).collect()
}

fn judge(feature: &Feature, result: io::Result<()>, caller: &Caller) -> Finding {
    let Err(error) = result else { return Finding::green(feature.check, "") };
    let is_refused = error.kind() == io::ErrorKind::PermissionDenied;
    if is_refused && !caller.is_root() {
        return Finding::unseen(feature.check, "only root can try it", "sudo gpurun doctor");
    }
    match feature.loses {
        None => Finding::red(feature.check, error.to_string(), feature.remedy),
        Some(lost) => {
            Finding::yellow(feature.check, format!("{error}; lost: {lost}"), feature.remedy)
        }
    }
}

fn has(it: bool) -> io::Result<()> {
    if it { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

fn cloned(flags: i32) -> io::Result<()> {
    try_clone(&CloneArgs { flags: u64::from(flags.cast_unsigned()), cgroup: None })
}

fn open_in_root() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = File::open("/")?;
    rustix::fs::openat2(&root, ".", flags, Mode::empty(), resolve)?;
    Ok(())
}

/// A file system that is attached nowhere and ends with its descriptor.
fn mounted() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

fn set_attributes() -> io::Result<()> {
    let attr = MountAttr { set: RDONLY, ..MountAttr::default() };
    mount_setattr(mounted()?, &attr, false)
}

/// The root file system, seen with other ids, attached nowhere.
fn map_ids() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let range = LinuxIdMappingBuilder::default()
        .container_id(0u32)
        .host_id(100_000u32)
        .size(1000u32)
        .build()
        .map_err(io::Error::other)?;
    let maps: [LinuxIdMapping; 1] = [range];
    let namespace = idmap::namespace(&maps, &maps).map_err(|error| match error {
        idmap::IdMapError::Namespace(source) | idmap::IdMapError::Write { source, .. } => source,
        // Only root maps ids without a program's help, and only root may map a mount's.
        _ => io::ErrorKind::PermissionDenied.into(),
    })?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, "/", flags)?;
    let userns_fd = u64::from(namespace.as_raw_fd().cast_unsigned());
    mount_setattr(tree, &MountAttr { set: IDMAP, userns_fd, ..MountAttr::default() }, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    fn caller(uid: u32) -> Caller {
        Caller { uid, name: None, home: None, runtime_dir: None }
    }

    #[test]
    fn every_feature_is_green_when_it_works_and_has_a_remedy_when_it_does_not() {
        for feature in &FEATURES {
            let well = judge(feature, Ok(()), &caller(0));
            assert_eq!(well, Finding::green(feature.check, ""));
            let missing = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
            for uid in [0, 1000] {
                let ill = judge(feature, missing(), &caller(uid));
                let expected = if feature.loses.is_some() { "yellow" } else { "red" };
                assert_eq!(ill.verdict.word(), expected, "{ill:?}");
                assert_eq!(ill.verdict.remedy(), Some(feature.remedy));
            }
        }
    }

    #[test]
    fn what_only_root_may_try_is_unseen_by_others_and_wrong_for_root() {
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        let unseen = judge(&FEATURES[1], refused(), &caller(1000));
        assert!(matches!(unseen.verdict, Verdict::Unseen(_)), "{unseen:?}");
        assert_eq!(judge(&FEATURES[1], refused(), &caller(0)).verdict.word(), "red");
    }
}
