//! ID-mapped mounts: the owners of files as another range of ids
//! (runtime-spec config.md, "POSIX-platform Mounts"; options `idmap` and `ridmap`).

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, rootfs};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

/// What an id shows as that nobody has mapped.
const NOBODY: u32 = 65534;

fn map(container: u32, host: u32, size: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": size}])
}

/// An id-mapped bind of the host's `source` on /m.
fn mapped_mount(source: &str, options: &[&str], uids: Value, gids: Value) -> Value {
    json!({"destination": "/m", "source": source, "options": options,
           "uidMappings": uids, "gidMappings": gids})
}

fn in_userns(config: Config) -> Config {
    config
        .namespace("user", Some(""))
        .set("/linux/uidMappings", map(0, 100_000, 65_536))
        .set("/linux/gidMappings", map(0, 100_000, 65_536))
}

/// A container with a directory `source` beside its bundle in which `file` belongs to `owner`.
fn with_source(owner: u32) -> (Container, String) {
    let c = Container::native(Config::idle());
    let source = c.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    chown(source.join("file"), Some(owner), Some(owner)).unwrap();
    let name = text(&source).to_owned();
    (c, name)
}

/// Prepares the rootfs for a container in a user namespace.
fn shifted(c: &Container, config: Config) {
    rootfs::give_to(&c.rootfs(), 100_000, 100_000);
    c.configure(in_userns(config));
}

#[test]
fn the_owners_of_a_mapped_mount_are_moved_by_the_map() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    let (c, source) = with_source(0);
    let mount = mapped_mount(&source, &["bind"], map(0, 100_000, 65_536), map(0, 200_000, 65_536));
    c.configure(Config::sh("stat -c %u:%g /m/file").push("/mounts", mount.clone()));
    assert_eq!(c.run().ok(), "100000:200000");
    // Nobody in the container is a user of the filesystem then.
    c.configure(Config::sh("touch /m/new").push("/mounts", mount));
    assert_ne!(c.run().code, 0);
}

#[test]
fn in_a_user_namespace_the_map_gives_the_files_back_to_the_container() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        let source = c.path("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "x").unwrap();
        let ids = map(0, 100_000, 65_536);
        let mount = mapped_mount(text(&source), &["bind"], ids.clone(), ids);
        let script = "stat -c %u:%g /m/file /plain/file; touch /m/new; stat -c %u:%g /m/new";
        let config = Config::sh(script).push("/mounts", mount).mount(
            "/plain",
            "bind",
            text(&source),
            &["bind"],
        );
        shifted(&c, config);
        assert_eq!(c.run().ok(), format!("0:0\n{NOBODY}:{NOBODY}\n0:0"));
        let new = fs::metadata(source.join("new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (0, 0), "the filesystem keeps the host's ids");
    }
}

#[test]
fn several_ranges_are_mapped_each_on_its_own() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    let (c, source) = with_source(101);
    let ranges = json!([{"containerID": 100, "hostID": 101_000, "size": 1},
                        {"containerID": 101, "hostID": 102_000, "size": 1}]);
    let groups = json!([{"containerID": 100, "hostID": 101_100, "size": 10}]);
    let mount = mapped_mount(&source, &["bind"], ranges, groups);
    shifted(&c, Config::sh("stat -c %u:%g /m/file").push("/mounts", mount));
    assert_eq!(c.run().ok(), "2000:1101");
}

/// A tree with a file of user 100 and a mount on `below` with another.
fn tree(c: &Container) -> (std::path::PathBuf, Mounted) {
    let (top, other) = (c.path("tree"), c.path("other"));
    fs::create_dir_all(top.join("below")).unwrap();
    fs::create_dir(&other).unwrap();
    for directory in [&top, &other] {
        fs::write(directory.join("file"), "x").unwrap();
        chown(directory.join("file"), Some(100), Some(100)).unwrap();
    }
    let mounted = Mounted(top.join("below"));
    let done = Command::new("mount").arg("--bind").arg(&other).arg(&mounted.0).status();
    assert!(done.unwrap().success());
    (top, mounted)
}

/// A mount of the test's own, taken away at its end.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn idmap_is_for_the_mount_and_ridmap_for_all_below() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    for (option, below) in [("idmap", "100:100"), ("ridmap", "5100:5100")] {
        let c = Container::native(Config::idle());
        let (top, _mounted) = tree(&c);
        let ids = map(100, 5100, 10);
        let mount = mapped_mount(text(&top), &["rbind", option], ids.clone(), ids);
        let config = Config::sh("stat -c %u:%g /m/file /m/below/file").push("/mounts", mount);
        c.configure(config);
        assert_eq!(c.run().ok(), format!("5100:5100\n{below}"), "{option}");
    }
}

#[test]
fn without_a_map_the_one_of_the_containers_user_namespace_is_taken() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    for (option, below) in [("idmap", NOBODY), ("ridmap", 100)] {
        let c = Container::native(Config::idle());
        let (top, _mounted) = tree(&c);
        let config = Config::sh("stat -c %u /m/file /m/below/file");
        let config = config.mount("/m", "bind", text(&top), &["rbind", option]);
        shifted(&c, config);
        assert_eq!(c.run().ok(), format!("100\n{below}"), "{option}");
    }
}

#[test]
fn without_a_map_the_one_of_a_joined_user_namespace_is_taken() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    let pod = Container::native(Config::idle());
    shifted(&pod, Config::idle());
    pod.run_detached();
    let (c, source) = with_source(7);
    rootfs::give_to(&c.rootfs(), 100_000, 100_000);
    let config = Config::sh("stat -c %u:%g /m/file")
        .remove("/hostname")
        .namespace("user", Some(&format!("/proc/{}/ns/user", pod.pid())))
        .mount("/m", "bind", &source, &["bind", "idmap"]);
    c.configure(config);
    assert_eq!(c.run().ok(), "7:7");
}

#[test]
fn a_mapped_mount_may_be_read_only_and_of_a_file_and_propagate() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    let (c, source) = with_source(3);
    let file = format!("{source}/file");
    let options = ["bind", "ro", "nosuid", "shared"];
    let mount = mapped_mount(&file, &options, map(3, 33, 1), map(3, 33, 1));
    let script = "stat -c %u:%g /m; echo > /m || echo read-only; \
                  grep ' /m ' /proc/self/mountinfo | grep -o 'ro,nosuid.*shared'";
    c.configure(Config::sh(script).push("/mounts", mount));
    let output = c.run();
    assert!(output.ok().starts_with("33:33\nread-only\nro,nosuid"), "{output:?}");
}

#[test]
fn a_map_that_cannot_be_used_is_refused_with_the_reason() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    let (c, source) = with_source(0);
    let ids = map(0, 1000, 10);
    let refused = |mount: Value, phrases: &[&str]| {
        c.configure(Config::idle().push("/mounts", mount));
        c.create().refused(1, phrases);
        c.assert_gone();
    };
    let options = json!(["bind", "idmap"]);
    let bind = |more: Value| {
        let mut mount = json!({"destination": "/m", "source": source, "options": options});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        mount
    };
    refused(bind(json!({})), &["/m", "uidMappings"]);
    refused(bind(json!({"uidMappings": ids})), &["/m", "gidMappings"]);
    let fs = json!({"type": "tmpfs", "options": ["idmap"], "uidMappings": ids, "gidMappings": ids});
    refused(bind(fs), &["/m", "bind mounts"]);
    let overlap = json!([{"containerID": 0, "hostID": 1, "size": 10},
                         {"containerID": 5, "hostID": 100, "size": 10}]);
    refused(bind(json!({"uidMappings": overlap, "gidMappings": ids})), &["uid_map"]);
    let gone = json!({"source": "/nonexistent", "uidMappings": ids, "gidMappings": ids});
    refused(bind(gone), &["/nonexistent", "no such file or directory"]);
    // A procfs cannot be mapped.
    let proc = json!({"source": "/proc/sys", "uidMappings": ids, "gidMappings": ids});
    refused(bind(proc), &["MOUNT_ATTR_IDMAP", "/proc/sys", "filesystem"]);
}

#[test]
fn features_offers_mapped_mounts() {
    gpurun_only!("runc 1.1 has no id-mapped mounts");
    let output = Runtime::native().call(&["features"]);
    let features: Value = serde_json::from_str(output.ok()).unwrap();
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.contains(&json!("idmap")) && options.contains(&json!("ridmap")));
}

#[test]
fn a_source_that_only_root_can_reach_is_bound_in_a_user_namespace_too() {
    let (c, source) = with_source(100_000);
    let private = c.path("private");
    fs::create_dir(&private).unwrap();
    fs::rename(&source, private.join("source")).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let source = private.join("source");
    let config = Config::sh("cat /m/file; stat -c %u /m/file; echo > /m/file || echo read-only");
    shifted(&c, config.mount("/m", "bind", text(&source), &["bind", "ro", "noexec"]));
    let output = c.run();
    assert_eq!(output.ok(), "x0\nread-only", "{output:?}");
}
