//! Being told when the cgroup runs out of memory: an eventfd on `memory.oom_control` of v1,
//! inotify on `memory.events` of v2.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode as FileMode, OFlags};
use rustix::io::Errno;

use super::{Cgroup, CgroupError, Mode, file};

/// A descriptor that becomes readable when the cgroup may have run out of memory.
#[derive(Debug)]
pub struct OomWatch {
    dir: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    V1 {
        eventfd: OwnedFd,
    },
    V2 {
        inotify: OwnedFd,
        /// The processes killed so far.
        kills: u64,
    },
}

impl Cgroup {
    /// Watches for it from now on. `None`: memory is not counted, so it cannot run out.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        let Some(dir) = self.controller_dir("memory") else { return Ok(None) };
        let source = if self.mode == Mode::V2 { watch_v2(&dir) } else { watch_v1(&dir) };
        match source {
            Ok(source) => Ok(Some(OomWatch { dir, source })),
            // v2 without the controller.
            Err(err) if err.is_absent() => Ok(None),
            Err(err) => Err(err),
        }
    }
}

fn watch_v1(dir: &Path) -> Result<Source, CgroupError> {
    let path = dir.join("memory.oom_control");
    let failed = |err: Errno| CgroupError::Read { file: path.clone(), source: err.into() };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let control = rustix::fs::open(&path, flags, FileMode::empty()).map_err(failed)?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let eventfd = eventfd(0, flags).map_err(failed)?;
    // The kernel needs the second descriptor only now, to know which event is meant.
    let pair = format!("{} {}", eventfd.as_raw_fd(), control.as_raw_fd());
    file::write(dir, "cgroup.event_control", &pair)?;
    Ok(Source::V1 { eventfd })
}

fn watch_v2(dir: &Path) -> Result<Source, CgroupError> {
    let path = dir.join("memory.events");
    let failed = |err: Errno| CgroupError::Read { file: path.clone(), source: err.into() };
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
    inotify::add_watch(&inotify, &path, WatchFlags::MODIFY).map_err(failed)?;
    // After the watch is there, so that none falls between the two.
    Ok(Source::V2 { inotify, kills: kills(dir) })
}

impl OomWatch {
    /// After the descriptor has become readable: whether memory ran out since the last call.
    /// v1 also reports the end of the cgroup, and v2 reclaim; those are not taken for it.
    #[must_use]
    pub fn happened(&mut self) -> bool {
        match &mut self.source {
            Source::V1 { eventfd } => {
                let told = rustix::io::read(&*eventfd, &mut [0; 8]).is_ok();
                told && self.dir.join("cgroup.event_control").exists()
            }
            Source::V2 { inotify, kills: before } => {
                let mut space = [MaybeUninit::<u8>::uninit(); 512];
                while rustix::io::read(&*inotify, &mut space)
                    .is_ok_and(|(read, _)| !read.is_empty())
                {}
                let now = kills(&self.dir);
                let more = now > *before;
                *before = now.max(*before);
                more
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1 { eventfd } => eventfd.as_fd(),
            Source::V2 { inotify, .. } => inotify.as_fd(),
        }
    }
}

/// How many processes the kernel has killed for want of memory; 0 when the cgroup is gone.
fn kills(dir: &Path) -> u64 {
    let text = file::read(dir, "memory.events").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}
