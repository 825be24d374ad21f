//! The spec's mounts, one after the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::MOUNT_ATTR_RDONLY;
use oci_spec::runtime::Mount;

use super::cgroup_view::{self, CgroupView};
use super::error::Reason;
use super::options::MountOptions;
use super::umask::NoUmask;
use super::{bind, detached, filesystem, target};
use crate::init::journal::Journal;
use crate::init::root::{Root, mount_id};
use crate::sys::mount::{MountAttr, mount_setattr};

/// What the mounts depend on besides themselves.
#[derive(Debug, Clone, Copy)]
pub struct MountContext<'a> {
    /// The bundle directory: relative sources of bind mounts start here.
    pub bundle: &'a Path,
    /// `linux.mountLabel`, the SELinux context of new filesystems.
    pub label: Option<&'a str>,
    /// What a mount of type `cgroup` shows.
    pub cgroups: &'a CgroupView,
    /// Whether the container is in a user namespace of its own.
    pub userns: bool,
    /// Whether the container is in a cgroup namespace of its own.
    pub cgroupns: bool,
    /// Sources of bind mounts that the host side has opened already, by the mount's number: those
    /// that the container's root could not open or change itself. May be shorter than the list.
    pub sources: &'a [Option<OwnedFd>],
}

/// Why a mount of the spec failed, and which.
#[derive(Debug, thiserror::Error)]
#[error("error mounting {src:?} to rootfs at {dest:?}: {cause}")]
pub struct MountError {
    /// The source in the spec.
    pub src: PathBuf,
    /// The destination in the spec.
    pub dest: PathBuf,
    /// What went wrong.
    pub cause: Cause,
}

impl MountError {
    pub(super) fn new(mount: &Mount, cause: Cause) -> Self {
        let src = mount.source().clone().unwrap_or_default();
        Self { src, dest: mount.destination().clone(), cause }
    }
}

/// What went wrong with one mount.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A system call failed.
    #[error("cannot {doing}: {reason}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The source of a bind mount cannot be opened.
    #[error("open source {path:?}: {reason}")]
    Source {
        /// The path on the host.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
    /// A bind mount without a source.
    #[error("a bind mount needs a source")]
    NoSource,
    /// Something else than a procfs on /proc.
    #[error("\"/proc\" cannot be covered because the mount is not of type proc")]
    NotProc,
    /// A mount on something in /proc.
    #[error("it cannot be mounted because it is inside /proc")]
    InsideProc,
    /// A mount on the root directory itself.
    #[error("nothing can be mounted on the root of the container; change root.path instead")]
    OntoRoot,
    /// A link of the rootfs leads to the root directory.
    #[error(
        "a link in the rootfs leads from there to the root of the container, on which nothing can be \
         mounted; remove the link"
    )]
    LinkToRoot,
    /// A link or a file where procfs or sysfs is to go.
    #[error("filesystem {fstype:?} must be mounted on ordinary directory, not on a link or file")]
    NotOrdinaryDirectory {
        /// `proc` or `sysfs`.
        fstype: String,
    },
    /// The kernel does not map the ids of this mount.
    #[error("failed to set MOUNT_ATTR_IDMAP on {path:?}: {reason}{hint}")]
    IdMap {
        /// The source on the host.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
        /// What it usually means; may be empty.
        hint: &'static str,
    },
    /// The source has flags that its owner locked and the options ask to clear.
    #[error("cannot change flags that are locked on the source; drop {option} from the options")]
    Locked {
        /// What to drop.
        option: &'static str,
    },
}

impl Cause {
    /// For `map_err`: a system call failed while `doing`.
    pub(super) fn system<E: Into<Reason>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |err| Self::System { doing, reason: err.into() }
    }
}

/// A mount that becomes read-only once everything that is to be inside it is there.
#[derive(Debug)]
pub struct DeferredReadonly {
    /// The destination in the spec, for errors.
    pub dest: PathBuf,
    /// The mount.
    pub mount: OwnedFd,
}

/// What came of the mounts, as far as later steps need it.
#[derive(Debug, Default)]
pub struct Mounted {
    /// A tmpfs or /dev with `ro`: it stays writable, because mount points and devices have to be
    /// created in it, until [`finish`](super::finish()).
    pub deferred: Vec<DeferredReadonly>,
    /// The id of the mount of a new filesystem on /dev.
    pub dev: Option<u64>,
}

/// Mounts `mounts` in their order inside `root`, which keeps hold of some of them.
///
/// # Errors
/// The first mount that fails; those before it stay.
pub fn mount_all(
    root: &mut Root,
    mounts: &[Mount],
    context: &MountContext<'_>,
    journal: &mut Journal,
) -> Result<Mounted, MountError> {
    let _umask = NoUmask::set();
    let mut mounted = Mounted::default();
    for (number, mount) in mounts.iter().enumerate() {
        let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
        let source = context.sources.get(number).and_then(Option::as_ref);
        let mut one = OneMount { root, spec: mount, options, source, context, journal };
        let made = one.mount(&mut mounted).map_err(|cause| MountError::new(mount, cause))?;
        root.hold(&target::clean(mount.destination()), made);
    }
    Ok(mounted)
}

/// One mount of the spec and where it goes.
#[derive(Debug)]
pub struct OneMount<'a> {
    /// The container's root.
    pub root: &'a Root,
    /// The mount as the spec has it.
    pub spec: &'a Mount,
    /// Its options.
    pub options: MountOptions<'a>,
    /// Its source, where the host side has opened it.
    pub source: Option<&'a OwnedFd>,
    /// The rest of the container.
    pub context: &'a MountContext<'a>,
    /// Where created mount points are noted.
    pub journal: &'a mut Journal,
}

impl OneMount<'_> {
    /// Mounts it, and notes in `mounted` what has to be known of it later.
    fn mount(&mut self, mounted: &mut Mounted) -> Result<OwnedFd, Cause> {
        let dest = target::clean(self.spec.destination());
        let fstype = self.spec.typ().as_deref().unwrap_or("none");
        let bind = self.options.bind || fstype == "bind";
        if dest == Path::new("/") {
            return Err(Cause::OntoRoot);
        }
        let is_dev = dest == Path::new("/dev");
        let late = fstype == "tmpfs" && !bind || is_dev;
        let defer = late && self.options.attrs.set & MOUNT_ATTR_RDONLY != 0;
        if defer {
            self.options.attrs.set &= !MOUNT_ATTR_RDONLY;
        }
        let mount = if self.options.remount {
            self.remount(bind)?
        } else if bind {
            bind::mount(self)?
        } else if matches!(fstype, "cgroup" | "cgroup2") {
            cgroup_view::mount(self)?
        } else {
            filesystem::mount(self, fstype)?
        };
        self.settle(mount.as_fd())?;
        if is_dev && !bind && !self.options.remount {
            let id = mount_id(&mount).map_err(Cause::system("examine the mount"))?;
            mounted.dev = Some(id);
        }
        if defer {
            let dest = self.spec.destination().clone();
            let mount = mount.try_clone().map_err(Cause::system("keep it open"))?;
            mounted.deferred.push(DeferredReadonly { dest, mount });
        }
        Ok(mount)
    }

    /// What is applied to an attached mount: attributes of all below it, and propagation.
    fn settle(&self, mount: BorrowedFd<'_>) -> Result<(), Cause> {
        let below = self.options.recursive;
        if !below.is_empty() {
            let attr = MountAttr { set: below.set, clear: below.clear, ..MountAttr::default() };
            mount_setattr(mount, &attr, true).map_err(Cause::system("set recursive attributes"))?;
        }
        for &(propagation, recursive) in &self.options.propagation {
            let attr = MountAttr { propagation, ..MountAttr::default() };
            mount_setattr(mount, &attr, recursive).map_err(Cause::system("set the propagation"))?;
        }
        Ok(())
    }

    /// `remount`: new attributes for what is mounted at the destination already. Superblock
    /// parameters of a filesystem are reconfigured as well.
    fn remount(&self, bind: bool) -> Result<OwnedFd, Cause> {
        let mount = self.root.resolve(self.spec.destination());
        let mount = mount.map_err(Cause::system("open the mount point"))?;
        target::check(self.root, self.spec.destination(), mount.as_fd(), true)?;
        if !bind {
            filesystem::reconfigure(self, mount.as_fd())?;
        }
        bind::set_exactly(mount.as_fd(), self.options.attrs)?;
        Ok(mount)
    }

    /// Attaches `tree` to `target`.
    pub(super) fn attach(&self, tree: OwnedFd, target: &OwnedFd) -> Result<OwnedFd, Cause> {
        let attached: io::Result<()> = detached::attach(tree.as_fd(), target.as_fd());
        attached.map_err(Cause::system("attach the mount"))?;
        Ok(tree)
    }
}
