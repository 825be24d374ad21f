//! Mounts: their options, sources, destinations and propagation.

use integration_tests::cgroup::Version;
use integration_tests::container::text;
use integration_tests::leak::{assert_same, listing};
use integration_tests::{Config, Container, Runtime, gpurun_only, json, skipped};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

/// Runs `script` in a container made by `change` and returns what it printed.
#[track_caller]
fn run(script: &str, change: impl FnOnce(Config) -> Config) -> String {
    Container::native(change(Config::sh(script))).run().ok().to_owned()
}

/// Per-mount options, optional fields and file system type of a mount point, as the kernel
/// lists them.
#[track_caller]
fn mountinfo(destination: &str, change: impl FnOnce(Config) -> Config) -> (String, String, String) {
    let table = run("cat /proc/self/mountinfo", change);
    let line = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(destination))
        .unwrap_or_else(|| panic!("{destination} is not mounted:\n{table}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let fields: Vec<&str> = left.split(' ').collect();
    (fields[5].to_owned(), fields[6..].join(" "), right.to_owned())
}

#[test]
fn mount_options_arrive_in_the_kernel() {
    let (flags, _, rest) = mountinfo("/mnt", |c| {
        c.mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "size=64k", "mode=0711"])
    });
    for flag in ["rw", "nosuid", "nodev", "noexec", "relatime"] {
        assert!(flags.split(',').any(|f| f == flag), "{flag} in {flags}");
    }
    assert!(rest.starts_with("tmpfs tmpfs") && rest.contains("size=64k"), "{rest}");
    assert!(rest.contains("mode=711"), "{rest}");
}

#[test]
fn every_access_time_option_arrives() {
    for (option, flag) in
        [("noatime", "noatime"), ("strictatime", ""), ("nodiratime", "nodiratime")]
    {
        let (flags, ..) = mountinfo("/mnt", |c| c.mount("/mnt", "tmpfs", "tmpfs", &[option]));
        let has = |name: &str| flags.split(',').any(|f| f == name);
        assert!(flag.is_empty() || has(flag), "{option}: {flags}");
        assert!(option != "strictatime" || !(has("relatime") || has("noatime")), "{flags}");
    }
}

#[test]
fn later_options_undo_earlier_ones() {
    let (flags, ..) = mountinfo("/mnt", |c| {
        c.mount(
            "/mnt",
            "tmpfs",
            "tmpfs",
            &["ro", "nosuid", "nodev", "noexec", "rw", "suid", "dev", "exec"],
        )
    });
    assert_eq!(flags, "rw,relatime");
}

#[test]
fn an_unknown_option_is_refused_by_the_file_system() {
    let c = Container::native(Config::idle().mount("/mnt", "tmpfs", "tmpfs", &["nonsense=1"]));
    c.create().refused(1, &["/mnt"]);
    c.assert_gone();
}

#[test]
fn an_unknown_file_system_is_named() {
    let c = Container::native(Config::idle().mount("/mnt", "nosuchfs", "none", &[]));
    c.create().refused(1, &["/mnt", "no such device"]);
    c.assert_gone();
}

#[test]
fn a_tmpfs_may_be_read_only() {
    let seen = run("touch /mnt/x 2>&1; true", |c| c.mount("/mnt", "tmpfs", "tmpfs", &["ro"]));
    assert!(seen.contains("Read-only file system"), "{seen}");
}

#[test]
fn a_directory_of_the_host_can_be_bound() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    fs::write(c.path("volume/file"), "content").unwrap();
    let script = "cat /data/deep/file; echo new > /data/deep/new";
    c.configure(Config::sh(script).mount(
        "/data/deep",
        "bind",
        text(&c.path("volume")),
        &["bind", "rw"],
    ));
    assert_eq!(c.run().ok(), "content");
    assert_eq!(fs::read_to_string(c.path("volume/new")).unwrap(), "new\n");
}

#[test]
fn a_bind_may_be_read_only_without_changing_its_source() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    let config = Config::sh("touch /data/x 2>&1; grep ' /data ' /proc/self/mountinfo").mount(
        "/data",
        "none",
        text(&c.path("volume")),
        &["rbind", "ro", "nosuid", "nodev", "noexec"],
    );
    c.configure(config);
    let output = c.run();
    assert!(output.stdout.contains("Read-only file system"), "{output:?}");
    assert!(output.stdout.contains(" ro,nosuid,nodev,noexec"), "{output:?}");
    fs::write(c.path("volume/still-writable"), "").unwrap();
}

#[test]
fn a_file_can_be_bound_onto_a_file_that_is_not_there() {
    let c = Container::native(Config::idle());
    fs::write(c.path("file"), "bound").unwrap();
    c.configure(Config::sh("cat /etc/some/file.conf; test -f /etc/some/file.conf").mount(
        "/etc/some/file.conf",
        "bind",
        text(&c.path("file")),
        &["bind", "ro"],
    ));
    assert_eq!(c.run().ok(), "bound");
}

#[test]
fn the_source_of_a_bind_is_named_when_it_is_missing() {
    let c = Container::native(Config::idle().mount("/x", "bind", "/no/such/source", &["bind"]));
    c.create().refused(1, &["/no/such/source", "no such file or directory"]);
    c.assert_gone();
}

#[test]
fn a_directory_is_not_bound_onto_a_file() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    let source = c.path("volume");
    c.configure(Config::idle().mount("/etc/passwd", "bind", text(&source), &["bind"]));
    c.create().refused(1, &["/etc/passwd"]);
    c.assert_gone();
}

/// Runs `test` where `directory` is a mount of its own with the given propagation, in a mount
/// namespace of its own.
fn bound_with_propagation(c: &Container, propagation: &str) -> Command {
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs tmpfs '{0}' && mkdir '{0}/sub' && \
         mount -t tmpfs sub '{0}/sub' && echo under > '{0}/sub/file' && \
         mount --make-r{propagation} '{0}' && exec \"$0\" \"$@\"",
        text(&c.path("volume"))
    );
    let run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(run.get_program()).args(run.get_args());
    command
}

#[test]
fn propagation_options_are_applied_to_their_mount() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    for (option, host, expected) in [
        ("rprivate", "shared", ""),
        ("rslave", "shared", "master:"),
        ("slave", "shared", "master:"),
        ("rshared", "shared", "shared:"),
        ("rshared", "private", "shared:"),
        ("unbindable", "private", "unbindable"),
    ] {
        let config = Config::sh("grep ' /data ' /proc/self/mountinfo")
            .set("/linux/rootfsPropagation", "shared".into())
            .mount("/data", "bind", text(&c.path("volume")), &["rbind", option]);
        c.configure(config);
        let output = integration_tests::runtime::finish(&mut bound_with_propagation(&c, host), b"");
        let line = output.ok();
        let fields = line.split(" - ").next().unwrap_or_default();
        let optional: Vec<&str> = fields.split(' ').skip(6).collect();
        if expected.is_empty() {
            assert!(optional.is_empty(), "{option} of a {host} mount: {line}");
        } else {
            assert!(optional.iter().any(|o| o.starts_with(expected)), "{option} of {host}: {line}");
        }
    }
}

#[test]
fn rbind_takes_what_is_mounted_below_and_bind_does_not() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    for (option, expected) in [("rbind", "under\n"), ("bind", "")] {
        let config = Config::sh("cat /data/sub/file 2>/dev/null; true");
        c.configure(config.mount("/data", "bind", text(&c.path("volume")), &[option]));
        let output =
            integration_tests::runtime::finish(&mut bound_with_propagation(&c, "private"), b"");
        output.ok();
        assert_eq!(output.stdout, expected, "{option}");
    }
}

#[test]
fn rro_makes_what_is_mounted_below_read_only_too() {
    gpurun_only!("runc 1.1.5 knows rro only on some builds");
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    let config = Config::sh(
        "touch /data/x 2>/dev/null || echo one; touch /data/sub/x 2>/dev/null || echo two",
    );
    c.configure(config.mount("/data", "bind", text(&c.path("volume")), &["rbind", "rro"]));
    let output =
        integration_tests::runtime::finish(&mut bound_with_propagation(&c, "private"), b"");
    assert_eq!(output.ok(), "one\ntwo");
}

#[test]
fn the_mounts_of_a_container_are_not_seen_on_the_host() {
    let c =
        Container::running(Runtime::native(), Config::idle().mount("/mnt", "tmpfs", "tmpfs", &[]));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(c.id()), "{table}");
}

#[test]
fn an_overlay_with_many_layers_is_mounted() {
    if !fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\toverlay")) {
        return skipped("the kernel has no overlay file system");
    }
    let c = Container::native(Config::idle());
    // The upper directory must not itself be on an overlay, so it is a tmpfs in the container's view.
    let layers: Vec<String> = (0..12)
        .map(|n| {
            let layer = c.path(&format!("layer-with-a-rather-long-name-{n}"));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(format!("file{n}")), "").unwrap();
            text(&layer).to_owned()
        })
        .collect();
    let lower = format!("lowerdir={}", layers.join(":"));
    assert!(lower.len() > 256);
    c.configure(Config::sh("ls /merged | wc -l").mount(
        "/merged",
        "overlay",
        "overlay",
        &["ro", &lower],
    ));
    let output = c.run();
    assert_eq!(output.ok(), "12");
}

#[test]
fn tmpcopyup_copies_what_the_image_has() {
    let config = Config::sh("cat /etc/passwd | head -n 1; touch /etc/new && echo rw");
    let c = Container::native(config.mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup"]));
    assert_eq!(c.run().ok(), "root:x:0:0:root:/root:/bin/sh\nrw");
    assert!(!c.rootfs().join("etc/new").exists());
}

#[test]
fn a_tmpfs_keeps_the_mode_of_the_directory_below() {
    let c = Container::native(Config::sh("stat -c %a /tmp").mount("/tmp", "tmpfs", "tmpfs", &[]));
    assert_eq!(c.run().ok(), "1777");
}

#[test]
fn a_mount_without_a_source_is_fine() {
    let seen = run("touch /mnt/x && echo rw", |c| {
        c.push("/mounts", json!({"destination": "/mnt", "type": "tmpfs"}))
    });
    assert_eq!(seen, "rw");
}

#[test]
fn the_cgroup_file_system_can_be_mounted_read_only() {
    for runtime in Runtime::each() {
        let own = if runtime.cgroup == Version::V1 { "pids/" } else { "" };
        let script = format!("mkdir /sys/fs/cgroup/{own}x 2>/dev/null || echo ro");
        let config = Config::sh(&script)
            .mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &["nosuid", "noexec", "nodev", "relatime", "ro"],
            )
            .namespace("cgroup", Some(""));
        let output = Container::new(runtime, config).run();
        assert_eq!(output.ok(), "ro", "{runtime:?}");
    }
}

#[test]
fn a_propagation_of_the_root_that_does_not_exist_is_refused() {
    let c = Container::native(Config::idle().set("/linux/rootfsPropagation", "sideways".into()));
    c.create().refused(1, &["sideways"]);
    c.assert_gone();
}

#[test]
fn the_owner_and_mode_of_the_image_are_left_alone() {
    let c = Container::native(Config::args(&["true"]));
    let of = |name: &str| {
        let meta = fs::metadata(c.rootfs().join(name)).unwrap();
        (meta.uid(), meta.gid(), meta.mode())
    };
    let before = ["", "dev", "proc", "sys", "etc", "tmp"].map(of);
    c.run().silent();
    assert_eq!(before, ["", "dev", "proc", "sys", "etc", "tmp"].map(of));
}

#[test]
fn mount_points_made_for_a_container_are_removed_with_it() {
    gpurun_only!("runc leaves them in the image");
    let c = Container::native(Config::idle());
    fs::write(c.path("file"), "").unwrap();
    c.configure(Config::sh("true").mount("/new/directory", "tmpfs", "tmpfs", &[]).mount(
        "/etc/new.conf",
        "bind",
        text(&c.path("file")),
        &["bind"],
    ));
    let before = listing(&c.rootfs());
    c.run().silent();
    assert_same(&before, &listing(&c.rootfs()));
}

#[test]
fn a_link_in_the_image_is_followed_inside_of_it() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    fs::write(c.path("volume/file"), "content").unwrap();
    symlink("/srv/real", c.rootfs().join("alias")).unwrap();
    fs::create_dir_all(c.rootfs().join("srv/real")).unwrap();
    fs::set_permissions(c.rootfs().join("srv"), fs::Permissions::from_mode(0o755)).unwrap();
    c.configure(Config::sh("cat /srv/real/file").mount(
        "/alias",
        "bind",
        text(&c.path("volume")),
        &["bind"],
    ));
    assert_eq!(c.run().ok(), "content");
}
