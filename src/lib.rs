//! gpurun: an OCI container runtime with native GPU support.
//!
//! One container runs through these rooms, each of which may use only those below it:
//!
//! | module | holds |
//! |---|---|
//! | [`commands`] | one thin file per subcommand |
//! | [`node`] | setting a machine up, and looking what is wrong with it |
//! | [`container`] | a container's life seen from the host |
//! | [`init`] | what runs inside the container, up to exec |
//! | [`cgroup`] | cgroup managers and the device rules |
//! | [`seccomp`] | OCI seccomp profile → BPF |
//! | [`gpu`] | what a container asks for, and the plan that gives it |
//! | [`host`] | every read of the machine |
//! | [`sys`] | system calls that no crate wraps; the only `unsafe` code |
//!
//! `docs/architecture.md` is the map.

pub mod cgroup;
pub mod cli;
pub mod commands;
pub mod container;
pub mod finding;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gpu;
pub mod host;
pub mod init;
pub mod log;
pub mod mountinfo;
pub mod node;
pub mod paint;
pub mod peer;
mod reopen;
pub mod seccomp;
pub mod sys;
mod unguessable;
