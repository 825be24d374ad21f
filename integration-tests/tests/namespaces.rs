//! Namespaces: new ones, the host's, and those of other processes.

use integration_tests::container::text;
use integration_tests::{
    Config, Container, Runtime, gpurun_only, json, rootfs, runtime, skipped, wait_for,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// The spec's names and the kernel's names in /proc/PID/ns.
const KINDS: &[(&str, &str)] =
    &[("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("mount", "mnt")];

fn of(pid: &str, kernel: &str) -> String {
    text(&fs::read_link(format!("/proc/{pid}/ns/{kernel}")).unwrap()).to_owned()
}

#[test]
fn a_listed_namespace_is_new_and_an_unlisted_one_is_the_hosts() {
    for runtime in Runtime::each() {
        let config = Config::idle().namespace("cgroup", Some(""));
        let c = Container::running(runtime, config);
        let pid = c.pid().to_string();
        for (_, kernel) in KINDS.iter().chain(&[("cgroup", "cgroup")]) {
            assert_ne!(of(&pid, kernel), of("self", kernel), "{kernel}");
        }
        assert_eq!(of(&pid, "user"), of("self", "user"));
    }
    for (kind, kernel) in KINDS {
        if *kind == "mount" {
            continue; // a rootfs needs its own
        }
        let config = Config::idle().namespace(kind, None).remove("/hostname").without_mount("/sys");
        let config = config.without_mount("/dev/mqueue").remove("/linux/maskedPaths");
        let c = Container::running(Runtime::native(), config);
        assert_eq!(of(&c.pid().to_string(), kernel), of("self", kernel), "{kind}");
    }
}

#[test]
fn a_namespace_can_be_joined_by_path() {
    let sandbox = Container::idle();
    let pid = sandbox.pid().to_string();
    for (kind, kernel) in KINDS {
        if *kind == "mount" {
            continue;
        }
        let path = format!("/proc/{pid}/ns/{kernel}");
        let config = Config::idle().remove("/hostname").namespace(kind, Some(&path));
        let c = Container::running(Runtime::native(), config);
        let own = c.pid().to_string();
        for (_, other) in KINDS {
            let same = of(&own, other) == of(&pid, other);
            assert_eq!(same, other == kernel, "joined {kind}, compared {other}");
        }
        assert_eq!(c.sh("echo exec works"), "exec works");
    }
}

#[test]
fn a_joined_mount_namespace_shows_the_other_containers_files_or_is_refused() {
    let first =
        Container::running(Runtime::native(), Config::idle().mount("/mnt", "tmpfs", "tmpfs", &[]));
    first.sh("echo from the first > /mnt/file");
    let path = format!("/proc/{}/ns/mnt", first.pid());
    let config = Config::sh("cat /mnt/file")
        .namespace("mount", Some(&path))
        .set("/mounts", json!([]))
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let second = Container::native(config);
    let output = second.run();
    if output.code == 0 {
        assert_eq!(output.ok(), "from the first");
    } else {
        output.refused(1, &[]);
        second.assert_gone();
    }
    assert_eq!(first.sh("cat /mnt/file; ls /proc/1/exe"), "from the first\n/proc/1/exe");
}

#[test]
fn all_the_namespaces_of_a_pod_can_be_joined_at_once() {
    let sandbox = Container::native(Config::idle().set("/hostname", "pod".into()));
    sandbox.run_detached();
    let pid = sandbox.pid().to_string();
    let mut config = Config::sh("hostname; ps -o args | grep -cx 'sleep 1000'").remove("/hostname");
    for (kind, kernel) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        config = config.namespace(kind, Some(&format!("/proc/{pid}/ns/{kernel}")));
    }
    let c = Container::native(config);
    assert_eq!(c.run().ok(), "pod\n1");
    assert_eq!(sandbox.status(), "running", "the end of one container is not the end of the pod");
}

#[test]
fn the_first_process_of_a_pid_namespace_is_1() {
    let c = Container::native(Config::sh("echo $$; ls /proc | grep -c '^[0-9]*$'"));
    let output = c.run();
    assert!(output.ok().starts_with("1\n"), "{output:?}");
}

#[test]
fn a_new_network_has_a_loopback_that_is_up() {
    let c = Container::native(Config::sh("ip -o link; ip -o addr show lo"));
    let output = c.run();
    assert_eq!(
        output.ok().lines().filter(|l| l.contains("link/loopback")).count(),
        1,
        "{output:?}"
    );
    assert!(output.stdout.contains("127.0.0.1/8") && output.stdout.contains("UP"), "{output:?}");
}

#[test]
fn a_path_that_is_no_such_namespace_is_refused() {
    for (kind, path) in [
        ("network", "/nonexistent/ns"),
        ("network", "/etc/passwd"),
        ("network", "/proc/self/ns/uts"),
        ("ipc", "/proc/self/ns/net"),
        ("network", "relative/path"),
    ] {
        let c = Container::native(Config::idle().remove("/hostname").namespace(kind, Some(path)));
        c.create().refused(1, &[]);
        c.assert_gone();
    }
    let c = Container::native(Config::idle().namespace("network", Some("/nonexistent/ns")));
    c.create().refused(1, &["/nonexistent/ns"]);
}

#[test]
fn an_unknown_or_double_namespace_is_refused() {
    for kind in ["nope", "network"] {
        let c = Container::native(Config::idle().push("/linux/namespaces", json!({"type": kind})));
        c.create().refused(1, &[]);
        c.assert_gone();
    }
}

#[test]
fn a_namespace_path_of_70000_bytes_is_refused_in_an_orderly_way() {
    let path = format!("/{}", "a/".repeat(35_000));
    let c = Container::native(Config::idle().namespace("network", Some(&path)));
    c.create().refused(1, &[]);
    c.assert_gone();
}

#[test]
fn a_time_namespace_moves_the_clocks() {
    gpurun_only!("runc 1.1 does not know time namespaces");
    if !fs::exists("/proc/self/ns/time").unwrap_or(false) {
        return skipped("the kernel has no time namespaces");
    }
    let config = Config::sh("cut -d. -f1 /proc/uptime").namespace("time", Some("")).set(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000_000, "nanosecs": 0},
                                          "monotonic": {"secs": 5, "nanosecs": 0}}),
    );
    let c = Container::native(config);
    let uptime: u64 = c.run().ok().parse().unwrap();
    assert!(uptime > 1_000_000_000, "{uptime}");
}

#[test]
fn the_cgroup_namespace_hides_the_hosts_path() {
    for runtime in Runtime::each() {
        let c = Container::new(
            runtime,
            Config::sh("cat /proc/self/cgroup").namespace("cgroup", Some("")),
        );
        let output = c.run();
        assert!(!output.ok().contains(c.id()), "{output:?}");
    }
}

fn mapped(config: Config, ranges: &[(u32, u32, u32)]) -> Config {
    let list: Vec<_> = ranges
        .iter()
        .map(|(container, host, size)| json!({"containerID": container, "hostID": host, "size": size}))
        .collect();
    config
        .namespace("user", Some(""))
        .set("/linux/uidMappings", json!(list))
        .set("/linux/gidMappings", json!(list))
}

#[test]
fn root_of_a_user_namespace_is_somebody_else_on_the_host() {
    for runtime in Runtime::each() {
        let script = "id -u; id -g; touch /tmp/mine; hostname; tr -s ' ' < /proc/self/uid_map; exec sleep 1000";
        let c = Container::new(runtime, mapped(Config::sh(script), &[(0, 100_000, 65_536)]));
        rootfs::give_to(&c.rootfs(), 100_000, 100_000);
        c.run_detached();
        let pid = c.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Uid:\t100000\t100000\t100000\t100000"), "{status}");
        assert!(status.contains("Gid:\t100000\t100000\t100000\t100000"), "{status}");
        wait_for("the file", || c.rootfs().join("tmp/mine").exists());
        assert_eq!(fs::metadata(c.rootfs().join("tmp/mine")).unwrap().uid(), 100_000);
        assert_eq!(c.sh("id -u"), "0");
        assert_eq!(c.sh("echo x > /dev/null && stat -c %t:%T /dev/zero"), "1:5");
        assert_eq!(c.sh("ls -ld /root | cut -d' ' -f1"), "drwxr-xr-x");
    }
}

#[test]
fn several_ranges_are_mapped() {
    let ranges = [(0, 100_000, 1000), (1000, 200_000, 10), (2000, 300_000, 5)];
    let config = mapped(Config::sh("awk '{print $1, $2, $3}' /proc/self/uid_map"), &ranges);
    let c = Container::native(config);
    rootfs::give_to(&c.rootfs(), 100_000, 100_000);
    assert_eq!(c.run().ok(), "0 100000 1000\n1000 200000 10\n2000 300000 5");
}

#[test]
fn another_user_of_a_user_namespace_runs_as_its_mapped_number() {
    let config = mapped(Config::idle(), &[(0, 100_000, 65_536)])
        .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [50]}));
    let c = Container::native(config);
    rootfs::give_to(&c.rootfs(), 100_000, 100_000);
    c.run_detached();
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    assert!(status.contains("Uid:\t101000\t"), "{status}");
    assert!(status.contains("Groups:\t100050"), "{status}");
    assert_eq!(c.sh("id -u; id -G"), "1000\n1000 50");
}

#[test]
fn a_user_namespace_can_be_joined_by_path() {
    let first = Container::native(mapped(Config::idle(), &[(0, 100_000, 65_536)]));
    rootfs::give_to(&first.rootfs(), 100_000, 100_000);
    first.run_detached();
    let pid = first.pid().to_string();
    let config = Config::idle()
        .remove("/hostname")
        .namespace("user", Some(&format!("/proc/{pid}/ns/user")))
        .namespace("network", Some(&format!("/proc/{pid}/ns/net")));
    let second = Container::native(config);
    rootfs::give_to(&second.rootfs(), 100_000, 100_000);
    let output = second.create();
    if !Runtime::is_gpurun() && output.code != 0 {
        return skipped("runc 1.1 wants the mappings repeated");
    }
    output.silent();
    second.start().silent();
    assert_eq!(of(&second.pid().to_string(), "user"), of(&pid, "user"));
}

#[test]
fn a_user_namespace_that_denies_setgroups_keeps_no_group_of_the_caller() {
    gpurun_only!("runc 1.1 wants the mappings repeated");
    // As an ordinary user makes it.
    let mut keeper = Command::new("setpriv")
        .args(["--reuid", "100000", "--regid", "100000", "--clear-groups", "unshare", "--user"])
        .args(["--map-root-user", "sleep", "20"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = keeper.id();
    let denied = || fs::read_to_string(format!("/proc/{pid}/setgroups")).unwrap_or_default();
    wait_for("the namespace", || denied().starts_with("deny"));
    wait_for("its maps", || {
        fs::read_to_string(format!("/proc/{pid}/gid_map")).is_ok_and(|map| !map.is_empty())
    });
    let user = format!("/proc/{pid}/ns/user");
    let config = Config::idle()
        .namespace("user", Some(&user))
        .without_mount("/dev/pts")
        .remove("/process/rlimits");
    let c = Container::native(config);
    rootfs::give_to(&c.rootfs(), 100_000, 100_000);
    let bundle = c.bundle();
    let with_a_group = |args: &[&str]| {
        let own = c.command(args);
        let mut command = Command::new("setpriv");
        command.args(["--groups", "54322"]).arg(own.get_program()).args(own.get_args());
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        runtime::finish(&mut command, b"")
    };
    with_a_group(&["run", "--detach", "--bundle", text(&bundle), c.id()]).silent();
    let groups = "grep Groups /proc/1/status /proc/self/status | grep -c 65534; true";
    let found = with_a_group(&["exec", c.id(), "sh", "-c", groups]);
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    assert_eq!(found.ok(), "0");
}

#[test]
fn a_user_namespace_without_a_mapping_is_refused() {
    let c = Container::native(Config::idle().namespace("user", Some("")));
    c.create().refused(1, &["mapping"]);
    c.assert_gone();
}

#[test]
fn a_mapping_without_a_user_namespace_is_refused() {
    gpurun_only!("runc 1.1 ignores the mapping");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let c = Container::native(
        Config::idle().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map),
    );
    c.create().refused(1, &["user namespace"]);
    c.assert_gone();
}

#[test]
fn overlapping_mappings_are_refused() {
    let c = Container::native(mapped(Config::idle(), &[(0, 100_000, 100), (50, 200_000, 100)]));
    rootfs::give_to(&c.rootfs(), 100_000, 100_000);
    c.create().refused(1, &[]);
    c.assert_gone();
}
