//! A container that is dumped and restored with criu, and whether criu works here.

use crate::container::text;
use crate::{Config, Container, Output, Runtime, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Counts in memory ten times a second, and says so in a file.
pub const COUNTER: &str =
    "echo begun >> /tmp/begun; i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.1; done";

/// Why criu cannot work here, if it cannot. Asked once: on some machines criu takes a minute.
pub fn no_criu() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON.get_or_init(look_for_criu).clone()
}

fn look_for_criu() -> Option<String> {
    let Ok(checked) = Command::new("criu").arg("check").output() else {
        return Some("criu is not installed".to_owned());
    };
    // criu locks the network of a container while it dumps it.
    if Command::new("iptables-restore").arg("--version").output().is_err() {
        return Some("criu needs iptables, which is not installed".to_owned());
    }
    if checked.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("Error")).unwrap_or("criu check fails");
    Some(format!("this criu does not work on this kernel: {line}"))
}

/// Ends a test where criu does not work.
#[macro_export]
macro_rules! needs_criu {
    () => {
        if let Some(reason) = $crate::checkpoint::no_criu() {
            $crate::skipped(&reason);
            return;
        }
    };
}

/// Carries out a command whose standard streams are /dev/null, as a container's must be that is
/// to be dumped: files of the host cannot be. What it says is in the log.
#[track_caller]
pub fn quietly(command: &mut Command, log: &Path) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let said = fs::read_to_string(log).unwrap_or_default();
    assert!(status.expect("run").success(), "{command:?} failed: {said}");
}

/// A container under test and its images.
pub struct Checkpointed {
    /// The container.
    pub container: Container,
    /// gpurun's configuration, if it is not the machine's.
    pub environment: Option<PathBuf>,
}

impl Checkpointed {
    /// Not created yet.
    pub fn new(runtime: Runtime, config: Config) -> Self {
        Self { container: Container::new(runtime, config), environment: None }
    }

    /// Created and started with nothing but /dev/null.
    #[track_caller]
    pub fn running(runtime: Runtime, config: Config) -> Self {
        let this = Self::new(runtime, config);
        this.start();
        this
    }

    /// A call of the runtime that logs to the file `log`.
    pub fn command(&self, args: &[&str]) -> Command {
        let log = self.container.path("log");
        let mut command = self.container.command(&[&["--log", text(&log)], args].concat());
        if let Some(file) = &self.environment {
            command.env("GPURUN_CONFIG", file);
        }
        command
    }

    /// Runs it, detached, with nothing but /dev/null.
    #[track_caller]
    pub fn start(&self) {
        let bundle = self.container.bundle();
        let args = ["run", "--detach", "--bundle", text(&bundle), self.container.id()];
        quietly(&mut self.command(&args), &self.container.path("log"));
    }

    /// `checkpoint` into the directory `images`.
    #[track_caller]
    pub fn checkpoint(&self, options: &[&str]) -> Output {
        let (images, work) = (self.container.path("images"), self.container.path("work"));
        let places = ["checkpoint", "--image-path", text(&images), "--work-path", text(&work)];
        self.container.call(&[&places, options, &[self.container.id()]].concat())
    }

    /// `restore --detach`, with nothing but /dev/null.
    #[track_caller]
    pub fn restore(&self, options: &[&str]) {
        let bundle = self.container.bundle();
        let (images, work) = (self.container.path("images"), self.container.path("work"));
        let places = ["restore", "--detach", "--bundle", text(&bundle), "--image-path"];
        let places = [&places[..], &[text(&images), "--work-path", text(&work)]].concat();
        let args = [&places, options, &[self.container.id()]].concat();
        quietly(&mut self.command(&args), &self.container.path("log"));
    }

    /// A `restore` that is expected to fail.
    #[track_caller]
    pub fn restore_fails(&self, images: &Path, phrases: &[&str]) {
        let bundle = self.container.bundle();
        let args = ["restore", "--detach", "--bundle", text(&bundle), "--image-path", text(images)];
        self.container.call(&[&args[..], &[self.container.id()]].concat()).refused(1, phrases);
    }

    /// A file of the rootfs, empty where there is none.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.container.rootfs().join(name)).unwrap_or_default()
    }

    /// How far [`COUNTER`] is.
    pub fn count(&self) -> u64 {
        self.file("tmp/count").trim().parse().unwrap_or(0)
    }

    /// Waits for [`COUNTER`].
    #[track_caller]
    pub fn counts_beyond(&self, number: u64) {
        wait_for(&format!("a count above {number}"), || self.count() > number);
    }

    /// Every mount of the container: where, what, and how.
    #[track_caller]
    pub fn mounts(&self) -> BTreeMap<String, String> {
        let mounts = self.container.sh("cat /proc/self/mounts");
        mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
                let options: Vec<_> = options.split(',').filter(|o| o.len() < 8).collect();
                Some((point.to_owned(), format!("{kind} {}", options.join(","))))
            })
            .collect()
    }
}
