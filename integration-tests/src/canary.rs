//! A directory of the host that no container may touch.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::leak::assert_same;

/// Names that a runtime may want to create, remove or mount over somewhere.
const NAMES: &[&str] = &[
    "00-gpurun.conf",
    "attr",
    "card1",
    "cgroup",
    "console",
    "core",
    "fd",
    "file",
    "gsp_ga10x.bin",
    "ld.so.cache",
    "ld.so.conf",
    "libcuda.so.1",
    "mqueue",
    "null",
    "nvidia-smi",
    "nvidia0",
    "params",
    "ptmx",
    "pts",
    "renderD128",
    "shm",
    "socket",
    "stderr",
    "stdin",
    "stdout",
    "sub/file",
    "tty",
    "victim",
    "zero",
];

/// The directory, and what it was like.
#[derive(Debug)]
pub struct Canary {
    directory: PathBuf,
    before: Vec<String>,
}

impl Canary {
    /// Fills `directory`, which must not exist, with files that a runtime may want, and an empty
    /// directory `empty`.
    pub fn new(directory: PathBuf) -> Canary {
        fs::create_dir_all(directory.join("sub")).expect("make the canary");
        fs::create_dir_all(directory.join("empty")).expect("make the canary");
        for name in NAMES {
            fs::write(directory.join(name), format!("canary {name}\n")).expect("make the canary");
        }
        let before = watched(&directory);
        Canary { directory, before }
    }

    /// Where it is, or what is in it.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.directory.clone() } else { self.directory.join(name) }
    }

    /// Where it is, as a link below a rootfs would have it with more `..` than there are
    /// directories above.
    pub fn upwards(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("../../../../../../../../../../../..{}", self.path(name).display()))
    }

    /// What differs now; nothing, one hopes.
    pub fn changes(&self) -> Vec<String> {
        let now = watched(&self.directory);
        let gone = self.before.iter().filter(|line| !now.contains(line));
        let new = now.iter().filter(|line| !self.before.contains(line));
        gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect()
    }

    /// Fails the test unless every file is the same in content, mode, inode and time of change, and
    /// no mount is on it.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_same(&self.before, &watched(&self.directory));
        assert_no_mount_at(&self.directory.to_string_lossy());
    }
}

/// Fails the test if the host has a mount whose line in the kernel's list contains this.
#[track_caller]
pub fn assert_no_mount_at(place: &str) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    assert!(!mounts.contains(place), "a mount on the host:\n{mounts}");
}

/// Every file with all that a change would change. The time of a directory's change also tells of
/// a file that came and went.
fn watched(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let content = if meta.is_file() {
            fs::read_to_string(&path).unwrap_or_default()
        } else {
            String::new()
        };
        lines.push(format!(
            "{} mode {:o} owner {}:{} inode {} changed {}.{} content {content:?}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
        ));
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    lines.sort();
    lines
}
