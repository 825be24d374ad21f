//! The steps on the real kernel: each test has a mount namespace of its own and a small rootfs.

mod devices;
mod hostile;
mod mounts;
mod pivot;
mod userns;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::{LinuxDevice, Mount};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use super::*;
use crate::init::journal::Journal;
use crate::init::root::Root;

/// A directory of the test's own with an empty `rootfs` and a `host` in it.
pub struct Place {
    pub dir: PathBuf,
    pub rootfs: PathBuf,
    /// A directory outside the rootfs: sources of bind mounts, canaries.
    pub host: PathBuf,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("gpurun-rootfs-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let (rootfs, host) = (dir.join("rootfs"), dir.join("host"));
        fs::create_dir_all(&rootfs).unwrap();
        fs::create_dir_all(&host).unwrap();
        Self { dir, rootfs, host }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs `test` in a thread with its own mount, ipc and network namespace, descriptors and
/// working directory.
pub fn sandbox(test: impl FnOnce(&Place) + Send) {
    let place = Place::new();
    let result = std::thread::scope(|scope| {
        let inside = || {
            let flags = CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWCGROUP
                | CloneFlags::CLONE_FS
                | CloneFlags::CLONE_FILES;
            if let Err(err) = unshare(flags) {
                eprintln!("skipped: this test needs root and namespaces: {err}");
                return;
            }
            test(&place);
        };
        scope.spawn(inside).join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

pub fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).unwrap();
}

pub fn fifo(path: &Path) {
    node(path, FileType::Fifo, 0);
}

pub fn no_cgroups() -> CgroupView {
    CgroupView::V1 { hierarchies: Vec::new() }
}

pub fn mounts(list: Value) -> Vec<Mount> {
    serde_json::from_value(list).unwrap()
}

/// Mounts `list` with nothing special in the context.
pub fn mount(root: &Root, place: &Place, list: Value) -> Result<Mounted, MountError> {
    let context = MountContext {
        bundle: &place.dir,
        label: None,
        cgroups: &no_cgroups(),
        userns: false,
        cgroupns: false,
        sources: &[],
    };
    let mut root = Root::from(root.as_fd().try_clone_to_owned().unwrap());
    mount_all(&mut root, &mounts(list), &context, &mut Journal::none())
}

/// Fills a /dev that is the image's.
pub fn fill_dev(
    root: &Root,
    list: &[LinuxDevice],
    journal: &mut Journal,
) -> Result<(), DeviceError> {
    create_devices(root, Devices { list, ..Devices::default() }, journal)
}

/// Mounts `docker_mounts` and fills /dev.
pub fn mount_and_fill(root: &Root, place: &Place) {
    let filesystem = mount(root, place, docker_mounts()).unwrap().dev;
    create_devices(root, Devices { filesystem, ..Devices::default() }, &mut Journal::none())
        .unwrap();
}

/// As [`mount`], which must fail; the text of the error.
pub fn refusal(root: &Root, place: &Place, list: Value) -> String {
    mount(root, place, list).map(|_| ()).expect_err("the mount is refused").to_string()
}

pub fn prepared(place: &Place) -> Root {
    prepare_root(&place.rootfs, None).unwrap()
}

/// A line of mountinfo.
#[derive(Debug, Clone)]
pub struct Line {
    pub point: PathBuf,
    pub options: String,
    pub optional: String,
    pub fstype: String,
    pub source: String,
    pub superblock: String,
}

impl Line {
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }
}

pub fn mountinfo() -> Vec<Line> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    text.lines()
        .map(|line| {
            let (first, second) = line.split_once(" - ").unwrap();
            let first: Vec<&str> = first.split(' ').collect();
            let second: Vec<&str> = second.split(' ').collect();
            Line {
                point: first[4].into(),
                options: first[5].into(),
                optional: first[6..].join(" "),
                fstype: second[0].into(),
                source: second[1].into(),
                superblock: second[2].into(),
            }
        })
        .collect()
}

/// The topmost mount at `point`.
pub fn mounted(point: impl AsRef<Path>) -> Line {
    let found = mountinfo().into_iter().rfind(|line| line.point == point.as_ref());
    found.unwrap_or_else(|| panic!("nothing is mounted on {:?}", point.as_ref()))
}

pub fn is_mounted(point: impl AsRef<Path>) -> bool {
    mountinfo().iter().any(|line| line.point == point.as_ref())
}

pub fn docker_mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
    ])
}
