//! A private dockerd with the runtime under test as its default runtime.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::{Daemon, remove_cgroup};
use crate::runtime::{self, Output};
use crate::{Runtime, probe, rootfs};

/// The image that the tests run: busybox and the probe `nodes`.
pub const IMAGE: &str = "box";

/// A running dockerd.
#[derive(Debug)]
pub struct Docker {
    /// The daemon, its files in `daemon.dir`.
    pub daemon: Daemon,
    socket: PathBuf,
    cgroup_parent: String,
}

impl Docker {
    /// Starts dockerd with `config` as gpurun's configuration and imports the image. Its `PATH`
    /// has a `nvidia-container-runtime-hook` that is the runtime itself: without a program of
    /// that name dockerd refuses `--gpus`.
    pub fn start(config: &Path) -> io::Result<Self> {
        let runtime = format!("--add-runtime=gpurun={}", Runtime::binary().display());
        Self::start_with(config, &[runtime, "--default-runtime=gpurun".to_owned()])
    }

    /// As [`Docker::start`], with the runtimes that these options give dockerd.
    pub fn start_with(config: &Path, runtimes: &[String]) -> io::Result<Self> {
        let marker = format!("gpurun-docker-{}", std::process::id());
        let dir = Path::new("/tmp").join(&marker);
        let binary = Runtime::binary();
        let hooks = dir.join("path");
        fs::create_dir_all(&hooks)?;
        symlink(&binary, hooks.join("nvidia-container-runtime-hook"))?;
        let mut path = OsString::from(&hooks);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());

        let socket = dir.join("docker.sock");
        let cgroup_parent = format!("/{marker}");
        let args = [
            format!("--data-root={}/data", dir.display()),
            format!("--exec-root={}/exec", dir.display()),
            format!("--pidfile={}/pid", dir.display()),
            format!("--host=unix://{}", socket.display()),
            format!("--cgroup-parent={cgroup_parent}"),
            "--iptables=false".to_owned(),
            "--ip6tables=false".to_owned(),
            "--bridge=none".to_owned(),
        ];
        let args = [&args[..], runtimes].concat();
        let env: [(&str, &OsStr); 2] = [("PATH", &path), ("GPURUN_CONFIG", config.as_os_str())];
        let ready = || {
            Command::new("docker")
                .args(["--host", &format!("unix://{}", socket.display()), "version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let daemon = Daemon::start(&dir, "dockerd", &args, &env, ready)?;
        let docker = Self { daemon, socket, cgroup_parent };
        docker.import()?;
        Ok(docker)
    }

    /// `docker ARGS...`, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket.display())).args(args);
        command
    }

    /// Runs `docker ARGS...` to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Output {
        runtime::finish(&mut self.command(args), b"")
    }

    /// `docker run --rm OPTIONS... IMAGE PROGRAM...`.
    #[track_caller]
    pub fn run(&self, options: &[&str], program: &[&str]) -> Output {
        self.call(&[&["run", "--rm"], options, &[IMAGE], program].concat())
    }

    /// `docker run --detach --name NAME OPTIONS... IMAGE PROGRAM...`, which must succeed. The
    /// container goes away with the returned value.
    #[track_caller]
    pub fn detached(&self, name: &str, options: &[&str], program: &[&str]) -> Detached<'_> {
        let container = Detached { docker: self, name: name.to_owned() };
        let fixed = ["run", "--detach", "--name", name];
        self.call(&[&fixed, options, &[IMAGE], program].concat()).ok();
        container
    }

    /// What `docker inspect` says about a container.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.call(&["inspect", "--format", format, name]).ok().to_owned()
    }

    /// The cgroup below which dockerd puts its containers, a path from the root.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    fn import(&self) -> io::Result<()> {
        let root = self.daemon.dir.join("image");
        rootfs::build(&root);
        fs::copy(probe::nodes()?, root.join("bin/nodes"))?;
        fs::write(root.join("etc/not-a-program"), "text\n")?;
        let archive = self.daemon.dir.join("image.tar");
        let done =
            Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".").status()?;
        if !done.success() {
            return Err(io::Error::other("tar failed"));
        }
        let archive = archive.display().to_string();
        let output = self.call(&["import", "--change", "ENV PATH=/bin:/usr/bin", &archive, IMAGE]);
        if output.code != 0 {
            return Err(io::Error::other(format!("docker import: {}", output.stderr)));
        }
        Ok(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let left = self.call(&["ps", "--all", "--quiet"]);
        for id in left.stdout.split_whitespace() {
            self.call(&["rm", "--force", id]);
        }
        remove_cgroup(&self.cgroup_parent);
    }
}

/// A container in the background, removed when this goes out of scope.
#[derive(Debug)]
pub struct Detached<'a> {
    docker: &'a Docker,
    name: String,
}

impl Detached<'_> {
    /// `docker exec OPTIONS... NAME PROGRAM...`.
    #[track_caller]
    pub fn exec(&self, options: &[&str], program: &[&str]) -> Output {
        self.docker.call(&[&["exec"], options, &[self.name.as_str()], program].concat())
    }
}

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        self.docker.call(&["rm", "--force", &self.name]);
    }
}
