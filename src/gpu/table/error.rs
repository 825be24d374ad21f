//! Why a request for the devices of a vendor of the table cannot be met.

use std::path::PathBuf;

use crate::gpu::error::GpuError;
use crate::host::HostError;

/// Why the request cannot be met, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine has none.
    #[error(
        "{source_of_wish}: no device of {vendor} on this machine (looked for {}); \
         load its driver", place.display()
    )]
    NoDevice {
        /// The variable and its value.
        source_of_wish: String,
        /// The vendor.
        vendor: String,
        /// What was looked for.
        place: PathBuf,
    },
    /// Items that no device has.
    #[error("{source_of_wish}: {items} is no device of {vendor}; there is {present}")]
    Unknown {
        /// The variable and its value.
        source_of_wish: String,
        /// The items, quoted.
        items: String,
        /// The vendor.
        vendor: String,
        /// The indexes that exist.
        present: String,
    },
    /// A CDI kind asked of vendors that have none.
    #[error("devices of {kind} are given by CDI files only")]
    NoNames {
        /// The kind.
        kind: &'static str,
    },
    /// A file of the machine could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<Error> for GpuError {
    fn from(error: Error) -> Self {
        Self::Vendor(Box::new(error))
    }
}
