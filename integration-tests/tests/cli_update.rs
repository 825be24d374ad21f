//! update: other limits for a container that runs, by flag and by JSON.

use integration_tests::cgroup::Version;
use integration_tests::{Config, Container, Runtime, gpurun_only, json, skipped};

/// A container with the limits that the tests change.
fn limited() -> Container {
    let resources = json!({
        "memory": {"limit": 32 << 20, "swap": 64 << 20, "reservation": 24 << 20},
        "cpu": {"shares": 100, "quota": 500_000, "period": 1_000_000},
        "pids": {"limit": 20},
        "devices": [{"allow": false, "access": "rwm"}],
    });
    let config = Config::idle().set("/linux/resources", resources);
    Container::running(Runtime::native(), config)
}

#[track_caller]
fn check(c: &Container, controller: &str, file: &str, expected: &str) {
    assert_eq!(c.cgroup(controller, file).as_deref(), Some(expected), "{file}");
}

fn is_v2() -> bool {
    Version::of_host() == Version::V2
}

/// The limit on memory, and the one on memory and swap together, in MiB. (v2 limits swap alone.)
#[track_caller]
fn check_memory(c: &Container, memory: u64, both: u64) {
    let files = match is_v2() {
        true => [("memory.max", memory), ("memory.swap.max", both - memory)],
        false => [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", both)],
    };
    for (file, limit) in files {
        check(c, "memory", file, &(limit << 20).to_string());
    }
}

#[test]
fn options_may_follow_the_id_and_have_one_dash() {
    let c = limited();
    c.call(&["update", c.id(), "-memory", "50M", "--memory-swap=80M", "-pids-limit=10"]).silent();
    check_memory(&c, 50, 80);
    check(&c, "pids", "pids.max", "10");
}

#[test]
fn minus_one_lifts_a_limit_and_no_process_means_one() {
    let c = limited();
    c.call(&["update", "--pids-limit", "-1", c.id()]).silent();
    check(&c, "pids", "pids.max", "max");
    c.call(&["update", "--cpu-quota", "-1", c.id()]).silent();
    if is_v2() {
        check(&c, "cpu", "cpu.max", "max 1000000");
    } else {
        check(&c, "cpu", "cpu.cfs_quota_us", "-1");
        check(&c, "cpu", "cpu.cfs_period_us", "1000000");
    }
    c.call(&["update", "--memory", "-1", c.id()]).silent();
    if is_v2() {
        check(&c, "memory", "memory.max", "max");
        check(&c, "memory", "memory.swap.max", "max");
    } else {
        let limit = c.cgroup("memory", "memory.limit_in_bytes").expect("a limit");
        assert!(limit.parse::<u64>().expect("a number") > 1 << 60, "{limit}");
    }
    if Runtime::is_gpurun() {
        // runc 1.1 lifts it.
        c.call(&["update", "--pids-limit", "0", c.id()]).silent();
        check(&c, "pids", "pids.max", "1");
    }
}

#[test]
fn memory_and_swap_may_go_up_and_down_in_any_order() {
    let c = limited();
    for (memory, both) in [(30, 50), (60, 80), (20, 40), (40, 40)] {
        let [limit, swap] = [memory, both].map(|mebibytes: u64| format!("{mebibytes}M"));
        c.call(&["update", "--memory", &limit, "--memory-swap", &swap, c.id()]).silent();
        check_memory(&c, memory, both);
    }
    c.call(&["update", "--memory-swap", "90M", c.id()]).silent();
    check_memory(&c, 40, 90);
}

#[test]
fn a_refused_update_changes_nothing() {
    let c = limited();
    // v1 refuses it by itself, v2 would kill.
    let memory = json!({"limit": 4096, "checkBeforeUpdate": true});
    let json = json!({"pids": {"limit": 7}, "memory": memory}).to_string();
    let output = c.call_with(&["update", "--resources", "-", c.id()], json.as_bytes());
    output.refused(1, &["4096"]);
    check_memory(&c, 32, 64);
    check(&c, "pids", "pids.max", "20");
}

#[test]
fn what_was_updated_is_what_a_later_update_starts_from() {
    let c = limited();
    c.call(&["update", "--memory", "40M", "--memory-swap", "100M", c.id()]).silent();
    c.call(&["update", "--memory", "60M", c.id()]).silent();
    check_memory(&c, 60, 100);
}

#[test]
fn burst_and_idle_are_set() {
    gpurun_only!("runc 1.1 has neither option");
    let c = limited();
    let burst = if is_v2() { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    if c.cgroup("cpu", burst).is_none() || c.cgroup("cpu", "cpu.idle").is_none() {
        return skipped("this kernel has no burst or no idle");
    }
    c.call(&["update", "--cpu-period", "900000", "--cpu-burst", "400000", c.id()]).silent();
    check(&c, "cpu", burst, "400000");
    c.call(&["update", "--memory", "33M", c.id()]).silent();
    check(&c, "cpu", burst, "400000");
    c.call(&["update", "--cpu-burst", "0", c.id()]).silent();
    check(&c, "cpu", burst, "0");
    c.call(&["update", "--cpu-idle", "1", c.id()]).silent();
    check(&c, "cpu", "cpu.idle", "1");
    c.call(&["update", "--cpu-idle", "0", c.id()]).silent();
    check(&c, "cpu", "cpu.idle", "0");
}

#[test]
fn with_a_file_of_resources_other_options_are_ignored() {
    let c = limited();
    let args = ["update", "--pids-limit", "5", "--resources=-", c.id()];
    c.call_with(&args, br#"{"pids": {"limit": 9}, "unknown": 1}"#).silent();
    check(&c, "pids", "pids.max", "9");
}

#[test]
fn limits_that_the_kernel_has_dropped_are_accepted_without_effect() {
    let c = Container::idle();
    c.call(&["update", "--kernel-memory", "10M", "--kernel-memory-tcp", "-1", c.id()]).ok();
}

#[test]
fn intel_rdt_is_refused_for_a_container_without_it() {
    let c = Container::idle();
    for option in ["--l3-cache-schema", "--mem-bw-schema"] {
        c.call(&["update", option, "L3:0=f", c.id()]).refused(1, &["Intel RDT"]);
    }
}

#[test]
fn what_is_no_number_or_no_container_is_refused() {
    let c = Container::idle();
    for (option, value) in [("--memory", "lots"), ("--cpu-quota", "x"), ("--cpuset-cpus", "99999")]
    {
        let output = c.call(&["update", option, value, c.id()]);
        assert!(output.code == 1 && !output.stderr.contains("panicked"), "{output:?}");
    }
    c.call(&["update", "--resources", "/no/such/file", c.id()]).refused(1, &["/no/such/file"]);
    c.call_with(&["update", "-r", "-", c.id()], b"[1]").refused(1, &[]);
    c.stop();
    c.call(&["update", "--pids-limit", "5", c.id()]).refused(1, &["container not running"]);
}
