//! Why a request for AMD GPUs cannot be met.

use std::path::PathBuf;

use super::tracker::TrackerError;
use crate::gpu::error::GpuError;
use crate::host::{ConfigError, HostError};

/// Why a request for AMD GPUs cannot be met, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel module is not loaded.
    #[error(
        "the amdgpu kernel driver is not loaded: {} does not exist; \
         load it (modprobe amdgpu) or install the driver for the running kernel", path.display()
    )]
    DriverNotLoaded {
        /// The directory that a loaded driver has.
        path: PathBuf,
    },
    /// A CDI name that no GPU has.
    #[error("no AMD GPU {id:?} on this machine; there is {present}")]
    UnknownGpu {
        /// The name after the kind.
        id: String,
        /// The GPUs that exist.
        present: String,
    },
    /// The node that all GPUs share has no numbers.
    #[error(
        "{} does not exist, so the numbers of /dev/kfd are unknown; \
         see the kernel log (dmesg | grep kfd)", path.display()
    )]
    NoKfd {
        /// The file with its numbers.
        path: PathBuf,
    },
    /// AMD's GPU tracker.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
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
