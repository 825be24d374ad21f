//! One cgroup, two containers: whoever has it keeps it, and nobody touches another's.

use integration_tests::container::text;
use integration_tests::{Config, Container, Output, Runtime, Value, cgroup, gpurun_only, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// With the cgroup of another: the same name, below another `--root`.
fn in_the_cgroup_of(other: &Container, config: Config) -> Config {
    config.set("/linux/cgroupsPath", format!("/{}", other.id()).into())
}

fn successor(first: &Container) -> Container {
    Container::new(first.runtime(), in_the_cgroup_of(first, Config::idle()))
}

fn file(c: &Container, name: &str) -> PathBuf {
    c.state_root().join(c.id()).join(name)
}

/// Changes a JSON file of the container's state.
fn edit(c: &Container, name: &str, change: impl FnOnce(&mut Value)) {
    let path = file(c, name);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_stopped_container_does_not_touch_the_one_that_has_its_cgroup_now() {
    gpurun_only!("runc kills it");
    for runtime in Runtime::each() {
        // With a pid namespace of its own, and without.
        for config in [Config::idle(), Config::idle().namespace("pid", None)] {
            let first = Container::running(runtime, config);
            first.stop();
            let second = successor(&first);
            second.run_detached();
            let pid = second.pid();

            first.kill("KILL").refused(1, &["not running"]);
            first.call(&["kill", "--all", first.id(), "KILL"]).silent();
            first.call(&["kill", "--all", first.id(), "TERM"]).silent();
            let listed = first.call_on("ps", &["--format", "json"]);
            assert!(!listed.stdout.contains(&pid.to_string()), "{listed:?}");
            let log = first.path("log");
            first.call(&["--log", text(&log), "delete", first.id()]).silent();
            let said = fs::read_to_string(&log).unwrap();
            assert!(said.contains("another container"), "{said}");
            assert_eq!((second.status().as_str(), second.pid()), ("running", pid));
            second.exec(&["true"]).silent();
            second.delete(&["--force"]).silent();
            second.assert_gone();
        }
    }
}

#[test]
fn neither_does_one_whose_state_is_damaged_or_whose_create_was_killed() {
    gpurun_only!("runc kills it");
    for runtime in Runtime::each() {
        for damaged in [true, false] {
            let first = Container::running(runtime, Config::idle());
            first.stop();
            if damaged {
                fs::write(file(&first, "state.json"), "{").unwrap();
            } else {
                // What the state is until create has ended.
                edit(&first, "state.json", |state| {
                    state["init"] = Value::Null;
                    state["cgroup"].as_object_mut().unwrap().remove("id");
                });
            }
            let second = successor(&first);
            second.run_detached();
            first.delete(&["--force"]).ok();
            assert_eq!(second.status(), "running");
        }
    }
}

#[test]
fn a_container_of_an_older_gpurun_which_did_not_remember_its_cgroup_is_deleted() {
    gpurun_only!("the files are gpurun's");
    for runtime in Runtime::each() {
        for damaged in [false, true] {
            let c = Container::running(runtime, Config::idle());
            edit(&c, "state.json", |state| {
                drop(state["cgroup"].as_object_mut().unwrap().remove("id"))
            });
            edit(&c, "traces", |traces| {
                drop(traces["cgroup"].as_object_mut().unwrap().remove("id"))
            });
            assert_eq!(c.status(), "running");
            c.exec(&["true"]).silent();
            if damaged {
                fs::write(file(&c, "state.json"), "{").unwrap();
            }
            c.delete(&["--force"]).ok();
            c.assert_gone();
        }
    }
}

#[test]
fn of_two_creates_in_one_cgroup_at_once_exactly_one_wins_with_its_own_device_rules() {
    gpurun_only!("runc 1.1 only warns");
    let open = json!([{"allow": true, "access": "rwm"}]);
    for runtime in Runtime::each() {
        let confined = Container::new(runtime, Config::idle());
        let wide = Config::idle().set("/linux/resources/devices", open.clone());
        let wide = Container::new(runtime, in_the_cgroup_of(&confined, wide));
        for _ in 0..20 {
            let calls = [&confined, &wide]
                .map(|c| c.start_call(&["create", "--bundle", text(&c.bundle()), c.id()]));
            let done: [Output; 2] = calls.map(|call| call.wait());
            assert_eq!(done.iter().filter(|output| output.code == 0).count(), 1, "{done:?}");
            for (output, c) in done.iter().zip([&confined, &wide]) {
                if output.code == 0 {
                    assert_eq!(c.status(), "created");
                    let rules = c.cgroup("devices", "devices.list");
                    let all = rules.is_some_and(|rules| rules.starts_with("a "));
                    assert!(!all || c.id() == wide.id(), "the rules of the other");
                } else {
                    output.refused(1, &["cgroup is not empty"]);
                    c.call_on("state", &[]).refused(1, &["does not exist"]);
                }
            }
            confined.delete(&["--force"]).silent();
            wide.delete(&["--force"]).silent();
            confined.assert_gone();
        }
    }
}

#[test]
fn many_creates_below_one_parent_that_is_made_with_them_all_succeed() {
    for runtime in Runtime::each() {
        let first = Container::new(runtime, Config::idle());
        let rest: Vec<_> = (0..7).map(|_| Container::new(runtime, Config::idle())).collect();
        let all: Vec<_> = std::iter::once(&first).chain(&rest).collect();
        for c in &all {
            let path = format!("/{}-pod/{}", first.id(), c.id());
            c.configure(Config::idle().set("/linux/cgroupsPath", path.into()));
        }
        for _ in 0..3 {
            let calls = all
                .iter()
                .map(|c| c.start_call(&["create", "--bundle", text(&c.bundle()), c.id()]))
                .collect::<Vec<_>>();
            calls.into_iter().for_each(|call| call.wait().silent());
            all.iter().for_each(|c| c.delete(&["--force"]).silent());
            let left: BTreeSet<PathBuf> = cgroup::containing(&format!("{}-pod/", first.id()));
            assert!(left.is_empty(), "{left:?}");
            cgroup::sweep(&format!("{}-pod", first.id()));
        }
    }
}

#[test]
fn an_empty_cgroup_of_that_name_is_made_again() {
    gpurun_only!("runc takes it as it is");
    for runtime in Runtime::each() {
        let first = Container::running(runtime, Config::idle());
        let controller = if runtime.cgroup == cgroup::Version::V1 { "devices" } else { "" };
        let directory = cgroup::directory(runtime.cgroup, controller, first.pid()).unwrap();
        first.stop();
        fs::create_dir_all(directory.join("left/over")).unwrap();
        let before = fs::metadata(&directory).unwrap().ino();
        let second = successor(&first);
        second.run_detached();
        assert_ne!(fs::metadata(&directory).unwrap().ino(), before);
        assert!(!directory.join("left").exists());
        second.delete(&["--force"]).silent();
    }
}

#[test]
fn a_restore_that_fails_kills_nobody_who_has_its_cgroup() {
    gpurun_only!("what it says differs");
    for runtime in Runtime::each() {
        let first = Container::running(runtime, Config::idle());
        let second = successor(&first);
        let images = second.path("images");
        fs::create_dir(&images).unwrap();
        let bundle = second.bundle();
        let args = ["restore", "--image-path", text(&images), "--bundle", text(&bundle)];
        // With a criu or without.
        assert_ne!(second.call(&[&args[..], &[second.id()]].concat()).code, 0);
        assert_eq!(first.status(), "running");
        second.call_on("state", &[]).refused(1, &["does not exist"]);
    }
}
