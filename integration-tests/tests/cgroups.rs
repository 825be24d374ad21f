//! Cgroups in v1 and v2: limits, update, pause, ps.

use integration_tests::cgroup::{self, Version};
use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, skipped, wait_for};
use std::fs;
use std::time::Duration;

/// One limit: how a bundle asks for it, where it lands.
struct Limit {
    controller: &'static str,
    pointer: &'static str,
    value: Value,
    v1: (&'static str, &'static str),
    v2: (&'static str, &'static str),
}

fn limits() -> Vec<Limit> {
    let limit = |controller, pointer, value, v1, v2| Limit { controller, pointer, value, v1, v2 };
    vec![
        limit(
            "memory",
            "memory/limit",
            json!(67_108_864),
            ("memory.limit_in_bytes", "67108864"),
            ("memory.max", "67108864"),
        ),
        limit(
            "memory",
            "memory/reservation",
            json!(33_554_432),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("memory.low", "33554432"),
        ),
        limit("pids", "pids/limit", json!(77), ("pids.max", "77"), ("pids.max", "77")),
        limit("cpu", "cpu/shares", json!(512), ("cpu.shares", "512"), ("cpu.weight", "")),
        limit(
            "cpu",
            "cpu/quota",
            json!(20_000),
            ("cpu.cfs_quota_us", "20000"),
            ("cpu.max", "20000 100000"),
        ),
        limit(
            "cpu",
            "cpu/period",
            json!(50_000),
            ("cpu.cfs_period_us", "50000"),
            ("cpu.max", "max 50000"),
        ),
        limit("cpuset", "cpu/cpus", json!("0"), ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        limit("cpuset", "cpu/mems", json!("0"), ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    ]
}

/// Whether this host offers the controller, and in it the file, in this cgroup version.
fn offered(runtime: Runtime, c: &Container, controller: &str, file: &str) -> bool {
    let directory = cgroup::directory(runtime.cgroup, controller, c.pid());
    let there = directory.is_some_and(|directory| directory.join(file).exists());
    if !there {
        skipped(&format!("{file} is not offered in {:?}", runtime.cgroup));
    }
    there
}

#[test]
fn each_limit_lands_in_its_file() {
    for runtime in Runtime::each() {
        let probe = Container::running(runtime, Config::idle());
        for limit in limits() {
            let (file, expected) = if runtime.cgroup == Version::V1 { limit.v1 } else { limit.v2 };
            if !offered(runtime, &probe, limit.controller, file) {
                continue;
            }
            let pointer = format!("/linux/resources/{}", limit.pointer);
            let c = Container::running(runtime, Config::idle().set(&pointer, limit.value));
            let seen = c.cgroup(limit.controller, file).unwrap();
            if expected.is_empty() {
                assert_ne!(seen, "100", "{file} keeps its default");
            } else {
                assert_eq!(seen, expected, "{file}");
            }
        }
    }
}

#[test]
fn a_container_is_in_its_own_cgroup_in_every_hierarchy_before_it_starts() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        c.create().silent();
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        let wanted: Vec<&str> = match runtime.cgroup {
            Version::V1 => ["memory", "devices", "freezer", "pids", "cpuset"]
                .into_iter()
                .filter(|name| membership.contains(&format!(":{name}:")))
                .collect(),
            Version::V2 => vec![""],
        };
        for controller in wanted {
            let line = membership.lines().find(|line| line.contains(&format!(":{controller}:")));
            let line = line.unwrap_or_default();
            assert!(line.ends_with(&format!(":/{}", c.id())), "{controller}: {membership}");
        }
    }
}

#[test]
fn a_cgroup_path_may_be_deep_relative_or_missing() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        for path in [format!("/{0}-top/a/b", c.id()), format!("{}-relative", c.id())] {
            c.configure(Config::idle().set("/linux/cgroupsPath", path.as_str().into()));
            c.run_detached();
            let membership = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
            let name = path.trim_start_matches('/');
            assert!(membership.contains(name), "{path}: {membership}");
            c.delete(&["--force"]).ok();
            assert!(
                !cgroup::containing(c.id()).iter().any(|left| left.ends_with(name)),
                "the container's own cgroup is gone"
            );
            cgroup::sweep(c.id());
        }
        // Without a path the id is the name.
        c.configure(Config::idle());
        let config = c.bundle().join("config.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        value["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        fs::write(&config, value.to_string()).unwrap();
        c.run_detached();
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        assert!(membership.contains(c.id()), "{membership}");
    }
}

#[test]
fn a_cgroup_path_does_not_lead_out_of_the_hierarchy() {
    for path in ["/../../../../tmp/x", "../../x", "/a/../../.."] {
        let c = Container::native(Config::idle());
        let path = format!("{path}/{}", c.id());
        c.configure(Config::idle().set("/linux/cgroupsPath", path.as_str().into()));
        let _ = c.create();
        assert!(!fs::exists(format!("/tmp/x/{}", c.id())).unwrap());
        c.delete(&["--force"]).ok();
        c.assert_gone();
    }
}

#[test]
fn the_processes_of_a_container_cannot_exceed_their_number() {
    for runtime in Runtime::each() {
        let probe = Container::running(runtime, Config::idle());
        if !offered(runtime, &probe, "pids", "pids.max") {
            continue;
        }
        let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo end";
        let c = Container::new(
            runtime,
            Config::sh(script).set("/linux/resources/pids/limit", 5.into()),
        );
        let output = c.run();
        assert!(output.stderr.contains("can't fork"), "{output:?}");
    }
}

#[test]
fn a_limit_that_cannot_be_is_refused_and_leaves_nothing() {
    for (pointer, value) in [
        ("cpu/cpus", json!("4000-4001")),
        ("cpu/cpus", json!("one")),
        ("cpu/quota", json!(1)),
        ("memory/limit", json!("64M")),
    ] {
        let c =
            Container::native(Config::idle().set(&format!("/linux/resources/{pointer}"), value));
        c.create().refused(1, &[]);
        c.assert_gone();
    }
}

#[test]
fn update_changes_limits_by_json_and_by_flag() {
    for runtime in Runtime::each() {
        let config = Config::idle();
        let c = Container::running(runtime, config);
        let file = |v1, v2| {
            if runtime.cgroup == Version::V1 { v1 } else { v2 }
        };
        let memory = file("memory.limit_in_bytes", "memory.max");
        let quota = file("cpu.cfs_quota_us", "cpu.max");
        let cgroup = |controller, name| c.cgroup(controller, name).unwrap();
        if offered(runtime, &c, "pids", "pids.max") {
            let update = json!({"pids": {"limit": 20}}).to_string();
            c.call_with(&["update", "--resources=-", c.id()], update.as_bytes()).silent();
            assert_eq!(cgroup("pids", "pids.max"), "20");
            c.call_with(&["update", "-r", "-", c.id()], update.replace("20", "21").as_bytes())
                .silent();
            assert_eq!(cgroup("pids", "pids.max"), "21");
            c.call(&["update", "--pids-limit", "30", c.id()]).silent();
            assert_eq!(cgroup("pids", "pids.max"), "30");
            let path = c.path("resources.json");
            fs::write(&path, json!({"pids": {"limit": 40}}).to_string()).unwrap();
            c.call(&["update", "--resources", text(&path), c.id()]).silent();
            assert_eq!(cgroup("pids", "pids.max"), "40");
        }
        if offered(runtime, &c, "memory", memory) {
            c.call(&["update", "--memory", "67108864", c.id()]).silent();
            assert_eq!(cgroup("memory", memory), "67108864");
            c.call(&["update", "--memory", "50M", c.id()]).silent();
            assert_eq!(cgroup("memory", memory), "52428800");
        }
        if offered(runtime, &c, "cpu", quota) {
            c.call(&["update", "--cpu-quota", "30000", "--cpu-period", "100000", c.id()]).silent();
            assert!(cgroup("cpu", quota).starts_with("30000"));
            c.call(&["update", "--cpu-share", "256", c.id()]).silent();
            // What is not named stays.
            assert!(cgroup("cpu", quota).starts_with("30000"));
        }
        assert_eq!(c.status(), "running");
    }
}

#[test]
fn an_update_that_cannot_be_is_refused() {
    let c = Container::idle();
    for bad in ["", "{", "[]", "{\"pids\": 3}", "{\"memory\": {\"limit\": \"x\"}}"] {
        c.call_with(&["update", "--resources=-", c.id()], bad.as_bytes()).refused(1, &[]);
    }
    c.call(&["update", "--resources=/no/such/file", c.id()]).refused(1, &["/no/such/file"]);
    let output = c.call(&["update", "--pids-limit", "many", c.id()]);
    assert!(output.code != 0 && !output.stderr.contains("panicked"), "{output:?}");
    assert_eq!(c.status(), "running");
}

#[test]
fn an_update_changes_the_limits_of_a_created_container() {
    let c = Container::native(Config::idle());
    c.create().silent();
    if c.cgroup("pids", "pids.max").is_none() {
        return skipped("no pids controller");
    }
    c.call(&["update", "--pids-limit", "30", c.id()]).silent();
    assert_eq!(c.cgroup("pids", "pids.max").as_deref(), Some("30"));
}

#[test]
fn pause_stops_every_process_and_resume_lets_them_go_on() {
    for runtime in Runtime::each() {
        let script = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.01; done";
        let c = Container::running(runtime, Config::sh(script));
        let count = || fs::read_to_string(c.rootfs().join("tmp/count")).unwrap_or_default();
        let goes_on = || {
            let before = count();
            std::thread::sleep(Duration::from_millis(150));
            before != count()
        };
        wait_for("counting", || count().len() > 1);
        c.call_on("pause", &[]).silent();
        assert_eq!(c.status(), "paused");
        assert!(!goes_on());
        c.call_on("resume", &[]).silent();
        assert_eq!(c.status(), "running");
        wait_for("counting again", goes_on);
    }
}

#[test]
fn pausing_or_resuming_what_is_not_there_to_be_is_refused() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        c.call_on("resume", &[]).refused(1, &["not paused"]);
        c.call_on("pause", &[]).silent();
        c.call_on("pause", &[]).refused(1, &["not running"]);
        c.call_on("resume", &[]).silent();
        c.stop();
        c.call_on("pause", &[]).refused(1, &["not running"]);
        c.call_on("resume", &[]).refused(1, &[]);
    }
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        c.call_on("pause", &[]).silent();
        c.delete(&["--force"]).ok();
        c.assert_gone();
    }
}

#[test]
fn a_paused_container_that_is_killed_has_stopped() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        c.call_on("pause", &[]).silent();
        c.kill("KILL").silent();
        c.wait_until("stopped");
        c.delete(&[]).ok();
        c.assert_gone();
    }
}

#[test]
fn ps_shows_the_processes_of_the_container_and_no_others() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::sh("sleep 900 & sleep 901 & wait"));
        let pids = || -> Vec<i64> {
            let list = c.call_on("ps", &["--format", "json"]).json();
            list.as_array().unwrap().iter().map(|pid| pid.as_i64().unwrap()).collect()
        };
        wait_for("three processes", || pids().len() == 3);
        assert!(pids().contains(&c.pid()));
        for pid in pids() {
            assert!(fs::exists(format!("/proc/{pid}")).unwrap(), "pids are the host's");
        }
        let table = c.call_on("ps", &[]);
        let lines: Vec<&str> = table.ok().lines().collect();
        assert!(lines[0].contains("PID") && lines[0].contains("CMD"), "{table:?}");
        assert_eq!(lines.len(), 4, "{table:?}");
        assert!(table.stdout.contains("sleep 900") && table.stdout.contains("sleep 901"));
        let chosen = c.call(&["ps", c.id(), "-eo", "pid,args"]);
        assert!(chosen.ok().contains("sleep 900"), "{chosen:?}");
        c.call_on("ps", &["--format", "yaml"]).refused(1, &["format"]);
    }
}

#[test]
fn the_processes_of_exec_are_listed_too() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        c.exec_with(&["--detach"], &["sleep", "800"]).ok();
        let list = c.call_on("ps", &["--format", "json"]).json();
        assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
    }
}

#[test]
fn a_cgroup_made_inside_the_container_is_removed_with_it() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        let controller = if runtime.cgroup == Version::V1 { "pids" } else { "" };
        let Some(directory) = cgroup::directory(runtime.cgroup, controller, c.pid()) else {
            skipped("no pids controller");
            continue;
        };
        fs::create_dir_all(directory.join("child/grandchild")).unwrap();
        c.stop();
        c.delete(&[]).ok();
        c.assert_gone();
    }
}

#[test]
fn a_cgroup_that_already_exists_is_used_and_an_occupied_one_is_not_taken_over() {
    gpurun_only!("runc 1.1 only warns");
    let first = Container::idle();
    let second = Container::native(
        Config::idle().set("/linux/cgroupsPath", format!("/{}", first.id()).into()),
    );
    second.create().refused(1, &["cgroup"]);
    assert_eq!(first.status(), "running");
}

#[test]
fn v2_settings_by_file_name_are_written() {
    for runtime in Runtime::each().into_iter().filter(|r| r.cgroup == Version::V2) {
        let config =
            Config::idle().set("/linux/resources/unified", json!({"cgroup.max.descendants": "7"}));
        let c = Container::running(runtime, config);
        assert_eq!(c.cgroup("", "cgroup.max.descendants").as_deref(), Some("7"));
        for bad in [json!({"no.such.file": "1"}), json!({"../cgroup.procs": "1"})] {
            let c = Container::new(runtime, Config::idle().set("/linux/resources/unified", bad));
            c.create().refused(1, &[]);
            c.assert_gone();
        }
    }
}
