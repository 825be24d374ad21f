//! What runs inside the container, from the clone to the exec of the user's program.
//!
//! [`sequence`] is the list of steps for a container's first process, [`tenant`] the shorter one
//! for a process that joins a container (`exec`). Each other file is one of their steps. The code
//! here runs in a fork of the runtime: it has the parent's memory, one thread, and reports to the
//! parent over a [`channel`]. Whatever can be decided or checked on the host was decided before
//! the clone and arrives as plain data.

pub mod affinity;
pub mod channel;
pub mod console;
mod dangling;
pub mod executable;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod gpu;
pub mod handover;
mod held;
pub mod hooks;
pub mod journal;
pub mod label;
pub mod namespaces;
pub mod parent;
pub mod program;
pub mod replace;
pub mod root;
pub mod rootfs;
pub mod sequence;
pub mod stage;
pub mod tenant;
pub mod tuning;
pub mod undo;
pub mod user;
