//! A compiled profile, and its loading.

use std::io;
use std::os::fd::OwnedFd;

use libc::sock_filter;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag as Flag};

use super::action;
use super::arch::Arch;
use super::assemble::assemble;
use super::error::SeccompError;
use super::resolve::resolve;
use super::support;
use crate::sys::seccomp as sys;

/// A profile as the kernel takes it.
#[derive(Debug)]
pub struct Filter {
    program: Vec<sock_filter>,
    flags: u64,
    /// `SPEC_ALLOW` is there because the profile has no flags at all, not because it asks for it.
    spec_allow_by_default: bool,
    /// The actions and flags named in the profile that not every kernel has.
    newer_actions: Vec<LinuxSeccompAction>,
    asked_flags: Vec<Flag>,
}

/// Compiles `profile` for this machine; pure, meant for the parent before clone.
///
/// # Errors
/// What [`SeccompError`] lists, except what only the kernel can say ([`Filter::check_kernel`]).
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    compile_for(profile, Arch::native().ok_or(SeccompError::NoTable)?)
}

/// As [`compile`], for a machine whose own ABI is `native`.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(profile: &LinuxSeccomp, native: Arch) -> Result<Filter, SeccompError> {
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let listener = needs_listener(profile);
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(SeccompError::NotifyDefault);
    }
    if listener && profile.listener_path().is_none() {
        return Err(SeccompError::NotifyWithoutListener);
    }
    let (flags, spec_allow_by_default) = flags(profile, listener)?;
    let mut newer_actions = Vec::new();
    for action in entries.iter().map(|entry| entry.action()).chain([profile.default_action()]) {
        if support::is_newer(action) && !newer_actions.contains(&action) {
            newer_actions.push(action);
        }
    }
    Ok(Filter {
        program: assemble(&resolve(profile, native)?)?,
        flags,
        spec_allow_by_default,
        newer_actions,
        asked_flags: profile.flags().clone().unwrap_or_default(),
    })
}

impl Filter {
    /// Whether loading it gives a descriptor for an agent.
    #[must_use]
    pub fn has_listener(&self) -> bool {
        self.flags & sys::NEW_LISTENER != 0
    }
}

/// Whether some rule of `profile` hands calls to an agent, so that loading it gives a descriptor.
#[must_use]
pub fn needs_listener(profile: &LinuxSeccomp) -> bool {
    profile
        .syscalls()
        .iter()
        .flatten()
        .any(|entry| entry.action() == LinuxSeccompAction::ScmpActNotify)
}

fn flags(profile: &LinuxSeccomp, listener: bool) -> Result<(u64, bool), SeccompError> {
    let mut bits = if listener { sys::NEW_LISTENER } else { 0 };
    // As runc: without a list of flags, not even an empty one, the process is not slowed down by
    // the speculation mitigation that seccomp once implied.
    let Some(flags) = profile.flags() else {
        return Ok((bits | sys::SPEC_ALLOW, true));
    };
    for flag in flags {
        if *flag == Flag::SeccompFilterFlagWaitKillableRecv && !listener {
            return Err(SeccompError::WaitKillableWithoutNotify);
        }
        bits |= support::bit(*flag);
    }
    // With a listener the return value is a descriptor; a failed TSYNC must then be an errno.
    if listener && bits & sys::TSYNC != 0 {
        bits |= sys::TSYNC_ESRCH;
    }
    Ok((bits, false))
}

impl Filter {
    /// Whether [`Filter::load`] will return a descriptor.
    #[must_use]
    pub fn needs_listener(&self) -> bool {
        self.flags & sys::NEW_LISTENER != 0
    }

    /// The length of the program in instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.program.len()
    }

    /// Asks the kernel about the actions and flags of the profile that not every kernel has; no
    /// system call when there are none.
    ///
    /// # Errors
    /// [`SeccompError::UnsupportedAction`] and [`SeccompError::UnsupportedFlag`].
    pub fn check_kernel(&self) -> Result<(), SeccompError> {
        for action in &self.newer_actions {
            let value = action::return_value(*action, None)?;
            if !sys::action_available(value) {
                return Err(SeccompError::UnsupportedAction(*action));
            }
        }
        for flag in &self.asked_flags {
            if !support::flag_available(*flag) {
                return Err(SeccompError::UnsupportedFlag(*flag));
            }
        }
        Ok(())
    }

    /// Puts the filter in force for the calling thread and what it will execute, for good.
    ///
    /// Does not set `no_new_privs`: without it the caller must still have `CAP_SYS_ADMIN` in its
    /// user namespace. Returns the notify descriptor (close-on-exec) when a rule notifies.
    ///
    /// # Errors
    /// [`SeccompError::Load`].
    pub fn load(&self) -> Result<Option<OwnedFd>, SeccompError> {
        let listener = self.needs_listener();
        let loaded = match sys::set_filter(self.flags, &self.program) {
            // Before Linux 4.17.
            Err(error)
                if self.spec_allow_by_default && error.raw_os_error() == Some(libc::EINVAL) =>
            {
                sys::set_filter(self.flags & !sys::SPEC_ALLOW, &self.program)
            }
            loaded => loaded,
        };
        match loaded {
            Ok(fd) if fd.is_some() == listener => Ok(fd),
            Ok(_) => Err(SeccompError::Load {
                error: io::Error::other("a thread could not be synchronized (TSYNC)"),
            }),
            Err(error) => Err(SeccompError::Load { error }),
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn program(&self) -> &[sock_filter] {
        &self.program
    }
}
