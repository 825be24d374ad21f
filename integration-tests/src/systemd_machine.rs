//! A machine that systemd runs, on one that it does not.
//!
//! systemd is process 1 of namespaces of its own, in a Debian of its own that is read-only, with
//! `/run`, `/tmp`, `/var` and `/dev` of its own. Nothing of the host that it could write to is
//! visible there: at boot systemd empties `/tmp` and runs what it finds, and the script refuses to
//! start it where that could reach the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cgroup::{self, Version};
use crate::runtime::Output;
use crate::{cache, wait_for};

/// See the comment at its top.
const SCRIPT: &str = include_str!("systemd_machine.sh");

/// The program that enters the machine's namespaces.
const ENTER: &str = "nsenter";

/// Where the host's files are in the machine.
const HOST: &str = "/mnt/host";

/// A booted machine; it ends with the value.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    init: i32,
    cgroup: String,
}

/// Whether process 1 of this machine is systemd already.
pub fn runs_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A Debian of the machine's own release with systemd, D-Bus and busybox.
fn tree() -> io::Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release")?;
    let value = |key: &str| release.lines().find_map(|line| line.strip_prefix(key));
    let codename = match (value("ID="), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(codename)) => codename.trim_matches('"'),
        _ => return Err(io::Error::other("this machine does not run Debian")),
    };
    cache::entry(&format!("debian-{codename}-systemd"), |dir| {
        let include = "--include=systemd,dbus,procps,busybox-static";
        let done = Command::new("debootstrap")
            .args(["--variant=minbase", include, codename])
            .arg(dir)
            .stdout(Stdio::null())
            .status()?;
        if !done.success() {
            return Err(io::Error::other("debootstrap failed: is Debian's archive reachable?"));
        }
        for left_out in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"]
        {
            fs::remove_dir_all(dir.join(left_out))?;
        }
        fs::remove_dir_all(dir.join("dev"))?;
        fs::create_dir(dir.join("dev"))?;
        fs::write(dir.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n")
    })
}

impl Machine {
    /// Boots one in which `files` can be read ([`Machine::path`]). `Err` is why it cannot be.
    pub fn boot(version: Version, files: &[&Path]) -> Result<Machine, String> {
        if version == Version::V1 && Version::of_host() == Version::V2 {
            return Err("this host has no cgroup v1".to_owned());
        }
        if cgroup::unified().is_none() {
            return Err("this host has no cgroup v2 hierarchy".to_owned());
        }
        let tree = tree().map_err(|error| format!("no Debian with systemd: {error}"))?;
        let mode = if version == Version::V1 { "v1" } else { "v2" };
        let name = format!("gpurun-machine-{}-{mode}", std::process::id());
        let mut errors = tempfile::NamedTempFile::new().expect("temporary file");
        let script = tempfile::NamedTempFile::new().expect("temporary file");
        fs::write(script.path(), SCRIPT).expect("write the script");
        let mut child = Command::new("sh")
            .arg(script.path())
            .args([mode, tree.to_str().expect("UTF-8 path"), &name])
            .args(files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.as_file_mut().try_clone().expect("dup"))
            .spawn()
            .map_err(|error| error.to_string())?;
        let deadline = Instant::now() + Duration::from_secs(30);
        let init = loop {
            if child.try_wait().expect("wait").is_some() || Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                cgroup::sweep(&name);
                let said = fs::read_to_string(errors.path()).unwrap_or_default();
                return Err(format!("systemd did not boot: {}", said.trim()));
            }
            match init_of(child.id()) {
                Some(init) => break init,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let machine = Machine { child, init, cgroup: name };
        wait_for("systemd to answer", || {
            let asked = machine.enter().args(["systemctl", "is-active", "dbus.service"]).output();
            asked.is_ok_and(|answer| answer.status.success())
        });
        Ok(machine)
    }

    /// The path of a host file in the machine.
    pub fn path(file: &Path) -> PathBuf {
        PathBuf::from(format!("{HOST}{}", file.display()))
    }

    /// Runs a program as a service of the machine, to its end.
    pub fn run(&self, env: &[(&str, &Path)], program: &Path, args: &[&str]) -> Output {
        // A whole test program: longer than one call of a runtime may take.
        let mut command = Command::new("timeout");
        command.arg("300").arg(ENTER).args(self.namespaces());
        command.args(["systemd-run", "--pipe", "--wait", "--quiet", "--collect"]);
        for (name, value) in env {
            command.arg(format!("--setenv={name}={}", value.display()));
        }
        let done = command.arg(program).args(args).output().expect("run nsenter");
        Output {
            code: done.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    fn enter(&self) -> Command {
        let mut command = Command::new(ENTER);
        command.args(self.namespaces());
        command
    }

    fn namespaces(&self) -> Vec<String> {
        let init = self.init.to_string();
        ["-t", &init, "-m", "-p", "-C", "-u", "-i", "-n"].map(str::to_owned).to_vec()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of process 1 is the end of all others.
        cgroup::kill(self.init);
        let _ = self.child.wait();
        cgroup::sweep(&self.cgroup);
    }
}

/// The systemd that the script's process, now unshare(1), has become the parent of.
fn init_of(parent: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let init: i32 = children.split_ascii_whitespace().next()?.parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
    (name.trim() == "systemd").then_some(init)
}
