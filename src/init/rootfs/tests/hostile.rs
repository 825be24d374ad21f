//! Rootfs trees that try to lead the runtime out, after the holes that runtimes have had.

use std::os::unix::fs::symlink;

use super::*;

/// A directory outside the rootfs that must not change, and its listing.
fn canary(place: &Place) -> Vec<String> {
    for name in ["ptmx", "null", "file"] {
        fs::write(place.host.join(name), "canary").unwrap();
    }
    listing(&place.host)
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let content = fs::read_to_string(entry.path()).unwrap_or_default();
            format!("{:?} {content}", entry.file_name())
        })
        .collect();
    names.sort();
    names
}

/// Links that lead to the canary by every route.
fn routes(place: &Place) -> [PathBuf; 2] {
    [
        place.host.clone(),
        PathBuf::from("../".repeat(20)).join(place.host.strip_prefix("/").unwrap()),
    ]
}

#[test]
fn a_dev_that_is_a_link_is_refused_and_nothing_outside_changes() {
    for route in 0..2 {
        sandbox(|place| {
            let before = canary(place);
            symlink(&routes(place)[route], place.rootfs.join("dev")).unwrap();
            let root = prepared(place);
            let refused = fill_dev(&root, &[], &mut Journal::none()).unwrap_err();
            assert!(matches!(refused, DeviceError::DevIsNotADirectory), "{refused}");
            assert_eq!(listing(&place.host), before);
        });
    }
}

#[test]
fn links_below_dev_are_not_followed() {
    sandbox(|place| {
        let before = canary(place);
        let dev = place.rootfs.join("dev");
        fs::create_dir(&dev).unwrap();
        symlink(&place.host, dev.join("sub")).unwrap();
        symlink(place.host.join("file"), dev.join("ptmx")).unwrap();
        symlink(place.host.join("new"), dev.join("fd")).unwrap();
        let root = prepared(place);
        let devices = devices::list(json!([
            {"path": "/dev/sub/node", "type": "c", "major": 1, "minor": 3}]));
        let err = fill_dev(&root, &devices, &mut Journal::none()).unwrap_err();
        assert!(err.to_string().contains("/dev/sub/node"), "{err}");
        let err = fill_dev(&root, &[], &mut Journal::none()).unwrap_err();
        assert!(err.to_string().contains("/dev/ptmx"), "{err}");
        assert_eq!(fs::read_link(dev.join("ptmx")).unwrap(), place.host.join("file"));
        assert_eq!(listing(&place.host), before);
    });
}

#[test]
fn a_device_name_taken_by_a_link_or_file_is_refused() {
    for kind in ["link", "file", "fifo"] {
        sandbox(|place| {
            let before = canary(place);
            let null = place.rootfs.join("dev/null");
            fs::create_dir(place.rootfs.join("dev")).unwrap();
            match kind {
                "link" => symlink(place.host.join("null"), &null).unwrap(),
                "file" => fs::write(&null, "").unwrap(),
                _ => fifo(&null),
            }
            let root = prepared(place);
            let err = fill_dev(&root, &[], &mut Journal::none()).unwrap_err();
            assert!(matches!(err, DeviceError::Occupied { .. }), "{err}");
            assert_eq!(listing(&place.host), before);
        });
    }
}

#[test]
fn proc_and_sys_are_not_mounted_through_links() {
    for (dest, fstype) in [("/proc", "proc"), ("/sys", "sysfs")] {
        for absolute in [true, false] {
            sandbox(|place| {
                let before = canary(place);
                let link = place.rootfs.join(&dest[1..]);
                fs::create_dir(place.rootfs.join("elsewhere")).unwrap();
                symlink(if absolute { place.host.as_path() } else { Path::new("elsewhere") }, link)
                    .unwrap();
                let root = prepared(place);
                let text = refusal(&root, place, json!([{"destination": dest, "type": fstype}]));
                assert!(text.contains("must be mounted on ordinary directory"), "{text}");
                assert_eq!(listing(&place.host), before);
            });
        }
    }
}

#[test]
fn nothing_but_a_procfs_covers_proc() {
    sandbox(|place| {
        symlink("proc", place.rootfs.join("alias")).unwrap();
        let root = prepared(place);
        let bind = |dest: &str, source: &Path| json!([{"destination": dest, "source": source, "options": ["rbind"]}]);
        for dest in ["/proc", "/x/../proc", "//proc/."] {
            let text = refusal(&root, place, bind(dest, &place.host));
            assert!(text.contains("not of type proc"), "{text}");
        }
        assert!(refusal(&root, place, bind("/proc", Path::new("/proc/sys"))).contains("type proc"));
        let text = refusal(&root, place, bind("/proc/self/attr", &place.host));
        assert!(text.contains("inside /proc"), "{text}");
        mount(&root, place, json!([{"destination": "/proc", "type": "proc"}])).unwrap();
        let text = refusal(&root, place, bind("/alias", &place.host));
        assert!(text.contains("inside /proc"), "{text}");
        let text = refusal(&root, place, json!([{"destination": "/alias/sys", "type": "tmpfs"}]));
        assert!(text.contains("inside /proc"), "{text}");
        fs::write(place.host.join("cpuinfo"), "fake").unwrap();
        mount(&root, place, bind("/proc/cpuinfo", &place.host.join("cpuinfo"))).unwrap();
        mount(&root, place, bind("/proc", Path::new("/proc"))).unwrap();
        assert!(refusal(&root, place, bind("/", &place.host)).contains("root of the container"));
    });
}

#[test]
fn mount_points_stay_inside_whatever_the_links_say() {
    for route in 0..2 {
        sandbox(|place| {
            let before = canary(place);
            symlink(&routes(place)[route], place.rootfs.join("out")).unwrap();
            let root = prepared(place);
            let source = place.dir.join("source");
            fs::create_dir(&source).unwrap();
            fs::write(source.join("f"), "source").unwrap();
            for list in [
                json!([{"destination": "/out/new", "type": "tmpfs"}]),
                json!([{"destination": "/out", "source": source, "options": ["bind"]}]),
                json!([{"destination": "/out/file", "source": source.join("f"), "options": ["bind"]}]),
            ] {
                // Inside the rootfs the link dangles: what it names is made inside.
                mount(&root, place, list).unwrap();
            }
            assert_eq!(listing(&place.host), before);
            for line in mountinfo() {
                assert!(!line.point.starts_with(&place.host), "{line:?}");
            }
            // With the target there, the mount is inside.
            let inside = place.rootfs.join(place.host.strip_prefix("/").unwrap());
            fs::create_dir_all(&inside).unwrap();
            mount(&root, place, json!([{"destination": "/out", "type": "tmpfs"}])).unwrap();
            assert!(is_mounted(inside));
            assert_eq!(listing(&place.host), before);
        });
    }
}

#[test]
fn a_fifo_as_mount_point_does_not_block() {
    sandbox(|place| {
        let pipe = place.rootfs.join("fifo");
        fifo(&pipe);
        fs::write(place.host.join("f"), "text").unwrap();
        let root = prepared(place);
        mount(
            &root,
            place,
            json!([
            {"destination": "/fifo", "source": place.host.join("f"), "options": ["bind"]}]),
        )
        .unwrap();
        assert_eq!(fs::read_to_string(&pipe).unwrap(), "text");
        let spec = Finish {
            propagation: None,
            deferred: &[],
            readonly_root: false,
            readonly_paths: &[],
            masked_paths: &["/fifo".to_owned()],
            label: None,
        };
        // No null device in the container: nothing is masked with something else instead.
        assert!(finish(&root, &spec).is_err());
    });
}

#[test]
fn a_false_dev_null_masks_nothing() {
    for kind in ["link", "file", "zero"] {
        sandbox(|place| {
            let null = place.rootfs.join("dev/null");
            fs::create_dir(place.rootfs.join("dev")).unwrap();
            fs::write(place.rootfs.join("secret"), "secret").unwrap();
            match kind {
                "link" => symlink("/secret", &null).unwrap(),
                "file" => fs::write(&null, "").unwrap(),
                _ => node(&null, FileType::CharacterDevice, makedev(1, 5)),
            }
            let root = prepared(place);
            let spec = Finish {
                propagation: None,
                deferred: &[],
                readonly_root: false,
                readonly_paths: &[],
                masked_paths: &["/secret".to_owned()],
                label: None,
            };
            let err = finish(&root, &spec).unwrap_err().to_string();
            assert!(err.contains("/secret"), "{err}");
            assert!(!is_mounted(place.rootfs.join("secret")));
        });
    }
}

/// CVE-2021-30465: a directory of the container is swapped for a link to the outside and back
/// while mounts are made below it.
#[test]
fn a_mount_point_swapped_for_a_link_never_puts_a_mount_outside() {
    sandbox(|place| {
        let before = canary(place);
        fs::create_dir(place.rootfs.join("a")).unwrap();
        symlink(&routes(place)[1], place.rootfs.join("b")).unwrap();
        let root = prepared(place);
        let (a, b) = (place.rootfs.join("a"), place.rootfs.join("b"));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = rustix::fs::renameat_with(
                        CWD,
                        &a,
                        CWD,
                        &b,
                        rustix::fs::RenameFlags::EXCHANGE,
                    );
                }
            });
            let (mut made, mut refused) = (0, 0);
            for round in 0..400 {
                let dest = format!("/a/{}", ["", "sub", "sub/sub"][round % 3]);
                let result = mount(
                    &root,
                    place,
                    json!([
                    {"destination": dest, "type": "tmpfs", "source": "raced"}]),
                );
                match result {
                    Ok(_) => made += 1,
                    Err(_) => refused += 1,
                }
                for line in mountinfo().iter().filter(|line| line.source == "raced") {
                    assert!(line.point.starts_with(&place.rootfs), "{line:?}");
                    let point = line.point.as_path();
                    let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
                }
            }
            done.store(true, Ordering::Relaxed);
            eprintln!("{made} made, {refused} refused");
        });
        assert_eq!(listing(&place.host), before);
    });
}

/// CVE-2019-19921 and 2023-27561: the parent of a mount point leads into /proc.
#[test]
fn sysctls_are_not_written_through_a_link_on_proc() {
    sandbox(|place| {
        fs::create_dir_all(place.host.join("sys/net/ipv4")).unwrap();
        fs::write(place.host.join("sys/net/ipv4/ip_forward"), "canary").unwrap();
        symlink(&place.host, place.rootfs.join("proc")).unwrap();
        let root = prepared(place);
        let sysctls = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())];
        write_sysctls(Some(&root), sysctls.iter().map(|(key, value)| (key, value))).unwrap();
        let canary = fs::read_to_string(place.host.join("sys/net/ipv4/ip_forward")).unwrap();
        assert_eq!(canary, "canary");
    });
}
