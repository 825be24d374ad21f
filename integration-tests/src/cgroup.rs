//! What the cgroup files say, in v1 and v2.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which cgroup interface a runtime sees on /sys/fs/cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

impl Version {
    /// V2 when /sys/fs/cgroup itself is a cgroup2 mount.
    pub fn of_host() -> Version {
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Version::V2
        } else {
            Version::V1
        }
    }
}

/// The cgroup mounts of this mount namespace: mount point and, for v1, its controllers.
fn mounts() -> Vec<(PathBuf, Option<Vec<String>>)> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, point, kind, options) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            match kind {
                "cgroup" => {
                    Some((point.into(), Some(options.split(',').map(str::to_owned).collect())))
                }
                "cgroup2" => Some((point.into(), None)),
                _ => None,
            }
        })
        .collect()
}

/// The mount point of the cgroup2 hierarchy.
pub fn unified() -> Option<PathBuf> {
    mounts().into_iter().find_map(|(point, controllers)| controllers.is_none().then_some(point))
}

/// The directory of process `pid` in the hierarchy of `controller`, or `None` where that
/// hierarchy does not offer the controller.
pub fn directory(version: Version, controller: &str, pid: i64) -> Option<PathBuf> {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        membership.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    match version {
        Version::V1 => {
            let (point, _) = mounts().into_iter().find(|(_, controllers)| {
                controllers.as_ref().is_some_and(|c| c.iter().any(|c| c == controller))
            })?;
            let path = path_of(&|list| list.split(',').any(|c| c == controller))?;
            Some(point.join(path))
        }
        Version::V2 => {
            let root = unified()?;
            let offered = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
            // Freezing, killing and device programs are part of cgroup v2 itself.
            let core = ["freezer", "devices", ""].contains(&controller);
            if !core && !offered.split_whitespace().any(|c| c == controller) {
                return None;
            }
            Some(root.join(path_of(&str::is_empty)?))
        }
    }
}

/// The trimmed text of a cgroup file of process `pid`; `None` where the host has no such
/// controller or file.
pub fn read(version: Version, controller: &str, pid: i64, file: &str) -> Option<String> {
    let path = directory(version, controller, pid)?.join(file);
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Every cgroup directory in every hierarchy whose path contains `marker`.
pub fn containing(marker: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (point, _) in mounts() {
        // Tests put their cgroups at the top or one below.
        collect(&point, marker, 3, &mut found);
    }
    found
}

fn collect(directory: &Path, marker: &str, depth: u32, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if path.to_string_lossy().contains(marker) {
            found.insert(path.clone());
        }
        if depth > 0 {
            collect(&path, marker, depth - 1, found);
        }
    }
}

/// Kills and removes whatever is left in cgroups whose path contains `marker`.
pub fn sweep(marker: &str) {
    // Deepest first: a cgroup with children cannot be removed.
    for directory in containing(marker).into_iter().rev() {
        let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let _ = fs::write(directory.join("freezer.state"), "THAWED");
        let _ = fs::write(directory.join("cgroup.freeze"), "0");
        for pid in pids.lines().filter_map(|line| line.parse().ok()) {
            kill(pid);
        }
        for _ in 0..100 {
            if fs::remove_dir(&directory).is_ok() || !directory.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Kills a process that a test left.
pub fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
