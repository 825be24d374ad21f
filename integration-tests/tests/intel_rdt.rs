//! linux.intelRdt on real machines (runtime-spec config-linux.md, "IntelRdt"). Most machines have
//! no resctrl; its rules are tested on a made-up tree beside the code.

use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, skipped};
use std::fs;

fn mounted() -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap().contains(" resctrl ")
}

#[test]
fn without_resctrl_the_error_says_so_and_nothing_is_left() {
    if mounted() {
        return skipped("this machine has resctrl");
    }
    let rdt = json!({"closID": "gold", "l3CacheSchema": "L3:0=f"});
    let c = Container::native(Config::idle().set("/linux/intelRdt", rdt));
    c.create().refused(1, &["intelRdt", "Intel RDT is not enabled"]);
    c.assert_gone();
}

#[test]
fn the_processes_of_a_container_are_in_its_group_until_it_is_deleted() {
    gpurun_only!("runc 1.1 does not know enableMonitoring");
    if !mounted() {
        return skipped("no resctrl is mounted");
    }
    let config = Config::idle().set("/linux/intelRdt", json!({"enableMonitoring": true}));
    let c = Container::running(Runtime::native(), config);
    let group = std::path::Path::new("/sys/fs/resctrl").join(c.id());
    let tasks = fs::read_to_string(group.join("tasks")).unwrap();
    assert!(tasks.lines().any(|line| line == c.pid().to_string()), "{tasks}");
    c.delete(&["--force"]).ok();
    assert!(!group.exists());
}

#[test]
fn a_name_that_leads_out_of_resctrl_is_refused() {
    for name in ["..", "a/b", "../../tmp/x"] {
        let c = Container::native(Config::idle().set("/linux/intelRdt", json!({"closID": name})));
        c.create().refused(1, &[]);
        c.assert_gone();
    }
}

#[test]
fn update_of_a_container_without_a_group_is_refused() {
    gpurun_only!("runc 1.1 checks the machine first");
    let c = Container::idle();
    let output = c.call(&["update", "--l3-cache-schema", "L3:0=f", c.id()]);
    output.refused(1, &["Intel RDT"]);
}

#[test]
fn features_offers_intel_rdt() {
    gpurun_only!("runc 1.1 has no such member");
    let output = Runtime::native().call(&["features"]);
    let features: Value = serde_json::from_str(output.ok()).unwrap();
    let expected = json!({"enabled": true, "schemata": true, "monitoring": true});
    assert_eq!(features["linux"]["intelRdt"], expected);
    assert_eq!(features["linux"]["netDevices"]["enabled"], true);
}
