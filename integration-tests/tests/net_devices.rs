//! Interfaces of the host that become the container's
//! (runtime-spec config-linux.md, "Network Devices").

use integration_tests::checkpoint::Checkpointed;
use integration_tests::{
    Config, Container, Runtime, Value, gpurun_only, json, needs_criu, rootfs, skipped, wait_for,
};
use serde_json::Map;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// An interface of the host that leads nowhere, gone with the test.
struct Dummy(String);

impl Dummy {
    /// `None` where the machine has none to give.
    fn new() -> Option<Dummy> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dummy = Dummy(format!("gt{}x{number}", std::process::id()));
        if dummy.add() {
            return Some(dummy);
        }
        skipped("no ip, or no right to add an interface");
        None
    }

    /// Not every kernel has dummies; one end of a pair moves as well.
    fn add(&self) -> bool {
        let (name, peer) = (&*self.0, &*format!("{}p", self.0));
        ip(&["link", "add", name, "type", "dummy"])
            || ip(&["link", "add", name, "type", "veth", "peer", "name", peer])
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.0]) || ip(&["link", "del", &format!("{}p", self.0)]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().is_ok_and(|output| output.status.success())
}

/// The container's `netDevices` with `device` as `name`.
fn devices(config: Config, device: &Dummy, name: &str) -> Config {
    let mut devices = Map::new();
    devices
        .insert(device.0.clone(), if name.is_empty() { json!({}) } else { json!({"name": name}) });
    config.set("/linux/netDevices", Value::Object(devices))
}

#[test]
fn an_interface_moves_with_its_attributes_and_global_addresses_and_is_up() {
    gpurun_only!("runc 1.1 does not know netDevices");
    for runtime in Runtime::each() {
        let Some(dummy) = Dummy::new() else { return };
        let name = dummy.0.clone();
        assert!(ip(&["link", "set", &name, "mtu", "1789", "address", "02:11:22:33:44:55"]));
        assert!(ip(&["addr", "add", "169.254.169.77/32", "dev", &name]));
        assert!(ip(&["addr", "add", "10.99.0.1/24", "dev", &name]));
        assert!(ip(&["addr", "add", "10.99.1.1/24", "scope", "link", "dev", &name]));
        let v6 = ip(&["addr", "add", "fd00:99::1/64", "dev", &name]);
        assert!(ip(&["link", "set", &name, "up"]));
        let c = Container::running(runtime, devices(Config::idle(), &dummy, "ctr0"));
        assert!(!ip(&["link", "show", &name]), "it is still on the host");
        let shown = c.sh("ip addr show dev ctr0");
        let mut expected = vec![
            "mtu 1789",
            "02:11:22:33:44:55",
            "inet 169.254.169.77/32",
            "inet 10.99.0.1/24",
            "UP",
        ];
        if v6 {
            expected.push("inet6 fd00:99::1/64");
        }
        for text in expected {
            assert!(shown.contains(text), "{text}: {shown}");
        }
        assert!(!shown.contains("10.99.1.1"), "an address of the link stays behind: {shown}");
    }
}

#[test]
fn an_interface_moves_again_when_the_container_is_restored() {
    needs_criu!();
    gpurun_only!("runc leaves it on the host");
    let Some(dummy) = Dummy::new() else { return };
    let it = Checkpointed::running(Runtime::native(), devices(Config::idle(), &dummy, "ctr0"));
    it.checkpoint(&[]).silent();
    // It has gone with its namespace, a moment later.
    wait_for("the end of the interface", || dummy.add());
    it.restore(&[]);
    let shown = it.container.sh("ip link show dev ctr0");
    assert!(shown.contains("UP"), "{shown}");
}

#[test]
fn the_name_is_kept_or_numbered_as_asked() {
    gpurun_only!("runc 1.1 does not know netDevices");
    let Some(dummy) = Dummy::new() else { return };
    let c = Container::running(Runtime::native(), devices(Config::idle(), &dummy, ""));
    assert_eq!(c.sh(&format!("ip -o link show {} | wc -l", dummy.0)), "1");
    let (Some(one), Some(two)) = (Dummy::new(), Dummy::new()) else { return };
    let mut both = Map::new();
    both.insert(one.0.clone(), json!({"name": "net%d"}));
    both.insert(two.0.clone(), json!({"name": "net%d"}));
    let c = Container::running(
        Runtime::native(),
        Config::idle().set("/linux/netDevices", Value::Object(both)),
    );
    assert_eq!(c.sh("ip -o link | grep -o 'net[0-9]' | sort"), "net0\nnet1");
}

#[test]
fn an_interface_moves_into_the_network_of_a_user_namespace() {
    gpurun_only!("runc 1.1 does not know netDevices");
    let Some(dummy) = Dummy::new() else { return };
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let config = devices(Config::idle(), &dummy, "ctr0").namespace("user", Some(""));
    let config = config.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let c = Container::native(config);
    rootfs::give_to(&c.rootfs(), 100_000, 100_000);
    c.run_detached();
    assert_eq!(c.sh("ip -o link show ctr0 | grep -c UP"), "1");
}

#[test]
fn it_moves_into_a_joined_network_and_stays_there_after_the_container() {
    gpurun_only!("runc 1.1 does not know netDevices");
    let Some(dummy) = Dummy::new() else { return };
    let pod = Container::idle();
    let path = format!("/proc/{}/ns/net", pod.pid());
    let config = devices(Config::sh("ip -o link show ctr0 | wc -l"), &dummy, "ctr0");
    let c = Container::native(config.namespace("network", Some(&path)));
    assert_eq!(c.run().ok(), "1");
    assert_eq!(pod.sh("ip -o link show ctr0 | wc -l"), "1");
    // The name is taken there now: nothing is moved, and the host keeps what it has.
    let Some(other) = Dummy::new() else { return };
    let config = devices(Config::idle(), &other, "ctr0").namespace("network", Some(&path));
    let c = Container::native(config);
    c.create().refused(1, &["ctr0", "already exists"]);
    c.assert_gone();
    assert!(ip(&["link", "show", &other.0]));
}

#[test]
fn it_comes_home_where_the_container_comes_to_nothing() {
    gpurun_only!("runc leaves it where it is, or has it end");
    let Some(dummy) = Dummy::new() else { return };
    let name = &dummy.0;
    assert!(ip(&["addr", "add", "10.99.2.1/24", "dev", name]));
    let v6 = ip(&["addr", "add", "fd00:99:2::1/64", "dev", name]);
    assert!(ip(&["link", "set", name, "up"]));
    let pod = Container::idle();
    let joined = format!("/proc/{}/ns/net", pod.pid());
    for path in ["", joined.as_str()] {
        let config = devices(Config::args(&["/bin/nothing"]), &dummy, "ctr0");
        let c = Container::native(config.namespace("network", Some(path)));
        c.create().refused(1, &["/bin/nothing"]);
        c.assert_gone();
        let shown = Command::new("ip").args(["addr", "show", name]).output().expect("run ip");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        for text in ["UP", "inet 10.99.2.1/24"] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
        assert!(!v6 || shown.contains("inet6 fd00:99:2::1/64"), "{shown}");
    }
}

#[test]
fn an_interface_that_cannot_be_moved_is_refused_and_named() {
    gpurun_only!("runc 1.1 does not know netDevices");
    let cases = [
        (json!({"nosuchdev0": {}}), "nosuchdev0"),
        (json!({"a/b": {}}), "a/b"),
        (json!({"lo": {"name": "this-name-is-too-long"}}), "this-name-is-too-long"),
        (json!({"lo": {"name": "lo2"}}), "a loopback interface stays where it is"),
    ];
    for (devices, phrase) in cases {
        let c = Container::native(Config::idle().set("/linux/netDevices", devices));
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
    // Whoever asks for it must not take it from everybody else.
    let loopback = std::fs::read_to_string("/sys/class/net/lo/flags").expect("lo has flags");
    let flags = u32::from_str_radix(loopback.trim().trim_start_matches("0x"), 16).expect("hex");
    assert!(flags & 1 == 1, "the machine's loopback interface is down: {loopback}");
    let config = Config::idle().set("/linux/netDevices", json!({"lo": {}}));
    let c = Container::native(config.namespace("network", None).without_mount("/sys"));
    c.create().refused(1, &["without a NET namespace"]);
    c.assert_gone();
}
