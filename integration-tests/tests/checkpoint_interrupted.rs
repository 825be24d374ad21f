//! `restore` that is killed, or whose container is deleted meanwhile: nothing stays behind. Needs a
//! criu that works on this kernel.

use integration_tests::checkpoint::{COUNTER, Checkpointed};
use integration_tests::container::text;
use integration_tests::{Config, Runtime, gpurun_only, json, needs_criu, wait_for};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A dumped container of this configuration.
fn dumped(runtime: Runtime, config: Config) -> Checkpointed {
    let it = Checkpointed::running(runtime, config);
    it.counts_beyond(1);
    it.checkpoint(&[]).silent();
    it
}

fn restoring(it: &Checkpointed) -> std::process::Child {
    let (bundle, images) = (it.container.bundle(), it.container.path("images"));
    let places = ["restore", "--detach", "--bundle", text(&bundle), "--image-path", text(&images)];
    let mut command = it.command(&[&places[..], &[it.container.id()]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("restore")
}

#[test]
fn a_restore_and_a_delete_by_force_at_once_leave_a_whole_container_or_none() {
    needs_criu!();
    gpurun_only!("runc has no lock");
    for runtime in Runtime::each() {
        let it = dumped(runtime, Config::sh(COUNTER));
        for round in 0..12 {
            let mut restore = restoring(&it);
            std::thread::sleep(Duration::from_millis(round * 20));
            it.container.delete(&["--force"]).silent();
            if restore.wait().expect("restore").success() {
                it.container.delete(&["--force"]).silent();
            }
            it.container.assert_gone();
        }
    }
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_delete_by_force_does_not_find() {
    needs_criu!();
    gpurun_only!("runc leaves cgroups behind");
    for runtime in Runtime::each() {
        let it = dumped(runtime, Config::sh(COUNTER));
        for round in 0..12 {
            let mut restore = restoring(&it);
            std::thread::sleep(Duration::from_millis(round * 20));
            let _ = restore.kill();
            restore.wait().expect("restore");
            it.container.delete(&["--force"]).silent();
            it.container.assert_gone();
        }
    }
}

/// criu freezes the container's cgroup while it seizes the processes.
#[test]
fn a_dump_whose_criu_is_killed_leaves_the_container_running() {
    needs_criu!();
    gpurun_only!("runc leaves it frozen");
    let it = Checkpointed::running(Runtime::native(), Config::sh(COUNTER));
    it.counts_beyond(1);
    let all = fs::read_to_string(format!("/proc/{}/cgroup", it.container.pid())).expect("cgroup");
    let place = |mark: &str| all.lines().find_map(|line| Some(line.split_once(mark)?.1.to_owned()));
    let (file, frozen) = match place(":freezer:") {
        Some(path) => (format!("/sys/fs/cgroup/freezer{path}/freezer.state"), "F"),
        None => (format!("/sys/fs/cgroup{}/cgroup.freeze", place("0::").expect("v2")), "1"),
    };
    let images = it.container.path("images");
    let args = ["checkpoint", "--leave-running", "--image-path", text(&images), it.container.id()];
    let mut command = it.command(&args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut checkpoint = command.spawn().expect("checkpoint");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(&file).expect("freezer").starts_with(frozen) {
        assert!(Instant::now() < deadline && checkpoint.try_wait().expect("wait").is_none());
    }
    let pid = checkpoint.id();
    let criu = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    assert!(Command::new("kill").arg("-9").arg(criu.trim()).status().expect("kill").success());
    assert!(!checkpoint.wait().expect("wait").success());
    assert_eq!(it.container.status(), "running");
}

#[test]
fn a_delete_by_force_ends_a_restore_whose_hook_hangs() {
    needs_criu!();
    gpurun_only!("runc has no lock");
    let directory = tempfile::tempdir().expect("temporary directory");
    let (armed, began) = (directory.path().join("armed"), directory.path().join("began"));
    let script =
        format!("test -e {} || exit 0; touch {}; exec sleep 1000", text(&armed), text(&began));
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let it = dumped(Runtime::native(), Config::sh(COUNTER).hook("createRuntime", hook));
    fs::write(&armed, "").expect("file");
    let mut restore = restoring(&it);
    wait_for("the hook", || began.exists());
    it.container.delete(&["--force"]).silent();
    assert!(!restore.wait().expect("restore").success());
    it.container.assert_gone();
}
