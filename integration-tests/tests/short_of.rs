//! A machine that lacks something or changes under the runtime: full and read-only disks, too
//! little memory, cgroups that somebody else froze or removed, processes that do not die.

use integration_tests::cgroup::{self, Version};
use integration_tests::container::text;
use integration_tests::leak::{assert_same, listing};
use integration_tests::{
    Config, Container, Output, Runtime, gpurun_only, json, runtime, skipped, wait_for,
};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A call of the runtime in a mount namespace of its own, after `before`.
fn with_mounts(c: &Container, before: &str, args: &[&str]) -> Output {
    let inner = c.command(args);
    let mut outer = Command::new("unshare");
    let script = format!("{before} && \"$@\"");
    outer.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    runtime::finish(&mut outer, b"")
}

fn create(c: &Container) -> Vec<String> {
    ["create", "--bundle", text(&c.bundle()), c.id()].map(str::to_owned).to_vec()
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_rootfs_without_space_is_said_and_is_as_it_was() {
    gpurun_only!("the words are gpurun's");
    let config = Config::idle().mount("/made/for/it", "tmpfs", "tmpfs", &[]);
    let c = Container::native(config);
    let args = create(&c);
    let rootfs = c.rootfs();
    // A disk with room for the image and no more inodes.
    let before = format!(
        "mount -t tmpfs -o nr_inodes=200 none /mnt && cp -a {0}/. /mnt/ && \
         mount --move /mnt {0} && i=0 && while true 2>/dev/null > {0}/fill$i; do i=$((i+1)); done; \
         rm -f {0}/fill$i; find {0} | sort > {1}",
        rootfs.display(),
        c.path("before").display()
    );
    let after = format!("find {} | sort > {}", rootfs.display(), c.path("after").display());
    let inner = c.command(&refs(&args));
    let mut outer = Command::new("unshare");
    let script = format!("{before}; \"$@\"; code=$?; {after}; exit $code");
    outer.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    let output = runtime::finish(&mut outer, b"");
    output.refused(1, &["/made", "No space left on device"]);
    let read = |name: &str| fs::read_to_string(c.path(name)).unwrap();
    assert!(read("before").lines().count() > 100);
    assert_eq!(read("before"), read("after"));
    c.assert_gone();
}

#[test]
fn read_only_places_are_named() {
    gpurun_only!("the words are gpurun's");
    let c = Container::native(Config::idle().mount("/made/for/it", "tmpfs", "tmpfs", &[]));
    fs::create_dir(c.state_root()).unwrap();
    let args = create(&c);
    for (place, phrases) in [
        (c.state_root(), vec!["Read-only file system", c.id()]),
        (c.rootfs(), vec!["Read-only file system", "/made"]),
    ] {
        let before =
            format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", place.display());
        let output = with_mounts(&c, &before, &refs(&args));
        output.refused(1, &phrases);
        c.delete(&["--force"]).ok();
        assert_eq!(c.leftovers(), [] as [&str; 0]);
    }
    // What needs nothing of the rootfs works on a read-only one.
    c.configure(Config::idle());
    let before =
        format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", c.rootfs().display());
    with_mounts(&c, &before, &refs(&args)).silent();
    c.delete(&["--force"]).silent();
}

/// The directory of the container's process in a v1 hierarchy.
fn v1(c: &Container, controller: &str) -> Option<PathBuf> {
    cgroup::directory(Version::V1, controller, c.pid()).filter(|dir| dir.ends_with(c.id()))
}

#[test]
fn a_memory_limit_below_what_the_init_needs_is_said() {
    gpurun_only!("the words are gpurun's");
    let probe = Container::idle();
    if probe
        .cgroup("memory", "memory.limit_in_bytes")
        .or(probe.cgroup("memory", "memory.max"))
        .is_none()
    {
        return skipped("no memory controller");
    }
    let mut killed = 0;
    for limit in [4096, 65_536, 262_144, 524_288, 1_048_576] {
        let c = Container::native(
            Config::idle().set("/linux/resources/memory", json!({"limit": limit})),
        );
        let created = c.create();
        if created.code != 0 {
            killed += 1;
            created.refused(1, &["memory limit"]);
            assert_eq!(c.leftovers(), [] as [&str; 0], "{limit}");
        }
    }
    assert!(killed > 0, "an init of 4096 bytes");
}

#[test]
fn a_cgroup_that_somebody_froze_is_said_and_does_not_keep_delete_from_its_work() {
    gpurun_only!("the words are gpurun's");
    let probe = Container::idle();
    if Runtime::native().cgroup != Version::V1 || v1(&probe, "freezer").is_none() {
        return skipped("no freezer of cgroup v1");
    }
    let freeze = |c: &Container| {
        let dir = v1(c, "freezer").unwrap();
        fs::write(dir.join("freezer.state"), "FROZEN").unwrap();
        wait_for("the freezer", || {
            fs::read_to_string(dir.join("freezer.state")).unwrap().trim() == "FROZEN"
        });
        dir
    };
    // Before a start: it is refused, and possible afterwards.
    let c = Container::native(Config::idle());
    c.create().silent();
    let dir = freeze(&c);
    c.start().refused(1, &["paused"]);
    fs::write(dir.join("freezer.state"), "THAWED").unwrap();
    c.start().silent();
    assert_eq!(c.status(), "running");
    // Before an exec and a delete.
    freeze(&c);
    c.exec(&["true"]).refused(255, &["paused"]);
    c.delete(&["--force"]).silent();
    c.assert_gone();
}

#[test]
fn a_cgroup_that_somebody_removed_is_no_trouble_for_delete() {
    gpurun_only!("the words are gpurun's");
    let c = Container::native(Config::idle());
    c.run_detached();
    if Runtime::native().cgroup != Version::V1 || v1(&c, "pids").is_none() {
        return skipped("no cgroup v1");
    }
    let pid = c.pid();
    for dir in cgroup::containing(c.id()) {
        // Its process goes to the top first.
        let top = dir.parent().unwrap().join("cgroup.procs");
        let _ = fs::write(top, pid.to_string());
        fs::remove_dir(&dir).unwrap();
    }
    let exec = c.exec(&["true"]);
    assert!(!exec.stderr.contains("panicked"), "{exec:?}");
    let update = c.call_on("update", &["--pids-limit", "10"]);
    update.refused(1, &["cgroup"]);
    c.delete(&["--force"]).silent();
    c.assert_gone();
    // And of a container that nobody started.
    let c = Container::native(Config::idle());
    c.create().silent();
    let pid = c.pid();
    for dir in cgroup::containing(c.id()) {
        let _ = fs::write(dir.parent().unwrap().join("cgroup.procs"), pid.to_string());
        fs::remove_dir(&dir).unwrap();
    }
    let started = c.start();
    assert!(!started.stderr.contains("panicked"), "{started:?}");
    c.delete(&["--force"]).silent();
}

#[test]
fn a_container_that_ignores_sigterm_is_killed_by_force_alone() {
    let c = Container::running(
        Runtime::native(),
        Config::sh("trap '' TERM; touch /tmp/ready; while :; do sleep 1; done"),
    );
    wait_for("the trap", || c.rootfs().join("tmp/ready").exists());
    c.kill("TERM").silent();
    c.delete(&[]).refused(1, &[]);
    assert_eq!(c.status(), "running");
    c.delete(&["--force"]).silent();
    c.assert_gone();
}

#[test]
fn a_process_that_does_not_die_is_reported_and_delete_can_be_repeated() {
    gpurun_only!("the words are gpurun's");
    // What hangs in the kernel can be had without a broken driver: a freezer that is not the
    // container's own. The process is in state D, and no SIGKILL ends it.
    let c = Container::idle();
    let Some(own) = v1(&c, "freezer").filter(|_| Runtime::native().cgroup == Version::V1) else {
        return skipped("no freezer of cgroup v1");
    };
    let pid = c.pid();
    let image = listing(&c.rootfs());
    let other = own.with_file_name(format!("{}-other", c.id()));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("cgroup.procs"), pid.to_string()).unwrap();
    fs::write(other.join("freezer.state"), "FROZEN").unwrap();
    let state = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    wait_for("state D", || state().contains("State:\tD"));
    let deleted = c.delete(&["--force"]);
    fs::write(other.join("freezer.state"), "THAWED").unwrap();
    deleted.refused(1, &[&pid.to_string(), "does not die", "state D"]);
    wait_for("its end", || !state().contains("State:\tD"));
    c.delete(&["--force"]).silent();
    wait_for("an empty cgroup", || fs::remove_dir(&other).is_ok());
    c.assert_gone();
    assert_same(&image, &listing(&c.rootfs()));
}
