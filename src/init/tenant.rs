//! A process that joins a container (`exec`): every step from the clone to the exec, in order.
//!
//! Container processes can see this one from the moment at which it enters the pid namespace, by
//! then in all other namespaces of the container. It is undumpable until it execs, and its executable
//! lies on a read-only mount (see `crate::container::sealed`). Who may trace it all the same finds no
//! descriptor of the host, and few capabilities that the program is not going to have: what takes
//! more, or a descriptor from outside, is done before.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sched::{self, CloneFlags};
use rustix::process::Signal;

use super::channel::{Channel, FromInit, FromParent};
use super::handover::{
    change_into, fork_into_pid_namespace, hide, join_session_keyring, reset_signals, settle_in,
    still_needed,
};
use super::program::Program;
use super::root::Root;
use super::tuning::Tuning;
use super::{console, executable, rootfs, user};
use crate::log;
use crate::seccomp::Filter;
use crate::sys;

/// What the parent hands to the process, by fork.
#[derive(Debug)]
pub struct Tenant<'a> {
    /// The user's program.
    pub program: Program,
    /// Its priorities.
    pub tuning: Tuning,
    /// A pidfd on the container's init, whose namespaces are joined.
    pub init: &'a OwnedFd,
    /// Which of them differ from the runtime's. The pid namespace is entered last, by one more fork:
    /// whoever may trace the processes in it must not find one that has anything of the host's.
    pub namespaces: CloneFlags,
    /// Whether the runtime runs without root's rights.
    pub rootless: bool,
    /// The container's root directory, where it has no mount namespace to find it in.
    pub root: Option<OwnedFd>,
    /// The name of the container's session keyring; `None` keeps the caller's.
    pub keyring: Option<String>,
    /// The seccomp filter, the same as the container's.
    pub seccomp: Option<&'a Filter>,
    /// Where the terminal's master goes.
    pub console: Option<OwnedFd>,
    /// The line to the parent.
    pub channel: Channel,
    /// Descriptors after stderr that the program keeps.
    pub preserve_fds: u32,
}

impl Tenant<'_> {
    /// Runs in the new process and never returns.
    pub fn run(mut self) -> ! {
        let error = match self.steps() {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let _ = self.channel.report(&FromInit::Failed(log::one_line(&error)));
        std::process::exit(255)
    }

    fn steps(&mut self) -> Result<Infallible> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .context("cannot ask to die with the parent")?;
        if !self.rootless {
            hide()?;
        }
        // The parent puts us into the cgroup first: a namespace may count its members.
        self.channel.wait_for(FromParent::Go).context("the parent gave up")?;
        if self.rootless {
            // Until now an ordinary user had to write to our files in /proc. Nobody of the
            // container sees us before the namespaces are joined.
            hide()?;
        }

        if self.namespaces.contains(CloneFlags::CLONE_NEWUSER) && !self.rootless {
            user::leave_groups(&self.program)?;
        }
        // All at once, the user namespace first; the kernel checks them together.
        // With no flag at all the kernel takes the call for a mistake.
        if !self.namespaces.is_empty() {
            sched::setns(self.init, self.namespaces)
                .context("cannot join the container's namespaces")?;
        }
        if let Some(root) = self.root.take() {
            rootfs::change_root_to(root)?;
        }
        if self.namespaces.contains(CloneFlags::CLONE_NEWUSER) {
            user::become_root().context("cannot become root of the user namespace")?;
        }
        self.tuning.place()?;
        let root = Root::open("/".as_ref()).context("cannot open the container's root")?;
        let entered = settle_in(&mut self.program, &root);
        let terminal = match self.console.take().filter(|_| self.program.terminal) {
            Some(socket) => Some(console::make(&root, socket.as_fd(), &self.program, None)?),
            None => None,
        };
        self.leave_the_host_behind(&root, terminal.as_ref())?;

        if self.namespaces.contains(CloneFlags::CLONE_NEWPID) {
            fork_into_pid_namespace(&self.channel)?;
        }
        rustix::process::setsid().context("cannot start a session")?;
        if let Some(name) = &self.keyring {
            join_session_keyring(name, self.program.selinux.as_deref(), false)?;
        }
        self.tuning.apply()?;
        if let Some(terminal) = terminal {
            console::attach(&terminal)?;
        }
        let path = change_into(
            &mut self.program,
            &root,
            entered,
            self.seccomp,
            &self.channel,
            self.preserve_fds,
            self.rootless,
        )?;
        self.channel.report(&FromInit::Ready)?;
        self.channel.wait_for(FromParent::Commit).context("the parent gave up")?;
        reset_signals()?;
        Err(executable::exec(&path, &self.program).into())
    }

    /// The last step that nobody in the container can see. What is closed here has owners in the
    /// parent's part of the memory, which are never dropped.
    fn leave_the_host_behind(&self, root: &Root, terminal: Option<&OwnedFd>) -> Result<()> {
        let needed = [self.channel.as_fd(), root.as_fd()];
        let needed = needed.into_iter().chain(terminal.map(AsFd::as_fd));
        sys::fd::close_all_but(self.preserve_fds.saturating_add(3), needed)
            .context("cannot close descriptors")?;
        let needed = still_needed(&self.program, self.seccomp) | self.tuning.needs();
        Ok(user::keep_capabilities(&self.program, needed)?)
    }
}
