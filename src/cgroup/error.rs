//! Why something about a cgroup did not work.

use std::io;
use std::path::PathBuf;

use super::devices::DeviceError;
use super::systemd::DbusError;

/// Why something about a cgroup did not work. Messages name the file, the value and the reason.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of a cgroup refused a value.
    #[error("cannot write {value:?} to {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of a cgroup or of proc could not be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A cgroup directory could not be made, opened or removed.
    #[error("cannot {action} cgroup {}: {source}", dir.display())]
    Directory {
        /// `create`, `open`, `remove` and the like.
        action: &'static str,
        /// The directory.
        dir: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `linux.cgroupsPath` (or the container id) cannot be a place in a hierarchy.
    #[error("invalid cgroupsPath {}: {reason}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `exec --cgroup` cannot be a place below the container's cgroup.
    #[error("invalid --cgroup {argument:?}: {reason}")]
    SubCgroup {
        /// The argument.
        argument: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The systemd driver was asked for on a machine that systemd does not run.
    #[error(
        "the systemd cgroup driver needs systemd, which does not run here (/run/systemd/system is \
         missing); run without --systemd-cgroup (engines: native.cgroupdriver=cgroupfs, \
         SystemdCgroup = false)"
    )]
    NoSystemd,
    /// The systemd driver was asked for by an ordinary user, who has a systemd of their own but no
    /// cgroup v1 below it.
    #[error(
        "the systemd cgroup driver works for ordinary users on cgroup v2 only; \
         run without --systemd-cgroup, or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    NoUserSystemd,
    /// systemd did not do what was asked of it, or could not be asked.
    #[error("cannot {action} unit {unit}: {source}")]
    Unit {
        /// What was tried.
        action: &'static str,
        /// The container's unit.
        unit: String,
        /// The answer, or why there is none.
        source: DbusError,
    },
    /// Another container, or anything else, has the unit.
    #[error(
        "unit {unit} exists already; stop it (systemctl stop {unit}) or choose another cgroupsPath"
    )]
    UnitExists {
        /// The unit.
        unit: String,
    },
    /// systemd made the unit in a tree that is not the one that gpurun sees.
    #[error(
        "systemd did not put the container's process into {}, the place of unit {unit}, but into \
         {there}: does gpurun run in a container that has the host's systemd?", dir.display()
    )]
    ElsewhereUnit {
        /// The unit.
        unit: String,
        /// Where it should be.
        dir: PathBuf,
        /// The process's cgroups, as in /proc/PID/cgroup.
        there: String,
    },
    /// An annotation that is to become a property of the unit.
    #[error("invalid annotation {key}: {reason}")]
    Annotation {
        /// The annotation.
        key: String,
        /// The value and what is wrong with it.
        reason: String,
    },
    /// No cgroup filesystem, or none with what is needed.
    #[error("no usable cgroup hierarchy: {0}")]
    NoHierarchy(String),
    /// Another container (or anything else) lives in the cgroup.
    #[error("container's cgroup is not empty: {count} process(es) found in {}", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// How many processes.
        count: usize,
    },
    /// Another `create` has it and does not come to an end.
    #[error(
        "container's cgroup is being made by another container's create: {}; try again when that \
         has ended, or choose another cgroupsPath", dir.display()
    )]
    Claimed {
        /// The directory.
        dir: PathBuf,
    },
    /// The cgroup is there and frozen, so that a process put there would never run.
    #[error("container's cgroup unexpectedly frozen: {}; thaw or remove it", dir.display())]
    Frozen {
        /// The directory.
        dir: PathBuf,
    },
    /// A limit for which the machine (or the parent cgroup) has no controller.
    #[error("cannot set {limit} limit: {reason}")]
    NoController {
        /// The controller.
        limit: &'static str,
        /// Why there is none.
        reason: String,
    },
    /// A value of the spec that the kernel has no way to express, or that makes no sense.
    #[error("invalid {field}: {reason}")]
    Value {
        /// The field below `linux.resources`.
        field: String,
        /// The value and what is allowed.
        reason: String,
    },
    /// A caller without root's rights names a cgroup that is not theirs.
    #[error(
        "unable to apply cgroup configuration: permission denied: {0}; remove linux.cgroupsPath, \
         or have that cgroup delegated to this user"
    )]
    Refused(Box<CgroupError>),
    /// The container has no cgroup.
    #[error(
        "cannot {action}: the container has no cgroup, because its creator had no right to make \
         one; create it below a cgroup that is delegated to this user"
    )]
    None {
        /// What was to be done.
        action: &'static str,
    },
    /// The cgroup did not become frozen in time.
    #[error("cannot freeze {}: its processes did not stop within {milliseconds} ms", dir.display())]
    FreezeTimeout {
        /// The directory.
        dir: PathBuf,
        /// How long it was tried.
        milliseconds: u64,
    },
    /// Somebody else has thawed the cgroup while it was being frozen.
    #[error("cannot freeze {}: somebody else has let its processes go on meanwhile", .0.display())]
    Thawed(PathBuf),
    /// A process that was killed is still there.
    #[error(
        "process {pid} does not die: it hangs in the kernel (state D), usually in a driver or on a \
         network filesystem; see /proc/{pid}/stack"
    )]
    StillAlive {
        /// The process.
        pid: i32,
    },
    /// Several hierarchies failed.
    #[error("{}", join(.0))]
    Several(Vec<CgroupError>),
    /// The device rules.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

fn join(errors: &[CgroupError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl CgroupError {
    /// Whether the caller lacks the permission (a rootless caller may go on without a cgroup when
    /// none was asked for).
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Write { source, .. }
            | Self::Read { source, .. }
            | Self::Directory { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
            }
            Self::Device(DeviceError::NotPermitted { .. }) => true,
            Self::Several(errors) => errors.iter().all(Self::is_permission),
            _ => false,
        }
    }

    /// The error number of the kernel's answer, where there is one.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Write { source, .. }
            | Self::Read { source, .. }
            | Self::Directory { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the file or directory is not there.
    pub(super) fn is_absent(&self) -> bool {
        // ENODEV: the cgroup was removed while its file was open.
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV))
    }
}
