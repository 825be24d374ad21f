//! Lists, of vendors' own tools, of which container has which GPU.
//!
//! A container is entered in such a list while it exists, so that the tools of the vendor and
//! other runtimes know of it. The plan says in which; `create` enters it once its state is
//! written, and `delete` strikes it off, also after a crash in between.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::GpuError;
use super::vendor::VENDORS;

/// A list, and what of the container belongs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The vendor that knows the list's form, by its name.
    pub vendor: String,
    /// The file.
    pub file: PathBuf,
    /// The indexes of the container's GPUs; none where another program has entered them.
    pub gpus: Vec<u32>,
}

/// The lists of one vendor.
pub trait Registers {
    /// Enters a container.
    ///
    /// # Errors
    /// The list says that somebody else has a GPU for himself, or it cannot be read or written.
    fn enter(&self, register: &Register, container: &str) -> Result<(), GpuError>;

    /// Strikes a container off. One that is not there is fine.
    ///
    /// # Errors
    /// The list cannot be read or written.
    fn leave(&self, register: &Register, container: &str) -> Result<(), GpuError>;
}

/// Enters the container in each list.
///
/// # Errors
/// The list says that somebody else has a GPU for himself, or it cannot be read or written.
pub fn enter(registers: &[Register], container: &str) -> Result<(), GpuError> {
    registers.iter().try_for_each(|one| match of(one) {
        Some(lists) => lists.enter(one, container),
        None => Ok(()),
    })
}

/// Strikes the container off each list. One that is not there is fine.
///
/// # Errors
/// A list cannot be read or written; the others are done all the same.
pub fn leave(registers: &[Register], container: &str) -> Result<(), GpuError> {
    let mut result = Ok(());
    for one in registers {
        if let Some(Err(error)) = of(one).map(|lists| lists.leave(one, container)) {
            result = Err(error);
        }
    }
    result
}

fn of(register: &Register) -> Option<&'static dyn Registers> {
    VENDORS.iter().find(|vendor| vendor.name() == register.vendor)?.registers()
}
