//! /dev as the container gets it.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use oci_spec::runtime::LinuxDevice;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::gpu::plan::{DeviceKind, DeviceNode};

pub fn list(devices: Value) -> Vec<LinuxDevice> {
    serde_json::from_value(devices).unwrap()
}

fn journal(place: &Place) -> Journal {
    let path = place.dir.join("journal");
    Journal::new(fs::File::options().append(true).create(true).open(path).unwrap())
}

fn journalled(place: &Place) -> Vec<String> {
    let text = fs::read_to_string(place.dir.join("journal")).unwrap_or_default();
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn the_default_devices_and_links_are_made_in_a_tmpfs() {
    sandbox(|place| {
        let root = prepared(place);
        let filesystem = mount(&root, place, docker_mounts()).unwrap().dev;
        let devices = list(json!([
            {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600, "uid": 3, "gid": 4},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o660},
            {"path": "/dev/pipe", "type": "p"},
            {"path": "", "type": "c", "major": 9, "minor": 9},
        ]));
        let devices = Devices { list: &devices, filesystem, ..Devices::default() };
        create_devices(&root, devices, &mut journal(place)).unwrap();
        let dev = place.rootfs.join("dev");
        for (name, major, minor, mode) in [
            ("zero", 1, 5, 0o666),
            ("full", 1, 7, 0o666),
            ("random", 1, 8, 0o666),
            ("urandom", 1, 9, 0o666),
            ("tty", 5, 0, 0o666),
            ("null", 1, 3, 0o660),
            ("net/tun", 10, 200, 0o600),
        ] {
            let stat = fs::symlink_metadata(dev.join(name)).unwrap();
            assert!(stat.file_type().is_char_device(), "{name}");
            assert_eq!(stat.rdev(), makedev(major, minor), "{name}");
            assert_eq!(stat.mode() & 0o7777, mode, "{name}");
        }
        let tun = fs::metadata(dev.join("net/tun")).unwrap();
        assert_eq!((tun.uid(), tun.gid()), (3, 4));
        assert!(fs::metadata(dev.join("pipe")).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_link(dev.join("ptmx")).unwrap(), Path::new("pts/ptmx"));
        assert_eq!(fs::read_link(dev.join("stderr")).unwrap(), Path::new("/proc/self/fd/2"));
        assert_eq!(journalled(place), Vec::<String>::new());
    });
}

#[test]
fn what_is_made_in_the_image_is_noted_and_what_it_has_is_accepted() {
    sandbox(|place| {
        let root = prepared(place);
        fill_dev(&root, &[], &mut journal(place)).unwrap();
        let first = journalled(place);
        for record in
            ["d /dev", "N c 1 3 /dev/null", "L 8 pts/ptmx/dev/ptmx", "L 13 /proc/self/fd/dev/fd"]
        {
            assert!(first.contains(&record.to_owned()), "{first:?}");
        }
        fill_dev(&root, &[], &mut journal(place)).unwrap();
        assert_eq!(journalled(place), first);
        let looser = list(json!([{"path": "/dev/tty", "type": "c", "major": 5, "minor": 0,
            "fileMode": 0o600, "uid": 9}]));
        fill_dev(&root, &looser, &mut journal(place)).unwrap();
        let tty = fs::metadata(place.rootfs.join("dev/tty")).unwrap();
        assert_eq!((tty.mode() & 0o7777, tty.uid()), (0o600, 9));
    });
}

#[test]
fn devices_can_be_bound_from_the_host() {
    sandbox(|place| {
        let root = prepared(place);
        let filesystem = mount(&root, place, docker_mounts()).unwrap().dev;
        let bound = Devices { filesystem, bind: true, ..Devices::default() };
        create_devices(&root, bound, &mut Journal::none()).unwrap();
        let null = place.rootfs.join("dev/null");
        assert!(is_mounted(&null));
        assert_eq!(fs::metadata(&null).unwrap().rdev(), makedev(1, 3));
        let wrong = list(json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 7}]));
        let err = create_devices(&root, Devices { list: &wrong, ..bound }, &mut Journal::none())
            .unwrap_err();
        assert!(matches!(err, DeviceError::OtherOnHost { .. }), "{err}");
    });
}

#[test]
fn a_planned_device_is_bound_from_where_the_plan_says() {
    sandbox(|place| {
        let root = prepared(place);
        let filesystem = mount(&root, place, docker_mounts()).unwrap().dev;
        let elsewhere = place.dir.join("gpu0");
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &elsewhere, FileType::CharacterDevice, mode, makedev(195, 0)).unwrap();
        let mut planned = DeviceNode {
            destination: "/dev/made-up/gpu0".into(),
            host_path: Some(elsewhere),
            kind: DeviceKind::Char,
            major: 195,
            minor: 0,
            mode: 0o666,
            uid: 0,
            gid: 0,
            access: "rw".to_owned(),
            why: "test".to_owned(),
        };
        let create = |planned: DeviceNode| {
            let device = json!([{"path": "/dev/made-up/gpu0", "type": "c", "major": 195,
                                 "minor": planned.minor}]);
            let (list, planned) = (list(device), [planned]);
            let devices = Devices { list: &list, planned: &planned, bind: true, filesystem };
            create_devices(&root, devices, &mut Journal::none())
        };
        create(planned.clone()).unwrap();
        let node = place.rootfs.join("dev/made-up/gpu0");
        assert!(is_mounted(&node));
        assert_eq!(fs::metadata(&node).unwrap().rdev(), makedev(195, 0));

        planned.minor = 1;
        let err = create(planned.clone()).unwrap_err();
        assert!(matches!(err, DeviceError::OtherOnHost { .. }), "{err}");
        for host_path in [None, Some(place.dir.join("gpu1"))] {
            planned.host_path = host_path;
            let err = create(planned.clone()).unwrap_err();
            assert!(matches!(err, DeviceError::NotOnHost { .. }), "{err}");
            assert!(err.to_string().contains("195:1"), "{err}");
        }
    });
}

#[test]
fn devices_that_cannot_exist_are_refused() {
    sandbox(|place| {
        let root = prepared(place);
        for device in [
            json!([{"path": "/dev/x", "type": "a", "major": 1, "minor": 1}]),
            json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 1}]),
            json!([{"path": "/dev/x", "type": "b", "major": 1, "minor": 99999999999i64}]),
            json!([{"path": "/", "type": "c", "major": 1, "minor": 1}]),
            json!([{"path": "/dev", "type": "c", "major": 1, "minor": 1}]),
        ] {
            assert!(fill_dev(&root, &list(device), &mut Journal::none()).is_err());
        }
    });
}

#[test]
fn a_dev_bound_from_the_host_is_not_filled() {
    let bound = mounts(json!([{"destination": "/dev/", "source": "/dev", "options": ["rbind"]}]));
    assert!(!needs_dev(&bound));
    let shared = mounts(json!([{"destination": "/dev", "type": "devtmpfs"}]));
    assert!(!needs_dev(&shared));
    assert!(needs_dev(&mounts(docker_mounts())));
}
