//! Why an NVIDIA request cannot be met.

use std::path::PathBuf;

use super::trouble::Trouble;
use crate::gpu::error::GpuError;
use crate::host::modules::ModuleError;
use crate::host::{ConfigError, HostError};

/// Why an NVIDIA request cannot be met, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A word of `NVIDIA_DRIVER_CAPABILITIES` that means nothing.
    #[error("NVIDIA_DRIVER_CAPABILITIES: unknown capability {word:?}; use some of {known}")]
    UnknownCapability {
        /// The word.
        word: String,
        /// What can be written.
        known: &'static str,
    },
    /// Capabilities that the configuration does not allow.
    #[error(
        "NVIDIA_DRIVER_CAPABILITIES: {lost} not allowed here; \
         ask for less, or add to supported-driver-capabilities (now {allowed})"
    )]
    UnsupportedCapability {
        /// What was asked for in vain.
        lost: String,
        /// What is allowed.
        allowed: String,
    },
    /// The kernel module is not loaded.
    #[error(
        "the NVIDIA kernel driver is not loaded: {} does not exist; \
         load it (modprobe nvidia) or install the driver for the running kernel", version.display()
    )]
    DriverNotLoaded {
        /// The file that a loaded driver has.
        version: PathBuf,
    },
    /// The version file holds no version.
    #[error("{} names no driver version: {content:?}", path.display())]
    NoVersion {
        /// The file.
        path: PathBuf,
        /// How it begins.
        content: String,
    },
    /// A driver whose device numbers are missing.
    #[error(
        "no major number for {name} in {}: the kernel module {module} is not loaded; \
         load it (modprobe {module})", path.display()
    )]
    NoMajor {
        /// The name in `/proc/devices`.
        name: &'static str,
        /// The module that registers it.
        module: &'static str,
        /// The file that should list it.
        path: PathBuf,
    },
    /// The driver is there and serves no GPU.
    #[error(
        "the NVIDIA driver {version} serves no GPU: {} lists none that is usable; \
         see the kernel log (dmesg | grep NVRM)", path.display()
    )]
    NoGpu {
        /// The driver version.
        version: String,
        /// The directory that lists GPUs.
        path: PathBuf,
    },
    /// An id that no GPU has.
    #[error("no GPU {id:?} on this machine; there is {present}{hint}")]
    UnknownGpu {
        /// The id as asked.
        id: String,
        /// The GPUs that exist.
        present: String,
        /// What else is to be known, starting with `; `, or empty.
        hint: &'static str,
    },
    /// An id of a kind that is not served.
    #[error("GPU id {id:?}: {reason}; use an index, a GPU- UUID, a PCI address, all or none")]
    UnsupportedId {
        /// The id as asked.
        id: String,
        /// Why not.
        reason: &'static str,
    },
    /// The beginning of more than one UUID.
    #[error("GPU id {id:?} is the beginning of several UUIDs: {candidates}; write more of it")]
    AmbiguousUuid {
        /// The id as asked.
        id: String,
        /// The GPUs that it can be.
        candidates: String,
    },
    /// A UUID that no MIG device has.
    #[error("no MIG device {id:?} on this machine; {present}")]
    UnknownMigUuid {
        /// The id as asked.
        id: String,
        /// What there is.
        present: String,
    },
    /// Nobody to ask for the UUID of a MIG device.
    #[error(
        "GPU id {id:?}: only the driver's nvidia-smi knows the UUIDs of MIG devices, and there is \
         none below {}; install it, set binary-paths in the [nvidia] table of gpurun's \
         configuration file, or name the MIG device by its index on its GPU (0:1)", root.display()
    )]
    NoSmi {
        /// The id as asked.
        id: String,
        /// The driver's root.
        root: PathBuf,
    },
    /// No answer about the UUID of a MIG device.
    #[error(
        "GPU id {id:?}: only the driver's nvidia-smi knows the UUIDs of MIG devices, and {reason}; \
         see whether it works when it is run by hand, or name the MIG device by its index on its \
         GPU (0:1)"
    )]
    Smi {
        /// The id as asked.
        id: String,
        /// Why not.
        reason: String,
    },
    /// nvidia-smi and `/proc` disagree.
    #[error(
        "GPU id {id:?}: nvidia-smi lists other MIG devices than /proc/driver/nvidia/capabilities \
         has; MIG is being configured right now, or one of both is stale: try again"
    )]
    MigChanged {
        /// The id as asked.
        id: String,
    },
    /// A device for management that does not exist.
    #[error("no device {device:?} of management.nvidia.com/gpu; there is only all")]
    UnknownManagement {
        /// The device.
        device: String,
    },
    /// No nodes to manage GPUs with.
    #[error(
        "management.nvidia.com/gpu=all: {} has no device node of the NVIDIA driver; make them \
         (nvidia-modprobe, or run nvidia-smi once)", directory.display()
    )]
    NoNodes {
        /// Where they should be.
        directory: PathBuf,
    },
    /// A MIG device that does not exist.
    #[error("no MIG device {id:?} on GPU {gpu}; there is {present}")]
    UnknownMig {
        /// The id as asked.
        id: String,
        /// The GPU.
        gpu: String,
        /// The MIG devices that it has.
        present: String,
    },
    /// A right that the driver's list does not have.
    #[error(
        "{} has no number for {right}, so the device node for it is unknown; \
         the nvidia kernel module may have been reloaded meanwhile: try again", path.display()
    )]
    NoMigMinor {
        /// The right.
        right: String,
        /// The list.
        path: PathBuf,
    },
    /// The administration of MIG asked for without privilege.
    #[error(
        "cannot set {what} in non privileged container; \
         unset NVIDIA_{what}, or add CAP_SYS_ADMIN to the container (--privileged)"
    )]
    MigUnprivileged {
        /// The variable without `NVIDIA_`.
        what: &'static str,
    },
    /// The administration of MIG asked for some GPUs only.
    #[error("{variable}={value}: only all is possible, for every GPU of the machine")]
    MigNotAll {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// An IMEX channel that is none.
    #[error("IMEX channel {id:?}: use a number from 0 to 1048575, channel<number>, or all")]
    BadImexChannel {
        /// As asked.
        id: String,
    },
    /// An IMEX channel without a node.
    #[error(
        "IMEX channel {channel} not found at {}; make the node \
         (nvidia-modprobe, or NVreg_CreateImexChannel0=1 for channel 0)", path.display()
    )]
    NoImexChannel {
        /// The channel.
        channel: u32,
        /// Where the node should be.
        path: PathBuf,
    },
    /// A requirement of the image that the machine does not meet.
    #[error(
        "unsatisfied condition: {condition}, please update your driver to a newer version, or use \
         an earlier cuda container (this machine has {present}; NVIDIA_DISABLE_REQUIRE=1 turns \
         the check off)"
    )]
    Unsatisfied {
        /// The condition as written.
        condition: String,
        /// What the machine has of what it speaks of.
        present: String,
    },
    /// A requirement that cannot be understood.
    #[error(
        "{variable}: invalid expression {expression:?}; \
         write conditions such as cuda>=12.2 or driver>=535"
    )]
    BadRequirement {
        /// The variable.
        variable: String,
        /// What was not understood.
        expression: String,
    },
    /// A GPU that the driver was told to leave alone.
    #[error(
        "GPU {id:?} ({gpu}) is excluded from use by the driver; \
         take it out of the nvidia module's NVreg_ExcludedGpus parameter"
    )]
    ExcludedGpu {
        /// The id as asked.
        id: String,
        /// Which GPU that is.
        gpu: String,
    },
    /// A GPU whose device node cannot be known.
    #[error(
        "GPU {id:?} ({gpu}): {} names no valid Device Minor, so its device node is unknown; \
         see the kernel log (dmesg | grep NVRM)", path.display()
    )]
    NoMinor {
        /// The id as asked.
        id: String,
        /// Which GPU that is.
        gpu: String,
        /// The information file.
        path: PathBuf,
    },
    /// The libraries are not of the kernel module's version.
    #[error(
        "the NVIDIA driver's user-space libraries in {} are version {user}, the loaded kernel \
         module is version {kernel}; reboot (or reload the nvidia modules) after a driver update, \
         or install the libraries of {kernel}", directory.display()
    )]
    Mismatch {
        /// The kernel module's version.
        kernel: String,
        /// The version of the libraries.
        user: String,
        /// Where they are.
        directory: PathBuf,
    },
    /// The libraries were not found.
    #[error(
        "the NVIDIA driver's libraries (libcuda.so.{version}, libnvidia-ml.so.{version}) are in \
         none of {searched}; install the driver's user-space packages, or set library-paths or \
         driver-root in the [nvidia] table of gpurun's configuration file"
    )]
    NoLibraries {
        /// The version looked for.
        version: String,
        /// The directories.
        searched: String,
    },
    /// Something is wrong with the machine.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// A kernel module is missing.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The configuration file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of the machine could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<Error> for GpuError {
    fn from(error: Error) -> Self {
        Self::Vendor(Box::new(error))
    }
}
