//! The rarer members of linux.resources: blockIO, hugepageLimits, network, rdma, unified
//! (runtime-spec config-linux.md, "Control groups"). The common ones are in cgroups.rs.

use integration_tests::cgroup::{self, Version};
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, skipped};
use std::fs;
use std::path::Path;

/// `MAJ:MIN` of a whole disk of this machine.
fn disk() -> Option<(u64, u64)> {
    let entries = fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let physical = entry.path().join("device").exists();
        let text = fs::read_to_string(Path::new("/sys/block").join(name).join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        physical.then_some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers.into_iter().next()
}

/// Runs a container with `resources` and reads its `file`; `None` where the host has no such file.
fn file(runtime: Runtime, resources: Value, controller: &str, file: &str) -> Option<String> {
    let probe = Container::running(runtime, Config::idle());
    let directory = cgroup::directory(runtime.cgroup, controller, probe.pid());
    if !directory.is_some_and(|directory| directory.join(file).exists()) {
        skipped(&format!("{file} is not offered in {:?}", runtime.cgroup));
        return None;
    }
    let mut config = Config::idle();
    for (name, value) in resources.as_object().unwrap() {
        config = config.set(&format!("/linux/resources/{name}"), value.clone());
    }
    Some(Container::running(runtime, config).cgroup(controller, file).expect("the file"))
}

#[test]
fn throttles_of_a_block_device_are_set() {
    let Some((major, minor)) = disk() else { return skipped("no disk to throttle") };
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let all = json!({"blockIO": {
        "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400)}});
    for runtime in Runtime::each() {
        if runtime.cgroup == Version::V2 {
            let Some(text) = file(runtime, all.clone(), "io", "io.max") else { continue };
            let line = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=300 wiops=400");
            assert_eq!(text, line);
            continue;
        }
        for (name, value) in [
            ("read_bps", 1_048_576),
            ("write_bps", 2_097_152),
            ("read_iops", 300),
            ("write_iops", 400),
        ] {
            let name = format!("blkio.throttle.{name}_device");
            let Some(text) = file(runtime, all.clone(), "blkio", &name) else { continue };
            assert_eq!(text, format!("{major}:{minor} {value}"), "{name}");
        }
    }
}

#[test]
fn weights_are_set_where_a_scheduler_keeps_them() {
    for runtime in Runtime::each() {
        let weight = json!({"blockIO": {"weight": 500}});
        let (controller, names) = match runtime.cgroup {
            Version::V1 => ("blkio", ["blkio.weight", "blkio.bfq.weight"]),
            Version::V2 => ("io", ["io.bfq.weight", "io.weight"]),
        };
        let seen = names.iter().find_map(|name| file(runtime, weight.clone(), controller, name));
        if let Some(text) = seen {
            assert!(text.contains("500") || text.contains("4950"), "{text}");
        }
    }
}

#[test]
fn huge_pages_are_limited_in_use_and_in_reservation() {
    for runtime in Runtime::each() {
        let limit = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
        let end = if runtime.cgroup == Version::V1 { "limit_in_bytes" } else { "max" };
        for name in [format!("hugetlb.2MB.{end}"), format!("hugetlb.2MB.rsvd.{end}")] {
            let Some(text) = file(runtime, limit.clone(), "hugetlb", &name) else { continue };
            assert_eq!(text, "4194304", "{name}");
        }
    }
}

#[test]
fn network_classes_and_priorities_are_set_on_version_1() {
    let runtime = Runtime::native();
    if runtime.cgroup == Version::V2 {
        return skipped("cgroup v2 has no such files");
    }
    let class = json!({"network": {"classID": 1_048_577}});
    if let Some(text) = file(runtime, class, "net_cls", "net_cls.classid") {
        assert_eq!(text, "1048577");
    }
    let map = json!({"network": {"priorities": [{"name": "lo", "priority": 500}]}});
    if let Some(text) = file(runtime, map, "net_prio", "net_prio.ifpriomap") {
        assert!(text.lines().any(|line| line == "lo 500"), "{text}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_named() {
    gpurun_only!("the words are gpurun's");
    let network = match Version::of_host() {
        Version::V1 => "a b",
        Version::V2 => "network.priorities: it has no equivalent on cgroup v2",
    };
    for (member, value, phrase) in [
        ("hugepageLimits", json!([{"pageSize": "3XB", "limit": 1}]), "3XB"),
        ("hugepageLimits", json!([{"pageSize": "../2MB", "limit": 1}]), "pageSize"),
        ("rdma", json!({"mlx 5": {"hcaHandles": 3}}), "mlx 5"),
        ("rdma", json!({"nosuchdev": {"hcaHandles": 3, "hcaObjects": 10_000}}), "rdma"),
        ("network", json!({"priorities": [{"name": "a b", "priority": 1}]}), network),
        ("blockIO", json!({"weight": 5}), "weight"),
        (
            "blockIO",
            json!({"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}),
            "throttleReadBpsDevice",
        ),
    ] {
        let c = Container::native(Config::idle().set(&format!("/linux/resources/{member}"), value));
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
}

#[test]
fn unified_takes_file_names_of_version_2_only() {
    gpurun_only!("the words are gpurun's");
    for runtime in Runtime::each() {
        for (key, phrase) in [
            ("memory/../../x.y", "slash"),
            ("..", "CONTROLLER.PARAMETER"),
            ("memory", "CONTROLLER.PARAMETER"),
            ("nosuch.thing", "nosuch"),
        ] {
            let config = Config::idle().set("/linux/resources/unified", json!({key: "1"}));
            let c = Container::new(runtime, config);
            let v1 = runtime.cgroup == Version::V1;
            c.create().refused(1, &[if v1 { "unified on cgroup v1" } else { phrase }]);
            c.assert_gone();
        }
        let none = Container::new(
            runtime,
            Config::sh("echo hello").set("/linux/resources/unified", json!({})),
        );
        assert_eq!(none.run().ok(), "hello");
    }
}
