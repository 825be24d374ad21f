//! Each type and option of a spec mount, read back from mountinfo.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

#[test]
fn the_mounts_of_an_engine_appear_as_asked_for() {
    sandbox(|place| {
        let root = prepared(place);
        let made = mount(&root, place, docker_mounts()).unwrap();
        assert!(made.deferred.is_empty() && made.dev.is_some());
        let at = |dest: &str| mounted(place.rootfs.join(dest));
        assert_eq!(at("proc").fstype, "proc");
        assert_eq!(at("proc").options, "rw,nosuid,nodev,noexec,relatime");
        assert_eq!(at("dev").options, "rw,nosuid");
        assert!(at("dev").superblock.contains("size=65536k,mode=755"), "{:?}", at("dev"));
        assert_eq!(at("dev/pts").fstype, "devpts");
        assert!(at("dev/pts").superblock.contains("gid=5,mode=620,ptmxmode=666"));
        assert_eq!(at("sys").options, "ro,nosuid,nodev,noexec,relatime");
        // The superblock of sysfs is shared with all who use the network namespace.
        assert_eq!(at("sys").superblock.split(',').next(), Some("rw"));
        assert_eq!(at("dev/mqueue").fstype, "mqueue");
        assert_eq!(at("dev/shm").source, "shm");
        for line in mountinfo().iter().filter(|line| line.point.starts_with(&place.rootfs)) {
            assert!(!line.optional.contains("shared"), "{line:?}");
        }
    });
}

#[test]
fn a_bind_mount_has_the_attributes_of_its_options() {
    sandbox(|place| {
        fs::write(place.host.join("file"), "content").unwrap();
        let root = prepared(place);
        let file = place.host.join("file");
        mount(&root, place, json!([
            {"destination": "/d", "source": place.host, "options": ["bind", "ro", "nosuid", "nodev", "noexec", "noatime"]},
            {"destination": "/new/file", "source": file, "type": "bind", "options": ["rbind", "nosymfollow", "strictatime"]},
            {"destination": "/relative", "source": "host", "options": ["bind"]},
        ]))
        .unwrap();
        let at = |dest: &str| mounted(place.rootfs.join(dest));
        assert_eq!(at("d").options, "ro,nosuid,nodev,noexec,noatime");
        assert_eq!(at("new/file").options, "rw,nosymfollow");
        assert_eq!(fs::read_to_string(place.rootfs.join("new/file")).unwrap(), "content");
        assert!(place.rootfs.join("relative/file").exists());
    });
}

#[test]
fn clear_options_take_attributes_of_the_source_away() {
    sandbox(|place| {
        let root = prepared(place);
        let source = place.rootfs.join("source");
        mount(&root, place, json!([
            {"destination": "/source", "type": "tmpfs", "options": ["nosuid", "nodev", "noexec"]},
            {"destination": "/kept", "source": source, "options": ["bind"]},
            {"destination": "/exec", "source": source, "options": ["bind", "nosuid", "exec", "dev"]},
        ]))
        .unwrap();
        let at = |dest: &str| mounted(place.rootfs.join(dest));
        assert_eq!(at("kept").options, "rw,nosuid,nodev,noexec,relatime");
        assert_eq!(at("exec").options, "rw,nosuid,relatime");
    });
}

#[test]
fn recursive_attributes_reach_the_mounts_below() {
    sandbox(|place| {
        let root = prepared(place);
        let source = place.rootfs.join("a");
        mount(
            &root,
            place,
            json!([
                {"destination": "/a", "type": "tmpfs"},
                {"destination": "/a/b", "type": "tmpfs"},
                {"destination": "/top", "source": source, "options": ["rbind", "ro"]},
                {"destination": "/all", "source": source, "options": ["rbind", "rro", "rnoatime"]},
            ]),
        )
        .unwrap();
        let at = |dest: &str| mounted(place.rootfs.join(dest));
        assert!(at("top").has("ro") && at("top/b").has("rw"));
        assert_eq!(at("all").options, "ro,noatime");
        assert_eq!(at("all/b").options, "ro,noatime");
        assert!(at("a/b").has("rw"));
    });
}

#[test]
fn propagation_options_are_applied() {
    sandbox(|place| {
        let root = prepared(place);
        let bind = |dest: &str, how: &str| json!({"destination": dest, "source": place.host, "options": ["bind", how]});
        mount(&root, place, json!([
            bind("/private", "private"), bind("/shared", "rshared"), bind("/unbindable", "unbindable"),
            {"destination": "/both", "source": place.host, "options": ["bind", "shared", "slave"]},
            {"destination": "/tmpfs", "type": "tmpfs", "options": ["shared"]},
        ]))
        .unwrap();
        let at = |dest: &str| mounted(place.rootfs.join(dest)).optional;
        assert_eq!(at("private"), "");
        assert!(at("shared").contains("shared:"));
        assert!(at("tmpfs").contains("shared:"));
        assert_eq!(at("unbindable"), "unbindable");
        assert!(!at("both").contains("shared:"));
    });
}

#[test]
fn a_tmpfs_takes_the_mode_of_the_directory_it_covers_and_may_copy_it() {
    sandbox(|place| {
        let under = place.rootfs.join("under");
        fs::create_dir_all(under.join("sub")).unwrap();
        fs::write(under.join("sub/file"), "text").unwrap();
        fs::set_permissions(under.join("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(under.join("sub/file"), Some(7), Some(8)).unwrap();
        symlink("/etc/shadow", under.join("link")).unwrap();
        fifo(&under.join("fifo"));
        fs::set_permissions(&under, fs::Permissions::from_mode(0o2751)).unwrap();
        let root = prepared(place);
        mount(
            &root,
            place,
            json!([
                {"destination": "/under", "type": "tmpfs", "options": ["tmpcopyup"]},
                {"destination": "/fresh", "type": "tmpfs"},
            ]),
        )
        .unwrap();
        assert_eq!(fs::metadata(&under).unwrap().mode() & 0o7777, 0o2751);
        assert_eq!(fs::metadata(place.rootfs.join("fresh")).unwrap().mode() & 0o7777, 0o1777);
        let copy = fs::metadata(under.join("sub/file")).unwrap();
        assert_eq!((copy.mode() & 0o7777, copy.uid(), copy.gid()), (0o640, 7, 8));
        assert_eq!(fs::read_to_string(under.join("sub/file")).unwrap(), "text");
        assert_eq!(fs::read_link(under.join("link")).unwrap(), Path::new("/etc/shadow"));
        assert_eq!(mounted(&under).fstype, "tmpfs");
    });
}

#[test]
fn a_readonly_tmpfs_takes_mount_points_until_the_end() {
    sandbox(|place| {
        let root = prepared(place);
        let deferred = mount(
            &root,
            place,
            json!([
                {"destination": "/run", "type": "tmpfs", "options": ["ro"]},
                {"destination": "/run/inner", "source": place.host, "options": ["bind"]},
            ]),
        )
        .unwrap()
        .deferred;
        assert_eq!(deferred.len(), 1);
        assert!(mounted(place.rootfs.join("run")).has("rw"));
        let spec = Finish {
            propagation: None,
            deferred: &deferred,
            readonly_root: false,
            readonly_paths: &[],
            masked_paths: &[],
            label: None,
        };
        finish(&root, &spec).unwrap();
        assert!(mounted(place.rootfs.join("run")).has("ro"));
        assert!(mounted(place.rootfs.join("run/inner")).has("rw"));
    });
}

#[test]
fn overlay_options_may_be_long() {
    sandbox(|place| {
        let root = prepared(place);
        mount(&root, place, json!([{"destination": "/layers", "type": "tmpfs"}])).unwrap();
        let base = place.rootfs.join("layers");
        for (count, name) in [(4, "two"), (12, "page"), (70, "beyond")] {
            let layers: Vec<_> = (0..count)
                .map(|number| base.join(format!("{name}-{}-{number}", "x".repeat(60))))
                .collect();
            for layer in &layers {
                fs::create_dir(layer).unwrap();
                fs::write(layer.join(layer.file_name().unwrap()), "").unwrap();
            }
            let list: Vec<_> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
            let lower = format!("lowerdir={}", list.join(":"));
            mount(
                &root,
                place,
                json!([
                    {"destination": format!("/{name}"), "type": "overlay", "source": "overlay",
                     "options": ["ro", "nodev", lower]},
                ]),
            )
            .unwrap();
            let merged = place.rootfs.join(name);
            assert_eq!(fs::read_dir(&merged).unwrap().count(), count);
            assert_eq!(mounted(&merged).options, "ro,nodev,relatime");
            assert_eq!(mounted(&merged).fstype, "overlay");
            assert_eq!(mountinfo().iter().filter(|line| line.point == merged).count(), 1);
        }
    });
}

#[test]
fn superblock_options_and_remount_are_applied() {
    sandbox(|place| {
        let root = prepared(place);
        mount(&root, place, json!([
            {"destination": "/sync", "type": "tmpfs", "options": ["sync", "dirsync"]},
            {"destination": "/version", "type": "tmpfs", "options": ["iversion", "size=1m"]},
            {"destination": "/grown", "type": "tmpfs", "options": ["size=1m"]},
            {"destination": "/grown", "type": "tmpfs", "options": ["remount", "size=2m", "nodev"]},
            {"destination": "/bound", "source": place.host, "options": ["bind"]},
            {"destination": "/bound", "options": ["bind", "remount", "ro"]},
        ]))
        .unwrap();
        let at = |dest: &str| mounted(place.rootfs.join(dest));
        assert!(at("sync").superblock.contains("sync,dirsync"), "{:?}", at("sync"));
        assert!(at("version").superblock.contains("size=1024k"));
        assert!(at("grown").superblock.contains("size=2048k"));
        assert!(at("grown").has("nodev"));
        assert!(at("bound").has("ro"));
    });
}

#[test]
fn errors_name_both_ends_and_the_reason() {
    sandbox(|place| {
        let root = prepared(place);
        let text = refusal(
            &root,
            place,
            json!([
            {"destination": "/x", "source": "/not/there", "options": ["bind"]}]),
        );
        assert!(text.contains("/not/there") && text.contains("\"/x\""), "{text}");
        assert!(text.ends_with("no such file or directory"), "{text}");
        let text = refusal(
            &root,
            place,
            json!([
            {"destination": "/x", "type": "tmpfs", "options": ["size=many"]}]),
        );
        assert!(text.contains("size"), "{text}");
        let text = refusal(&root, place, json!([{"destination": "/x", "type": "nofs"}]));
        assert!(text.contains("no such device"), "{text}");
        // A mount without a source is none of these errors.
        mount(&root, place, json!([{"destination": "/y", "type": "tmpfs"}])).unwrap();
    });
}

#[test]
fn a_cgroup_mount_of_version_1_has_directories_and_links() {
    if !Path::new("/sys/fs/cgroup/cpu,cpuacct").exists()
        && !Path::new("/sys/fs/cgroup/cpu").exists()
    {
        eprintln!("skipped: no cgroup v1 hierarchies on this machine");
        return;
    }
    let hierarchy = mountinfo().into_iter().find(|line| {
        line.fstype == "cgroup" && line.superblock.split(',').any(|option| option == "cpu")
    });
    let Some(found) = hierarchy else {
        eprintln!("skipped: the cpu controller is not mounted");
        return;
    };
    let name = found.point.file_name().unwrap().to_str().unwrap().to_owned();
    let options = found.superblock.split(',').filter(|option| option.starts_with("cpu"));
    let options = options.collect::<Vec<_>>().join(",");
    for cgroupns in [false, true] {
        sandbox(|place| {
            let own = Hierarchy {
                name: name.clone(),
                own: found.point.clone(),
                options: options.clone(),
                links: vec!["cpu".into(), "cpuacct".into()],
            };
            let view = CgroupView::V1 { hierarchies: vec![own] };
            let mut root = prepared(place);
            let context = MountContext {
                bundle: &place.dir,
                label: None,
                cgroups: &view,
                userns: false,
                cgroupns,
                sources: &[],
            };
            let list = mounts(json!([{"destination": "/sys/fs/cgroup", "type": "cgroup",
                "source": "cgroup", "options": ["ro", "nosuid"]}]));
            mount_all(&mut root, &list, &context, &mut Journal::none()).unwrap();
            let top = place.rootfs.join("sys/fs/cgroup");
            assert_eq!(mounted(&top).fstype, "tmpfs");
            assert!(mounted(&top).has("ro"));
            assert_eq!(mounted(top.join(&name)).fstype, "cgroup");
            assert!(mounted(top.join(&name)).has("ro"));
            assert!(top.join("cpu/cgroup.procs").exists());
        });
    }
}

#[test]
fn a_cgroup_mount_of_version_2_needs_no_cgroup_namespace() {
    let Some(unified) = mountinfo().into_iter().find(|line| line.fstype == "cgroup2") else {
        eprintln!("skipped: cgroup2 is not mounted");
        return;
    };
    for cgroupns in [false, true] {
        sandbox(|place| {
            let (own, all) = (unified.point.join("none"), unified.point.clone());
            let view = CgroupView::V2 { own, all };
            let mut root = prepared(place);
            let context = MountContext {
                bundle: &place.dir,
                label: None,
                cgroups: &view,
                userns: false,
                cgroupns,
                sources: &[],
            };
            let list = mounts(json!([{"destination": "/sys/fs/cgroup", "type": "cgroup",
                "source": "cgroup", "options": ["ro", "nosuid"]}]));
            mount_all(&mut root, &list, &context, &mut Journal::none()).unwrap();
            let top = mounted(place.rootfs.join("sys/fs/cgroup"));
            assert_eq!(top.fstype, "cgroup2");
            assert!(top.has("ro") && top.has("nosuid"));
        });
    }
}
