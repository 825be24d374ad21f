//! Why a request for Intel's devices cannot be met.

use crate::gpu::error::GpuError;
use crate::host::{ConfigError, HostError};

/// Why a request for Intel's devices cannot be met, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that no device has.
    #[error("no device {name} on this machine; there is {present}; its driver is {modules}")]
    Unknown {
        /// The CDI name.
        name: String,
        /// The devices that exist.
        present: String,
        /// The kernel modules that serve such devices.
        modules: &'static str,
    },
    /// A device whose node cannot be known.
    #[error(
        "{name} has no numbers for its device node in sysfs, and {node} does not exist; \
         load its driver again"
    )]
    NoNode {
        /// The device.
        name: String,
        /// The node.
        node: String,
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
