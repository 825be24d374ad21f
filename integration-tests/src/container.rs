//! One container of one test.

use crate::leak::{self, Snapshot};
use crate::runtime::{self, Output, Running};
use crate::{Config, Runtime, cgroup, rootfs, wait_for};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// A bundle with its own state root, id and cgroup.
///
/// When it goes out of scope the container is deleted by force, and whatever is then still there
/// (cgroup, mount, process, state file) fails the test: every test is a leak test.
#[derive(Debug)]
pub struct Container {
    runtime: Runtime,
    id: String,
    directory: TempDir,
}

impl Container {
    /// A bundle for `config`; nothing is created yet.
    ///
    /// The cgroup gets the container's id as its name, unless the config names another one.
    pub fn new(runtime: Runtime, config: Config) -> Container {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The trailing letter keeps `-1x` from being a part of `-12x`.
        let id = format!("gpurun-test-{}-{number}x", std::process::id());
        let directory =
            tempfile::Builder::new().prefix(&id).tempdir().expect("create a temporary directory");
        // A container in a user namespace has to get through to its rootfs.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let container = Container { runtime, id, directory };
        fs::create_dir(container.bundle()).expect("create the bundle");
        rootfs::build(&container.rootfs());
        container.configure(config);
        container
    }

    /// A bundle under the cgroup version of this host.
    pub fn native(config: Config) -> Container {
        Container::new(Runtime::native(), config)
    }

    /// A running container that idles.
    pub fn idle() -> Container {
        Container::running(Runtime::native(), Config::idle())
    }

    /// A bundle for `config`, created and started.
    #[track_caller]
    pub fn running(runtime: Runtime, config: Config) -> Container {
        let container = Container::new(runtime, config);
        container.run_detached();
        container
    }

    /// Writes another config.json.
    pub fn configure(&self, config: Config) {
        let config = if config.json()["linux"]["cgroupsPath"].is_null() {
            config.set("/linux/cgroupsPath", format!("/{}", self.id).into())
        } else {
            config
        };
        fs::write(self.bundle().join("config.json"), config.json().to_string())
            .expect("write config.json");
    }

    /// The container's id, which is also the mark of everything that belongs to this test.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The runtime that this container is run with.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// The bundle directory.
    pub fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    /// The root file system directory.
    pub fn rootfs(&self) -> PathBuf {
        self.path("bundle/rootfs")
    }

    /// The `--root` directory.
    pub fn state_root(&self) -> PathBuf {
        self.path("state")
    }

    /// A path in the test's own directory, for files beside the bundle.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The runtime with `--root` and these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.runtime.command();
        command.arg("--root").arg(self.state_root()).args(args);
        command
    }

    /// Calls the runtime with these arguments.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Output {
        self.call_with(args, b"")
    }

    /// Calls the runtime with these arguments and a standard input.
    #[track_caller]
    pub fn call_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        runtime::finish(&mut self.command(args), stdin)
    }

    /// Starts a call without waiting for it.
    #[track_caller]
    pub fn start_call(&self, args: &[&str]) -> Running {
        runtime::start(&mut self.command(args), b"")
    }

    /// Calls a command that takes only options and the id.
    #[track_caller]
    pub fn call_on(&self, command: &str, options: &[&str]) -> Output {
        self.call(&self.on(command, options))
    }

    /// Arguments of a command that takes options and the id.
    fn on<'a>(&'a self, command: &'a str, options: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec![command];
        args.extend(options);
        args.push(&self.id);
        args
    }

    /// `create`, with options.
    #[track_caller]
    pub fn create_with(&self, options: &[&str]) -> Output {
        self.with_bundle("create", options)
    }

    /// `create`.
    #[track_caller]
    pub fn create(&self) -> Output {
        self.create_with(&[])
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) -> Output {
        self.call_on("start", &[])
    }

    /// `run` to the end of the container's process.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.with_bundle("run", &[])
    }

    /// `run` with a standard input.
    #[track_caller]
    pub fn run_with(&self, options: &[&str], stdin: &[u8]) -> Output {
        let bundle = self.bundle();
        let mut all = vec!["--bundle", bundle.to_str().expect("UTF-8 path")];
        all.extend(options);
        self.call_with(&self.on("run", &all), stdin)
    }

    /// Starts an attached `run` without waiting for it.
    #[track_caller]
    pub fn start_run(&self) -> Running {
        let bundle = self.bundle();
        self.start_call(&self.on("run", &["--bundle", bundle.to_str().expect("UTF-8 path")]))
    }

    /// `run --detach`, which must succeed.
    #[track_caller]
    pub fn run_detached(&self) {
        self.with_bundle("run", &["--detach"]).ok();
    }

    #[track_caller]
    fn with_bundle(&self, command: &str, options: &[&str]) -> Output {
        let bundle = self.bundle();
        let mut all = vec!["--bundle", bundle.to_str().expect("UTF-8 path")];
        all.extend(options);
        self.call_on(command, &all)
    }

    /// The object that `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.call_on("state", &[]).json()
    }

    /// `status` in the state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// The pid of the container's process.
    #[track_caller]
    pub fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().expect("state has a pid")
    }

    /// `kill` with a signal.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.call(&["kill", &self.id, signal])
    }

    /// Kills the process and waits until the state says so.
    #[track_caller]
    pub fn stop(&self) {
        self.kill("KILL").silent();
        self.wait_until("stopped");
    }

    /// Kills the process, for a container that its attached `run` deletes.
    #[track_caller]
    pub fn stop_quietly(&self) {
        self.kill("KILL").silent();
    }

    /// Waits until `state` shows `status`.
    #[track_caller]
    pub fn wait_until(&self, status: &str) {
        wait_for(&format!("status {status}"), || self.status() == status);
    }

    /// `delete`, with options.
    #[track_caller]
    pub fn delete(&self, options: &[&str]) -> Output {
        self.call_on("delete", options)
    }

    /// `exec` of a command.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Output {
        self.exec_with(&[], args)
    }

    /// `exec` of a command, with options.
    #[track_caller]
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Output {
        let mut all = self.on("exec", options);
        all.extend(args);
        self.call(&all)
    }

    /// `exec` of a shell script that must succeed; returns what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-c", script]).ok().to_owned()
    }

    /// Text of a cgroup file of the container's process.
    #[track_caller]
    pub fn cgroup(&self, controller: &str, file: &str) -> Option<String> {
        cgroup::read(self.runtime.cgroup, controller, self.pid(), file)
    }

    /// What still exists of this container.
    pub fn leftovers(&self) -> Vec<String> {
        Snapshot::default().added(&Snapshot::take(&self.id, &self.state_root()))
    }

    /// Waits until nothing of this container exists any more; panics with a list of what does.
    #[track_caller]
    pub fn assert_gone(&self) {
        for _ in 0..200 {
            if self.leftovers().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("left behind: {:#?}", self.leftovers());
    }

    /// Removes what the runtime left, so that a failed test does not disturb others.
    fn sweep(&self) {
        cgroup::sweep(&self.id);
        for (pid, _) in leak::processes(&self.id) {
            cgroup::kill(pid);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in mounts.lines().rev().filter(|line| line.contains(&self.id)) {
            if let Some(point) = line.split(' ').nth(4) {
                let _ = Command::new("umount").arg("-l").arg(point).status();
            }
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The output of the failed call is the interesting part; keep this quiet.
            let _ = self.command(&["delete", "--force", &self.id]).output();
            self.sweep();
            return;
        }
        let deleted = self.delete(&["--force"]);
        let mut left = self.leftovers();
        for _ in 0..200 {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            left = self.leftovers();
        }
        if !left.is_empty() {
            self.sweep();
            panic!("left behind after delete --force ({deleted:?}): {left:#?}");
        }
        deleted.ok();
    }
}

/// The absolute path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8 path")
}
