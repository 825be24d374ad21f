//! A private containerd, driven with `ctr`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::{Daemon, remove_cgroup};
use crate::runtime::{self, Output};
use crate::{Runtime, probe, rootfs};

/// A running containerd and a root file system for its containers.
#[derive(Debug)]
pub struct Containerd {
    /// The daemon, its files in `daemon.dir`.
    pub daemon: Daemon,
    socket: PathBuf,
    rootfs: PathBuf,
    cgroup_parent: String,
}

impl Containerd {
    /// Starts containerd with `config` as gpurun's configuration: the shim inherits the
    /// daemon's environment, and the runtime the shim's.
    pub fn start(config: &Path) -> io::Result<Self> {
        let without_cri = "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        Self::start_with(config, without_cri, |_| {})
    }

    /// As [`Containerd::start`], with these lines in its file, and what `edit` makes of that.
    pub fn start_with(config: &Path, lines: &str, edit: impl FnOnce(&Path)) -> io::Result<Self> {
        let marker = format!("gpurun-ctrd-{}", std::process::id());
        let dir = Path::new("/tmp").join(&marker);
        fs::create_dir_all(&dir)?;
        let socket = dir.join("ctrd.sock");
        let here = dir.display();
        let file = dir.join("config.toml");
        fs::write(
            &file,
            format!(
                "version = 2\nroot = \"{here}/root\"\nstate = \"{here}/state\"\n{lines}\
                 [grpc]\naddress = \"{}\"\n",
                socket.display()
            ),
        )?;
        edit(&file);
        let root = dir.join("rootfs");
        rootfs::build(&root);
        fs::copy(probe::nodes()?, root.join("bin/nodes"))?;

        let args = ["--config".to_owned(), format!("{here}/config.toml")];
        let env = [("GPURUN_CONFIG", config.as_os_str())];
        let ready = || {
            Command::new("ctr")
                .args(["--address", &socket.display().to_string(), "version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let daemon = Daemon::start(&dir, "containerd", &args, &env, ready)?;
        Ok(Self { daemon, socket, rootfs: root, cgroup_parent: format!("/{marker}") })
    }

    /// `ctr ARGS...`, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(args);
        command
    }

    /// Runs `ctr ARGS...` to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Output {
        runtime::finish(&mut self.command(args), b"")
    }

    /// `ctr run OPTIONS... ROOTFS ID PROGRAM...` with the runtime under test, not yet started.
    pub fn run_command(&self, id: &str, options: &[&str], program: &[&str]) -> Command {
        let binary = Runtime::binary().display().to_string();
        let rootfs = self.rootfs.display().to_string();
        let cgroup = format!("{}/{id}", self.cgroup_parent);
        let state = self.runtime_root().display().to_string();
        let fixed = [
            "run",
            "--runtime",
            "io.containerd.runc.v2",
            "--runc-binary",
            &binary,
            "--runc-root",
            &state,
            "--cgroup",
            &cgroup,
            "--env",
            "PATH=/bin:/usr/bin",
            "--rootfs",
        ];
        self.command(&[&fixed, options, &[&rootfs, id], program].concat())
    }

    /// `ctr run --rm`, to its end.
    #[track_caller]
    pub fn run(&self, id: &str, options: &[&str], program: &[&str]) -> Output {
        let options = [&["--rm"], options].concat();
        runtime::finish(&mut self.run_command(id, &options, program), b"")
    }

    /// `ctr run --detach`, which must succeed. The container goes away with the returned value.
    #[track_caller]
    pub fn detached(&self, id: &str, options: &[&str], program: &[&str]) -> Detached<'_> {
        let container = Detached { containerd: self, id: id.to_owned() };
        let options = [&["--detach"], options].concat();
        runtime::finish(&mut self.run_command(id, &options, program), b"").ok();
        container
    }

    /// The directory that the runtime is given for its state.
    pub fn runtime_root(&self) -> PathBuf {
        self.daemon.dir.join("runtime")
    }

    /// The cgroup below which the containers are, a path from the root.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let left = self.call(&["tasks", "list", "--quiet"]);
        for id in left.stdout.split_whitespace() {
            self.call(&["tasks", "delete", "--force", id]);
        }
        remove_cgroup(&self.cgroup_parent);
    }
}

/// A container in the background, removed when this goes out of scope.
#[derive(Debug)]
pub struct Detached<'a> {
    containerd: &'a Containerd,
    id: String,
}

impl Detached<'_> {
    /// `ctr tasks exec OPTIONS... ID PROGRAM...`.
    #[track_caller]
    pub fn exec(&self, exec_id: &str, options: &[&str], program: &[&str]) -> Output {
        let fixed = ["tasks", "exec", "--exec-id", exec_id];
        self.containerd.call(&[&fixed, options, &[self.id.as_str()], program].concat())
    }

    /// The status that `ctr tasks list` shows, such as `RUNNING`.
    #[track_caller]
    pub fn status(&self) -> String {
        let list = self.containerd.call(&["tasks", "list"]);
        let line = list.ok().lines().find(|line| line.split_whitespace().next() == Some(&self.id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("absent").to_owned()
    }
}

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        self.containerd.call(&["tasks", "delete", "--force", &self.id]);
        self.containerd.call(&["containers", "delete", &self.id]);
    }
}
