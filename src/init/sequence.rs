//! The first process of a container: every step from the clone to the exec, in order.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::process::{DumpableBehavior, Signal};

use super::channel::{Channel, FromInit, FromParent};
use super::handover::{
    change_into, fork_into_pid_namespace, hide, join_session_keyring, reset_signals, settle_in,
};
use super::hooks::{self, HookState, Surroundings};
use super::journal::Journal;
use super::namespaces::Namespaces;
use super::program::Program;
use super::root::Root;
use super::rootfs::{self, CgroupView, DeferredReadonly, Devices, Finish, MountContext};
use super::tuning::Tuning;
use super::{console, executable, gpu, user};
use crate::gpu::plan::Plan;
use crate::log;
use crate::seccomp::Filter;
use crate::sys;

/// What the parent hands to the init, by fork.
#[derive(Debug)]
pub struct Init<'a> {
    /// The spec, with the plan's devices, rules, environment and groups in it.
    pub spec: &'a Spec,
    /// The bundle, where relative sources of mounts start.
    pub bundle: &'a Path,
    /// The rootfs on the host, absolute.
    pub rootfs: &'a Path,
    /// The mount on it, where the container has no mount namespace; made by the parent.
    pub shared_root: Option<Root>,
    /// The user's program.
    pub program: Program,
    /// Its priorities and memory policy.
    pub tuning: Tuning,
    /// Its namespaces.
    pub namespaces: &'a Namespaces,
    /// What the GPU request leads to.
    pub plan: Option<&'a Plan>,
    /// The seccomp filter.
    pub seccomp: Option<&'a Filter>,
    /// The container's cgroups, for mounts of type `cgroup`.
    pub cgroups: &'a CgroupView,
    /// Sources of bind mounts that the parent has opened.
    pub sources: &'a [Option<OwnedFd>],
    /// Where the terminal's master goes.
    pub console: Option<OwnedFd>,
    /// The fifo that says "start".
    pub fifo: &'a OwnedFd,
    /// The journal of created paths.
    pub journal: Journal,
    /// The line to the parent.
    pub channel: Channel,
    /// What hooks that run in the container are told.
    pub hook_state: HookState,
    /// Descriptors after stderr that the program keeps.
    pub preserve_fds: u32,
    /// Change the root without pivot_root (an initramfs as the host's root).
    pub no_pivot: bool,
    /// The name of its new session keyring; `None` keeps the caller's.
    pub keyring: Option<String>,
    /// Whether other processes can see this one before it execs (a shared pid namespace).
    pub visible: bool,
    /// Whether the runtime runs without root's rights.
    pub rootless: bool,
    /// Whether the parent has let the container live; false at first.
    pub committed: bool,
}

impl Init<'_> {
    /// Runs in the new process and never returns: it ends as the user's program or with an error
    /// that the parent has been told.
    pub fn run(mut self) -> ! {
        let error = match self.steps() {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if self.committed {
            // The command that created the container has ended; what is left is its stderr.
            log::to_stderr(&log::one_line(&error));
        } else {
            let _ = self.channel.report(&FromInit::Failed(log::one_line(&error)));
        }
        std::process::exit(255)
    }

    fn steps(&mut self) -> Result<Infallible> {
        // Dies with the parent until the parent says that the container shall exist.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .context("cannot ask to die with the parent")?;
        let _ = rustix::thread::set_name(c"gpurun:[INIT]");
        if !self.rootless && (self.visible || self.namespaces.joins_any()) {
            hide()?;
        }
        self.channel.wait_for(FromParent::Go).context("the parent gave up")?;

        self.enter_namespaces()?;
        self.become_container_root()?;
        rustix::process::setsid().context("cannot start a session")?;
        if let Some(name) = &self.keyring {
            join_session_keyring(name, self.program.selinux.as_deref(), true)?;
        }
        self.tuning.place()?;
        self.tuning.apply()?;
        self.set_names()?;
        self.loopback()?;
        self.receive_net_devices()?;

        let (mut root, writable) = self.build_rootfs()?;
        self.change_root(&root)?;

        let linux = self.spec.linux().as_ref();
        if self.program.terminal
            && let Some(socket) = self.console.take()
        {
            let journal = Some(&mut self.journal);
            console::attach(&console::make(&root, socket.as_fd(), &self.program, journal)?)?;
        }
        let sysctls = linux.and_then(|linux| linux.sysctl().as_ref());
        rootfs::write_sysctls(Some(&root), sysctls.into_iter().flatten())?;
        // Last: what is masked or read-only now, no step of ours needs to write any more.
        rootfs::finish(
            &root,
            &Finish {
                propagation: linux.and_then(|linux| linux.rootfs_propagation().as_deref()),
                deferred: &writable,
                readonly_root: self
                    .spec
                    .root()
                    .as_ref()
                    .and_then(|r| r.readonly())
                    .unwrap_or(false),
                readonly_paths: list(linux.and_then(|linux| linux.readonly_paths().as_deref())),
                masked_paths: list(linux.and_then(|linux| linux.masked_paths().as_deref())),
                label: linux.and_then(|linux| linux.mount_label().as_deref()),
            },
        )?;
        drop(writable);
        root.let_go();

        self.become_program(&root)
    }

    /// Joins, makes, and in one case forks once more.
    ///
    /// Whoever is root of a user namespace may look into its processes, and until the change of the
    /// root directory we have the host's. So we are undumpable before we join it; an ordinary user
    /// had to write the id maps before that, and to a file of ours the offsets of the clocks.
    fn enter_namespaces(&mut self) -> Result<()> {
        let hides = self.rootless && self.namespaces.joins_any();
        if hides && !self.namespaces.shifts_own_clocks() {
            hide()?;
        }
        if self.namespaces.joins(CloneFlags::CLONE_NEWUSER) && !self.rootless {
            user::leave_groups(&self.program)?;
        }
        let forks = self.namespaces.enter()?;
        if hides {
            hide()?;
        }
        if forks {
            fork_into_pid_namespace(&self.channel)?;
        }
        self.namespaces.unshare_cgroup()?;
        Ok(())
    }

    /// In a user namespace the init starts as nobody: ids are mapped now, so become its root.
    fn become_container_root(&self) -> Result<()> {
        if !self.namespaces.has(CloneFlags::CLONE_NEWUSER) {
            return Ok(());
        }
        user::become_root().context(
            "cannot become root of the user namespace: map container id 0 in \
                 linux.uidMappings and linux.gidMappings",
        )
    }

    fn set_names(&self) -> Result<()> {
        if let Some(name) = self.spec.hostname() {
            rustix::system::sethostname(name.as_bytes())
                .with_context(|| format!("cannot set the hostname {name:?}"))?;
        }
        if let Some(name) = self.spec.domainname() {
            rustix::system::setdomainname(name.as_bytes())
                .with_context(|| format!("cannot set the domainname {name:?}"))?;
        }
        Ok(())
    }

    /// A new network namespace has its loopback interface off.
    fn loopback(&self) -> Result<()> {
        if !self.namespaces.creates(CloneFlags::CLONE_NEWNET) {
            return Ok(());
        }
        sys::net::loopback_up().context("cannot turn the loopback interface on")
    }

    /// Interfaces of the host come from the parent, who may move them.
    fn receive_net_devices(&self) -> Result<()> {
        let linux = self.spec.linux().as_ref();
        let devices = linux.and_then(|linux| linux.net_devices().as_ref());
        if devices.is_none_or(|devices| devices.is_empty()) {
            return Ok(());
        }
        self.channel.report(&FromInit::MoveNetDevices)?;
        self.channel.wait_for(FromParent::Done).context("the parent gave up")
    }

    /// Everything that the container will see, built at its place on the host. Also returns the
    /// mounts that become read-only when nothing has to be created in them any more.
    fn build_rootfs(&mut self) -> Result<(Root, Vec<DeferredReadonly>)> {
        let linux = self.spec.linux().as_ref();
        let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let mut root = match self.shared_root.take() {
            Some(root) => root,
            None => rootfs::prepare_root(self.rootfs, propagation)?,
        };
        let context = MountContext {
            bundle: self.bundle,
            label: linux.and_then(|linux| linux.mount_label().as_deref()),
            cgroups: self.cgroups,
            userns: self.namespaces.has(CloneFlags::CLONE_NEWUSER),
            cgroupns: self.namespaces.has(CloneFlags::CLONE_NEWCGROUP),
            sources: self.sources,
        };
        let mounts = list(self.spec.mounts().as_deref());
        let mounted = rootfs::mount_all(&mut root, mounts, &context, &mut self.journal)?;
        if rootfs::needs_dev(mounts) {
            let devices = Devices {
                list: list(linux.and_then(|linux| linux.devices().as_deref())),
                planned: self.plan.map_or(&[][..], |plan| &plan.devices),
                bind: context.userns,
                filesystem: mounted.dev,
            };
            rootfs::create_devices(&root, devices, &mut self.journal)?;
        }
        if let Some(plan) = self.plan {
            gpu::apply(plan, &root, context.label, &mut self.journal)?;
        }
        // The directory that the program starts in, where the image lacks it. It stays.
        root.ensure_dir(&self.program.cwd, &mut Journal::none()).with_context(|| {
            format!("cannot create the working directory {:?}", self.program.cwd)
        })?;
        Ok((root, mounted.deferred))
    }

    fn change_root(&mut self, root: &Root) -> Result<()> {
        let hooks = self.spec.hooks().as_ref();
        #[allow(deprecated, reason = "prestart is what Docker still uses")]
        let on_host = hooks.is_some_and(|hooks| {
            let lists = [hooks.prestart(), hooks.create_runtime()];
            lists.into_iter().flatten().any(|list| !list.is_empty())
        });
        if on_host {
            self.channel.report(&FromInit::RunHooks)?;
            self.channel.wait_for(FromParent::Done).context("the parent gave up")?;
        }
        let here = hooks.and_then(|hooks| hooks.create_container().as_deref());
        let in_rootfs = Surroundings { directory: Some(self.rootfs), ..Surroundings::default() };
        let state = self.hook_state.creating_here();
        hooks::run("createContainer", list(here), &state, &in_rootfs)?;
        if self.namespaces.has(CloneFlags::CLONE_NEWNS) {
            rootfs::pivot(root, self.no_pivot)?;
        } else {
            rootfs::change_root_to(root)?;
        }
        Ok(())
    }

    /// From the finished root to the program.
    fn become_program(&mut self, root: &Root) -> Result<Infallible> {
        // It may wait for long: whoever called the runtime may want to see the end of what it
        // has open, and the state directory's files are none of the container's business. What
        // is closed here has owners in the parent's part of the memory, which are never dropped.
        let needed = [self.channel.as_fd(), self.fifo.as_fd(), root.as_fd()];
        sys::fd::close_all_but(self.preserve_fds.saturating_add(3), needed)
            .context("cannot close descriptors")?;
        if !self.rootless {
            // What runs in the container before the program does (an `exec`, a startContainer
            // hook) must not get at the runtime's binary through our /proc/PID/exe. An ordinary
            // user could then not look at our namespaces either, which `exec` has to.
            hide()?;
        }
        user::bound_capabilities(&self.program)?;
        let entered = settle_in(&mut self.program, root);
        let path = change_into(
            &mut self.program,
            root,
            entered,
            self.seccomp,
            &self.channel,
            self.preserve_fds,
            self.rootless,
        )?;
        if self.rootless {
            // Changing ids has made us undumpable; `exec` has to look at our namespaces.
            rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
                .context("cannot become dumpable")?;
        }
        self.channel.report(&FromInit::Ready)?;
        self.channel.wait_for(FromParent::Commit).context("the parent gave up")?;
        self.committed = true;
        wait_for_start(self.fifo.as_fd()).context("cannot wait for start")?;
        let hooks = self.spec.hooks().as_ref();
        let at_start = hooks.and_then(|hooks| hooks.start_container().as_deref());
        let as_program = Surroundings { directory: None, env: &self.program.env, init: None };
        let state = self.hook_state.created_here();
        hooks::run("startContainer", list(at_start), &state, &as_program)?;
        reset_signals()?;
        Err(executable::exec(&path, &self.program).into())
    }
}

/// An absent list is an empty one.
fn list<T>(list: Option<&[T]>) -> &[T] {
    list.unwrap_or_default()
}

/// Sleeps until `start` writes its byte. The fifo is open for both directions here, so that no
/// other opener's coming and going is an end of file.
fn wait_for_start(fifo: BorrowedFd<'_>) -> Result<()> {
    let mut byte = [0u8; 1];
    loop {
        match rustix::io::read(fifo, &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(err) => return Err(err.into()),
        }
    }
}

/// Whether the spec's process shares its pid namespace with processes that exist already.
#[must_use]
pub fn shares_pid_namespace(spec: &Spec) -> bool {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    !list
        .unwrap_or_default()
        .iter()
        .any(|ns| ns.typ() == LinuxNamespaceType::Pid && ns.path().is_none())
}
