//! Setting a machine up for gpurun, and looking what is wrong with it: the configuration of engines,
//! putting gpurun there, `doctor`.
//!
//! What belongs here: what a person or an installer does once per machine, or when something fails.
//! What does not: anything that a container's start needs. Every change is first a
//! [`change::Change`], which can be looked at, and is then carried out in one place.

pub mod change;
pub mod diff;
pub mod doctor;
pub mod engine;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod hook_names;
pub mod install;
pub mod machine;
mod program;
