//! What a container asks for, and the plan that gives it.
//!
//! [`request`] reads the wishes out of the spec (pure, no host access). A vendor resolves them
//! against the [`crate::host::Host`] into a [`plan::Plan`] (pure data). The plan's devices, rules,
//! environment and groups join the in-memory spec; what needs the container's filesystem is
//! carried out by `crate::init::gpu`. Nothing outside this folder names a vendor.

pub mod loader;
pub mod plan;
