//! The OCI seccomp profile, compiled to classic BPF and loaded with seccomp(2).
//!
//! Here belong: what a profile means on this machine (resolved as runc with libseccomp resolves
//! it), the program that says so to the kernel, and the hand-over of the notify descriptor to its
//! agent. Not here: when in the container's life the filter is loaded (`crate::init`), and
//! `no_new_privs`, which the filter never sets itself.
//!
//! | file | holds |
//! |---|---|
//! | `arch` | the ABIs a kernel runs, as the filter sees them |
//! | `syscalls` | names → numbers |
//! | `multiplex` | `socketcall` and `ipc` of i386 |
//! | `action` | profile actions → filter return values |
//! | `condition` | argument comparisons, through seccompiler |
//! | `resolve` | profile → one verdict per number, per ABI; the rule merging |
//! | `assemble` | verdicts → BPF |
//! | `filter` | the compiled filter and its loading |
//! | `support` | what this build and this kernel know, for `features` |
//! | `notify` | the descriptor's way to the agent |

mod action;
mod arch;
mod assemble;
mod condition;
mod error;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
mod interpreter;
mod multiplex;
pub mod notify;
mod resolve;
pub mod support;
mod syscalls;

#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use error::SeccompError;
pub use filter::{Filter, compile, compile_for, needs_listener};
