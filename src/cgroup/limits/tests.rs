//! Limits on files that stand in for cgroup v2, and on the real machine.

use std::fs;

use oci_spec::runtime::LinuxResources;

use crate::cgroup::test_support::{Fake, real};
use crate::cgroup::{CgroupError, DeviceRules, Mode};

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

const V2_FILES: &[&str] = &[
    "pids.max",
    "memory.max",
    "memory.low",
    "memory.swap.max",
    "cpu.weight",
    "cpu.max",
    "cpu.max.burst",
    "cpu.idle",
    "cpuset.cpus",
    "cpuset.mems",
    "io.max",
    "io.weight",
    "hugetlb.2MB.max",
    "hugetlb.2MB.rsvd.max",
    "rdma.max",
    "memory.high",
];
const V2: &str = "cpuset cpu io memory hugetlb pids rdma";

#[test]
fn every_v2_limit_reaches_its_file() {
    let fake = Fake::new("all", V2, V2_FILES);
    fake.cgroup
        .set(&resources(
            r#"{"pids":{"limit":7},
                "memory":{"limit":1000,"swap":3000,"reservation":500,"kernel":1,
                          "disableOOMKiller":false},
                "cpu":{"shares":1024,"quota":5000,"period":10000,"burst":10,"cpus":"0-1","mems":"0"},
                "blockIO":{"weight":1000,
                    "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
                "rdma":{"mlx5_0":{"hcaHandles":3,"hcaObjects":9}},
                "unified":{"memory.high":"900"}}"#,
        ))
        .unwrap();
    for (file, value) in [
        ("pids.max", "7"),
        ("memory.max", "1000"),
        ("memory.swap.max", "2000"),
        ("memory.low", "500"),
        ("cpu.weight", "100"),
        ("cpu.max", "5000 10000"),
        ("cpu.max.burst", "10"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("io.weight", "10000"),
        ("io.max", "8:0 rbps=1 wiops=max"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("rdma.max", "mlx5_0 hca_handle=3 hca_object=9"),
        ("memory.high", "900"),
        ("cpu.idle", ""),
    ] {
        assert_eq!(fake.get(file), value, "{file}");
    }
}

#[test]
fn v2_limits_are_lifted_with_max() {
    let fake = Fake::new("max", V2, V2_FILES);
    let json = r#"{"pids":{"limit":-1},"memory":{"limit":-1},"cpu":{"quota":-1},
                   "hugepageLimits":[{"pageSize":"2MB","limit":-1}]}"#;
    fake.cgroup.set(&resources(json)).unwrap();
    for file in ["pids.max", "memory.max", "memory.swap.max", "cpu.max", "hugetlb.2MB.max"] {
        assert_eq!(fake.get(file), "max", "{file}");
    }
}

#[test]
fn a_pids_limit_of_0_leaves_the_init_alone() {
    let fake = Fake::new("pids0", V2, V2_FILES);
    fake.cgroup.set(&resources(r#"{"pids":{"limit":0}}"#)).unwrap();
    assert_eq!(fake.get("pids.max"), "1");
}

#[test]
fn a_period_alone_keeps_the_quota() {
    let fake = Fake::new("period", V2, V2_FILES);
    fake.put("cpu.max", "25000 100000\n");
    fake.cgroup.set(&resources(r#"{"cpu":{"period":50000}}"#)).unwrap();
    // A plain file keeps what lies behind the written text; the kernel does not.
    assert!(fake.get("cpu.max").starts_with("25000 50000"), "{}", fake.get("cpu.max"));
}

#[test]
fn bfq_s_weight_file_is_preferred_and_keeps_v1_s_range() {
    let fake = Fake::new("bfq", V2, V2_FILES);
    fake.put("io.bfq.weight", "");
    fake.cgroup.set(&resources(r#"{"blockIO":{"weight":500}}"#)).unwrap();
    assert_eq!(fake.get("io.bfq.weight"), "500");
    assert_eq!(fake.get("io.weight"), "");
}

#[test]
fn a_limit_without_its_controller_names_the_controller() {
    let fake = Fake::new("missing", "cpu", &["cpu.max"]);
    let err = fake.cgroup.set(&resources(r#"{"pids":{"limit":7}}"#)).unwrap_err();
    let message = err.to_string();
    assert!(message.starts_with("cannot set pids limit: "), "{message}");
    let err = fake.cgroup.set(&resources(r#"{"unified":{"misc.max":"x 1"}}"#)).unwrap_err();
    assert!(err.to_string().contains("controller \"misc\" is not available"), "{err}");
    // Nothing asked, nothing missing.
    fake.cgroup.set(&resources(r#"{"memory":{},"blockIO":{},"cpu":{}}"#)).unwrap();
}

#[test]
fn check_before_update_refuses_a_limit_below_what_is_in_use() {
    let fake = Fake::new("usage", V2, V2_FILES);
    fake.put("memory.current", "4096\n");
    let json = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#;
    let err = fake.cgroup.set(&resources(json)).unwrap_err().to_string();
    assert!(err.contains("4096 bytes in use"), "{err}");
    assert_eq!(fake.get("memory.max"), "");
}

#[test]
fn values_without_a_meaning_are_refused_before_anything_is_written() {
    let fake = Fake::new("absurd", V2, V2_FILES);
    for json in [
        r#"{"pids":{"limit":-2}}"#,
        r#"{"memory":{"limit":-9223372036854775808}}"#,
        r#"{"memory":{"limit":9223372036854775807,"swap":5}}"#,
        r#"{"memory":{"swap":5}}"#,
        r#"{"memory":{"swappiness":10}}"#,
        r#"{"memory":{"disableOOMKiller":true}}"#,
        r#"{"cpu":{"quota":-9}}"#,
        r#"{"cpu":{"idle":7}}"#,
        r#"{"cpu":{"realtimeRuntime":5}}"#,
        r#"{"blockIO":{"weight":1}}"#,
        r#"{"blockIO":{"leafWeight":100}}"#,
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":1}]}}"#,
        r#"{"blockIO":{"weightDevice":[{"major":8,"minor":99999999,"weight":100}]}}"#,
        r#"{"hugepageLimits":[{"pageSize":"../../x","limit":1}]}"#,
        r#"{"network":{"classID":5}}"#,
        r#"{"rdma":{"mlx5_0":{}}}"#,
        r#"{"unified":{"../cgroup.procs":"1"}}"#,
    ] {
        match fake.cgroup.set(&resources(json)) {
            Err(CgroupError::Value { .. }) => {}
            other => panic!("{json}: {other:?}"),
        }
    }
    assert!(V2_FILES.iter().all(|file| fake.get(file).is_empty()));
}

#[test]
fn v1_limits_are_set_and_changed_up_and_down() {
    let Some(mut real) = real("limits") else { return };
    if real.0.mode() == Mode::V2 {
        println!("skipped: this machine has no cgroup v1");
        return;
    }
    drop(real.0.create(None, &DeviceRules::allow_all()).unwrap());
    let read = |controller: &str, file: &str| {
        let dir = real.0.controller_dir(controller).unwrap();
        fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
    };
    let counts_swap = real.0.knobs("memory").has("memory.memsw.limit_in_bytes");
    for megabytes in [64_u64, 256, 32] {
        let limit = megabytes << 20;
        let swap = if counts_swap { limit * 2 } else { 0 };
        let json = format!(
            r#"{{"memory":{{"limit":{limit},"swap":{swap},"reservation":{limit}}},
                "pids":{{"limit":{megabytes}}},
                "cpu":{{"shares":{megabytes},"quota":50000,"period":100000}}}}"#
        );
        real.0.set(&resources(&json)).unwrap();
        assert_eq!(read("memory", "memory.limit_in_bytes"), limit.to_string());
        assert_eq!(read("pids", "pids.max"), megabytes.to_string());
        assert_eq!(read("cpu", "cpu.shares"), megabytes.to_string());
        if counts_swap {
            assert_eq!(read("memory", "memory.memsw.limit_in_bytes"), swap.to_string());
        }
    }
    if counts_swap {
        let err = real.0.set(&resources(r#"{"memory":{"limit":1073741824}}"#)).unwrap_err();
        assert!(err.to_string().contains("memory.swap"), "{err}");
        real.0.set(&resources(r#"{"memory":{"limit":-1}}"#)).unwrap();
    }
    let err = real.0.set(&resources(r#"{"cpu":{"shares":1}}"#)).unwrap_err().to_string();
    assert!(err.contains("the lowest allowed is 2"), "{err}");
    let err = real.0.set(&resources(r#"{"unified":{"memory.max":"1"}}"#)).unwrap_err();
    assert!(err.to_string().contains("cannot use unified on cgroup v1"), "{err}");
    if real.0.controller_dir("hugetlb").is_none() {
        let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#;
        let err = real.0.set(&resources(json)).unwrap_err().to_string();
        assert!(err.contains("this machine has no hugetlb controller"), "{err}");
    }
    let err = real.0.set(&resources(r#"{"pids":{"limit":9223372036854775807}}"#)).unwrap_err();
    let message = err.to_string();
    assert!(message.contains("pids.max") && message.contains("9223372036854775807"), "{message}");
}

#[test]
fn a_v1_cpuset_has_its_parent_s_cpus_or_the_asked_ones() {
    let Some(real) = real("cpuset") else { return };
    let Some(dir) = real.0.controller_dir("cpuset").filter(|_| real.0.mode() != Mode::V2) else {
        println!("skipped: no v1 cpuset controller");
        return;
    };
    let mut nested = real.0.child(&["a/b"]).unwrap();
    drop(
        nested
            .create(Some(&resources(r#"{"cpu":{"cpus":"0"}}"#)), &DeviceRules::allow_all())
            .unwrap(),
    );
    let read = |path: &str| fs::read_to_string(dir.join(path)).unwrap();
    assert_eq!(read("a/b/cpuset.cpus"), "0\n");
    assert_eq!(read("a/cpuset.cpus"), read("../cpuset.cpus"));
    assert_eq!(read("a/b/cpuset.mems"), read("../cpuset.mems"));
}
