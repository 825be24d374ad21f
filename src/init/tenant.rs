//! A process that joins a container (`exec`): every step from the clone to the exec, in order.
//!
//! Container processes can see this one from the moment at which it enters the pid namespace. It
//! is undumpable until it execs, and its executable lies on a read-only mount (see
//! `crate::container::exec`), so there is nothing in it to take or to write.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sched::{self, CloneFlags};
use nix::unistd::{Gid, Uid};
use rustix::process::{DumpableBehavior, Signal};

use super::channel::{Channel, FromInit, FromParent};
use super::program::Program;
use super::root::Root;
use super::sequence::{ask_for_limits, load_seccomp, reset_signals};
use super::tuning::Tuning;
use super::{console, executable, user};
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
    /// Which of them differ from the runtime's (the pid namespace is entered by the clone).
    pub namespaces: CloneFlags,
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
        let _ = self.channel.report(&FromInit::Failed(format!("{error:#}")));
        std::process::exit(255)
    }

    fn steps(&mut self) -> Result<Infallible> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .context("cannot ask to die with the parent")?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("cannot become undumpable")?;
        // The parent puts us into the cgroup first: a namespace may count its members.
        self.channel.wait_for(FromParent::Go).context("the parent gave up")?;

        // All at once, the user namespace first; the kernel checks them together.
        sched::setns(self.init, self.namespaces)
            .context("cannot join the container's namespaces")?;
        if self.namespaces.contains(CloneFlags::CLONE_NEWUSER) {
            let (root_user, root_group) = (Uid::from_raw(0), Gid::from_raw(0));
            nix::unistd::setresgid(root_group, root_group, root_group)
                .and_then(|()| nix::unistd::setresuid(root_user, root_user, root_user))
                .context("cannot become root of the user namespace")?;
        }
        rustix::process::setsid().context("cannot start a session")?;
        self.tuning.apply()?;
        let root = Root::open("/".as_ref()).context("cannot open the container's root")?;

        if self.program.terminal
            && let Some(socket) = self.console.take()
        {
            console::attach(&root, socket.as_fd(), &self.program, false)?;
        }
        executable::add_home(&mut self.program, &root);
        user::label_exec(&self.program)?;
        if let Some(mask) = self.program.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        }
        if self.program.no_new_privs {
            rustix::thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
        } else {
            load_seccomp(self.seccomp, &self.channel)?;
        }
        sys::fd::close_on_exec_from(3 + self.preserve_fds)
            .context("cannot close descriptors on exec")?;
        let entered = user::enter_directory(&self.program, &root);
        ask_for_limits(&self.program, &self.channel)?;
        user::become_user(&self.program, &root, entered)?;
        let path = executable::find(&self.program)?;
        if self.program.no_new_privs {
            load_seccomp(self.seccomp, &self.channel)?;
        }
        // A detached process outlives the parent, which may end the moment it has said "commit".
        rustix::process::set_parent_process_death_signal(None)
            .context("cannot outlive the parent")?;
        self.channel.report(&FromInit::Ready)?;
        self.channel.wait_for(FromParent::Commit).context("the parent gave up")?;
        reset_signals()?;
        Err(executable::exec(&path, &self.program).into())
    }
}
