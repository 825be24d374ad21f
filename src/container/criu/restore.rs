//! `restore`: image files to a running container.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use nix::sched::{self, CloneFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use oci_spec::runtime::Spec;
use protobuf::MessageField;
use rust_criu::rust_criu_protobuf::rpc::{
    Cgroup_root, Criu_notify, Criu_opts, Criu_req, Criu_req_type,
};
use rustix::process::{Pid, PidfdFlags};

use super::client::{Criu, Keyring, Request, Surroundings};
use super::external::NULL_DEVICE;
use super::options::{CgroupsMode, Common, external_mount};
use super::{descriptors, log, namespaces};
use crate::cgroup::systemd::NewScope;
use crate::cgroup::{CgroupError, Driver};
use crate::container::bundle::Bundle;
use crate::container::create;
use crate::container::decide::{self, Decided};
use crate::container::id::ContainerId;
use crate::container::launch::Entry;
use crate::container::net_devices::Moved;
use crate::container::process::ProcessId;
use crate::container::state::Container;
use crate::container::store::Store;
use crate::container::traces::Traces;
use crate::container::{console, holders, mount_sources, net_devices, pid_file, rootless, start};
use crate::gpu;
use crate::init::console::send_master;
use crate::init::hooks::{self, HookState};
use crate::init::journal::Journal;
use crate::init::rootfs;
use crate::init::stage::Stage;
use crate::sys;

/// criu from this version on can be told other LSM settings.
const LSM: u32 = 3_16_00;

/// The name of criu's log.
const LOG: &str = "restore.log";

/// What the caller wants.
#[derive(Debug, Default)]
pub struct Options {
    /// What a dump has as well.
    pub common: Common,
    /// Another LSM profile, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// Another LSM context of mounts.
    pub lsm_mount_context: Option<String>,
    /// The socket that gets the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The line that gets the terminal's master, for an attached container.
    pub console: Option<OwnedFd>,
    /// The file that gets the init's pid.
    pub pid_file: Option<PathBuf>,
    /// Have systemd make the cgroup.
    pub systemd_cgroup: bool,
}

/// Restores the container `id` from images into `bundle`, and returns its init, a child of ours.
/// What the container gets from outside comes from the bundle alone, never from the images.
///
/// # Errors
/// Anything that is wrong with the bundle, the images or the machine. Nothing is left behind.
pub fn restore(
    store: &Store,
    id: &ContainerId,
    bundle: Bundle,
    mut options: Options,
) -> Result<ProcessId> {
    let as_created =
        decide::Options { systemd_cgroup: options.systemd_cgroup, ..decide::Options::default() };
    let decided = decide::decide(id, bundle, &as_created)?;
    options.common.check()?;
    // Before there is anything to lock: who listens there may take its time.
    if let Some(path) = &options.console_socket {
        options.console = Some(console::connect(path)?);
    }
    let (mut container, lock) = create::claim(store, id, &decided, false)?;
    match bring_back(&mut container, &decided, options) {
        Ok(init) => Ok(init),
        Err(error) => {
            // Restored processes are our children: dead ones must not count as the container's. Of
            // a cgroup that is another's nothing is killed.
            let traces = Traces::of_container(&container);
            if traces.cgroup.is_recognised() {
                let _ = traces.cgroup.kill_all(nix::sys::signal::Signal::SIGKILL);
            }
            while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
                waitpid(None, Some(WaitPidFlag::WNOHANG))
            {}
            Err(create::abandon(store, id, &container, &lock, error))
        }
    }
}

fn bring_back(container: &mut Container, decided: &Decided, options: Options) -> Result<ProcessId> {
    let criu = Criu::find()?;
    let spec = &decided.bundle.spec;
    let inherited = descriptors::inherited(&options.common.images)?;
    if options.lsm_profile.is_some() {
        criu.require(LSM).context("--lsm-profile requires at least CRIU 3.16")?;
    }
    if options.lsm_mount_context.is_some() {
        criu.require(LSM).context("--lsm-mount-context requires at least CRIU 3.16")?;
    }

    // Written before the cgroup exists, so that a crash leaves nothing that is not remembered.
    Traces::of(&container.state).save(&container.dir)?;
    container.save()?;
    gpu::register::enter(&container.state.registers, &container.state.id)?;
    if let Some(wanted) = &decided.gpus {
        holders::enter(container, wanted)?;
    }
    let mut journal = Journal::new(container.dir.journal()?);
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let (id, dir) = (container.state.id.clone(), container.dir.clone());
    let mut claim = None;
    if matches!(container.state.cgroup.driver(), Driver::Cgroupfs) {
        claim = container.state.cgroup.create(resources, &decided.devices)?;
        // Which cgroup it is.
        Traces::of(&container.state).save(&container.dir)?;
    }
    let entry = match decided.cgroup.driver() {
        Driver::Systemd(unit) => {
            if !decided.cgroup.pids()?.is_empty() {
                return Err(CgroupError::UnitExists { unit: unit.name.clone() }.into());
            }
            let (devices, properties) = (&decided.devices, &decided.properties);
            let new = NewScope { id: &id, resources, devices, properties };
            let traces = Box::new(Traces::of(&container.state));
            Entry::Adopt(&decided.cgroup, unit, new, &dir, traces)
        }
        _ => Entry::Join(&decided.cgroup),
    };
    let cgroups = create::cgroup_view(decided.cgroup.mounts_for_container());
    // Its being there also says that the cgroup is ours: see `delete`.
    let place = container.dir.restore_place();
    fs::create_dir(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let sources = mount_sources::open(
        spec,
        &decided.bundle.path,
        &decided.namespaces,
        rootless::is_ordinary_user(),
    )?;
    let stage = Stage {
        spec,
        sources: &sources,
        bundle: &decided.bundle.path,
        rootfs: &decided.bundle.rootfs,
        plan: decided.plan.as_ref(),
        cgroups: &cgroups,
        place: &place,
    };
    let resctrl = decided.resctrl.as_ref();
    if let Some(resctrl) = resctrl {
        create::make_resctrl(container, resctrl, spec)?;
    }
    let keyring = container.state.keyring();
    let surroundings = Surroundings {
        cgroup: Some(entry),
        resctrl,
        own_mounts: true,
        stdio: true,
        keyring: keyring.map(|name| Keyring { name, selinux: decided.program.selinux.as_deref() }),
    };
    let annotations = container.state.annotations.clone();
    // Made where criu will run: in its cgroup and its mount namespace.
    let request = || -> Result<Request> {
        let (mut request, mut descriptors) = options.common.request(LOG, &annotations)?;
        request.set_evasive_devices(true);
        request.set_rst_sibling(true);
        request.inherit_fd = inherited;
        descriptors.extend(namespaces::provide(spec, &criu, &mut request)?);
        request.lsm_profile = options.lsm_profile;
        request.lsm_mount_context = options.lsm_mount_context;
        let own = fs::read_to_string("/proc/self/cgroup").context("cannot read our own cgroup")?;
        request.cg_root = cgroup_roots(&own);
        put_mounts(&mut request, &stage, &mut journal)?;
        let mut message = Criu_req::new();
        message.set_type(Criu_req_type::RESTORE);
        message.opts = MessageField::some(request);
        Ok(Request { message, descriptors })
    };
    let mut returning = Returning {
        hook_state: start::hook_state(container),
        spec,
        console: options.console,
        own_network: decided.namespaces.creates(CloneFlags::CLONE_NEWNET),
        all_of_cgroups: options.common.manage_cgroups_mode == CgroupsMode::Full,
        moved: Moved::default(),
        container,
    };
    let log_file = options.common.log(LOG);
    let done = criu.run(Criu_req_type::RESTORE, &surroundings, request, |notify, fd| {
        returning.answer(notify, fd)
    });
    if let Err(error) = done {
        return Err(log::explain(error, &log_file, "cannot restore the container"));
    }
    let mut moved = std::mem::take(&mut returning.moved);
    drop(claim);
    let init = container.state.init.context("criu has restored nothing")?;
    let _ = fs::remove_dir(&place);
    if let Some(path) = &options.pid_file {
        pid_file::write(path, init.pid)?;
    }
    moved.keep();
    Ok(init)
}

/// Tells criu where the container's root is, and every mount that may be asked for.
fn put_mounts(request: &mut Criu_opts, stage: &Stage<'_>, journal: &mut Journal) -> Result<()> {
    let staged = stage.build(journal)?;
    let root = staged.root.to_str().context("the path of the state directory is not UTF-8")?;
    request.set_root(root.to_owned());
    for (point, path) in &staged.mounts {
        request.ext_mnt.push(external_mount(point, path)?);
    }
    let null = Path::new(NULL_DEVICE);
    if !staged.mounts.iter().any(|(point, _)| point == null) {
        request.ext_mnt.push(external_mount(null, null)?);
    }
    Ok(())
}

/// Where the container's cgroups are now, whatever they were called when it was dumped:
/// `/proc/PID/cgroup` of a process in them.
pub(super) fn cgroup_roots(text: &str) -> Vec<Cgroup_root> {
    text.lines()
        .filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some(controllers.split(',').map(move |controller| {
                let mut root = Cgroup_root::new();
                root.set_ctrl(controller.to_owned());
                root.set_path(path.to_owned());
                root
            }))
        })
        .flatten()
        .collect()
}

/// What criu asks for on the way.
struct Returning<'a> {
    container: &'a mut Container,
    spec: &'a Spec,
    hook_state: HookState,
    console: Option<OwnedFd>,
    own_network: bool,
    /// Whether criu sets the limits of the cgroup as they are in the images.
    all_of_cgroups: bool,
    /// The network devices that it has got.
    moved: Moved,
}

impl Returning<'_> {
    fn answer(&mut self, notify: &Criu_notify, fd: Option<OwnedFd>) -> Result<()> {
        match notify.script() {
            "setup-namespaces" => self.namespaces_are_there(notify.pid()),
            "post-restore" => self.processes_are_there(notify.pid()),
            "orphan-pts-master" => {
                let master = fd.context("criu sent no terminal")?;
                let Some(socket) = self.console.take() else {
                    return Err(Error::msg(
                        "the container has a terminal: set process.terminal, and --console-socket \
                         with --detach",
                    ));
                };
                Ok(send_master(socket.as_fd(), &master)?)
            }
            _ => Ok(()),
        }
    }

    /// Empty namespaces: time for whoever sets them up.
    fn namespaces_are_there(&mut self, pid: i32) -> Result<()> {
        if self.own_network {
            in_network_of(pid, || {
                sys::net::loopback_up().context("cannot turn the container's loopback interface on")
            })?;
            let linux = self.spec.linux().as_ref();
            if let Some(devices) = linux.and_then(|linux| linux.net_devices().as_ref()) {
                net_devices::move_into(devices, pid, &mut self.moved)?;
            }
        }
        let init = Pid::from_raw(pid)
            .context("criu names no process")
            .and_then(|pid| Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
            .context("cannot follow the restored init")?;
        hooks::run_on_host(self.spec, &self.hook_state, pid, init.as_fd())?;
        self.set_network_parameters(pid)
    }

    /// Those of a new network namespace are the kernel's, and interfaces are there only now; what
    /// belongs to other namespaces is in the images.
    fn set_network_parameters(&self, pid: i32) -> Result<()> {
        let linux = self.spec.linux().as_ref();
        let all = linux.and_then(|linux| linux.sysctl().as_ref()).into_iter().flatten();
        let of_network: Vec<_> = all.filter(|(key, _)| rootfs::is_of_network(key)).collect();
        if of_network.is_empty() {
            return Ok(());
        }
        in_network_of(pid, || Ok(rootfs::write_sysctls(None, of_network)?))
    }

    /// They stand still until this is answered.
    fn processes_are_there(&mut self, pid: i32) -> Result<()> {
        self.container.state.init =
            Some(ProcessId::of(pid).context("the restored init has ended at once")?);
        if !self.container.state.cgroup.is_recognised() {
            self.container.state.cgroup.recognise();
            Traces::of(&self.container.state).save(&self.container.dir)?;
        }
        if self.all_of_cgroups {
            // On cgroup v1 the images have device rules as well, and criu has set those.
            self.container.state.cgroup.set_devices(&self.container.state.devices)?;
        }
        self.container.save_spec(self.spec)?;
        Ok(self.container.save()?)
    }
}

/// Does something in the network namespace of process `pid`. One that criu makes anew is as every
/// new one is: its loopback interface is off, its parameters are the kernel's.
fn in_network_of(pid: i32, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let failed = "cannot enter the container's network namespace";
    let own = File::open("/proc/self/ns/net").context(failed)?;
    let theirs = File::open(format!("/proc/{pid}/ns/net")).context(failed)?;
    sched::setns(&theirs, CloneFlags::CLONE_NEWNET).context(failed)?;
    let done = work();
    sched::setns(&own, CloneFlags::CLONE_NEWNET)
        .context("cannot return to our own network namespace")?;
    done
}

#[cfg(test)]
mod tests {
    use super::cgroup_roots;

    #[test]
    fn each_controller_has_its_root_and_version_2_has_no_name() {
        let text = "12:cpu,cpuacct:/a\n3:name=systemd:/b:c\n0::/d\nnonsense\n";
        let roots: Vec<_> = cgroup_roots(text)
            .iter()
            .map(|root| (root.ctrl().to_owned(), root.path().to_owned()))
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            roots,
            [
                pair("cpu", "/a"),
                pair("cpuacct", "/a"),
                pair("name=systemd", "/b:c"),
                pair("", "/d")
            ]
        );
    }
}
