//! `create`: from a bundle to a container that waits for `start`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, Mode};

use super::bundle::Bundle;
use super::criu::descriptors;
use super::decide::{Decided, Options, decide, gpu_rules};
use super::gpus::Gpus;
use super::id::ContainerId;
use super::launch::{self, Entry, Launch};
use super::lock::{Lock, LockError};
use super::net_devices::Moved;
use super::pidfd_socket::PidfdSocket;
use super::process::ProcessId;
use super::resctrl::{Resctrl, ResctrlError};
use super::state::{Container, State};
use super::store::Store;
use super::traces::Traces;
use super::{console, delete, holders, mount_sources, notify_socket, pid_file, rootless, start};
use crate::cgroup::devices::DeviceRules;
use crate::cgroup::systemd::NewScope;
use crate::cgroup::{Cgroup, CgroupError, Claim, ContainerMounts, Driver};
use crate::gpu;
use crate::init::channel::Channel;
use crate::init::journal::Journal;
use crate::init::namespaces::Namespaces;
use crate::init::root::Root;
use crate::init::rootfs::{self, CgroupView, Hierarchy};
use crate::init::sequence::{Init, shares_pid_namespace};
use crate::{log, unguessable};

/// A container that waits for `start`.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// The spec with the plan's additions.
    pub spec: Spec,
    /// A descriptor on its init.
    pub pidfd: OwnedFd,
}

/// Creates the container `id` from `bundle`.
///
/// # Errors
/// Anything that is wrong with the bundle, the request or the machine. Nothing is left behind.
pub fn create(
    store: &Store,
    id: &ContainerId,
    mut bundle: Bundle,
    mut options: Options,
) -> Result<Created> {
    if options.notify {
        notify_socket::add_mount(&mut bundle.spec, &store.path_of(id));
        options.environment.push(notify_socket::environment());
    }
    let decided = decide(id, bundle, &options)?;
    // Before there is anything to lock: who listens there may take its time.
    if let Some(path) = &options.console_socket {
        options.console = Some(console::connect(path)?);
    }
    let pidfd_socket = options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
    let (mut container, lock) = claim(store, id, &decided, options.no_new_keyring)?;
    match build(&mut container, decided, options, pidfd_socket, &lock) {
        Ok((spec, pidfd)) => Ok(Created { container, spec, pidfd }),
        Err(error) => Err(abandon(store, id, &container, &lock, error)),
    }
}

/// Takes the id for what was decided, and the lock on what is going to be made.
pub(super) fn claim(
    store: &Store,
    id: &ContainerId,
    decided: &Decided,
    no_new_keyring: bool,
) -> Result<(Container, Lock)> {
    let gpu_rules = gpu_rules(decided.plan.as_ref())?;
    // Other containers of the same user may make keyrings of any name, and join those whose name
    // they know.
    let part = unguessable::part().context("cannot get random bytes for the keyring's name")?;
    let keyring_suffix = format!(".{part}");
    let dir = store.claim(id)?;
    let lock = match Lock::take(&dir) {
        Err(error @ LockError::Gone) => {
            return Err(error)
                .with_context(|| format!("container {id} was deleted while it was created"));
        }
        Err(error) => {
            // A `delete` that has the lock removes it as well; an empty directory is nobody's.
            let _ = fs::remove_dir(dir.path());
            return Err(error).with_context(|| format!("cannot create container {id}"));
        }
        Ok(lock) => lock,
    };
    let state = State::new(
        id,
        decided.bundle.path.clone(),
        decided.bundle.rootfs.clone(),
        &decided.bundle.spec,
        decided.cgroup.clone(),
        decided.devices.clone(),
    );
    let mut container = Container { dir, state };
    container.state.no_new_keyring = no_new_keyring;
    container.state.keyring_suffix = keyring_suffix;
    container.state.gpu_rules = gpu_rules;
    container.state.registers =
        decided.plan.as_ref().map(|plan| plan.registers.clone()).unwrap_or_default();
    container.state.gpus = decided.gpus.as_ref().map(|wanted| {
        let entry = holders::place(&wanted.holders, wanted, container.dir.path());
        Gpus { entry: Some(entry), ..wanted.gpus.clone() }
    });
    if !decided.program.terminal {
        container.state.stdio = descriptors::pipes();
    }
    Ok((container, lock))
}

/// Takes back what exists of a container that could not be made; returns what to tell the caller.
pub(super) fn abandon(
    store: &Store,
    id: &ContainerId,
    container: &Container,
    lock: &Lock,
    error: Error,
) -> Error {
    // Somebody has deleted it by force, with all that it had.
    if matches!(lock.again(), Err(LockError::Gone)) {
        return error.context(format!("container {id} was deleted while it was created"));
    }
    // Not our cgroup: what runs in it belongs to another container.
    if is_foreign_cgroup(&error) {
        let _ = gpu::register::leave(&container.state.registers, &container.state.id);
        holders::leave(container.state.holder_entry());
        let _ = container.dir.remove();
        return error;
    }
    // The first failure is what the caller needs to hear; what could not be undone is added to it.
    let traces = match container.state.cgroup.is_recognised() {
        true => Traces::of(&container.state),
        // systemd may have made it before that failed.
        false => Traces::of_container(container),
    };
    let left =
        delete::remove_traces(store, id, &container.dir, &traces).unwrap_or_else(|err| vec![err]);
    left.into_iter().fold(error, |error, more| {
        let (error, more) = (log::one_line(&error), log::one_line(&more));
        anyhow!("{error}; while cleaning up: {more}")
    })
}

fn is_foreign_cgroup(error: &Error) -> bool {
    use CgroupError::{Claimed, Frozen, NotEmpty, UnitExists};
    let Some(error) = error.downcast_ref() else { return false };
    matches!(error, NotEmpty { .. } | Claimed { .. } | Frozen { .. } | UnitExists { .. })
}

/// From here on things exist, in the order in which `delete` can find them again.
fn build(
    container: &mut Container,
    decided: Decided,
    mut options: Options,
    pidfd_socket: Option<PidfdSocket>,
    lock: &Lock,
) -> Result<(Spec, OwnedFd)> {
    let Decided { mut bundle, plan, program, tuning, seccomp, namespaces, mut cgroup, .. } =
        decided;
    let (devices, properties, resctrl) = (decided.devices, decided.properties, decided.resctrl);
    // Written before the cgroup exists, so that a crash leaves nothing that is not remembered.
    Traces::of(&container.state).save_first(&container.dir)?;
    container.save()?;
    gpu::register::enter(&container.state.registers, &container.state.id)?;
    if let Some(wanted) = &decided.gpus {
        holders::enter(container, wanted)?;
    }
    let journal = Journal::new(container.dir.journal()?);
    if options.notify {
        notify_socket::make_directory(&container.dir)?;
    }

    let cgroups = cgroup_view(cgroup.mounts_for_container());
    // systemd makes a cgroup around a process; gpurun has it before there is one.
    let unit = match cgroup.driver() {
        Driver::Systemd(unit) if !cgroup.pids()?.is_empty() => {
            return Err(CgroupError::UnitExists { unit: unit.name.clone() }.into());
        }
        Driver::Systemd(unit) => Some(unit.clone()),
        _ => None,
    };
    let mut claim = None;
    if unit.is_none() {
        let warning;
        (claim, warning) = make_cgroup(&mut cgroup, &bundle.spec, &devices, options.rootless)?;
        if let Some(warning) = warning {
            log::warn(warning);
        }
        container.state.cgroup = cgroup.clone();
        // Which cgroup it is.
        Traces::of(&container.state).save(&container.dir)?;
    }
    let linux = bundle.spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let scope = unit.as_ref().map(|unit| (unit, resources));
    // Its being there also says that the cgroup is ours: see `delete`.
    let fifo = make_fifo(&container.dir.start_fifo())?;
    if let Some(resctrl) = &resctrl {
        make_resctrl(container, resctrl, &bundle.spec)?;
    }

    let shared_root = make_shared_root(container, &namespaces)?;
    let hook_state = start::hook_state(container);
    let (ours, theirs) = Channel::pair().context("cannot make the line to the init")?;
    let rlimits = program.rlimits.clone();
    let oom_score_adj = program.oom_score_adj;
    let rootless = rootless::is_ordinary_user();
    let sources = mount_sources::open(&bundle.spec, &bundle.path, &namespaces, rootless)?;
    let id = container.state.id.clone();
    let init = Init {
        spec: &bundle.spec,
        bundle: &bundle.path,
        rootfs: &bundle.rootfs,
        shared_root,
        program,
        tuning,
        namespaces: &namespaces,
        plan: plan.as_ref(),
        seccomp: seccomp.as_ref(),
        cgroups: &cgroups,
        sources: &sources,
        console: options.console.take(),
        fifo: &fifo,
        journal,
        channel: theirs,
        hook_state: hook_state.clone(),
        preserve_fds: options.preserve_fds,
        no_pivot: options.no_pivot,
        keyring: container.state.keyring(),
        visible: shares_pid_namespace(&bundle.spec),
        rootless,
        committed: false,
    };
    let back = namespaces.before_clone()?;
    let cloned = launch::clone_into(
        scope.is_none().then_some(&cgroup),
        namespaces.clone_flags(),
        ours,
        || init.run(),
    );
    back.restore()?;
    let (child, in_cgroup, channel) = cloned?;

    let launch = Launch {
        channel,
        child,
        spec: &bundle.spec,
        hook_state: &hook_state,
        rlimits: &rlimits,
        oom_score_adj,
        cgroup: match scope {
            Some((unit, resources)) => {
                let properties = &properties;
                let new = NewScope { id: &id, resources, devices: &devices, properties };
                let traces = Box::new(Traces::of(&container.state));
                Entry::Adopt(&cgroup, unit, new, &container.dir, traces)
            }
            None if in_cgroup => Entry::Born,
            None => Entry::Join(&cgroup),
        },
        resctrl: resctrl.as_ref(),
        map_ids: namespaces.creates(CloneFlags::CLONE_NEWUSER),
        joins: None,
        seccomp: bundle.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()),
        moved: Moved::default(),
    };
    let mut ready = launch.until_ready()?;
    // Its process is in it.
    drop(claim);
    if unit.is_some() {
        container.state.cgroup.recognise();
    }

    container.state.init = Some(
        ProcessId::of(ready.child.pid).context("the container's init ended while it was set up")?,
    );
    if cgroup.is_refused() {
        // Nothing else leads to its processes.
        Traces::of(&container.state).save(&container.dir)?;
    }
    container.save_spec(&bundle.spec)?;
    if let Some(socket) = &pidfd_socket {
        socket.send(ready.child.pidfd.as_fd(), PidfdSocket::INIT)?;
    }
    if let Some(path) = &options.pid_file {
        pid_file::write(path, ready.child.pid)?;
    }
    container.save()?;
    // The init has a copy of the lock's descriptor, and from here on outlives us.
    lock.release();
    ready.commit()?;
    Ok((std::mem::take(&mut bundle.spec), ready.child.pidfd))
}

/// The container's cgroup, claimed, or as much of it as the caller has a right to; then with what
/// to warn of.
fn make_cgroup(
    cgroup: &mut Cgroup,
    spec: &Spec,
    devices: &DeviceRules,
    rootless: Option<bool>,
) -> Result<(Option<Claim>, Option<String>)> {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let refusal = match cgroup.create(resources, devices) {
        Ok(claim) => return Ok((claim, None)),
        Err(error) if !error.is_permission() || !rootless::does_without_cgroups(rootless) => {
            return Err(error.into());
        }
        Err(error) => error,
    };
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let given = path.is_some_and(|path| !path.as_os_str().is_empty());
    let (claim, first) = cgroup.create_where_permitted(resources, devices, given)?;
    let refusal = first.unwrap_or(refusal);
    let mut warning = match cgroup.is_refused() {
        true => "the container runs in its creator's cgroup and without limits",
        false => "the container runs without some of its cgroup's rules",
    }
    .to_owned();
    if cgroup.is_refused() && shares_pid_namespace(spec) {
        // runc: "impossible to properly kill all container's processes".
        warning.push_str("; nobody can tell its processes from others, so some may outlive it");
    }
    Ok((claim, Some(format!("{warning}: {refusal}"))))
}

/// The container's resctrl group. It is written down before it is there, and not if it is somebody
/// else's.
pub(super) fn make_resctrl(container: &mut Container, group: &Resctrl, spec: &Spec) -> Result<()> {
    let linux = spec.linux().as_ref();
    let Some(rdt) = linux.and_then(|linux| linux.intel_rdt().as_ref()) else { return Ok(()) };
    group.refuse_foreign()?;
    container.state.resctrl = Some(group.clone());
    Traces::of(&container.state).save(&container.dir)?;
    let made = group.create(rdt);
    if matches!(made, Err(ResctrlError::Exists(_))) {
        container.state.resctrl = None;
    }
    Ok(made?)
}

/// For a container without a mount namespace, the mount that holds all its mounts. It is written
/// down before it can be seen.
fn make_shared_root(container: &mut Container, namespaces: &Namespaces) -> Result<Option<Root>> {
    if namespaces.has(CloneFlags::CLONE_NEWNS) {
        return Ok(None);
    }
    let path = container.state.rootfs.clone();
    let prepared = rootfs::SharedRoot::prepare(&path)?;
    container.state.shared_root = Some(prepared.id());
    Traces::of(&container.state).save(&container.dir)?;
    container.save()?;
    Ok(Some(prepared.attach(&path)?))
}

/// What the cgroup room knows, in the words of the init.
pub(super) fn cgroup_view(mounts: ContainerMounts) -> CgroupView {
    match mounts {
        ContainerMounts::V2 { cgroup_dir, host_mount } => {
            CgroupView::V2 { own: cgroup_dir, all: host_mount }
        }
        ContainerMounts::V1 { mounts, links } => {
            let hierarchies = mounts.into_iter().map(|mount| Hierarchy {
                links: links
                    .iter()
                    .filter(|(_, target)| *target == mount.name)
                    .map(|(link, _)| link.clone())
                    .collect(),
                name: mount.name,
                own: mount.cgroup_dir,
                options: mount.options,
            });
            CgroupView::V1 { hierarchies: hierarchies.collect() }
        }
    }
}

/// Open for both directions: see `init::sequence`, "wait for start".
fn make_fifo(path: &Path) -> Result<OwnedFd> {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    Ok(file.into())
}
