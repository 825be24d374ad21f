//! events: what a container uses, and when it runs out of memory, as lines of JSON.

use integration_tests::cgroup::Version;
use integration_tests::runtime::Running;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, wait_for};

/// The complete lines so far.
fn lines(events: &Running) -> Vec<Value> {
    let text = events.stdout();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn stats_are_printed_once_as_one_line_of_json() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        let output = c.call_on("events", &["--stats"]);
        let start = format!("{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{\"cpu\":", c.id());
        assert!(output.ok().starts_with(&start), "{output:?}");
        assert_eq!(output.ok().lines().count(), 1);
        let data = &output.json()["data"];
        let keys: Vec<&str> =
            data.as_object().expect("an object").keys().map(String::as_str).collect();
        for key in ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "pids"] {
            assert!(data[key].is_object(), "{key} in {keys:?}");
        }
        assert!(keys.contains(&"network_interfaces") && data["network_interfaces"].is_null());
        assert_eq!(data["pids"]["current"], 1);
    }
}

#[test]
fn stats_say_what_the_cgroup_says() {
    let config = Config::idle()
        .set("/linux/resources/memory", json!({"limit": 64 << 20}))
        .set("/linux/resources/pids", json!({"limit": 20}));
    let c = Container::running(Runtime::native(), config);
    let data = c.call_on("events", &["--stats"]).json()["data"].clone();
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20, "{data}");
    assert_eq!(data["pids"], json!({"current": 1, "limit": 20}));
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0));
    let raw = data["memory"]["raw"].as_object().expect("memory.stat");
    assert!(raw.contains_key("pgfault"));
    if c.runtime().cgroup == Version::V1 {
        let percpu = data["cpu"]["usage"]["percpu"].as_array().expect("one number a processor");
        assert!(percpu.iter().filter_map(Value::as_u64).sum::<u64>() > 0);
        assert!(!data["cpuset"]["cpus"].as_array().expect("cpus").is_empty());
    }
}

#[test]
fn a_stream_goes_on_until_the_container_ends() {
    for runtime in Runtime::each() {
        if !Runtime::is_gpurun() && runtime.cgroup == Version::V2 {
            continue; // runc needs a memory controller to stream at all
        }
        let c = Container::running(runtime, Config::idle());
        let events = c.start_call(&["events", "--interval", "50ms", c.id()]);
        wait_for("three lines", || lines(&events).len() >= 3);
        assert!(lines(&events).iter().all(|line| line["type"] == "stats" && line["id"] == c.id()));
        c.stop();
        c.delete(&[]).silent();
        let output = events.wait();
        assert_eq!(output.code, 0, "{output:?}");
    }
}

#[test]
fn running_out_of_memory_is_told() {
    let limit = json!({"limit": 16 << 20, "swap": 16 << 20});
    let config = Config::idle().set("/linux/resources/memory", limit);
    let c = Container::running(Runtime::native(), config);
    let events = c.start_call(&["events", "--interval", "100ms", c.id()]);
    wait_for("a first line", || !lines(&events).is_empty());
    // The variable is what grows.
    c.exec_with(&["--detach"], &["sh", "-c", "x=$(tr '\\0' x </dev/zero)"]).ok();
    let told = || lines(&events).iter().any(|line| *line == json!({"type": "oom", "id": c.id()}));
    wait_for("an oom event", told);
    assert_eq!(c.status(), "running");
    c.stop();
    c.delete(&[]).silent();
    events.wait().ok();
}

#[test]
fn memory_that_ran_out_for_the_init_itself_is_told_before_the_end() {
    gpurun_only!("runc may miss it");
    let limit = json!({"limit": 16 << 20, "swap": 16 << 20});
    let config =
        Config::sh("x=$(tr '\\0' x </dev/zero); exit 1").set("/linux/resources/memory", limit);
    let c = Container::new(Runtime::native(), config);
    c.create().silent();
    let events = c.start_call(&["events", "--interval", "50ms", c.id()]);
    wait_for("a first line", || !lines(&events).is_empty());
    c.start().silent();
    let output = events.wait();
    assert!(output.ok().contains("{\"type\":\"oom\""), "{output:?}");
    c.wait_until("stopped");
}

#[test]
fn a_stopped_or_missing_container_is_refused() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        c.stop();
        for options in [&["--stats"][..], &[]] {
            let reason = format!("container with id {} is not running", c.id());
            c.call_on("events", options).refused(1, &[&reason]);
        }
    }
    let c = Container::native(Config::idle());
    c.call_on("events", &["--stats"]).refused(1, &["container does not exist"]);
}

#[test]
fn an_interval_is_a_positive_duration() {
    let c = Container::idle();
    for none in ["0s", "-1s"] {
        let option = format!("--interval={none}");
        c.call_on("events", &[&option]).refused(1, &["duration interval must be greater than 0"]);
    }
    let output = c.call_on("events", &["--interval", "soon"]);
    assert!(output.code == 1 && output.stderr.contains("interval"), "{output:?}");
}

#[test]
fn a_container_that_is_only_created_or_paused_has_stats() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        c.create().silent();
        let pids = || c.call_on("events", &["--stats"]).json()["data"]["pids"]["current"].as_u64();
        assert!(pids() >= Some(1));
        c.start().silent();
        c.call_on("pause", &[]).silent();
        assert_eq!(pids(), Some(1));
        c.call_on("resume", &[]).silent();
    }
}
