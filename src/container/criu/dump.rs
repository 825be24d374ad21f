//! `checkpoint`: a running container to image files.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use protobuf::MessageField;
use rust_criu::rust_criu_protobuf::rpc::{
    Criu_features, Criu_page_server_info, Criu_req, Criu_req_type,
};
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use super::client::{Criu, Request, Surroundings};
use super::options::Common;
use super::{descriptors as stdio, directory, external, log, namespaces, options::external_mount};
use crate::cgroup::devices::DeviceRule;
use crate::container::state::{Container, Status};
use crate::gpu;
use crate::mountinfo;

/// What the caller wants.
#[derive(Debug, Default)]
pub struct Options {
    /// What a restore has as well.
    pub common: Common,
    /// Earlier images, relative to the new ones: only what changed since then is written.
    pub parent: Option<PathBuf>,
    /// The container goes on running.
    pub leave_running: bool,
    /// TCP connections that are being established are left out.
    pub tcp_skip_in_flight: bool,
    /// Unlinked files are linked again when possible.
    pub link_remap: bool,
    /// Only memory is written, and the container goes on running.
    pub pre_dump: bool,
    /// Memory goes to the page server at this address and port.
    pub page_server: Option<(String, u16)>,
    /// Gets a NUL byte when memory is ready to be served (`lazy_pages`).
    pub status_fd: Option<OwnedFd>,
}

/// The name of criu's log.
const LOG: &str = "dump.log";

/// criu from this version on tells in a notification that it serves memory.
const STATUS_READY: u32 = 3_15_00;

/// Writes the container's images. Whether it ends with that is up to the options.
///
/// # Errors
/// It does not run, criu cannot be used, or criu fails; the container goes on running then.
pub fn dump(container: &Container, mut options: Options) -> Result<()> {
    let status = container.status();
    match status {
        Status::Running | Status::Paused => {}
        _ => bail!("Container cannot be checkpointed in {status} state"),
    }
    let init = container.state.init.context("the container has no init")?;
    let spec = container.spec()?;
    let criu = Criu::find()?;
    let (mut request, mut descriptors) =
        options.common.request(LOG, &container.state.annotations)?;
    let root = container.state.rootfs.to_str().context("the path of the rootfs is not UTF-8")?;
    request.set_root(root.to_owned());
    request.set_pid(init.pid);
    request.set_leave_running(options.leave_running);
    request.set_tcp_skip_in_flight(options.tcp_skip_in_flight);
    request.set_link_remap(options.link_remap);
    namespaces::declare(&spec, &criu, &mut request)?;
    if let Some(freezer) = container.state.cgroup.controller_dir("freezer")
        && let Some(freezer) = freezer.to_str()
    {
        request.set_freeze_cgroup(freezer.to_owned());
    }
    if let Some((address, port)) = &options.page_server {
        let mut server = Criu_page_server_info::new();
        server.set_address(address.clone());
        server.set_port(i32::from(*port));
        request.ps = MessageField::some(server);
    }
    if let Some(parent) = &options.parent {
        directory::images(&options.common.images.join(parent))?;
        let parent = parent.to_str().context("--parent-path is not UTF-8")?;
        request.set_parent_img(parent.to_owned());
        request.set_track_mem(true);
    }
    if options.pre_dump {
        let mut wanted = Criu_features::new();
        wanted.set_mem_track(true);
        criu.require_features(&wanted)?;
        request.set_track_mem(true);
    }
    if options.common.lazy_pages {
        let mut wanted = Criu_features::new();
        wanted.set_lazy_pages(true);
        criu.require_features(&wanted)?;
    }
    let notified = criu.is_at_least(STATUS_READY);
    if let (Some(fd), false) = (&options.status_fd, notified) {
        let fd = fd.try_clone().context("cannot hand --status-fd on")?;
        request.set_status_fd(fd.as_raw_fd());
        descriptors.push(fd);
    }
    // A pre-dump is of memory alone.
    if !options.pre_dump {
        let mounts = mountinfo::of(init.pid).context("cannot read the container's mounts")?;
        let host = mountinfo::own().context("cannot read our own mounts")?;
        for (point, name) in external::of(&mounts, &host, &external::Known::of(&spec)) {
            request.ext_mnt.push(external_mount(&point, &name)?);
        }
        let mut names = container.state.stdio.clone();
        names.resize(3, String::new());
        stdio::save(&options.common.images, &names)?;
    }
    let kind = if options.pre_dump { Criu_req_type::PRE_DUMP } else { Criu_req_type::DUMP };
    let mut message = Criu_req::new();
    message.set_type(kind);
    message.opts = MessageField::some(request);
    let mut status_fd = options.status_fd.take();
    let done = criu.run(
        kind,
        &Surroundings::default(),
        || Ok(Request { message, descriptors }),
        |notify, _| {
            // An older criu has opened it by now; whoever waits for its end must not wait for us.
            let fd =
                if notified && notify.script() != "status-ready" { None } else { status_fd.take() };
            if let (Some(fd), true) = (fd, notified)
                && let Err(err) = rustix::io::write(&fd, &[0])
            {
                crate::log::warn(format_args!("can't write \\0 to status fd: {err}"));
            }
            Ok(())
        },
    );
    let Err(error) = done else { return Ok(()) };
    if status == Status::Running {
        // A criu that was killed thaws nothing.
        let _ = container.state.cgroup.thaw();
    }
    let error = log::explain(error, &options.common.log(LOG), "cannot dump the container");
    Err(match open_device(container) {
        Some((pid, major, minor)) => error.context(format!(
            "process {pid} has the device {major}:{minor} open: {}",
            gpu::checkpoint::REMEDY
        )),
        None => error,
    })
}

/// A process of the container that has one of its GPUs' devices open, and the device.
fn open_device(container: &Container) -> Option<(i32, u32, u32)> {
    let rules = &container.state.gpu_rules;
    if rules.is_empty() {
        return None;
    }
    let matches = |rule: &DeviceRule, major: u32, minor: u32| {
        rule.major == Some(major) && rule.minor.is_none_or(|number| number == minor)
    };
    container.state.cgroup.pids().ok()?.into_iter().find_map(|pid| {
        std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().find_map(|entry| {
            // By number, without opening anything: a driver would notice. And without a question to
            // whoever serves a file's filesystem, which may be the container.
            let known = AtFlags::STATX_DONT_SYNC;
            let stat = statx(CWD, entry.path(), known, StatxFlags::TYPE).ok()?;
            let device = FileType::from_raw_mode(stat.stx_mode.into()).is_char_device();
            let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
            (device && rules.iter().any(|rule| matches(rule, major, minor)))
                .then_some((pid, major, minor))
        })
    })
}
