//! Many containers, one after the other and at once, killed at random: at the end nothing is left.
//!
//! `hack/soak` runs this for long; here it runs for seconds. `GPURUN_SOAK_CYCLES` is the number of
//! cycles in all.

use integration_tests::container::text;
use integration_tests::leak::{assert_same, listing};
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, wait_for};
use std::fs;
use std::time::Duration;

fn cycles() -> u32 {
    std::env::var("GPURUN_SOAK_CYCLES").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

/// A container with something of each kind that could stay behind.
fn config() -> Config {
    Config::idle()
        .namespace("cgroup", Some(""))
        .mount("/data", "tmpfs", "tmpfs", &["size=64k"])
        .push("/linux/devices", json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3}))
        .hook("poststop", json!({"path": "/bin/true"}))
}

/// Session keyrings of a container: the kernel collects them a little after their last process.
fn keyrings(c: &Container) -> usize {
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    keys.lines().filter(|line| line.contains(c.id())).count()
}

#[track_caller]
fn nothing_is_left(c: &Container, rootfs: &[String]) {
    c.assert_gone();
    assert_same(rootfs, &listing(&c.rootfs()));
    wait_for("the end of the keyrings", || keyrings(c) == 0);
}

#[test]
fn a_container_made_and_deleted_again_and_again_leaves_nothing() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, config());
        fs::create_dir(c.rootfs().join("data")).unwrap();
        let mut rootfs = Vec::new();
        for cycle in 0..cycles() / 2 {
            c.create().silent();
            if cycle % 2 == 0 {
                c.start().silent();
            }
            c.delete(&["--force"]).silent();
            if cycle == 0 {
                // What the image lacked for good, such as a working directory, stays.
                rootfs = listing(&c.rootfs());
            }
        }
        nothing_is_left(&c, &rootfs);
    }
}

#[test]
fn a_hundred_containers_of_one_bundle_start_at_once() {
    for runtime in Runtime::each() {
        // Each in the cgroup of its id.
        let c = Container::new(runtime, config().set("/linux/cgroupsPath", "".into()));
        fs::create_dir(c.rootfs().join("data")).unwrap();
        let rootfs = listing(&c.rootfs());
        let bundle = c.bundle();
        let ids: Vec<String> = (0..100).map(|number| format!("{}-{number}", c.id())).collect();
        let each = |command: &[&str]| {
            let call = |id: &String| c.start_call(&[command, &[id.as_str()][..]].concat());
            let calls: Vec<_> = ids.iter().map(call).collect();
            calls.into_iter().for_each(|call| call.wait().silent());
        };
        each(&["create", "--bundle", text(&bundle)]);
        each(&["start"]);
        let listed = c.call(&["list", "--format", "json"]).json();
        let running = |entry: &&Value| entry["status"] == "running";
        assert_eq!(listed.as_array().unwrap().iter().filter(running).count(), 100);
        each(&["delete", "--force"]);
        nothing_is_left(&c, &rootfs);
    }
}

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn commands_killed_at_random_leave_nothing_that_delete_by_force_does_not_find() {
    gpurun_only!("runc leaves cgroups behind");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    std::thread::scope(|scope| {
        for (thread, runtime) in Runtime::each().into_iter().cycle().take(4).enumerate() {
            scope.spawn(move || {
                let mut random = Random(seed * 31 + thread as u64 + 1);
                let c = Container::new(runtime, config());
                fs::create_dir(c.rootfs().join("data")).unwrap();
                c.run_detached();
                c.delete(&["--force"]).silent();
                let rootfs = listing(&c.rootfs());
                for _ in 0..cycles() / 4 {
                    disturbed(&c, &mut random);
                    let deleted = c.delete(&["--force"]);
                    assert_eq!(deleted.code, 0, "{deleted:?}");
                }
                nothing_is_left(&c, &rootfs);
            });
        }
    });
}

/// One life whose commands are killed at any moment, also `delete` itself.
fn disturbed(c: &Container, random: &mut Random) {
    let bundle = c.bundle();
    let life: &[&[&str]] = match random.below(3) {
        0 => &[&["create", "--bundle", text(&bundle)], &["start"], &["delete", "--force"]],
        1 => &[&["run", "--detach", "--bundle", text(&bundle)], &["kill"], &["delete"]],
        _ => &[&["run", "--bundle", text(&bundle)]],
    };
    for command in life {
        let mut call = c.start_call(&[command, &[c.id()][..]].concat());
        if random.below(2) == 0 || command[..] == *life[0] && life.len() == 1 {
            std::thread::sleep(Duration::from_micros(random.below(40_000)));
            let _ = call.child.kill();
        }
        assert!(!call.wait().stderr.contains("panicked"));
    }
}
