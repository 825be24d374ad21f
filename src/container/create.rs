//! `create`: from a bundle to a container that waits for `start`.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxSeccomp, Process, Spec};
use rustix::fs::{CWD, FileType, Mode};

use super::bundle::Bundle;
use super::id::ContainerId;
use super::launch::{self, Launch};
use super::process::ProcessId;
use super::state::{Container, State};
use super::store::Store;
use super::{capabilities, console, delete, idmap, start};
use crate::cgroup::devices::{DeviceRule, DeviceRules, DeviceType};
use crate::cgroup::{Cgroup, CgroupError, ContainerMounts};
use crate::gpu;
use crate::gpu::plan::{DeviceKind, DeviceNode, Plan};
use crate::init::channel::Channel;
use crate::init::journal::Journal;
use crate::init::namespaces::Namespaces;
use crate::init::program::Program;
use crate::init::root::Root;
use crate::init::rootfs::{self, CgroupView, Hierarchy, SysctlNamespaces};
use crate::init::sequence::{Init, shares_pid_namespace};
use crate::init::tuning::Tuning;
use crate::log;
use crate::seccomp::{self, Filter};

/// What the caller wants beyond what the bundle says.
#[derive(Debug, Default)]
pub struct Options {
    /// The socket that gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The line that gets the terminal's master, for an attached `run`.
    pub console: Option<OwnedFd>,
    /// The file that gets the init's pid.
    pub pid_file: Option<PathBuf>,
    /// Change the root without pivot_root.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors after stderr that the program keeps.
    pub preserve_fds: u32,
    /// Have systemd make the cgroup.
    pub systemd_cgroup: bool,
}

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

/// Everything that is decided before anything exists.
#[derive(Debug)]
struct Decided {
    bundle: Bundle,
    plan: Option<Plan>,
    program: Program,
    tuning: Tuning,
    seccomp: Option<Filter>,
    namespaces: Namespaces,
    cgroup: Cgroup,
    devices: DeviceRules,
}

/// Creates the container `id` from `bundle`.
///
/// # Errors
/// Anything that is wrong with the bundle, the request or the machine. Nothing is left behind.
pub fn create(
    store: &Store,
    id: &ContainerId,
    bundle: Bundle,
    options: Options,
) -> Result<Created> {
    let decided = decide(id, bundle, &options)?;
    let dir = store.claim(id)?;
    let state = State::new(
        id,
        decided.bundle.path.clone(),
        decided.bundle.rootfs.clone(),
        &decided.bundle.spec,
        decided.cgroup.clone(),
        decided.devices.clone(),
    );
    let mut container = Container { dir, state };
    container.state.no_new_keyring = options.no_new_keyring;
    container.state.gpu_rules = gpu_rules(decided.plan.as_ref())?;
    match build(&mut container, decided, options) {
        Ok((spec, pidfd)) => Ok(Created { container, spec, pidfd }),
        // Not our cgroup: what runs in it belongs to another container.
        Err(error) if is_foreign_cgroup(&error) => {
            let _ = container.dir.remove();
            Err(error)
        }
        Err(error) => {
            // The first failure is what the caller needs to hear; what could not be undone is
            // added to it.
            let left = delete::remove_traces(store, &container).unwrap_or_else(|err| vec![err]);
            Err(left.into_iter().fold(error, |error, more| {
                let (error, more) = (log::one_line(&error), log::one_line(&more));
                anyhow!("{error}; while cleaning up: {more}")
            }))
        }
    }
}

fn is_foreign_cgroup(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(CgroupError::NotEmpty { .. } | CgroupError::Frozen { .. }))
}

/// Pure decisions and reads of the host; a request that cannot be met fails here.
fn decide(id: &ContainerId, mut bundle: Bundle, options: &Options) -> Result<Decided> {
    let plan = gpu::plan_for(&mut bundle.spec)?.map(|decision| decision.plan);
    if let Some(plan) = &plan {
        for note in &plan.notes {
            log::warn(note);
        }
        plan.merge_into(&mut bundle.spec);
    }
    let spec = &bundle.spec;
    let process = spec.process().as_ref().context("the spec has no process")?;
    let program = Program::new(process)?;
    let linux = spec.linux().as_ref().context("the spec has no linux section")?;
    warn_of_capabilities(process, linux);
    let tuning = Tuning::new(process, linux)?;
    let namespaces = Namespaces::new(
        linux.namespaces().as_deref().unwrap_or_default(),
        idmap::time_offsets(linux.time_offsets().as_ref())?,
    )?;
    if plan.is_some() && !namespaces.has(CloneFlags::CLONE_NEWNS) {
        bail!("a container with GPUs needs a mount namespace: add one to linux.namespaces");
    }
    rootfs::validate_mounts(spec.mounts().as_deref().unwrap_or_default())?;
    if let Some(sysctls) = linux.sysctl() {
        let list = linux.namespaces().as_deref().unwrap_or_default();
        rootfs::validate_sysctls(sysctls.keys(), SysctlNamespaces::of(list))?;
    }
    let seccomp = linux.seccomp().as_ref().map(compile_seccomp).transpose()?;
    let cgroup =
        Cgroup::locate(linux.cgroups_path().as_deref(), id.as_str(), options.systemd_cgroup)?;
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_deref());
    let devices = DeviceRules::for_container(
        rules.unwrap_or_default(),
        linux.devices().as_deref().unwrap_or_default(),
    )?;
    Ok(Decided { plan, program, tuning, seccomp, namespaces, cgroup, devices, bundle })
}

/// In a user namespace the process has all capabilities, and root's rights are what a container
/// can be given otherwise.
fn warn_of_capabilities(process: &Process, linux: &Linux) {
    let Some(sets) = process.capabilities() else { return };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let in_userns = namespaces.iter().any(|ns| ns.typ() == LinuxNamespaceType::User);
    let own = rustix::thread::capabilities(None).ok().map(|sets| sets.permitted);
    for warning in capabilities::warnings(sets, own.filter(|_| !in_userns)) {
        log::warn(&warning);
    }
}

/// The rules that the plan's devices need, for every later `update`.
fn gpu_rules(plan: Option<&Plan>) -> Result<Vec<DeviceRule>> {
    let devices = plan.map(|plan| plan.devices.as_slice()).unwrap_or_default();
    let rule = |device: &DeviceNode| {
        Ok(DeviceRule {
            kind: match device.kind {
                DeviceKind::Char => DeviceType::Char,
                DeviceKind::Block => DeviceType::Block,
            },
            major: Some(device.major),
            minor: Some(device.minor),
            access: device.access.parse().map_err(|err| anyhow!("{err}"))?,
        })
    };
    devices.iter().map(rule).collect()
}

/// Compiled here, where an error can still be told; an action or flag that this kernel lacks is
/// one.
pub(super) fn compile_seccomp(profile: &LinuxSeccomp) -> Result<Filter> {
    let filter = seccomp::compile(profile)?;
    filter.check_kernel()?;
    Ok(filter)
}

/// From here on things exist, in the order in which `delete` can find them again.
fn build(
    container: &mut Container,
    decided: Decided,
    mut options: Options,
) -> Result<(Spec, OwnedFd)> {
    let Decided { mut bundle, plan, program, tuning, seccomp, namespaces, cgroup, devices } =
        decided;
    let console = match &options.console_socket {
        Some(path) => Some(console::connect(path)?),
        None => options.console.take(),
    };
    // Written before the cgroup exists, so that a crash leaves nothing that is not remembered.
    container.save()?;
    let journal = Journal::new(container.dir.journal()?);
    let fifo = make_fifo(&container.dir.start_fifo())?;

    let resources = bundle.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    cgroup.create(resources, &devices)?;

    let shared_root = make_shared_root(container, &namespaces)?;
    let hook_state = start::hook_state(container);
    let (ours, theirs) = Channel::pair().context("cannot make the line to the init")?;
    let rlimits = program.rlimits.clone();
    let oom_score_adj = program.oom_score_adj;
    let cgroups = cgroup_view(cgroup.mounts_for_container());
    let id = container.state.id.clone();
    let init = Init {
        id: &id,
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
        console,
        fifo: &fifo,
        journal,
        channel: theirs,
        hook_state: hook_state.clone(),
        preserve_fds: options.preserve_fds,
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        visible: shares_pid_namespace(&bundle.spec),
        rootless: !nix::unistd::geteuid().is_root(),
        committed: false,
    };
    let back = namespaces.before_clone()?;
    let cloned = launch::clone_into(&cgroup, namespaces.clone_flags(), ours, || init.run());
    back.restore()?;
    let (child, in_cgroup, channel) = cloned?;

    let launch = Launch {
        channel,
        child,
        spec: &bundle.spec,
        hook_state: &hook_state,
        rlimits: &rlimits,
        oom_score_adj,
        cgroup: (!in_cgroup).then_some(&cgroup),
        map_ids: namespaces.creates(CloneFlags::CLONE_NEWUSER),
        seccomp: bundle.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()),
    };
    let ready = launch.until_ready()?;

    container.state.init = Some(
        ProcessId::of(ready.child.pid).context("the container's init ended while it was set up")?,
    );
    container.save_spec(&bundle.spec)?;
    if let Some(path) = &options.pid_file {
        write_pid_file(path, ready.child.pid)?;
    }
    container.save()?;
    ready.commit()?;
    Ok((std::mem::take(&mut bundle.spec), ready.child.pidfd))
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
    container.save()?;
    Ok(Some(prepared.attach(&path)?))
}

/// What the cgroup room knows, in the words of the init.
fn cgroup_view(mounts: ContainerMounts) -> CgroupView {
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

/// The number alone, no newline: engines parse the whole file. In one step, because they wait for
/// the file to appear.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name =
        path.file_name().with_context(|| format!("--pid-file {} names no file", path.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        write!(file, "{pid}")?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write the pid file {}", path.display()))
}
