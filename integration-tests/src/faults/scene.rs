//! The container that is disturbed, and the walk over all system calls of a command.

use super::{Disturbance, Disturbed, Point, disturb};
use crate::container::text;
use crate::gpu_host::{Layout, MadeUpHost};
use crate::leak::{self, listing};
use crate::{Config, Container, Output, Runtime, cgroup, confinement, probe, runtime};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What kind of container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary one.
    Plain,
    /// One that asks a made-up machine for a GPU.
    Gpu,
}

/// A container that has something of everything that confines, and what it looks like undisturbed.
#[derive(Debug)]
pub struct Scene {
    /// The container.
    pub container: Container,
    env: Vec<(&'static str, PathBuf)>,
    image: Vec<String>,
    /// What confines its process, and one that joins it.
    confined: (String, String),
    _machine: TempDir,
}

fn config(runtime: Runtime, kind: Kind) -> Config {
    let program = format!(
        "{{ {}\n}} > /report/new 2>&1; mv /report/new /report/done; exec sleep 1000",
        confinement::SCRIPT
    );
    let config = Config::sh(&program)
        .namespace("cgroup", Some(""))
        .mount("/report", "tmpfs", "tmpfs", &["size=64k"])
        .mount("/made/for/it", "tmpfs", "tmpfs", &["ro", "size=64k"])
        .push("/linux/devices", json!({"path": "/dev/x", "type": "c", "major": 195, "minor": 7}))
        .set("/linux/sysctl", json!({"net.core.somaxconn": "100"}))
        .set("/process/oomScoreAdj", json!(100))
        .set("/process/user/additionalGids", json!([7, 8]))
        .set("/process/user/umask", json!(0o27))
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}),
        )
        .hook("createRuntime", json!({"path": "/bin/true"}));
    // Where a v1 host plays a v2 one, the controllers stay with v1.
    let config = match runtime == Runtime::native() {
        true => config
            .set("/linux/resources/pids", json!({"limit": 50}))
            .set("/linux/resources/cpu", json!({"shares": 600})),
        false => config,
    };
    match kind {
        Kind::Plain => config,
        Kind::Gpu => config.push("/process/env", json!("NVIDIA_VISIBLE_DEVICES=0")),
    }
}

impl Scene {
    /// Builds it, and lets it live once.
    pub fn new(runtime: Runtime, kind: Kind) -> Self {
        let machine = tempfile::tempdir().expect("temporary directory");
        let host = MadeUpHost::build(machine.path(), &Layout::with_gpus(2)).expect("a machine");
        let container = Container::new(runtime, config(runtime, kind));
        let nodes = probe::nodes().expect("compile the probe");
        fs::copy(nodes, container.rootfs().join("bin/nodes")).expect("copy the probe");
        let env = vec![("GPURUN_CONFIG", host.config())];
        let mut scene = Self {
            container,
            env,
            image: Vec::new(),
            confined: Default::default(),
            _machine: machine,
        };
        scene.image = listing(&scene.container.rootfs());
        scene.create().silent();
        scene.call(&["start", scene.id()]).silent();
        scene.call(&scene.join_args()).silent();
        let joined = scene.joined().expect("an end").expect("a report");
        scene.confined = (scene.confinement().expect("a report"), joined);
        scene.call(&["delete", "--force", scene.id()]).silent();
        scene.container.assert_gone();
        scene
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        self.container.id()
    }

    /// Calls the runtime, undisturbed.
    pub fn call(&self, args: &[&str]) -> Output {
        let mut command = self.container.command(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        runtime::finish(&mut command, b"")
    }

    /// The arguments of `create`.
    pub fn create_args(&self) -> Vec<String> {
        let bundle = self.container.bundle();
        ["create", "--bundle", text(&bundle), self.id()].map(str::to_owned).to_vec()
    }

    /// `create`, undisturbed.
    pub fn create(&self) -> Output {
        let args = self.create_args();
        self.call(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `create` and `start`, undisturbed.
    pub fn run(&self) {
        self.create().silent();
        self.call(&["start", self.id()]).silent();
    }

    /// Calls the runtime, disturbed.
    pub fn disturb(&self, args: &[&str], also: i64, how: Disturbance<'_>) -> Disturbed {
        disturb(&self.container, &self.env, args, also, how)
    }

    /// The pid of the container's process.
    pub fn pid(&self) -> i64 {
        self.call(&["state", self.id()]).json()["pid"].as_i64().expect("a pid")
    }

    /// What `state` calls it; empty where there is no such container.
    pub fn status(&self) -> String {
        let state = self.call(&["state", self.id()]);
        let state: serde_json::Value = serde_json::from_str(&state.stdout).unwrap_or_default();
        state["status"].as_str().unwrap_or_default().to_owned()
    }

    /// What confines the container's process, which has to run.
    fn confinement(&self) -> Result<String, String> {
        let pid = self.pid();
        let report = PathBuf::from(format!("/proc/{pid}/root/report/done"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !report.exists()
            || fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim() != "sleep")
        {
            if Instant::now() > deadline {
                return Err("its program does not run".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let inside = fs::read_to_string(report).map_err(|error| error.to_string())?;
        Ok(format!("{}\n{inside}", confinement::of_process(pid)))
    }

    fn join_args(&self) -> [&str; 5] {
        ["exec", self.id(), "sh", "-c", JOINED]
    }

    /// What the process that joined last says of itself, once it has ended: it may live longer than
    /// a runtime that was killed. `None` where there was none.
    fn joined(&self) -> Result<Option<String>, String> {
        let pid = self.pid();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.container.cgroup("devices", "cgroup.procs") != Some(pid.to_string()) {
            if Instant::now() > deadline {
                return Err("its process does not end".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(fs::read_to_string(format!("/proc/{pid}/root/report/joined")).ok())
    }

    /// An error if the container's process is confined otherwise than undisturbed.
    pub fn check_confinement(&self) -> Result<(), String> {
        same("the container", &self.confined.0, &self.confinement()?)
    }

    /// `exec` of a program that says what confines it, disturbed; whether the program ran, and an
    /// error if it was confined otherwise than undisturbed.
    pub fn join(&self, how: Disturbance<'_>) -> (Disturbed, Result<bool, String>) {
        let done = self.disturb(&self.join_args(), 0, how);
        let same = match how {
            Disturbance::List => Ok(true),
            _ => self.joined().and_then(|report| match report {
                None => Ok(false),
                Some(report) => same("the process", &self.confined.1, &report).map(|()| true),
            }),
        };
        let same = same.map_err(|reason| format!("{reason}; disturbed: {:?}", done.points.first()));
        (done, same)
    }

    /// An error with what is there of the container after `patience`.
    pub fn check_gone(&self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            let left = self.container.leftovers();
            if left.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("left behind: {left:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let image = listing(&self.container.rootfs()).join("\n");
        same("the image", &self.image.join("\n"), &image)
    }

    /// Waits until the kernel has collected the container's keyring.
    pub fn forget_keyring(&self) {
        crate::wait_for("the end of the keyring", || !self.has_keyring());
    }

    /// Whether there is a session keyring of its name.
    pub fn has_keyring(&self) -> bool {
        fs::read_to_string("/proc/keys").is_ok_and(|keys| keys.contains(self.id()))
    }

    /// `delete --force`, after which nothing is left and the id can be used again.
    pub fn clear(&self) -> Result<(), String> {
        let deleted = self.call(&["delete", "--force", self.id()]);
        if deleted.code != 0 {
            return Err(format!("delete --force: {deleted:?}"));
        }
        self.check_gone(Duration::from_secs(2))
    }

    /// Makes it as it was, whatever happened.
    fn sweep(&self) {
        let _ = self.call(&["delete", "--force", self.id()]);
        cgroup::sweep(self.id());
        for (pid, _) in leak::processes(self.id()) {
            cgroup::kill(pid);
        }
        let _ = fs::remove_dir_all(self.container.state_root().join(self.id()));
    }
}

/// What a joining process says of itself, in a file.
const JOINED: &str = "{ grep -E '^(Uid|Gid|Groups|Umask|Cap|NoNewPrivs|Seccomp|Cpus_allowed:|SigBlk|SigIgn)' /proc/self/status
cat /proc/self/limits /proc/self/environ /proc/self/cgroup /proc/self/oom_score_adj /proc/self/attr/current 2>&1
for ns in cgroup ipc mnt net pid uts; do test $(readlink /proc/1/ns/$ns) = $(readlink /proc/self/ns/$ns) && echo same $ns; done
for fd in /proc/self/fd/*; do echo $fd; done; pwd
nodes make 1:1 1:3 10:200 195:0 195:1 226:128 511:0
} > /report/joined 2>&1";

fn same(what: &str, before: &str, after: &str) -> Result<(), String> {
    match confinement::differences(before, after) {
        lines if lines.is_empty() => Ok(()),
        lines => Err(format!("{what} is another: {lines:?}")),
    }
}

/// An error unless the command ended in an orderly way: no hang, no panic, and one line where it
/// failed.
pub fn orderly(done: &Disturbed, point: &Point) -> Result<(), String> {
    let output = &done.output;
    // Not each time the same call is the Nth one.
    let point = done.points.first().unwrap_or(point);
    if done.hung {
        return Err(format!("hangs: {output:?}"));
    }
    if output.stderr.contains("panicked") && !point.is_memory() {
        return Err(format!("panics: {output:?}"));
    }
    if output.code == 0 || point.is_memory() {
        return Ok(());
    }
    if output.stderr.trim().lines().count() != 1 {
        return Err(format!("no error of one line: {output:?}"));
    }
    Ok(())
}

/// The cgroup versions with the kinds of container; of the four the two that have most to do,
/// unless all calls are tried.
pub fn worlds() -> Vec<(Runtime, Kind)> {
    let all = Runtime::each().into_iter().flat_map(|it| [(it, Kind::Gpu), (it, Kind::Plain)]);
    match most() {
        usize::MAX => all.collect(),
        _ => all.enumerate().filter(|(number, _)| number % 3 == 0).map(|(_, it)| it).collect(),
    }
}

/// How many of the calls of a command are tried.
fn most() -> usize {
    match std::env::var("GPURUN_FAULTS").as_deref() {
        Ok("all") => usize::MAX,
        Ok(number) => number.parse().expect("GPURUN_FAULTS is `all` or a number"),
        Err(_) => 14,
    }
}

/// Calls that confine, or that keep hold of a process: one of each kind is always tried.
const CONFINING: [&str; 23] = [
    "mount_setattr",
    "seccomp",
    "setgroups",
    "setresuid",
    "setresgid",
    "capset",
    "prctl",
    "keyctl",
    "close_range",
    "bpf",
    "unshare",
    "setns",
    "pivot_root",
    "umount2",
    "setsid",
    "sethostname",
    "prlimit64",
    "fsconfig",
    "ioprio_set",
    "personality",
    "mount",
    "rt_sigprocmask",
    "pidfd_open",
];

/// Those of the calls that are to be tried: all, or the confining ones and a few more, which
/// differ from run to run.
fn sample(points: Vec<Point>, whole: bool) -> Vec<Point> {
    let most = most();
    if most == usize::MAX {
        return points;
    }
    let mut seed = std::env::var("GPURUN_FAULTS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("GPURUN_FAULTS_SEED={seed}");
    let mut seen = BTreeSet::new();
    let confines = |point: &Point| {
        let writes = point.call == "write"
            && ["/proc/", "/sys/fs/cgroup"].iter().any(|place| point.detail.starts_with(place));
        writes || CONFINING.contains(&&*point.call)
    };
    let (mut chosen, mut others): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| {
        whole
            && confines(point)
            && seen.insert((
                point.process,
                point.call.clone(),
                match &*point.call {
                    "prctl" | "pidfd_open" => point.detail.clone(),
                    _ => String::new(),
                },
            ))
    });
    for _ in 0..most {
        if others.is_empty() {
            break;
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chosen.push(others.swap_remove(usize::try_from(seed >> 33).unwrap_or(0) % others.len()));
    }
    chosen
}

/// Lists the calls of a command with `list` and tries one after the other with `attempt`, each on a
/// container as it was; fails the test with all that went wrong.
///
/// `whole`: the confining calls come first where not all are tried.
#[track_caller]
pub fn walk(
    runtime: Runtime,
    kind: Kind,
    whole: bool,
    list: impl Fn(&Scene) -> Vec<Point>,
    attempt: impl Fn(&Scene, &Point) -> Result<(), String> + Sync,
) {
    let first = Scene::new(runtime, kind);
    let points: Vec<Point> = list(&first);
    first.sweep();
    assert!(points.len() > 5, "hardly any calls: {points:?}");
    if let Some(point) = points.iter().find(|point| point.call == "unknown") {
        panic!("add this call to faults.c: {point}");
    }
    let points = sample(points.into_iter().filter(|point| point.error != 0).collect(), whole);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = |scene: Scene| {
        while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
            let tried = catch_unwind(AssertUnwindSafe(|| attempt(&scene, point)));
            let tried = tried.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                Err(text.unwrap_or_else(|| "a check of the test failed".to_owned()))
            });
            if let Err(reason) = tried {
                let reason: String = reason.chars().take(1500).collect();
                eprintln!("{runtime:?} {kind:?}: {point}: {reason}");
                failures.lock().expect("failures").push(format!("{point}: {reason}"));
                scene.sweep();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| work(Scene::new(runtime, kind)));
        work(first);
    });
    let failures = failures.into_inner().expect("failures");
    println!("{} calls tried, {} went wrong", points.len(), failures.len());
    assert!(failures.is_empty(), "{runtime:?} {kind:?}: {failures:#?}");
}
