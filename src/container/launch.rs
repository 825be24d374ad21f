//! The parent's half of starting a process in a container: the clone, and the talk with the
//! child until it is ready. `crate::init::sequence` and `crate::init::tenant` are the other half.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail};
use nix::sched::CloneFlags;
use oci_spec::runtime::{ContainerState, LinuxSeccomp, Spec};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, WaitId, WaitIdOptions, WaitOptions,
    pidfd_getfd,
};

use super::net_devices::Moved;
use super::resctrl::Resctrl;
use super::store::StateDir;
use super::traces::Traces;
use super::{idmap, net_devices};
use crate::cgroup::systemd::{NewScope, Unit};
use crate::cgroup::{Cgroup, Driver};
use crate::init::channel::{Channel, FromInit, FromParent};
use crate::init::hooks::{self, HookState};
use crate::seccomp::notify;
use crate::sys::clone::{CloneArgs, Forked, clone3};

/// Somebody has killed it: `delete --force`, or the kernel for want of memory.
const GONE: &str = "the container's init has gone: was it killed?";

/// It says what only another process can want said.
const SPOKEN_FOR: &str = "unable to start container process: another process of the container \
                          speaks for it, which takes CAP_SYS_PTRACE there";

/// A child of ours.
#[derive(Debug)]
pub struct Child {
    /// Its pid as we see it.
    pub pid: i32,
    /// A descriptor on it.
    pub pidfd: OwnedFd,
}

/// How a child gets into the container's cgroup.
#[derive(Debug)]
pub enum Entry<'a> {
    /// It was born in it.
    Born,
    /// It is moved.
    Join(&'a Cgroup),
    /// systemd makes the cgroup around it, which is then written down.
    Adopt(&'a Cgroup, &'a Unit, NewScope<'a>, &'a StateDir, Box<Traces>),
}

impl Entry<'_> {
    /// Brings the child into the cgroup.
    ///
    /// # Errors
    /// The cgroup's, and write errors.
    pub fn bring_in(&self, pid: i32) -> Result<()> {
        match self {
            Self::Born => {}
            Self::Join(cgroup) => cgroup.join(pid)?,
            Self::Adopt(cgroup, unit, scope, dir, traces) => {
                cgroup.adopt(unit, pid, scope)?;
                Traces::clone(traces).save_recognised(dir)?;
            }
        }
        Ok(())
    }
}

/// Forks into `flags` and, where the kernel can, straight into the container's cgroup (`None`: it
/// is still to be made). Returns the child and whether it is in the cgroup already. `child` runs in
/// the new process and does not return; the process closes its copy of `ours`: otherwise it would
/// never see the end of its parent.
///
/// # Errors
/// The kernel's, with what they usually mean.
pub fn clone_into(
    cgroup: Option<&Cgroup>,
    flags: CloneFlags,
    ours: Channel,
    child: impl FnOnce() -> Result<(Child, bool, Channel)>,
) -> Result<(Child, bool, Channel)> {
    let directory = cgroup.map_or(Ok(None), Cgroup::open_v2)?;
    let flags = u64::from(flags.bits().cast_unsigned());
    let mut into = directory.as_ref().map(AsFd::as_fd);
    let forked = match clone3(&CloneArgs { flags, cgroup: into }) {
        // The container has divided its cgroup among cgroups below: nobody can be in it itself.
        Err(err) if into.is_some() && err.raw_os_error() == Some(libc::EBUSY) => {
            into = None;
            clone3(&CloneArgs { flags, cgroup: into })
        }
        // An ordinary user may not; their systemd may.
        Err(err)
            if err.raw_os_error() == Some(libc::EACCES)
                && cgroup.is_some_and(|it| matches!(it.driver(), Driver::Systemd(_))) =>
        {
            into = None;
            clone3(&CloneArgs { flags, cgroup: into })
        }
        other => other,
    };
    let forked = forked.map_err(|err| {
        let what = match err.raw_os_error() {
            // Nothing else in clone3(2) is a matter of file permissions.
            Some(libc::EACCES) => {
                "cannot create the process in its cgroup (clone3): to move there takes the right \
                 to write in the nearest cgroup above both"
            }
            _ => "cannot create the container's first process (clone3)",
        };
        anyhow::Error::new(err).context(what)
    });
    match forked? {
        Forked::Child => {
            drop(ours);
            // It is writable, and of the host.
            drop(directory);
            child()
        }
        Forked::Parent { pid, pidfd } => Ok((Child { pid, pidfd }, into.is_some(), ours)),
    }
}

/// A child that is being set up.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The line to it.
    pub channel: Channel,
    /// The child.
    pub child: Child,
    /// The container's spec, for hooks and id maps.
    pub spec: &'a Spec,
    /// What hooks are told.
    pub hook_state: &'a HookState,
    /// Limits to set when everything else is done.
    pub rlimits: &'a [(Resource, Rlimit)],
    /// The OOM score adjustment.
    pub oom_score_adj: Option<i32>,
    /// How the child gets into its cgroup.
    pub cgroup: Entry<'a>,
    /// The resctrl group, if there is one.
    pub resctrl: Option<&'a Resctrl>,
    /// Whether a new user namespace waits for its maps.
    pub map_ids: bool,
    /// The status of the container that the child joins, and its init's pid; `None`: the child is
    /// the init.
    pub joins: Option<(ContainerState, i32)>,
    /// The profile, for its listener.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// The network devices that the child has got.
    pub moved: Moved,
}

/// A child that waits for [`Ready::commit`].
#[derive(Debug)]
pub struct Ready {
    channel: Channel,
    /// The child.
    pub child: Child,
    moved: Moved,
}

impl Launch<'_> {
    /// Does the parent's part of the set-up. When it fails the child is dead and reaped.
    ///
    /// # Errors
    /// The child's own words, or what failed here.
    pub fn until_ready(mut self) -> Result<Ready> {
        match self.talk() {
            Ok(()) => Ok(Ready { channel: self.channel, child: self.child, moved: self.moved }),
            Err(error) => {
                // It may hang in a mount of a dead server; a signal and no wait would leave a
                // zombie with the caller.
                let _ = rustix::process::pidfd_send_signal(
                    &self.child.pidfd,
                    rustix::process::Signal::KILL,
                );
                reap(self.child.pid);
                Err(error)
            }
        }
    }

    /// Whoever of the container may trace the child can speak in its place, from the moment at which
    /// it is in the pid namespace. So each message is taken only where the child has it to say, and
    /// none of them can lead to a process that is not ours.
    fn talk(&mut self) -> Result<()> {
        self.cgroup.bring_in(self.child.pid)?;
        if let Some(resctrl) = self.resctrl {
            resctrl.join(self.child.pid)?;
        }
        if self.map_ids
            && let Some(linux) = self.spec.linux()
        {
            let uids = linux.uid_mappings().as_deref().unwrap_or_default();
            let gids = linux.gid_mappings().as_deref().unwrap_or_default();
            idmap::write(self.child.pid, uids, gids)?;
        }
        self.set_oom_score()?;
        // A child that has failed already is heard below.
        match self.channel.tell(FromParent::Go) {
            // It has ended, and may have said why.
            Err(err) if err.raw_os_error() == Some(libc::EPIPE) => {}
            told => told.context("cannot tell the container's init to go on")?,
        }
        // A container's first process asks for each of these once, another only to be followed.
        let joins = self.joins.is_some();
        let (mut followed, mut moved, mut hooked) = (false, joins, joins);
        loop {
            let message = self.channel.next().context("cannot hear the container's init")?;
            match message {
                Some(FromInit::Pid(pid)) if !followed && pid != self.child.pid => {
                    followed = true;
                    self.follow(pid)?;
                    self.channel.tell(FromParent::Done).context("the process has gone")?;
                }
                Some(FromInit::MoveNetDevices) if !moved => {
                    moved = true;
                    let linux = self.spec.linux().as_ref();
                    if let Some(devices) = linux.and_then(|linux| linux.net_devices().as_ref()) {
                        net_devices::move_into(devices, self.child.pid, &mut self.moved)?;
                    }
                    self.channel.tell(FromParent::Done).context(GONE)?;
                }
                Some(FromInit::RunHooks) if !hooked => {
                    hooked = true;
                    hooks::run_on_host(
                        self.spec,
                        self.hook_state,
                        self.child.pid,
                        self.child.pidfd.as_fd(),
                    )?;
                    self.channel.tell(FromParent::Done).context(GONE)?;
                }
                Some(FromInit::SeccompListener(listener)) => {
                    self.hand_on(listener)?;
                    self.channel.tell(FromParent::Done).context(GONE)?;
                }
                Some(FromInit::SetLimits) => {
                    self.set_rlimits()?;
                    self.channel.tell(FromParent::Done).context(GONE)?;
                }
                Some(FromInit::Ready) => return Ok(()),
                Some(FromInit::Failed(text)) => {
                    bail!("unable to start container process: {text}")
                }
                Some(
                    message @ (FromInit::Pid(_) | FromInit::MoveNetDevices | FromInit::RunHooks),
                ) => {
                    bail!("{SPOKEN_FOR}: {message:?}")
                }
                None => bail!(
                    "unable to start container process: the container's init ended without a \
                     word: killed, or out of memory (see the kernel log; a memory limit below \
                     some 4 MiB is too low)"
                ),
            }
        }
    }

    /// The intermediate process has made the real one and gone.
    fn follow(&mut self, pid: i32) -> Result<()> {
        let raw = child_of_ours(pid)?;
        reap(self.child.pid);
        let pidfd = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // A child that nobody has reaped: its number is nobody else's.
                let _ = rustix::process::kill_process(raw, rustix::process::Signal::KILL);
                reap(pid);
                return Err(error).context("cannot follow the container's init");
            }
        };
        // The OOM score adjustment comes with the fork.
        self.child = Child { pid, pidfd };
        Ok(())
    }

    fn set_oom_score(&self) -> Result<()> {
        let Some(score) = self.oom_score_adj else { return Ok(()) };
        std::fs::write(format!("/proc/{}/oom_score_adj", self.child.pid), score.to_string())
            .with_context(|| format!("cannot set process.oomScoreAdj to {score}"))
    }

    fn set_rlimits(&self) -> Result<()> {
        let pid = Pid::from_raw(self.child.pid);
        for (resource, limit) in self.rlimits {
            rustix::process::prlimit(pid, *resource, *limit).with_context(|| {
                let name = format!("{resource:?}").to_uppercase();
                let number = |n: Option<u64>| n.map_or("unlimited".to_owned(), |n| n.to_string());
                let (soft, hard) = (number(limit.current), number(limit.maximum));
                format!("cannot set process.rlimits RLIMIT_{name} to soft {soft}, hard {hard}")
            })?;
        }
        Ok(())
    }

    fn hand_on(&self, listener: RawFd) -> Result<()> {
        let listener = pidfd_getfd(&self.child.pidfd, listener, PidfdGetfdFlags::empty())
            .context("cannot fetch the seccomp listener")?;
        let profile = self.seccomp.context("a seccomp listener without a profile")?;
        let path = profile
            .listener_path()
            .as_deref()
            .context("linux.seccomp.listenerPath is missing: nobody answers SCMP_ACT_NOTIFY")?;
        let (status, init) = self.joins.unwrap_or((ContainerState::Creating, self.child.pid));
        let state = self.hook_state.document(status, Some(init));
        let metadata = profile.listener_metadata().as_deref();
        let message = notify::message(self.child.pid, metadata, &state)?;
        Ok(notify::send(path, &message, listener.as_fd(), self.child.pidfd.as_fd())?)
    }
}

impl Ready {
    /// Lets the child go on: from here on it outlives us.
    ///
    /// # Errors
    /// When it has died meanwhile.
    pub fn commit(&mut self) -> Result<()> {
        self.channel.tell(FromParent::Commit).context(GONE)?;
        self.moved.keep();
        Ok(())
    }

    /// For a process that execs at once: lets it go on and waits until it has.
    ///
    /// # Errors
    /// What exec failed with.
    pub fn commit_and_wait(&mut self) -> Result<()> {
        self.commit()?;
        match self.channel.next().context("cannot hear the process")? {
            Some(FromInit::Failed(text)) => bail!("unable to start container process: {text}"),
            // The descriptor closed with the exec.
            _ => Ok(()),
        }
    }
}

/// The process of this number, if it is a child of ours: nobody else's can be signalled by it, and
/// as long as we have not reaped it the number is its own.
fn child_of_ours(pid: i32) -> Result<Pid> {
    let number = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
    let number = number.with_context(|| format!("{SPOKEN_FOR}: {pid} is no pid"))?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let look = || rustix::process::waitid(WaitId::Pid(number), options);
    // Not to know would leave a child that nobody waits for.
    match look().or_else(|_| look()) {
        Err(rustix::io::Errno::CHILD) => bail!("{SPOKEN_FOR}: process {pid} is not the runtime's"),
        Err(err) => Err(err).context("cannot look at the container's init"),
        Ok(_) => Ok(number),
    }
}

/// Takes a child of ours out of the process table.
pub(super) fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitpid(Some(pid), WaitOptions::empty())
        {}
    }
}
