//! `exec`: another process in a running container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Capabilities, ContainerState, LinuxCapabilities, Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};

use super::decide::compile_seccomp;
use super::launch::{self, Child, Entry, Launch};
use super::net_devices::Moved;
use super::pidfd_socket::PidfdSocket;
use super::process::{Liveness, ProcessId};
use super::state::{Container, Status};
use super::{console, pid_file, rootless, start};
use crate::init::affinity::{self, ExecAffinity};
use crate::init::channel::Channel;
use crate::init::namespaces::NEWTIME;
use crate::init::program::Program;
use crate::init::tenant::Tenant;
use crate::init::tuning::Tuning;

/// What the caller wants beyond the process itself.
#[derive(Debug, Default)]
pub struct Options {
    /// The socket that gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The line that gets the terminal's master, for an attached process.
    pub console: Option<OwnedFd>,
    /// The file that gets the process's pid.
    pub pid_file: Option<PathBuf>,
    /// Descriptors after stderr that the program keeps.
    pub preserve_fds: u32,
    /// Join even if the container is paused; the process then waits with it.
    pub ignore_paused: bool,
    /// Cgroups below the container's, as [`Cgroup::child`](crate::cgroup::Cgroup::child) takes them.
    pub sub_cgroups: Vec<String>,
    /// The socket that gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
}

/// How the process differs from the container's own.
#[derive(Debug, Default)]
pub struct Changes {
    /// argv.
    pub args: Vec<String>,
    /// Another working directory.
    pub cwd: Option<PathBuf>,
    /// More environment.
    pub env: Vec<String>,
    /// With a terminal.
    pub terminal: bool,
    /// Another user and perhaps group.
    pub user: Option<(u32, Option<u32>)>,
    /// More supplementary groups.
    pub additional_gids: Vec<u32>,
    /// More capabilities, as `CAP_…`.
    pub capabilities: Vec<String>,
    /// Another AppArmor profile.
    pub apparmor: Option<String>,
    /// Another SELinux label.
    pub selinux: Option<String>,
    /// With or without new privileges, whatever the container has.
    pub no_new_privs: Option<bool>,
}

/// The container's own process with `changes`.
///
/// # Errors
/// A capability that does not exist.
pub fn process_of(spec: &Spec, changes: Changes) -> Result<Process> {
    let mut process = spec.process().clone().context("the container's spec has no process")?;
    process.set_args(Some(changes.args));
    process.set_terminal(Some(changes.terminal));
    process.set_console_size(None);
    if let Some(cwd) = changes.cwd {
        process.set_cwd(cwd);
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(changes.env);
    process.set_env(Some(env));
    if let Some((uid, gid)) = changes.user {
        let user = process.user_mut();
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !changes.additional_gids.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend(changes.additional_gids);
        process.user_mut().set_additional_gids(Some(groups));
    }
    if !changes.capabilities.is_empty() {
        add_capabilities(&mut process, &changes.capabilities)?;
    }
    if changes.apparmor.is_some() {
        process.set_apparmor_profile(changes.apparmor);
    }
    if changes.selinux.is_some() {
        process.set_selinux_label(changes.selinux);
    }
    if changes.no_new_privs.is_some() {
        process.set_no_new_privileges(changes.no_new_privs);
    }
    Ok(process)
}

/// Gives `process`, which the caller wrote, what it leaves open: what confines the container
/// confines its other processes as well, unless they ask for something else.
///
/// # Errors
/// The container's spec has no process.
pub fn inherit(spec: &Spec, process: &mut Process) -> Result<()> {
    let own = spec.process().as_ref().context("the container's spec has no process")?;
    let named = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if !named(process.apparmor_profile()) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if !named(process.selinux_label()) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(own.no_new_privileges());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.rlimits().as_deref().unwrap_or_default().is_empty() {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*own.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
    if process.user().umask().is_none() {
        process.user_mut().set_umask(own.user().umask());
    }
    Ok(())
}

/// Bounding, effective and permitted, never inheritable (CVE-2022-29162); ambient only where the
/// spec has the capability inheritable already.
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    let mut sets: LinuxCapabilities = process.capabilities().clone().unwrap_or_default();
    let mut more = Capabilities::new();
    for name in names {
        let name = serde_json::Value::String(name.clone());
        more.insert(
            serde_json::from_value(name.clone())
                .map_err(|_| anyhow!("unknown capability {name}: use names such as CAP_NET_RAW"))?,
        );
    }
    let with_more = |set: &Option<Capabilities>| {
        Some(set.iter().flatten().copied().chain(more.iter().copied()).collect())
    };
    let bounding = with_more(sets.bounding());
    let effective = with_more(sets.effective());
    let permitted = with_more(sets.permitted());
    // The kernel keeps those that are inheritable; without any, as runc, none is asked for.
    if sets.inheritable().as_ref().is_some_and(|set| !set.is_empty()) {
        let ambient = with_more(sets.ambient());
        sets.set_ambient(ambient);
    }
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}

/// Starts `process` in the container and returns when its program has been exec'd.
///
/// # Errors
/// The container does not run, or any step of the way in.
pub fn exec(
    container: &Container,
    spec: &Spec,
    process: &Process,
    mut options: Options,
) -> Result<Child> {
    let status = match container.status() {
        Status::Created => ContainerState::Created,
        Status::Running => ContainerState::Running,
        // The specification has no word for it.
        Status::Paused if options.ignore_paused => ContainerState::Running,
        Status::Paused => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Stopped | Status::Creating => bail!("cannot exec in a stopped container"),
    };
    let init = container.state.init.context("cannot exec in a stopped container")?;
    let raw = Pid::from_raw(init.pid).context("cannot exec in a stopped container")?;
    let init_fd = rustix::process::pidfd_open(raw, PidfdFlags::empty())
        .context("cannot exec in a stopped container")?;
    // The descriptor is on whoever has the pid now.
    if init.liveness() == Liveness::Ended {
        bail!("cannot exec in a stopped container");
    }

    let mut program = Program::new(process)?;
    program.keep_groups = rootless::keeps_groups(spec, process);
    let affinity = ExecAffinity::new(process.exec_cpu_affinity().as_ref())?;
    let console = match &options.console_socket {
        Some(path) => Some(console::connect(path)?),
        None => options.console.take(),
    };
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let filter = profile.map(compile_seccomp).transpose()?;
    let pidfd_socket = options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
    let cgroup = container.state.cgroup.child(&options.sub_cgroups)?;
    let (ours, theirs) = Channel::pair().context("cannot make the line to the process")?;
    let rootless = rootless::is_ordinary_user();
    let (rlimits, oom_score_adj) = (program.rlimits.clone(), program.oom_score_adj);
    let linux = spec.linux().as_ref().context("the container's spec has no linux section")?;
    let tenant = Tenant {
        program,
        tuning: Tuning::joining(process, linux)?.on(affinity.last),
        init: &init_fd,
        namespaces: foreign_namespaces(init.pid)?,
        rootless,
        root: container.state.shared_root.map(|_| root_of(init)).transpose()?,
        keyring: container.state.keyring(),
        seccomp: filter.as_ref(),
        console,
        channel: theirs,
        preserve_fds: options.preserve_fds,
    };
    let cloned = affinity::started_on(affinity.initial.as_ref(), || {
        launch::clone_into(Some(&cgroup), CloneFlags::empty(), ours, || tenant.run())
    })
    .context("cannot set process.execCPUAffinity.initial");
    let (child, in_cgroup, channel) = cloned??;

    let joined = match in_cgroup {
        true => None,
        false if options.sub_cgroups.is_empty() => Some(cgroup.where_process_is(init.pid)?),
        false => Some(cgroup),
    };
    let hook_state = start::hook_state(container);
    let launch = Launch {
        channel,
        child,
        spec,
        hook_state: &hook_state,
        rlimits: &rlimits,
        oom_score_adj,
        cgroup: joined.as_ref().map_or(Entry::Born, Entry::Join),
        resctrl: container.state.resctrl.as_ref(),
        map_ids: false,
        joins: Some((status, init.pid)),
        seccomp: profile,
        moved: Moved::default(),
    };
    let mut ready = launch.until_ready()?;
    if let Some(socket) = &pidfd_socket {
        socket.send(ready.child.pidfd.as_fd(), PidfdSocket::EXEC)?;
    }
    if let Some(path) = &options.pid_file {
        pid_file::write(path, ready.child.pid)?;
    }
    if let Err(error) = ready.commit_and_wait() {
        // It may not have heard that it may go on, and wait for that.
        let signal = rustix::process::Signal::KILL;
        let _ = rustix::process::pidfd_send_signal(&ready.child.pidfd, signal);
        launch::reap(ready.child.pid);
        return Err(error);
    }
    Ok(ready.child)
}

/// The root directory of a container without a mount namespace.
fn root_of(init: ProcessId) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{}/root", init.pid), flags, Mode::empty())
        .context("cannot open the container's root: has it just stopped?")?;
    // Another process may have been given the number in between.
    init.signal(0).context("the container has just stopped")?;
    Ok(root)
}

/// The namespaces of process `pid` that are not ours: joining one's own again is refused by the
/// kernel for some kinds, and useless for all.
fn foreign_namespaces(pid: i32) -> Result<CloneFlags> {
    let kinds = [
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("user", CloneFlags::CLONE_NEWUSER),
        ("time", NEWTIME),
    ];
    let mut flags = CloneFlags::empty();
    for (name, flag) in kinds {
        let own = match fs::read_link(format!("/proc/self/ns/{name}")) {
            Ok(own) => own,
            // A kernel without this kind.
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => continue,
            Err(err) => return Err(err).context("cannot look at our own namespaces"),
        };
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{name}"))
            .context("cannot look at the container's namespaces: has it just stopped?")?;
        if own != theirs {
            flags |= flag;
        }
    }
    Ok(flags)
}
