//! A cgroup's life on the real machine, in its own mode and in cgroup v2 alone.

use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use oci_spec::runtime::LinuxResources;

use super::devices::{Access, DeviceType};
use super::test_support::{Nodes, Real, Shell, real, real_v2};
use super::{Cgroup, CgroupError, DeviceError, DeviceRule, DeviceRules, Mode};
use crate::sys::bpf;
use crate::sys::clone::{CloneArgs, Forked, clone3};

const REFUSED: &str = "Operation not permitted";
const NO_DRIVER: &str = "No such device or address";

/// Both worlds, as far as the machine has them.
fn worlds(name: &str) -> Vec<Real> {
    [real(name), real_v2(name)].into_iter().flatten().collect()
}

/// Makes a cgroup, or prints why this machine cannot.
fn create(cgroup: &mut Cgroup, rules: &DeviceRules) -> bool {
    match cgroup.create(None, rules) {
        Err(CgroupError::Device(err @ DeviceError::NotPermitted { .. })) => {
            println!("skipped: {err}");
            false
        }
        done => {
            drop(done.unwrap());
            true
        }
    }
}

fn gpu(minor: u32) -> DeviceRule {
    let access = "rw".parse().unwrap();
    DeviceRule { kind: DeviceType::Char, major: Some(195), minor: Some(minor), access }
}

fn with_gpu(minors: &[u32]) -> DeviceRules {
    let mut rules = DeviceRules::for_container(&[], &[]).unwrap();
    let gpus: Vec<DeviceRule> = minors.iter().map(|minor| gpu(*minor)).collect();
    rules.allow_each(&gpus).unwrap();
    rules
}

#[test]
fn device_rules_decide_about_real_nodes_and_change_under_a_running_process() {
    for (index, mut world) in worlds("devices").into_iter().enumerate() {
        let Some(nodes) = Nodes::new(&format!("rules{index}")) else {
            return;
        };
        let made = [0, 1, 2, 255].map(|minor| nodes.make(195, minor).unwrap());
        let [gpu0, gpu1, gpu2, control] = &made;
        let mut shell = Shell::new();
        if !create(&mut world.0, &with_gpu(&[0, 1, 255])) {
            continue;
        }
        world.0.join(shell.pid()).unwrap();
        assert_eq!(shell.open(&nodes.0.join("1-3")), "");
        for (path, says) in
            [(gpu0, NO_DRIVER), (gpu1, NO_DRIVER), (control, NO_DRIVER), (gpu2, REFUSED)]
        {
            assert_eq!(shell.open(path), says, "{} in {:?}", path.display(), world.0.mode());
        }
        // mknod of anything is allowed, opening it is not.
        let fuse = nodes.0.join("fuse");
        let line = format!("mknod {} c 10 229 2>&1 | head -1; echo done", fuse.display());
        assert_eq!(shell.ask(&line), "done");
        assert_eq!(shell.open(&fuse), REFUSED);

        world.0.set_devices(&with_gpu(&[2])).unwrap();
        assert_eq!(shell.open(gpu0), REFUSED);
        assert_eq!(shell.open(gpu2), NO_DRIVER);
        world.0.set_devices(&DeviceRules::allow_all()).unwrap();
        assert_eq!(shell.open(gpu0), NO_DRIVER);
        world.0.set_devices(&with_gpu(&[])).unwrap();
        assert_eq!(shell.open(gpu0), REFUSED);
        assert_eq!(shell.open(&nodes.0.join("1-3")), "");
        assert!(!world.0.is_frozen().unwrap());
    }
}

#[test]
fn a_default_of_allow_has_exceptions_too() {
    for (index, mut world) in worlds("denies").into_iter().enumerate() {
        let Some(nodes) = Nodes::new(&format!("denies{index}")) else {
            return;
        };
        let (one, two) = (nodes.make(195, 1).unwrap(), nodes.make(195, 2).unwrap());
        let mut rules = DeviceRules::allow_all();
        rules.deny(DeviceRule { access: Access::READ, ..gpu(1) }).unwrap();
        let mut shell = Shell::new();
        if !create(&mut world.0, &rules) {
            continue;
        }
        world.0.join(shell.pid()).unwrap();
        assert_eq!(shell.open(&one), REFUSED);
        assert_eq!(shell.open(&two), NO_DRIVER);
    }
}

#[test]
fn exactly_one_program_is_attached_whatever_happened() {
    let Some(mut world) = real_v2("programs") else {
        return;
    };
    if !create(&mut world.0, &with_gpu(&[0])) {
        return;
    }
    let fd = world.0.open_v2().unwrap().unwrap();
    let programs = || bpf::device_programs(fd.as_fd()).unwrap();
    let first = programs();
    assert_eq!(first.len(), 1);
    for minor in 1..5 {
        world.0.set_devices(&with_gpu(&[minor])).unwrap();
        assert_eq!(programs().len(), 1);
    }
    assert_ne!(programs(), first);
    // A second program, as another runtime or systemd would leave it: both go.
    let old = bpf::open_program(programs()[0]).unwrap();
    world.0.set_devices(&with_gpu(&[7])).unwrap();
    bpf::attach_device_program(fd.as_fd(), old.as_fd(), None).unwrap();
    assert_eq!(programs().len(), 2);
    world.0.set_devices(&with_gpu(&[8])).unwrap();
    assert_eq!(programs().len(), 1);
    world.0.set_devices(&DeviceRules::allow_all()).unwrap();
    assert_eq!(programs().len(), 0);
}

#[test]
fn a_large_machine_s_rules_are_a_short_program_that_loads() {
    let Some(mut world) = real_v2("large") else {
        return;
    };
    let mut rules = with_gpu(&(0..16).collect::<Vec<_>>());
    for minor in (0..400).step_by(2) {
        rules.allow(DeviceRule { major: Some(511), access: Access::READ, ..gpu(minor) }).unwrap();
    }
    let start = std::time::Instant::now();
    if create(&mut world.0, &rules) {
        println!("216 rules: {:?}", start.elapsed());
    }
}

#[test]
fn clone_into_the_cgroup_starts_the_process_there() {
    let Some(mut world) = real_v2("clone") else {
        return;
    };
    if !create(&mut world.0, &with_gpu(&[])) {
        return;
    }
    let fd = world.0.open_v2().unwrap().unwrap();
    let args = CloneArgs { cgroup: Some(fd.as_fd()), ..CloneArgs::default() };
    match clone3(&args).unwrap() {
        Forked::Child => loop {
            nix::unistd::pause();
        },
        Forked::Parent { pid, .. } => {
            assert_eq!(world.0.pids().unwrap(), [pid]);
            world.0.kill_all(Signal::SIGKILL).unwrap();
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        }
    }
    assert!(world.0.pids().unwrap().is_empty());
}

#[test]
fn a_frozen_process_stands_still_and_is_killed_all_the_same() {
    for mut world in worlds("freeze") {
        let mut shell = Shell::new();
        if !create(&mut world.0, &DeviceRules::allow_all()) {
            continue;
        }
        world.0.join(shell.pid()).unwrap();
        assert_eq!(shell.ask("echo here"), "here");
        world.0.freeze().unwrap();
        assert!(world.0.is_frozen().unwrap());
        world.0.freeze().unwrap();
        world.0.thaw().unwrap();
        assert!(!world.0.is_frozen().unwrap());
        assert_eq!(shell.ask("echo again"), "again");
        world.0.freeze().unwrap();
        world.0.kill_all(Signal::SIGKILL).unwrap();
        assert!(shell.ended());
    }
}

#[test]
fn a_signal_reaches_every_process_of_the_cgroup_and_of_its_children() {
    for mut world in worlds("signal") {
        let mut shells = [Shell::new(), Shell::new()];
        if !create(&mut world.0, &DeviceRules::allow_all()) {
            continue;
        }
        let sub = world.0.child(&["sub"]).unwrap();
        for hierarchy in sub.hierarchies() {
            // As a container with its own cgroup mount would.
            std::fs::create_dir(hierarchy.dir()).unwrap();
            if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let parent = hierarchy.mount.join(hierarchy.path.parent().unwrap());
                    let value = std::fs::read(parent.join(file)).unwrap();
                    std::fs::write(hierarchy.dir().join(file), value).unwrap();
                }
            }
        }
        world.0.join(shells[0].pid()).unwrap();
        sub.join(shells[1].pid()).unwrap();
        let mut pids = [shells[0].pid(), shells[1].pid()];
        pids.sort_unstable();
        assert_eq!(world.0.pids().unwrap(), pids);
        world.0.kill_all(Signal::SIGTERM).unwrap();
        for shell in &mut shells {
            assert!(shell.ended());
        }
        world.0.delete().unwrap();
        assert!(!world.0.exists());
    }
}

#[test]
fn nothing_escapes_a_kill_by_forking() {
    for mut world in worlds("forks") {
        let mut shell = Shell::new();
        if !create(&mut world.0, &DeviceRules::allow_all()) {
            continue;
        }
        world.0.join(shell.pid()).unwrap();
        let line =
            "f() { for i in 1 2 3 4 5 6; do sleep 60 & done; }; echo go; while f; do :; done";
        assert_eq!(shell.ask(line), "go");
        world.0.kill_all(Signal::SIGKILL).unwrap();
        assert!(shell.ended());
        world.0.delete().unwrap();
        assert!(!world.0.exists());
    }
}

#[test]
fn a_cgroup_that_is_lived_in_or_frozen_is_refused_and_stays() {
    for mut world in worlds("inhabited") {
        let shell = Shell::new();
        if !create(&mut world.0, &DeviceRules::allow_all()) {
            continue;
        }
        world.0.join(shell.pid()).unwrap();
        let err = world.0.create(None, &DeviceRules::allow_all()).unwrap_err();
        assert!(err.to_string().starts_with("container's cgroup is not empty: 1"), "{err}");
        assert!(world.0.exists());
        world.0.kill_all(Signal::SIGKILL).unwrap();
        drop(shell);
        world.0.freeze().unwrap();
        let err = world.0.create(None, &DeviceRules::allow_all()).unwrap_err();
        assert!(err.to_string().contains("unexpectedly frozen"), "{err}");
        world.0.thaw().unwrap();
        drop(world.0.create(None, &with_gpu(&[0])).unwrap());
        drop(world.0.create(None, &with_gpu(&[1])).unwrap());
    }
}

#[test]
fn a_failed_create_leaves_nothing_behind() {
    let bad: LinuxResources = serde_json::from_str(r#"{"pids":{"limit":-7}}"#).unwrap();
    for world in worlds("failed") {
        let mut nested = world.0.child(&["a/b"]).unwrap();
        nested.create(Some(&bad), &DeviceRules::deny_all()).unwrap_err();
        let left: Vec<PathBuf> = world
            .0
            .hierarchies()
            .iter()
            .map(super::Hierarchy::dir)
            .filter(|dir| dir.exists())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_cgroup_of_the_same_name_that_was_made_later_is_another_s() {
    for mut first in worlds("later") {
        let shell = Shell::new();
        if !create(&mut first.0, &DeviceRules::allow_all()) {
            continue;
        }
        let mut second = first.0.clone();
        let claim = second.create(None, &DeviceRules::allow_all()).unwrap();
        second.join(shell.pid()).unwrap();
        drop(claim);
        assert!(first.0.is_anothers() && !second.is_anothers());
        assert!(first.0.pids().unwrap().is_empty());
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            first.0.kill_all(signal).unwrap();
        }
        first.0.delete().unwrap();
        assert_eq!(second.pids().unwrap(), [shell.pid()]);
        second.kill_all(Signal::SIGKILL).unwrap();
        second.delete().unwrap();
    }
}

#[test]
fn a_cgroup_is_one_s_alone_until_a_process_is_in_it() {
    for mut first in worlds("claimed") {
        let shell = Shell::new();
        let claim = first.0.create(None, &DeviceRules::deny_all());
        if claim.is_err() {
            println!("skipped: {claim:?}");
            continue;
        }
        let mut second = first.0.clone();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| second.create(None, &DeviceRules::allow_all()));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!waiting.is_finished());
            assert!(!first.0.delete_if_unused().unwrap());
            first.0.join(shell.pid()).unwrap();
            let err = waiting.join().unwrap().unwrap_err();
            assert!(matches!(err, CgroupError::NotEmpty { count: 1, .. }), "{err}");
        });
        drop(claim);
        assert!(!first.0.is_anothers());
        // One that fails leaves it to the other.
        first.0.kill_all(Signal::SIGKILL).unwrap();
        drop(shell);
        let claim = first.0.create(None, &DeviceRules::deny_all()).unwrap();
        let mut second = first.0.clone();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| second.create(None, &DeviceRules::allow_all()));
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(claim);
            drop(waiting.join().unwrap().unwrap());
        });
        assert!(first.0.is_anothers());
        second.delete().unwrap();
    }
}

#[test]
fn cgroups_that_come_and_go_meanwhile_are_seen_or_left_out() {
    for mut world in worlds("meanwhile") {
        if !create(&mut world.0, &DeviceRules::allow_all()) {
            continue;
        }
        let top = world.0.process_dir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let nested = ["a", "a/b", "a/b/c"].map(|name| top.join(name));
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    nested.iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
                    nested.iter().rev().for_each(|dir| std::fs::remove_dir(dir).unwrap());
                }
            });
            let seen: Vec<_> = (0..2000).map(|_| world.0.pids()).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            for pids in seen {
                assert!(pids.unwrap().is_empty());
            }
        });
    }
}

#[test]
fn deleting_what_is_not_there_is_fine() {
    for world in worlds("absent") {
        world.0.delete().unwrap();
        assert!(world.0.pids().unwrap().is_empty());
        assert!(!world.0.is_frozen().unwrap());
        assert!(world.0.join(1 << 30).is_err());
        if world.0.mode() == Mode::V2 {
            assert!(world.0.open_v2().is_err());
        }
    }
}
