//! From the runtime's identity to the program's: the last steps before exec, which a container's
//! first process and one that joins it have in common.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use anyhow::{Context, Error, Result};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::CapabilitySet;

use super::channel::{Channel, FromInit, FromParent};
use super::program::Program;
use super::root::Root;
use super::{executable, user};
use crate::seccomp::Filter;
use crate::sys;
use crate::sys::clone::{CloneArgs, Forked, clone3};
use crate::sys::keyring::SessionKeyring;

/// The mask where the spec has none.
const DEFAULT_UMASK: u32 = 0o022;

/// What takes rights over the container's files that the program may not have: its home, and its
/// working directory. Returns whether that has been entered; where not, the user may be able to.
pub(super) fn settle_in(program: &mut Program, root: &Root) -> bool {
    executable::add_home(program, root);
    user::enter_directory(program, root)
}

/// The capabilities that the steps from [`join_session_keyring`] on take, besides the program's own.
pub(super) fn still_needed(program: &Program, seccomp: Option<&Filter>) -> CapabilitySet {
    let mut needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP;
    let labels = program.apparmor.is_some() || program.selinux.is_some();
    if labels || (seccomp.is_some() && !program.no_new_privs) {
        // Labels are written through a procfs of our own, which has to be mounted.
        needed |= CapabilitySet::SYS_ADMIN;
    }
    needed
}

/// From the runtime's identity to the program's; also for `exec`. Returns the program's path.
///
/// The filter comes as late as it can, because from then on every call of ours has to be one that
/// the profile allows. They are:
/// - without no_new_privs, capset(2) and prctl(2) for the ambient set: loading takes
///   CAP_SYS_ADMIN, so the capabilities can only go afterwards;
/// - read(2) and write(2) on the line to the parent and on the fifo of `start`;
/// - rt_sigaction(2), rt_sigprocmask(2), execve(2), and exit_group(2) when that fails;
/// - whatever the spec's startContainer hooks take to run.
///
/// The bounding set is the program's already ([`user::bound_capabilities`]); `entered` is what
/// [`settle_in`] returned.
pub(super) fn change_into(
    program: &mut Program,
    root: &Root,
    entered: bool,
    seccomp: Option<&Filter>,
    channel: &Channel,
    preserve_fds: u32,
    rootless: bool,
) -> Result<CString> {
    user::label_exec(program)?;
    // As runc: the mask of whoever called the runtime is nothing to the container.
    let mask = program.umask.unwrap_or(DEFAULT_UMASK);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    if program.no_new_privs {
        rustix::thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
    }
    sys::fd::close_on_exec_from(preserve_fds.saturating_add(3))
        .context("cannot close descriptors on exec")?;
    ask_for_limits(program, channel)?;
    user::become_user(program, root, entered)?;
    // The parent may end the moment it has said "commit". Until then its death is an end of file
    // on the channel, and there is nothing left to do here that could hang.
    rustix::process::set_parent_process_death_signal(None).context("cannot outlive the parent")?;

    let capabilities = user::Sets::final_of(program)?;
    if seccomp.is_none() || program.no_new_privs {
        user::drop_capabilities(&capabilities)?;
        let path = executable::find(program)?;
        load_seccomp(seccomp, channel, rootless)?;
        return Ok(path);
    }
    user::try_capabilities(&capabilities)?;
    let path = executable::find(program)?;
    user::reclaim_capabilities()?;
    load_seccomp(seccomp, channel, rootless)?;
    user::drop_capabilities(&capabilities)?;
    Ok(path)
}

/// Nobody but who has CAP_SYS_PTRACE where the runtime was executed may look into this process.
pub(super) fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot become undumpable")
}

/// A pid namespace takes effect on children only: forks one, tells the parent its pid and ends.
/// Returns in the child, which has the channel.
pub(super) fn fork_into_pid_namespace(channel: &Channel) -> Result<()> {
    let flags = CloneFlags::CLONE_PARENT.bits() as u64;
    let forked = clone3(&CloneArgs { flags, cgroup: None }).map_err(|error| {
        // pid_namespaces(7): so it is once the first process has ended, killed meanwhile.
        let why = match error.raw_os_error() {
            Some(libc::ENOMEM) => ": its first process has ended, or there is no memory",
            _ => "",
        };
        Error::new(error).context(format!("cannot fork into the pid namespace{why}"))
    })?;
    match forked {
        Forked::Parent { pid, pidfd } => {
            if let Err(error) = channel.report(&FromInit::Pid(pid)) {
                // The parent does not know of it.
                let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
                return Err(error.into());
            }
            // The channel stays open in the child.
            std::process::exit(0)
        }
        Forked::Child => {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .context("cannot ask to die with the parent")?;
            // What we say next must not overtake our pid: the parent would give the limits, say, to
            // the process that has just ended.
            channel.wait_for(FromParent::Done).context("the parent gave up")
        }
    }
}

/// Keys of the caller are none of the container's business. A kernel or a policy (a seccomp profile
/// around the runtime) without keyrings has none to leak; anything else that fails is an error.
/// With SELinux it has the program's label, so that the program can use it.
///
/// `new`: nothing has this name yet, because nobody could know it; those who come later join it.
pub(crate) fn join_session_keyring(name: &str, selinux: Option<&str>, new: bool) -> Result<()> {
    if let Some(label) = selinux {
        user::label_keys(label)?;
    }
    if let Ok(name) = CString::new(name) {
        let joined = SessionKeyring::join(&name);
        match joined.and_then(|keyring| if new { keyring.share() } else { Ok(()) }) {
            Err(err) if matches!(err.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {}
            done => done.context(
                "cannot leave the session keyring of the runtime's caller (--no-new-keyring keeps \
                 it; kernel.keys.maxkeys and maxbytes limit how many there are)",
            )?,
        }
    }
    if selinux.is_some() {
        user::label_keys("")?;
    }
    Ok(())
}

/// The program starts as if nobody had touched its signals.
pub(super) fn reset_signals() -> Result<()> {
    sys::signal::default_actions();
    SigSet::empty().thread_set_mask().context("cannot unblock signals")
}

/// The parent sets the limits, which may be above what the init's rights allow, while both are
/// the same user; and as late as that lets it, because they are the program's limits, not ours.
fn ask_for_limits(program: &Program, channel: &Channel) -> Result<()> {
    if program.rlimits.is_empty() {
        return Ok(());
    }
    channel.report(&FromInit::SetLimits)?;
    channel.wait_for(FromParent::Done).context("the parent gave up")
}

/// Loads the filter; a listener, where it has one, goes to the parent, who hands it on.
fn load_seccomp(filter: Option<&Filter>, channel: &Channel, rootless: bool) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    if filter.has_listener() && rootless {
        // The parent fetches the listener out of this process, which takes the right to trace it:
        // an ordinary user has that over a process of the same user namespace or below only while
        // it is dumpable, and changing ids has ended that (ptrace(2)).
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
            .context("cannot become dumpable")?;
    }
    if let Some(listener) = filter.load()? {
        channel.report(&FromInit::SeccompListener(listener.as_raw_fd()))?;
        channel.wait_for(FromParent::Done).context("the parent gave up")?;
    }
    Ok(())
}
