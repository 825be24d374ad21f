//! What is decided about a container before anything of it exists: pure decisions, and reads of the
//! machine. Whatever cannot be met fails here.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxSeccomp, Process};

use super::bundle::Bundle;
use super::gpus::{self, Wanted};
use super::id::ContainerId;
use super::resctrl::Resctrl;
use super::{capabilities, holders, idmap, net_devices, rootless};
use crate::cgroup::devices::{DeviceRule, DeviceRules, DeviceType};
use crate::cgroup::systemd::{self, Property};
use crate::cgroup::{Cgroup, Driver};
use crate::gpu;
use crate::gpu::plan::{DeviceKind, DeviceNode, Plan};
use crate::gpu::{Decision, authors};
use crate::init::affinity::ExecAffinity;
use crate::init::namespaces::Namespaces;
use crate::init::program::Program;
use crate::init::rootfs::{self, SysctlNamespaces};
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
    /// The socket that gets a pidfd of the init.
    pub pidfd_socket: Option<PathBuf>,
    /// Whether the container gets a socket to tell a service manager that it is ready.
    pub notify: bool,
    /// Environment of the program that is the caller's and not the spec's: `exec` does not see it.
    pub environment: Vec<(&'static str, String)>,
    /// What `--rootless` says about cgroups that are refused; `None`: decide by the rights.
    pub rootless: Option<bool>,
}

/// Everything that is decided before anything exists.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) bundle: Bundle,
    pub(super) plan: Option<Plan>,
    pub(super) program: Program,
    pub(super) tuning: Tuning,
    pub(super) seccomp: Option<Filter>,
    pub(super) namespaces: Namespaces,
    pub(super) cgroup: Cgroup,
    /// What the annotations ask of systemd.
    pub(super) properties: Vec<Property>,
    pub(super) devices: DeviceRules,
    pub(super) gpus: Option<Wanted>,
    pub(super) resctrl: Option<Resctrl>,
    /// What is left out or ignored, for the log.
    warnings: Vec<String>,
}

/// Pure decisions and reads of the host; a request that cannot be met fails here.
pub(super) fn decide(id: &ContainerId, mut bundle: Bundle, options: &Options) -> Result<Decided> {
    let decision = gpu::plan_for(&mut bundle.spec)?;
    decision.iter().flat_map(|decision| &decision.plan.remarks).for_each(log::debug);
    decision.iter().flat_map(|decision| &decision.plan.notes).for_each(log::warn);
    let decided = settle(id, bundle, decision, options)?;
    decided.warnings.iter().for_each(log::warn);
    Ok(decided)
}

/// The decision about a container that is not going to be made: what `create` would warn of.
/// `decision`: what [`gpu::explain_for`] says about its GPUs.
///
/// # Errors
/// Those of `create` before anything exists.
pub fn rehearse(
    id: &ContainerId,
    bundle: Bundle,
    decision: Option<Decision>,
    options: &Options,
) -> Result<Vec<String>> {
    let decided = settle(id, bundle, decision, options)?;
    if let Some(wanted) = &decided.gpus {
        holders::rehearse(wanted, &decided.devices, &decided.bundle.path)?;
    }
    Ok(decided.warnings)
}

/// Everything but the plan for the GPUs.
fn settle(
    id: &ContainerId,
    mut bundle: Bundle,
    decision: Option<Decision>,
    options: &Options,
) -> Result<Decided> {
    let (mut plan, policy) = match decision {
        Some(decision) => (Some(decision.plan), decision.policy),
        None => (None, None),
    };
    if let Some(plan) = &mut plan {
        rootless::limit_groups(plan);
        plan.merge_into(&mut bundle.spec);
    }
    let spec = &bundle.spec;
    if rootless::is_ordinary_user() {
        rootless::check(spec)?;
    }
    let process = spec.process().as_ref().context("the spec has no process")?;
    let mut program = Program::new(process)?;
    program.keep_groups = rootless::keeps_groups(spec, process);
    for (name, value) in &options.environment {
        program.set_env(name, value)?;
    }
    let linux = spec.linux().as_ref().context("the spec has no linux section")?;
    let mut warnings = capability_warnings(process, linux);
    let tuning = Tuning::new(process, linux)?;
    // For every later exec: what is wrong with it is said now.
    ExecAffinity::new(process.exec_cpu_affinity().as_ref())?;
    let mut namespaces = Namespaces::new(
        linux.namespaces().as_deref().unwrap_or_default(),
        idmap::time_offsets(linux.time_offsets().as_ref())?,
    )?;
    namespaces.leave_to_init(rootless::is_confined);
    if plan.is_some() && !namespaces.has(CloneFlags::CLONE_NEWNS) {
        bail!("a container with GPUs needs a mount namespace: add one to linux.namespaces");
    }
    let userns = namespaces.has(CloneFlags::CLONE_NEWUSER);
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    rootfs::validate_mounts(mounts, userns)?;
    warnings.extend(rootfs::ignored_options(mounts));
    if let Some(sysctls) = linux.sysctl() {
        let list = linux.namespaces().as_deref().unwrap_or_default();
        rootfs::validate_sysctls(sysctls.keys(), SysctlNamespaces::of(list))?;
    }
    if let Some(devices) = linux.net_devices() {
        let rootless = !nix::unistd::geteuid().is_root();
        net_devices::validate(devices, namespaces.has(CloneFlags::CLONE_NEWNET), rootless)?;
    }
    let seccomp = linux.seccomp().as_ref().map(compile_seccomp).transpose()?;
    let cgroup =
        Cgroup::locate(linux.cgroups_path().as_deref(), id.as_str(), options.systemd_cgroup)?;
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_deref());
    let devices = DeviceRules::for_container(
        rules.unwrap_or_default(),
        linux.devices().as_deref().unwrap_or_default(),
    )?;
    let gpus = gpus::wanted(spec, plan.as_ref(), policy, &devices)?;
    let asked = match (cgroup.driver(), spec.annotations()) {
        (Driver::Systemd(_), Some(all)) => {
            let anyones = authors::are_anyones(all.keys().map(String::as_str));
            systemd::properties_of_annotations(all, anyones)?
        }
        _ => systemd::Asked::default(),
    };
    warnings.extend(asked.ignored.iter().map(|key| {
        format!(
            "the annotation {key:?} does not count: an image or a pod's author may have written \
             it, and it could change other units than the container's"
        )
    }));
    let rdt = linux.intel_rdt().as_ref();
    let resctrl = rdt.map(|rdt| Resctrl::decide(id.as_str(), rdt)).transpose()?;
    Ok(Decided {
        plan,
        program,
        tuning,
        seccomp,
        namespaces,
        cgroup,
        properties: asked.properties,
        devices,
        gpus,
        resctrl,
        warnings,
        bundle,
    })
}

/// In a user namespace the process has all capabilities, and root's rights are what a container
/// can be given otherwise.
fn capability_warnings(process: &Process, linux: &Linux) -> Vec<String> {
    let Some(sets) = process.capabilities() else { return Vec::new() };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let in_userns = namespaces.iter().any(|ns| ns.typ() == LinuxNamespaceType::User);
    let own = rustix::thread::capabilities(None).ok().map(|sets| sets.permitted);
    capabilities::warnings(sets, own.filter(|_| !in_userns))
}

/// The rules that the plan's devices need, for every later `update`.
pub(super) fn gpu_rules(plan: Option<&Plan>) -> Result<Vec<DeviceRule>> {
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
