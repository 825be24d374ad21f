//! config-linux.md and runtime-linux.md, requirement by requirement, where no other test holds it
//! already.

use integration_tests::{Config, Container, gpurun_only, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// An ordinary container without a mount namespace; it cannot have masked or read-only paths.
fn without_mount_namespace(config: Config) -> Config {
    config.namespace("mount", None).remove("/linux/maskedPaths").remove("/linux/readonlyPaths")
}

/// Type of the file system on each of `points`, as a container sees it.
fn types(points: &[&str]) -> Vec<String> {
    let table = Container::native(Config::sh("cat /proc/self/mounts")).run().ok().to_owned();
    let kind = |point: &&str| {
        let line = table.lines().rfind(|line| line.split(' ').nth(1) == Some(*point));
        line.and_then(|line| line.split(' ').nth(2)).unwrap_or("nothing").to_owned()
    };
    points.iter().map(kind).collect()
}

#[test]
fn config_linux_md_default_filesystems_are_available() {
    let points = ["/proc", "/sys", "/dev/pts", "/dev/shm"];
    assert_eq!(types(&points), ["proc", "sysfs", "devpts", "tmpfs"]);
}

#[test]
fn config_linux_md_namespaces_an_unlisted_mount_namespace_is_the_runtime_s() {
    gpurun_only!("runc leaves its mounts on the host");
    let c = Container::native(without_mount_namespace(Config::idle()));
    fs::write(c.rootfs().join("here"), "").unwrap();
    c.create().silent();
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(link(&c.pid().to_string()), link("self"));
    c.start().silent();
    // Its root is its own all the same, for `exec` as well, and its mounts are there.
    let seen =
        c.sh("ls /here; cat /proc/self/mounts | grep -c ' /proc '; touch /dev/shm/x; ls /dev/shm");
    assert_eq!(seen.lines().next(), Some("/here"));
    assert_eq!(seen.lines().last(), Some("x"));
    c.stop();
    c.delete(&[]).silent();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(c.id()), "its mounts go with it");
    c.assert_gone();
}

#[test]
fn config_linux_md_namespaces_without_a_mount_namespace_a_failed_create_leaves_no_mount() {
    gpurun_only!("runc leaves its mounts on the host");
    let c = Container::native(without_mount_namespace(Config::args(&["/no/such/program"])).mount(
        "/mnt",
        "tmpfs",
        "tmpfs",
        &[],
    ));
    c.create().refused(1, &["no such file or directory"]);
    c.assert_gone();
    // What the engine mounted there itself stays.
    let rootfs = c.rootfs();
    let bound = Command::new("mount").arg("--bind").arg(&rootfs).arg(&rootfs).status();
    assert!(bound.unwrap().success());
    c.configure(without_mount_namespace(Config::idle()));
    c.create().silent();
    c.delete(&["--force"]).ok();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left = table.lines().filter(|line| line.contains(c.id())).count();
    Command::new("umount").arg(&rootfs).status().unwrap();
    assert_eq!(left, 1, "{table}");
}

#[test]
fn config_linux_md_rootfs_mount_propagation_each_word_is_applied() {
    gpurun_only!("runc 1.1 forgets shared and unbindable");
    for (word, tag) in
        [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")]
    {
        let c = Container::native(
            Config::sh("cat /proc/self/mountinfo").set("/linux/rootfsPropagation", word.into()),
        );
        let table = c.run().ok().to_owned();
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/"));
        let root = root.unwrap_or_else(|| panic!("{word}: no root in {table}"));
        let (fields, _) = root.split_once(" - ").unwrap();
        let optional = fields.split(' ').skip(6).collect::<Vec<_>>().join(" ");
        match tag {
            "" => assert!(!optional.contains("shared:"), "{word}: {optional}"),
            tag => assert!(optional.contains(tag), "{word}: {optional}"),
        }
    }
}

#[test]
fn config_linux_md_masked_paths_hide_what_a_link_leads_to_and_device_nodes() {
    let script = "cat /etc/link; cat /etc/target; head -c 1 /dev/zero | wc -c";
    let c = Container::native(
        Config::sh(script).set("/linux/maskedPaths", json!(["/etc/link", "/dev/zero"])),
    );
    fs::write(c.rootfs().join("etc/target"), "secret").unwrap();
    symlink("target", c.rootfs().join("etc/link")).unwrap();
    assert_eq!(c.run().ok(), "0");
}

#[test]
fn config_linux_md_readonly_paths_work_through_links_and_below_each_other() {
    let script = "touch /data/x /data/sub/x /data/sub/file 2>&1 | grep -c 'Read-only'";
    let c = Container::native(
        Config::sh(script)
            .set("/linux/readonlyPaths", json!(["/link", "/data/sub", "/data/sub/file"])),
    );
    fs::create_dir_all(c.rootfs().join("data/sub")).unwrap();
    fs::write(c.rootfs().join("data/sub/file"), "").unwrap();
    symlink("/data", c.rootfs().join("link")).unwrap();
    assert_eq!(c.run().ok(), "3");
}

#[test]
fn runtime_linux_md_file_descriptors_only_the_streams_and_those_asked_for() {
    let c = Container::native(Config::sh("ls /proc/self/fd | sort -n | tr '\\n' ' '"));
    // ls has its own descriptor on the directory it reads.
    assert_eq!(c.run().ok().trim(), "0 1 2 3");
}

#[test]
fn config_linux_md_a_path_given_twice_is_masked_once() {
    gpurun_only!("runc has it since 1.4");
    let c = Container::native(
        Config::sh("grep -c ' /var/lib ' /proc/self/mounts")
            .set("/linux/maskedPaths", json!(["/var/lib", "/var/lib"])),
    );
    assert_eq!(c.run().ok(), "1");
}
