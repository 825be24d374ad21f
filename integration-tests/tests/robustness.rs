//! The runtime killed in the middle of its work: what is left can be deleted, all of it.

use integration_tests::container::text;
use integration_tests::leak::{assert_same, listing};
use integration_tests::{Config, Container, Runtime, gpurun_only, json};
use std::fs;
use std::time::{Duration, Instant};

const POINTS: u32 = 30;

/// A container that has some of everything that could stay behind.
fn elaborate(runtime: Runtime) -> Container {
    let config = Config::idle()
        .namespace("cgroup", Some(""))
        .mount("/data", "tmpfs", "tmpfs", &["size=64k"])
        .push("/linux/devices", json!({"path": "/dev/x", "type": "c", "major": 195, "minor": 0}))
        .set("/linux/sysctl", json!({"net.core.somaxconn": "100"}))
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}))
        .hook("createRuntime", json!({"path": "/bin/true"}));
    let c = Container::new(runtime, config);
    fs::create_dir(c.rootfs().join("data")).unwrap();
    c
}

/// Kills `command` at points spread over its run time; after each, `delete --force` has to clear
/// everything away and the same id has to be usable again.
fn killed_at_any_point(runtime: Runtime, command: &[&str], prepare: impl Fn(&Container)) {
    let c = elaborate(runtime);
    let bundle = c.bundle();
    let mut args = command.to_vec();
    if ["create", "run"].contains(&command[0]) {
        args.extend(["--bundle", text(&bundle)]);
    }
    args.push(c.id());
    prepare(&c);
    let begin = Instant::now();
    c.call(&args).ok();
    let whole = begin.elapsed();
    c.delete(&["--force"]).ok();
    c.assert_gone();
    for point in 0..POINTS {
        prepare(&c);
        // The middle of each of as many equal parts, moved a little so that runs differ.
        let jitter = Duration::from_micros(u64::from(std::process::id() % 97) * 10);
        let delay = whole * (2 * point + 1) / (2 * POINTS) + jitter;
        let mut running = c.start_call(&args);
        std::thread::sleep(delay);
        let _ = running.child.kill();
        let _ = running.wait();
        let deleted = c.delete(&["--force"]);
        assert_eq!(deleted.code, 0, "killed after {delay:?}: {deleted:?}");
        c.assert_gone();
    }
    prepare(&c);
    c.call(&args).ok();
}

#[test]
fn create_killed_at_any_point_can_be_cleared_away() {
    gpurun_only!("runc 1.1 leaves cgroups behind");
    for runtime in Runtime::each() {
        killed_at_any_point(runtime, &["create"], |_| {});
    }
}

#[test]
fn run_killed_at_any_point_can_be_cleared_away() {
    gpurun_only!("runc 1.1 leaves cgroups behind");
    for runtime in Runtime::each() {
        killed_at_any_point(runtime, &["run", "--detach"], |_| {});
    }
}

#[test]
fn start_killed_at_any_point_can_be_cleared_away() {
    gpurun_only!("runc 1.1 leaves cgroups behind");
    for runtime in Runtime::each() {
        killed_at_any_point(runtime, &["start"], |c| c.create().silent());
    }
}

#[test]
fn delete_killed_at_any_point_can_be_repeated() {
    for runtime in Runtime::each() {
        killed_at_any_point(runtime, &["delete", "--force"], Container::run_detached);
    }
}

#[test]
fn exec_killed_at_any_point_does_not_disturb_the_container() {
    let c = Container::idle();
    for point in 0..POINTS {
        let mut running = c.start_call(&["exec", c.id(), "sleep", "300"]);
        std::thread::sleep(Duration::from_millis(u64::from(point)));
        let _ = running.child.kill();
        let _ = running.wait();
        assert_eq!(c.status(), "running");
    }
    assert_eq!(c.exec(&["echo", "fine"]).ok(), "fine");
}

#[test]
fn a_state_that_is_not_readable_is_an_error_and_delete_force_still_clears_it() {
    gpurun_only!("runc 1.1 cannot delete such a container");
    for damage in ["", "{", "{}", "null", "[1,2", "\u{0}\u{0}"] {
        let c = Container::idle();
        let mut damaged = 0;
        for file in walk(&c.state_root()) {
            if file.extension().is_some_and(|e| e == "json") {
                fs::write(&file, damage).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0, "no state file in {:?}", walk(&c.state_root()));
        c.call_on("state", &[]).refused(1, &[]);
        let listed = c.call(&["list"]);
        assert!(!listed.stderr.contains("panicked"), "{listed:?}");
        assert_eq!(c.delete(&["--force"]).code, 0, "{damage:?}");
        c.assert_gone();
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

#[test]
fn many_containers_at_once_all_work() {
    let containers: Vec<Container> = (0..12).map(|_| elaborate(Runtime::native())).collect();
    let calls: Vec<_> = containers
        .iter()
        .map(|c| c.start_call(&["run", "--detach", "--bundle", text(&c.bundle()), c.id()]))
        .collect();
    for call in calls {
        call.wait().ok();
    }
    for c in &containers {
        assert_eq!(c.status(), "running");
    }
}

#[test]
fn a_container_recreated_fifty_times_accumulates_nothing() {
    let c = elaborate(Runtime::native());
    let mut before = Vec::new();
    for round in 0..50 {
        c.run_detached();
        c.delete(&["--force"]).ok();
        if round == 0 {
            before = listing(&c.rootfs());
        }
    }
    assert_same(&before, &listing(&c.rootfs()));
    c.assert_gone();
}
