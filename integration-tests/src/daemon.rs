//! An engine's daemon that belongs to the test: private directories, stopped by pid, its mounts
//! and cgroups removed with it, and killed by the kernel if the test itself dies.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running daemon with its directory.
#[derive(Debug)]
pub struct Daemon {
    /// Everything that the daemon keeps, below `/tmp` so that socket paths stay short.
    pub dir: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts `program` with its output in `DIR/log` and waits until `ready` says so.
    ///
    /// The calling thread must live as long as the daemon: its end is the daemon's end.
    pub fn start(
        dir: &Path,
        program: &str,
        args: &[String],
        env: &[(&str, &OsStr)],
        ready: impl Fn() -> bool,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let log = fs::File::create(dir.join("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", program])
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("start {program}: {e}")))?;
        let mut daemon = Self { dir: dir.to_owned(), child };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ready() {
            if daemon.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("{program} did not come up:\n{log}")));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// What the daemon wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let left = mounts_below(&self.dir);
        for mount in &left {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
        // A leak is reported by the case that looks for it; here only the machine is cleaned.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The mount points below `dir`, innermost first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(dir))
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Removes the cgroup of this name (a path from the root) and everything below it, in every
/// hierarchy. Processes that are still in it make it stay.
pub fn remove_cgroup(name: &str) {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    if let Ok(entries) = fs::read_dir("/sys/fs/cgroup") {
        roots.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()));
    }
    for root in roots {
        remove_tree(&root.join(name.trim_start_matches('/')));
    }
}

fn remove_tree(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
