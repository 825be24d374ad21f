//! What was left behind.
//!
//! Tests run side by side, so nothing is counted: a test's directory, cgroups and ids all carry
//! one marker that no other test has, and everything that shows the marker is listed.

use crate::cgroup;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Everything on the host that carries a marker, one line per thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Lists cgroups, mounts and processes that carry `marker`, and the files below `state_root`.
    pub fn take(marker: &str, state_root: &Path) -> Snapshot {
        let mut things = BTreeSet::new();
        for directory in cgroup::containing(marker) {
            things.insert(format!("cgroup {}", directory.display()));
        }
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            if line.contains(marker) {
                things.insert(format!("mount {line}"));
            }
        }
        for (pid, name) in processes(marker) {
            things.insert(format!("process {pid} {name}"));
        }
        files(state_root, &mut things);
        Snapshot(things)
    }

    /// What is in `later` and not in `self`.
    pub fn added(&self, later: &Snapshot) -> Vec<String> {
        later.0.difference(&self.0).cloned().collect()
    }
}

/// Processes whose command line, cgroup or mount table carries `marker`, this one excepted.
///
/// The mount table catches what has no other mark: a child killed half-way through its set-up
/// still sees the rootfs mounted.
pub fn processes(marker: &str) -> Vec<(i32, String)> {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<i32>() else {
            continue;
        };
        if name == own {
            continue;
        }
        let has = |file: &str| {
            fs::read(entry.path().join(file))
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(marker))
        };
        let dead = fs::read_to_string(entry.path().join("stat"))
            .map_or(true, |stat| stat.rsplit(')').next().unwrap_or("").trim().starts_with('Z'));
        if !dead && (has("cmdline") || has("cgroup") || has("mountinfo")) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

fn files(directory: &Path, things: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        things.insert(format!("file {}", entry.path().display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), things);
        }
    }
}

/// Everything below a directory: type and mode, owner, device number, and a digest of the content
/// of files. For what a container must leave alone.
pub fn listing(directory: &Path) -> Vec<String> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mut digest = DefaultHasher::new();
        if meta.is_file() {
            fs::read(&path).unwrap_or_default().hash(&mut digest);
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap_or_default().hash(&mut digest);
        }
        lines.push(format!(
            "{} mode {:o} owner {}:{} device {:x} content {:x}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev(),
            digest.finish()
        ));
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    lines.sort();
    lines
}

/// Fails the test with what differs between two listings.
#[track_caller]
pub fn assert_same(before: &[String], after: &[String]) {
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(gone.is_empty() && new.is_empty(), "changed: gone {gone:#?}, new {new:#?}");
}
