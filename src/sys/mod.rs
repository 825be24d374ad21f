//! System calls that neither rustix nor nix wraps, one file per kernel topic.
//!
//! This is the only module that may contain `unsafe`. Every function wraps one system call,
//! borrows the descriptors that it is given and owns the ones that it returns.
#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod fd;
pub mod keyring;
pub mod mount;
pub mod net;
pub mod process;
pub mod sched;
pub mod seccomp;
pub mod signal;

use std::io;

/// Turns the return value of a raw system call into a `Result`.
pub(crate) fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}
