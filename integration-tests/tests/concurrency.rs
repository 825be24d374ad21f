//! Several commands at once on one container: one wins, the others say so, nothing stays behind.

use integration_tests::container::text;
use integration_tests::{Config, Container, Output, Runtime, gpurun_only, json, wait_for};
use std::fs;
use std::path::Path;
use std::time::Duration;

const ROUNDS: u32 = 15;

fn create(c: &Container) -> integration_tests::runtime::Running {
    c.start_call(&["create", "--bundle", text(&c.bundle()), c.id()])
}

#[track_caller]
fn orderly(output: &Output, phrases: &[&str]) {
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    if output.code != 0 {
        let known = phrases.iter().any(|phrase| output.stderr.contains(phrase));
        assert!(known, "none of {phrases:?} in {output:?}");
    }
}

#[test]
fn of_many_creates_at_once_exactly_one_wins() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        for _ in 0..5 {
            let calls: Vec<_> = (0..6).map(|_| create(&c)).collect();
            let done: Vec<Output> = calls.into_iter().map(|call| call.wait()).collect();
            assert_eq!(done.iter().filter(|output| output.code == 0).count(), 1, "{done:?}");
            for output in &done {
                orderly(output, &["container with given ID already exists"]);
            }
            assert_eq!(c.status(), "created");
            c.delete(&[]).silent();
            c.assert_gone();
        }
    }
}

#[test]
fn a_create_and_a_delete_by_force_at_once_leave_a_whole_container_or_none() {
    gpurun_only!("runc has no lock");
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        for round in 0..ROUNDS {
            let creating = create(&c);
            std::thread::sleep(Duration::from_millis(u64::from(round) * 2));
            let deleted = c.delete(&["--force"]);
            assert_eq!(deleted.code, 0, "{deleted:?}");
            let created = creating.wait();
            orderly(&created, &["container"]);
            if created.code == 0 {
                // The delete came first, or last.
                let state = c.call_on("state", &[]);
                orderly(&state, &["container does not exist"]);
                assert!(state.code != 0 || state.stdout.contains("created"), "{state:?}");
                c.delete(&["--force"]).ok();
            }
            c.assert_gone();
        }
    }
}

#[test]
fn a_delete_by_force_ends_a_create_that_takes_long_and_says_so_where_it_cannot() {
    gpurun_only!("runc has no lock");
    // One in the container, where delete can kill it, and one on the host.
    for kind in ["createContainer", "createRuntime"] {
        let c = Container::native(Config::idle());
        let (began, pid) = (c.path("began"), c.path("pid"));
        let script = format!("echo $$ > {}; mv {0} {}; exec sleep 1000", text(&pid), text(&began));
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        c.configure(Config::idle().hook(kind, hook));
        let creating = create(&c);
        wait_for("the hook", || began.exists());
        c.delete(&[]).refused(1, &["at work", "process"]);
        c.delete(&["--force"]).silent();
        let created = creating.wait();
        assert_eq!(created.code, 1, "{created:?}");
        c.assert_gone();
        if kind == "createRuntime" {
            assert!(created.stderr.contains("createRuntime hook #0"), "{created:?}");
            let pid = fs::read_to_string(&began).unwrap();
            assert!(!Path::new("/proc").join(pid.trim()).exists(), "the hook goes on");
        }
    }
}

#[test]
fn a_foreign_cgroup_is_never_killed_by_deleting_a_create_that_was_refused() {
    let first = Container::idle();
    let path = format!("/{}", first.id());
    let second = Container::native(Config::idle().set("/linux/cgroupsPath", path.into()));
    for _ in 0..10 {
        let creating = create(&second);
        second.delete(&["--force"]).ok();
        creating.wait();
        second.delete(&["--force"]).ok();
    }
    assert_eq!(first.status(), "running");
}

#[test]
fn of_many_starts_at_once_exactly_one_wins() {
    let c = Container::native(Config::sh("echo x >> /tmp/starts; exec sleep 1000"));
    for round in 1..=5 {
        c.create().silent();
        let calls: Vec<_> = (0..6).map(|_| c.start_call(&["start", c.id()])).collect();
        let done: Vec<Output> = calls.into_iter().map(|call| call.wait()).collect();
        assert_eq!(done.iter().filter(|output| output.code == 0).count(), 1, "{done:?}");
        for output in &done {
            orderly(output, &["cannot start an already running container"]);
        }
        let starts = || fs::read_to_string(c.rootfs().join("tmp/starts")).unwrap_or_default();
        wait_for("the program", || starts().len() == 2 * round);
        c.delete(&["--force"]).silent();
    }
}

#[test]
fn a_start_that_is_killed_leaves_a_container_that_runs_or_can_be_started() {
    gpurun_only!("runc has no such promise");
    let c = Container::native(Config::idle());
    for round in 0..40 {
        c.create().silent();
        let mut starting = c.start_call(&["start", c.id()]);
        std::thread::sleep(Duration::from_micros(250 * round));
        let _ = starting.child.kill();
        starting.wait();
        // A byte that has been written is read in a moment.
        let comm = || {
            let path = format!("/proc/{}/comm", c.pid());
            fs::read_to_string(path).unwrap_or_default().trim().to_owned()
        };
        match c.status().as_str() {
            "created" => {
                let started = c.start();
                orderly(&started, &["already running", "does not wait for a start"]);
            }
            status => assert_eq!(status, "running"),
        }
        wait_for("the program", || comm() == "sleep");
        assert_eq!(c.status(), "running");
        c.delete(&["--force"]).silent();
    }
}

#[test]
fn exec_and_delete_at_once_leave_nothing() {
    for runtime in Runtime::each() {
        let shared = Config::idle().namespace("pid", None);
        for config in [Config::idle(), shared] {
            let c = Container::new(runtime, config);
            for round in 0..ROUNDS {
                c.run_detached();
                let calls: Vec<_> =
                    (0..3).map(|_| c.start_call(&["exec", c.id(), "sleep", "1000"])).collect();
                std::thread::sleep(Duration::from_millis(u64::from(round) * 2));
                let deleted = c.delete(&["--force"]);
                assert_eq!(deleted.code, 0, "{deleted:?}");
                for call in calls {
                    let output = call.wait();
                    assert_ne!(output.code, 0, "{output:?}");
                    if output.code != 137 {
                        orderly(&output, &["exec failed"]);
                    }
                }
                c.assert_gone();
            }
        }
    }
}

/// A frozen process does not die on cgroup v1; and a `pause` that waits for what a `kill` has just
/// let go on would wait in vain.
#[test]
fn pause_and_kill_at_once_leave_a_container_that_has_stopped() {
    gpurun_only!("runc may leave it frozen, with a signal that nobody delivers");
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        for round in 0..ROUNDS {
            c.run_detached();
            let pausing = c.start_call(&["pause", c.id()]);
            std::thread::sleep(Duration::from_micros(u64::from(round) * 200));
            let killed = c.kill("KILL");
            assert_eq!(killed.code, 0, "{killed:?}");
            let paused = pausing.wait();
            orderly(&paused, &["not running", "No such"]);
            c.wait_until("stopped");
            c.delete(&[]).silent();
        }
    }
}

#[test]
fn of_updates_at_once_none_is_forgotten() {
    gpurun_only!("runc has no lock");
    let c = Container::native(Config::idle().set("/linux/resources", json!({})));
    c.run_detached();
    for round in 20..35 {
        let (pids, shares) = (round.to_string(), (round * 10).to_string());
        let calls = [
            c.start_call(&["update", "--pids-limit", &pids, c.id()]),
            c.start_call(&["update", "--cpu-share", &shares, c.id()]),
        ];
        calls.into_iter().for_each(|call| call.wait().silent());
        // What a later update, or the limits' restoration when one is refused, starts from.
        let stored = fs::read(c.state_root().join(c.id()).join("config.json")).unwrap();
        let spec: integration_tests::Value = serde_json::from_slice(&stored).unwrap();
        let limits = &spec["linux"]["resources"];
        assert_eq!(
            (&limits["pids"]["limit"], &limits["cpu"]["shares"]),
            (&json!(round), &json!(round * 10))
        );
    }
}

#[test]
fn kill_delete_and_the_end_of_the_program_at_once_are_all_orderly() {
    let c = Container::native(Config::sh("sleep 0.02"));
    for round in 0..ROUNDS {
        c.run_detached();
        std::thread::sleep(Duration::from_millis(u64::from(round) * 2));
        let kill = c.start_call(&["kill", c.id(), "TERM"]);
        let first = c.start_call(&["delete", "--force", c.id()]);
        let second = c.start_call(&["delete", "--force", c.id()]);
        orderly(&kill.wait(), &["container not running", "container does not exist"]);
        assert_eq!((first.wait().code, second.wait().code), (0, 0));
        c.assert_gone();
    }
}

#[test]
fn a_container_whose_state_is_damaged_is_deleted_with_its_processes_and_cgroup() {
    gpurun_only!("runc cannot delete such a container");
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        c.run_detached();
        let state = c.state_root().join(c.id()).join("state.json");
        fs::write(&state, "{\"version\": 1, \"id\": ").unwrap();
        c.call_on("state", &[]).refused(1, &["state.json", "damaged", "delete --force"]);
        c.delete(&["--force"]).ok();
        c.assert_gone();
    }
}
