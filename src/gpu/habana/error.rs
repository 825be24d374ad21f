//! Why a request for Gaudi devices cannot be met.

use std::path::PathBuf;

use crate::gpu::error::GpuError;
use crate::host::{ConfigError, HostError};

/// Why a request for Gaudi devices cannot be met, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The driver is not loaded, or serves nothing.
    #[error(
        "no Gaudi device on this machine: {} lists none; load the driver (modprobe habanalabs)",
        class.display()
    )]
    NoDevice {
        /// The directory that lists devices.
        class: PathBuf,
    },
    /// A CDI name that no device has.
    #[error("no Gaudi device {id:?} on this machine; there is {present}")]
    Unknown {
        /// The name after the kind.
        id: String,
        /// The devices that exist.
        present: String,
    },
    /// A device whose node cannot be known.
    #[error(
        "{} does not exist, and sysfs has no numbers for it; load the driver again \
         (modprobe habanalabs)", node.display()
    )]
    NoNode {
        /// The node.
        node: PathBuf,
    },
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
