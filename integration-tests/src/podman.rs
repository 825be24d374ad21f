//! podman with storage of its own and the runtime under test, as root or as an ordinary user.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::remove_cgroup;
use crate::ordinary_user::OrdinaryUser;
use crate::runtime::{self, Output};
use crate::{Runtime, cgroup, leak, probe, rootfs};

/// The image that the tests run: busybox and the probe `nodes`.
pub const IMAGE: &str = "localhost/box";

/// Nothing that needs systemd, and nothing shared with a podman of the machine. The default limits
/// of root's podman take CAP_SYS_RESOURCE, which a test machine may lack.
const CONFIGURATION: &str = "\
[containers]
default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]

[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
lock_type = \"file\"
";

/// A podman.
#[derive(Debug)]
pub struct Podman {
    /// Whose containers they are; root's without one.
    pub user: Option<OrdinaryUser>,
    dir: PathBuf,
    marker: String,
}

impl Podman {
    /// Makes the storage and imports the image. `config` is gpurun's configuration.
    ///
    /// # Errors
    /// What podman says; where it does not work for an ordinary user, the reason why.
    pub fn new(user: Option<OrdinaryUser>, config: &Path) -> io::Result<Self> {
        let marker = format!("gpurun-podman-{}", std::process::id());
        let dir = match &user {
            Some(user) => user.path("home").join(&marker),
            None => Path::new("/tmp").join(&marker),
        };
        fs::create_dir(&dir)?;
        fs::write(dir.join("containers.conf"), CONFIGURATION)?;
        rootfs::build(&dir.join("image"));
        fs::copy(probe::nodes()?, dir.join("image/bin/nodes"))?;
        fs::write(dir.join("image/etc/not-a-program"), "no program\n")?;
        if let Some(user) = &user {
            rootfs::give_to(&dir, crate::ordinary_user::ID, crate::ordinary_user::ID);
            user.give(&dir);
        }
        let podman = Self { user, dir, marker };
        podman.wrap_runtime(config)?;
        let tar = podman.dir.join("image.tar");
        let mut pack = Command::new("tar");
        pack.args(["--create", "--owner=0", "--group=0", "--directory"]);
        pack.arg(podman.dir.join("image")).arg("--file").arg(&tar).arg(".");
        runtime::finish(&mut pack, b"").ok();
        if let Some(user) = &podman.user {
            user.give(&tar);
        }
        let imported = podman.call(&["import", "--quiet", crate::container::text(&tar), IMAGE]);
        match imported.code {
            0 => Ok(podman),
            _ => Err(io::Error::other(imported.stderr.trim().to_owned())),
        }
    }

    /// podman calls a runtime with an environment of its own, so the configuration needs a script.
    fn wrap_runtime(&self, config: &Path) -> io::Result<()> {
        let binary = match &self.user {
            Some(user) => user.binary(),
            None => Runtime::binary(),
        };
        let (binary, config) = (binary.display(), config.display());
        let script = format!("#!/bin/sh\nGPURUN_CONFIG='{config}' exec '{binary}' \"$@\"\n");
        fs::write(self.runtime(), script)?;
        fs::set_permissions(self.runtime(), fs::Permissions::from_mode(0o755))
    }

    fn runtime(&self) -> PathBuf {
        self.dir.join("runtime")
    }

    /// `podman ARGS...`, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.user {
            Some(user) => user.command("/usr/bin/podman".as_ref()),
            None => Command::new("podman"),
        };
        command.arg("--runtime").arg(self.runtime());
        // podman takes at most 50 characters.
        let run = match &self.user {
            Some(user) => user.path("run/podman"),
            None => self.dir.join("run"),
        };
        command.arg("--root").arg(self.dir.join("data")).arg("--runroot").arg(run);
        command.arg("--tmpdir").arg(self.dir.join("tmp"));
        command.args(["--storage-driver", "vfs", "--log-level", "fatal"]);
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command.args(args);
        command
    }

    /// Calls podman.
    pub fn call(&self, args: &[&str]) -> Output {
        runtime::finish(&mut self.command(args), b"")
    }

    /// Where this podman's pods have their cgroups.
    pub fn pod_place(&self) -> Vec<String> {
        match self.user {
            Some(_) => Vec::new(),
            None => vec!["--cgroup-parent".to_owned(), format!("/{}", self.marker)],
        }
    }

    /// `run --rm` without a network.
    pub fn run(&self, options: &[&str], program: &[&str]) -> Output {
        self.call(&[&["run", "--rm"], &*self.place(), options, &[IMAGE], program].concat())
    }

    /// `run --detach`; the container is removed when the returned value goes.
    #[track_caller]
    pub fn detached(&self, name: &str, options: &[&str], program: &[&str]) -> Detached<'_> {
        let own = ["run", "--detach", "--name", name];
        self.call(&[&own, &*self.place(), options, &[IMAGE], program].concat()).ok();
        Detached { podman: self, name: name.to_owned() }
    }

    /// A field of `inspect`.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.call(&["inspect", "--format", format, name]).ok().to_owned()
    }

    fn place(&self) -> Vec<&str> {
        match self.user {
            Some(_) => vec!["--network", "none"],
            None => vec!["--network", "none", "--cgroup-parent", &self.marker],
        }
    }

    /// Containers and processes that are still there.
    pub fn leftovers(&self) -> Vec<String> {
        let listed = self.call(&["ps", "--all", "--quiet"]);
        let listed = listed.ok().lines().map(|id| format!("container {id}"));
        let processes = leak::processes(&self.marker).into_iter();
        // podman's own, which keeps the user namespace.
        let processes = processes.filter(|(_, line)| !line.starts_with("podman"));
        let processes = processes.filter(|(_, line)| !line.starts_with("catatonit"));
        listed.chain(processes.map(|it| format!("process {it:?}"))).collect()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        if let Some(user) = &self.user {
            // Ends the process that keeps the user namespace.
            self.call(&["system", "migrate"]);
            for (pid, _) in leak::processes(user.mark()) {
                cgroup::kill(pid);
            }
        }
        for mount in crate::daemon::mounts_below(&self.dir) {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
        remove_cgroup(&self.marker);
        // podman also makes directories where a hierarchy is not mounted, and files in them.
        for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir_all(entry.path().join(&self.marker));
        }
    }
}

/// A container that runs until the value goes.
#[derive(Debug)]
pub struct Detached<'a> {
    podman: &'a Podman,
    name: String,
}

impl Detached<'_> {
    /// `exec` of a command.
    pub fn exec(&self, options: &[&str], program: &[&str]) -> Output {
        self.podman.call(&[&["exec"], options, &[&self.name], program].concat())
    }
}

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        self.podman.call(&["rm", "--force", "--time", "0", &self.name]);
    }
}
