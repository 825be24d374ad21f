//! The container's filesystem, made by its init in a mount namespace of its own.
//!
//! Here belongs what mounts, creates device nodes, masks, pivots or writes sysctls; the order of
//! the steps does not: that is the init's sequence. The steps, in the order in which they can run:
//! [`prepare_root`], [`mount_all`], [`create_devices`], [`pivot`], [`finish`] and [`write_sysctls`].
//! [`validate_mounts`] and [`validate_sysctls`] run on the host before anything exists,
//! [`open_sources`] just before the clone.
//!
//! Every mount is made detached (`fsmount`, `open_tree`), gets its attributes while nobody can see
//! it, and is attached to a *descriptor* of its mount point. No path inside the rootfs is resolved
//! other than by [`Root`](super::root::Root), and none twice. The calls need Linux 5.12.

mod bind;
mod cgroup_view;
mod copy_up;
mod detached;
mod devices;
mod error;
mod filesystem;
mod finish;
mod masks;
mod mounts;
mod no_pivot;
mod options;
mod pivot;
mod prepare;
mod shared;
mod sources;
mod stdio;
mod sysctl;
mod target;
#[cfg(test)]
mod tests;
mod umask;
mod validate;

pub use cgroup_view::{CgroupView, Hierarchy};
pub use devices::{DeviceError, Devices, create_devices, needs_dev};
pub use error::Reason;
pub use finish::{Finish, FinishError, finish};
pub use mounts::{Cause, DeferredReadonly, MountContext, MountError, Mounted, mount_all};
pub use options::{IdMapping, MountOptions};
pub use pivot::{PivotError, pivot};
pub use prepare::{PrepareError, Propagation, prepare_root};
pub use shared::{SharedRoot, SharedRootError, change_root_to, unmount_shared};
pub use sources::{SourcesWanted, open_sources};
pub use sysctl::{SysctlError, is_of_network, write_sysctls};
pub use validate::{
    InvalidMount, InvalidSysctl, SysctlNamespaces, ignored_options, validate_mounts,
    validate_sysctls,
};
