//! Images that want files of the host to be read, written or mounted over.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::fixture::{Image, in_mount_namespace, new_dir, stubs};
use super::*;
use crate::init::journal::Created;
use crate::init::undo::undo;

fn mkfifo(path: PathBuf) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn links_out_of_the_rootfs_lead_nowhere_outside() {
    in_mount_namespace(|| {
        for target in ["../../outside", "/../../../outside", "../../../../../../outside"] {
            let image = Image::empty();
            fs::create_dir_all(image.path("/usr")).unwrap();
            image.link("/usr/lib64", target);
            image.link("/usr/lib", target);
            image.link("/etc", target);
            // The name does not exist inside: made there, and taken away. It exists inside: that
            // one is used.
            image.apply(&stubs().plan()).unwrap();
            image.assert_outside_is_untouched();
            image.undo();
            assert!(!image.path("/outside").exists());
            fs::create_dir(image.path("/outside")).unwrap();
            image.apply(&stubs().plan()).unwrap();
            assert!(image.path("/outside/libcuda.so.550.54.14").exists());
            assert!(image.path("/outside/ld.so.cache").exists());
            image.assert_outside_is_untouched();
            image.undo();
            image.assert_outside_is_untouched();
            // The journal knows it from the first time.
            assert!(!image.path("/outside").exists());
        }
    });
}

#[test]
fn a_directory_that_is_a_link_to_the_root_is_not_mounted_over() {
    in_mount_namespace(|| {
        let text = || "test".to_owned();
        let firmware = FileMount {
            source: new_dir("firmware"),
            destination: Place::Path("/data".into()),
            kind: FileKind::Data,
            why: text(),
        };
        let mask = Mask { destination: "/data".into(), content: text(), why: text() };
        let filter = Filter { destination: "/data".into(), keep: vec![], why: text() };
        for plan in [
            Plan { files: vec![firmware.clone()], ..Plan::default() },
            Plan { masks: vec![mask], ..Plan::default() },
            Plan { filters: vec![filter], ..Plan::default() },
        ] {
            let image = Image::debian();
            image.link("/data", "usr/..");
            let error = image.apply(&plan).unwrap_err().to_string();
            assert!(error.contains("/data is a link to the root"), "{error}");
        }
        let image = Image::debian();
        image.link("/data", "/");
        image.make_read_only();
        let mask = Mask { destination: "/data/new".into(), content: text(), why: text() };
        let plan = Plan { generated: vec![mask], ..Plan::default() };
        assert!(matches!(image.apply(&plan), Err(ApplyError::ReadOnly { .. })));
        fs::remove_dir(&firmware.source).unwrap();
    });
}

#[test]
fn a_cache_that_is_a_link_out_a_fifo_or_a_device_is_replaced() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let canary = image.outside().join("canary");
        image.link(CACHE, canary.to_str().unwrap());
        image.apply(&stubs().plan()).unwrap();
        assert!(fs::symlink_metadata(image.path(CACHE)).unwrap().is_file());
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        image.assert_outside_is_untouched();

        let image = Image::debian();
        image.link(CACHE, "../../outside/canary");
        image.apply(&stubs().plan()).unwrap();
        image.assert_outside_is_untouched();

        let image = Image::debian();
        mkfifo(image.path(CACHE));
        image.apply(&stubs().plan()).unwrap();
        assert!(fs::symlink_metadata(image.path(CACHE)).unwrap().is_file());

        let image = Image::debian();
        image.link(CACHE, "ld.so.cache");
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");

        let image = Image::debian();
        fs::create_dir(image.path(CACHE)).unwrap();
        let text = image.apply(&stubs().plan()).unwrap_err().to_string();
        assert!(text.contains("/etc/ld.so.cache is a directory in the image"), "{text}");
    });
}

#[test]
fn garbage_and_giants_in_place_of_the_cache_are_handled() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.write(CACHE, "glibc-ld.so.cache1.1 and then garbage, garbage, garbage and garbage");
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");

        let image = Image::debian();
        image.write_bytes(CACHE, &vec![b'x'; 4 << 20]);
        for _ in 0..2 {
            image.apply(&stubs().plan()).unwrap();
            assert_eq!(image.probe("libcuda.so.1"), "driver");
        }
        assert!(image.undo().is_empty());
        assert_eq!(fs::metadata(image.path(CACHE)).unwrap().len(), 4 << 20);
        image.write_bytes(CACHE, &vec![b'x'; (4 << 20) + 1]);
        let text = image.apply(&stubs().plan()).unwrap_err().to_string();
        assert!(text.contains("larger than 4 MiB"), "{text}");

        let image = Image::debian();
        fs::File::create(image.path(CACHE)).unwrap().set_len(1 << 40).unwrap();
        let text = image.apply(&stubs().plan()).unwrap_err().to_string();
        assert!(text.contains("larger than 4 MiB"), "{text}");
    });
}

#[test]
fn what_is_in_the_way_is_named_with_the_remedy() {
    in_mount_namespace(|| {
        let target = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14";
        let image = Image::debian();
        fs::create_dir(image.path(target)).unwrap();
        let text = image.apply(&stubs().plan()).unwrap_err().to_string();
        let wanted = format!(
            "{target} is a directory in the image, but a library must go there: remove it from the image"
        );
        assert_eq!(text, wanted);

        let image = Image::debian();
        mkfifo(image.path(target));
        let text = image.apply(&stubs().plan()).unwrap_err().to_string();
        assert!(text.contains("is a FIFO in the image"), "{text}");

        let image = Image::debian();
        fs::create_dir_all(image.path("/usr/lib/x86_64-linux-gnu/libcuda.so.1/x")).unwrap();
        let text = image.apply(&stubs().plan()).unwrap_err().to_string();
        assert!(text.contains("libcuda.so.1 is a directory in the image"), "{text}");

        let image = Image::debian();
        fs::remove_dir_all(image.path("/usr/lib/x86_64-linux-gnu")).unwrap();
        image.write("/usr/lib/x86_64-linux-gnu", "a file");
        let text = image.apply(&stubs().plan()).unwrap_err().to_string();
        assert!(text.contains("/usr/lib/x86_64-linux-gnu"), "{text}");
    });
}

#[test]
fn a_library_name_that_links_out_is_shadowed_in_place() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let name = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14";
        image.link(name, image.outside().join("canary").to_str().unwrap());
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        image.assert_outside_is_untouched();
        assert!(image.mounts().iter().all(|point| !point.starts_with(image.outside())));
    });
}

#[test]
fn exchanging_directories_with_links_during_the_work_reaches_nothing_outside() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    in_mount_namespace(|| {
        let image = Image::empty();
        let mut pairs = Vec::new();
        for (dir, target) in [("usr/lib64", "../../outside"), ("etc", "../outside"), ("usr", "..")]
        {
            fs::create_dir_all(image.path(dir)).unwrap();
            let link = image.path(&format!("{}.link", dir.replace('/', "-")));
            std::os::unix::fs::symlink(target, &link).unwrap();
            pairs.push((image.path(dir), link));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let attacker = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                for (one, other) in &pairs {
                    let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
                }
            }
        });
        let mut done = 0;
        for _ in 0..300 {
            done += u32::from(image.apply(&stubs().plan()).is_ok());
            image.assert_outside_is_untouched();
            assert!(image.mounts().iter().all(|point| !point.starts_with(image.outside())));
        }
        stop.store(true, Ordering::Relaxed);
        attacker.join().unwrap();
        println!("{done} of 300 went through");
        image.unmount();
        image.undo();
        image.assert_outside_is_untouched();
    });
}

#[test]
fn a_damaged_journal_removes_nothing_that_was_not_made() {
    let base = new_dir("undo");
    let rootfs = base.join("rootfs");
    fs::create_dir_all(rootfs.join("etc/full")).unwrap();
    fs::write(base.join("canary"), "").unwrap();
    fs::write(rootfs.join("etc/full/file"), "content").unwrap();
    fs::write(rootfs.join("etc/passwd"), "content").unwrap();
    std::os::unix::fs::symlink("../..", rootfs.join("etc/up")).unwrap();
    std::os::unix::fs::symlink(&base, rootfs.join("etc/abs")).unwrap();
    let records = [
        "m /../canary",
        "m /etc/up/canary",
        "m /etc/abs/canary",
        "m canary",
        "m ",
        "m",
        "",
        "d /etc/full",
        "d /",
        "f /etc/passwd",
        "m /etc/passwd",
        "l /etc/passwd",
        "n /etc/passwd",
        "d /etc/up",
        "f /etc/full/file",
        "x /etc/passwd",
        "m /etc/../../canary",
        "m /etc/.",
    ];
    let journal = records.join("\0").into_bytes();
    let before = [base.join("canary"), rootfs.join("etc/passwd"), rootfs.join("etc/full/file")];
    let _ = undo(&rootfs, &journal);
    let _ = undo(&rootfs, &[journal.as_slice(), b"\0"].concat());
    let mut seed = 7u64;
    for _ in 0..2000 {
        let mut damaged = [journal.as_slice(), b"\0"].concat();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % damaged.len();
            damaged[at] = (seed >> 20) as u8;
        }
        let _ = undo(&rootfs, &damaged);
    }
    assert!(before.iter().all(|path| path.exists()));
    fs::remove_dir_all(&base).unwrap();
}

#[test]
fn what_a_container_has_put_in_place_of_a_link_or_node_of_ours_stays() {
    use crate::init::journal::Device;
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

    let rootfs = new_dir("undo");
    let journal = rootfs.with_extension("journal");
    let file = fs::File::options().append(true).create(true).open(&journal).unwrap();
    let mut journal_file = Journal::new(file);
    let make = |name: &str, kind, major, minor| {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, rootfs.join(name), kind, mode, makedev(major, minor)).unwrap();
    };
    let link = |name: &str, text: &str| {
        std::os::unix::fs::symlink(text, rootfs.join(name)).unwrap();
    };
    let (c, b, p) = (FileType::CharacterDevice, FileType::BlockDevice, FileType::Fifo);
    for name in ["link", "link2"] {
        let ours = Created::Link(Some("lib.so".as_ref()));
        journal_file.record(ours, &Path::new("/").join(name)).unwrap();
    }
    for (name, kind, numbers) in
        [("null", c, (1, 3)), ("null2", c, (1, 3)), ("null3", c, (1, 3)), ("p", p, (0, 0))]
    {
        let ours = Created::Node(Some(Device { kind, major: numbers.0, minor: numbers.1 }));
        journal_file.record(ours, &Path::new("/").join(name)).unwrap();
    }
    link("link", "lib.so");
    link("link2", "libmine.so");
    make("null", c, 1, 3);
    make("null2", c, 1, 5);
    make("null3", b, 1, 3);
    make("p", p, 0, 0);
    assert!(undo(&rootfs, &fs::read(&journal).unwrap()).is_empty());
    let mut left: Vec<_> =
        fs::read_dir(&rootfs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["link2", "null2", "null3"]);
    // An older version told no more than the kind.
    let old = b"l /link2\0n /null2\0n /null3\0";
    assert!(undo(&rootfs, old).is_empty());
    assert_eq!(fs::read_dir(&rootfs).unwrap().count(), 0);
    fs::remove_dir_all(&rootfs).unwrap();
    fs::remove_file(journal).unwrap();
}

#[test]
fn undo_takes_back_what_was_made_and_only_that() {
    let rootfs = new_dir("undo");
    let journal = rootfs.with_extension("journal");
    let file = fs::File::options().append(true).create(true).open(&journal).unwrap();
    let (root, mut journal_file) = (Root::open(&rootfs).unwrap(), Journal::new(file));
    root.ensure_file(Path::new("/a/b/file"), &mut journal_file).unwrap();
    root.ensure_file(Path::new("/a/c/changed"), &mut journal_file).unwrap();
    let parent = root.parent(Path::new("/a"), &mut journal_file).unwrap();
    parent.create_link("link".as_ref(), Path::new("b"), &mut journal_file).unwrap();
    journal_file.record(Created::MountPoint, Path::new("/never/made")).unwrap();
    fs::write(rootfs.join("a/c/changed"), "by the container").unwrap();
    let bytes = fs::read(&journal).unwrap();
    assert!(undo(&rootfs, &bytes).is_empty());
    assert!(!rootfs.join("a/b").exists() && !rootfs.join("a/link").exists());
    assert_eq!(fs::read_to_string(rootfs.join("a/c/changed")).unwrap(), "by the container");
    assert!(undo(&rootfs, &bytes).is_empty());
    fs::remove_dir_all(&rootfs).unwrap();
    assert!(undo(&rootfs, &bytes).is_empty());
    fs::remove_file(journal).unwrap();
}
