//! Why a container cannot have the GPUs it asks for.

use super::cdi::edits::NodeError;
use super::cdi::registry::Unresolvable;
use crate::host::{ConfigError, HostError};

/// Why there is no plan. Each message names the thing, the reason and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The configuration file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of the machine could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An annotation with a CDI name that is none.
    #[error("{0}")]
    Annotation(String),
    /// CDI names that nothing defines.
    #[error(transparent)]
    Unresolvable(#[from] Unresolvable),
    /// A device node of a CDI file that cannot be given.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A request that the vendor cannot meet on this machine.
    #[error(transparent)]
    Vendor(Box<dyn std::error::Error + Send + Sync>),
}
