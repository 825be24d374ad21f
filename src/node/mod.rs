//! Setting a machine up for gpurun: the configuration of engines, and putting gpurun there.
//!
//! What belongs here: what a person or an installer runs once per machine. What does not: anything
//! that a container's start needs. Every change is first a [`change::Change`], which can be looked
//! at, and is then carried out in one place.

pub mod change;
pub mod diff;
pub mod engine;
pub mod hook_names;
pub mod install;
pub mod machine;
mod program;
