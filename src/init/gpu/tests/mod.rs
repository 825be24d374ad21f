//! Plans applied to small rootfs trees, looked at from inside with real loaders.

mod fixture;
mod hostile;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use super::*;
use crate::gpu::plan::{Abi, FileKind, FileMount, Filter, Link, Mask, Place};
use fixture::{Image, in_mount_namespace, stubs};

#[test]
fn a_debian_image_gets_the_driver_and_keeps_it_after_ldconfig() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.run(&["/sbin/ldconfig"]);
        assert_eq!(image.probe("libcuda.so.1"), "none");
        let before = image.listing();
        image.apply(&stubs().plan()).unwrap();
        for name in ["libcuda.so.1", "libcuda.so", "libcuda.so.550.54.14", "libnvidia-ml.so.1"] {
            assert_eq!(image.probe(name), "driver", "{name}");
        }
        let dir = image.path("/usr/lib/x86_64-linux-gnu");
        let flags = rustix::fs::statvfs(dir.join("libcuda.so.550.54.14")).unwrap().f_flag;
        let wanted =
            StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
        assert!(flags.contains(wanted) && !flags.contains(StatVfsMountFlags::NOEXEC));
        for _ in 0..2 {
            let listed = image.run(&["/sbin/ldconfig", "-p"]);
            assert!(listed.contains("libcuda.so.1 (libc6,x86-64) => /"), "{listed}");
            assert!(listed.contains("libnvidia-ml.so.1 (libc6,x86-64) => /"), "{listed}");
            assert!(listed.contains("libc.so.6 (libc6,x86-64) => /"), "{listed}");
            image.run(&["/sbin/ldconfig"]);
        }
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        assert!(image.undo().is_empty());
        assert_eq!(image.listing_after_unmount(), before);
    });
}

#[test]
fn applying_a_second_time_changes_no_file_of_the_image() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.run(&["/sbin/ldconfig"]);
        image.apply(&stubs().plan()).unwrap();
        let cache = image.path(CACHE);
        let first = (std::fs::read(&cache).unwrap(), std::fs::metadata(&cache).unwrap().ino());
        let listing = image.listing();
        image.apply(&stubs().plan()).unwrap();
        let second = (std::fs::read(&cache).unwrap(), std::fs::metadata(&cache).unwrap().ino());
        assert_eq!(first, second);
        assert_eq!(image.listing(), listing);
        assert_eq!(image.probe("libcuda.so.1"), "driver");
    });
}

#[test]
fn an_image_without_a_cache_gets_one_that_goes_away_again() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let before = image.listing();
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        assert!(image.path(CACHE).exists());
        assert!(image.undo().is_empty());
        assert_eq!(image.listing_after_unmount(), before);
    });
}

#[test]
fn the_images_cache_comes_back_as_it_was() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.run(&["/sbin/ldconfig"]);
        let cache = image.path(CACHE);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&cache, mode).unwrap();
        std::os::unix::fs::chown(&cache, Some(7), Some(8)).unwrap();
        let state = || {
            let stat = std::fs::metadata(&cache).unwrap();
            let time = (stat.mtime(), stat.mtime_nsec());
            (std::fs::read(&cache).unwrap(), stat.mode(), stat.uid(), stat.gid(), time)
        };
        let before = state();
        let listing = image.listing();
        for starts in 1..=3 {
            for _ in 0..starts {
                image.apply(&stubs().plan()).unwrap();
            }
            assert_ne!(state().0, before.0);
            assert!(image.undo().is_empty());
            assert_eq!(state(), before);
            assert_eq!(image.listing_after_unmount(), listing);
        }
        // What is no cache at all, and a delete that was cut short.
        std::fs::write(&cache, "").unwrap();
        image.apply(&stubs().plan()).unwrap();
        let journal = image.journal();
        let (_, temporary) = Journal::records(&journal)
            .filter(|(_, path)| {
                path.starts_with("/etc") && path.to_string_lossy().contains("/.gpurun-ld.so.cache-")
            })
            .last()
            .unwrap();
        image.write(temporary.to_str().unwrap(), "half");
        assert!(image.undo().is_empty());
        assert_eq!(std::fs::read(&cache).unwrap(), b"");
        assert_eq!(image.listing_after_unmount(), listing);
    });
}

#[test]
fn no_name_that_a_container_can_take_keeps_the_cache_from_coming_back() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.run(&["/sbin/ldconfig"]);
        let cache = image.path(CACHE);
        let before = std::fs::read(&cache).unwrap();
        for _ in 0..2 {
            image.apply(&stubs().plan()).unwrap();
            let _ = std::fs::create_dir(image.path("/etc/.gpurun-ld.so.cache"));
            image.write("/etc/.gpurun-ld.so.cache/file", "");
            assert_ne!(std::fs::read(&cache).unwrap(), before);
            assert!(image.undo().is_empty());
            assert_eq!(std::fs::read(&cache).unwrap(), before);
        }
    });
}

#[test]
fn a_cache_that_the_container_rebuilt_is_its_own_and_stays() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.apply(&stubs().plan()).unwrap();
        image.run(&["/sbin/ldconfig"]);
        assert!(image.undo().is_empty());
        assert!(image.path(CACHE).exists());
    });
}

#[test]
fn libraries_outside_the_loaders_directories_survive_ldconfig() {
    in_mount_namespace(|| {
        let image = Image::fedora();
        image.write("/etc/ld.so.conf", "/usr/lib64\n");
        image.run(&["/sbin/ldconfig"]);
        let mut plan = stubs().plan();
        plan.links.clear();
        for file in &mut plan.files {
            if let Place::Library(_, name) = &file.destination {
                file.destination = Place::Path(Path::new("/usr/lib/wsl/lib").join(name));
            }
        }
        image.apply(&plan).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        image.run(&["/sbin/ldconfig"]);
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        assert!(image.path("/etc/ld.so.conf.d/00-gpurun.conf").exists());
        image.apply(&plan).unwrap();
        assert_eq!(fs_names(&image.path("/etc/ld.so.conf.d")), ["00-gpurun.conf"]);
    });
}

#[test]
fn libraries_of_32_bits_have_their_own_directory_and_flags() {
    in_mount_namespace(|| {
        if std::env::consts::ARCH != "x86_64" {
            println!("skipped: only x86-64 has 32-bit libraries");
            return;
        }
        let image = Image::debian();
        let mut plan = stubs().plan();
        for file in &mut plan.files {
            if let Place::Library(abi, _) = &mut file.destination {
                *abi = Abi::I386;
            }
            if let FileKind::Library { abi, .. } = &mut file.kind {
                *abi = Abi::I386;
            }
        }
        for link in &mut plan.links {
            if let Place::Library(abi, _) = &mut link.destination {
                *abi = Abi::I386;
            }
        }
        image.apply(&plan).unwrap();
        let listed = image.run(&["/sbin/ldconfig", "-p"]);
        let wanted = "libcuda.so.1 (libc6) => /usr/lib/i386-linux-gnu/libcuda.so.1";
        assert!(listed.contains(wanted), "{listed}");
        assert_eq!(image.probe("libcuda.so.1"), "none");
        let conf = std::fs::read_to_string(image.path("/etc/ld.so.conf.d/00-gpurun.conf")).unwrap();
        assert!(conf.contains("\n/usr/lib/i386-linux-gnu\n"), "{conf}");
        assert!(image.undo().is_empty());
        assert!(!image.path("/etc/ld.so.conf").exists());
        assert!(!image.path("/etc/ld.so.conf.d").exists());
    });
}

#[test]
fn a_fedora_image_has_them_in_lib64() {
    in_mount_namespace(|| {
        let image = Image::fedora();
        image.apply(&stubs().plan()).unwrap();
        assert!(image.path("/usr/lib64/libcuda.so.550.54.14").exists());
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        assert!(!image.path("/etc/ld.so.conf.d").exists());
    });
}

#[test]
fn a_musl_image_needs_no_cache_and_a_short_path_file_is_completed() {
    in_mount_namespace(|| {
        let Some(image) = Image::alpine() else { return };
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        assert!(!image.path(CACHE).exists());
        assert!(!image.path("/etc/ld-musl-x86_64.path").exists());

        let image = Image::alpine().unwrap();
        image.write("/etc/ld-musl-x86_64.path", "/lib:/opt/lib");
        for _ in 0..2 {
            image.apply(&stubs().plan()).unwrap();
            let text = std::fs::read_to_string(image.path("/etc/ld-musl-x86_64.path")).unwrap();
            assert_eq!(text, "/lib:/opt/lib\n/usr/lib\n");
        }
        assert_eq!(image.probe("libcuda.so.1"), "driver");
    });
}

#[test]
fn an_empty_image_gets_everything_and_is_empty_again() {
    in_mount_namespace(|| {
        let image = Image::empty();
        image.apply(&stubs().plan()).unwrap();
        assert!(image.path("/usr/lib64/libcuda.so.1").exists());
        assert!(image.undo().is_empty());
        assert_eq!(image.listing_after_unmount(), Image::empty().listing());
    });
}

#[test]
fn the_images_own_driver_is_shadowed_and_not_changed() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let dir = "/usr/lib/x86_64-linux-gnu";
        let other = std::fs::read(stubs().library("other")).unwrap();
        // A cuda-compat package, a file of the same name, and a link of the same name.
        image.write_bytes(&format!("{dir}/libcuda.so.999"), &other);
        image.link(&format!("{dir}/libcuda.so.1"), "libcuda.so.999");
        image.link(&format!("{dir}/libcuda.so.550.54.14"), "libcuda.so.999");
        image.link(&format!("{dir}/libcuda.so"), "/nowhere");
        image.write_bytes(&format!("{dir}/libnvidia-ml.so.550.54.14"), &other);
        image.write_bytes(&format!("{dir}/libnvidia-ml.so.1"), "not a library".as_bytes());
        image.run(&["/sbin/ldconfig"]);
        let before = image.listing();
        assert_eq!(image.probe("libcuda.so.1"), "other");
        for _ in 0..2 {
            image.apply(&stubs().plan()).unwrap();
            for name in ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1", "libcuda.so.550.54.14"]
            {
                assert_eq!(image.probe(name), "driver", "{name}");
            }
            assert_eq!(image.probe(&format!("{dir}/libcuda.so.999")), "other");
            let flags = rustix::fs::statvfs(image.path(&format!("{dir}/libnvidia-ml.so.1")));
            assert!(flags.unwrap().f_flag.contains(StatVfsMountFlags::RDONLY));
            image.run(&["/sbin/ldconfig"]);
            assert_eq!(image.probe("libnvidia-ml.so.1"), "driver");
            assert!(image.undo().is_empty());
            assert_eq!(image.listing_after_unmount(), before);
            let file = std::fs::read(image.path(&format!("{dir}/libnvidia-ml.so.1"))).unwrap();
            assert_eq!(file, b"not a library");
            let file = std::fs::read(image.path(&format!("{dir}/libcuda.so.999"))).unwrap();
            assert_eq!(file, other);
        }
    });
}

#[test]
fn a_link_of_the_image_stays_where_the_plans_link_leads_to_no_file_of_the_plan() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let link = |name: &str, target: &str| Link {
            destination: Place::Path(name.into()),
            target: target.into(),
            why: "test".into(),
        };
        image.link("/etc/taken", "own");
        image.link("/etc/same", "../dev/gpu0");
        let mut plan = stubs().plan();
        plan.links.extend([
            link("/etc/taken", "../dev/gpu0"),
            link("/etc/same", "../dev/gpu0"),
            link("/etc/free", "../dev/gpu0"),
            link("/etc/chain", "taken"),
        ]);
        plan.links.extend([link("/etc/one", "two"), link("/etc/two", "one")]);
        image.link("/etc/two", "elsewhere");
        let before = image.listing();
        image.apply(&plan).unwrap();
        for (name, text) in [
            ("taken", "own"),
            ("same", "../dev/gpu0"),
            ("free", "../dev/gpu0"),
            ("two", "elsewhere"),
        ] {
            let found = std::fs::read_link(image.path(&format!("/etc/{name}"))).unwrap();
            assert_eq!(found, Path::new(text), "{name}");
        }
        assert!(image.undo().is_empty());
        assert_eq!(image.listing_after_unmount(), before);
    });
}

#[test]
fn a_library_that_the_user_mounted_under_a_links_name_stays() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let dir = "/usr/lib/x86_64-linux-gnu";
        image.write(&format!("{dir}/libcuda.so.1"), "");
        image.bind(&stubs().library("other"), &format!("{dir}/libcuda.so.1"));
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "other");
        assert_eq!(image.probe("libcuda.so.550.54.14"), "driver");
    });
}

#[test]
fn a_stub_in_a_volume_is_shadowed_and_not_changed() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let dir = "/usr/lib/x86_64-linux-gnu";
        let volume = tempfile();
        std::fs::copy(image.path(&format!("{dir}/libc.so.6")), volume.join("libc.so.6")).unwrap();
        std::fs::write(volume.join("libcuda.so.1"), "stub").unwrap();
        image.bind(&volume, dir);
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        image.unmount();
        assert_eq!(std::fs::read_to_string(volume.join("libcuda.so.1")).unwrap(), "stub");
        std::fs::remove_dir_all(volume).unwrap();
    });
}

#[test]
fn a_rootfs_that_is_read_only_by_itself_works_and_stays_read_only() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.run(&["/sbin/ldconfig"]);
        let before = image.listing();
        image.make_read_only();
        image.apply(&stubs().plan()).unwrap();
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        assert!(image.run(&["/sbin/ldconfig", "-p"]).contains("libcuda.so.1 (libc6"));
        let write = std::fs::write(image.path("/usr/lib/x86_64-linux-gnu/new"), "");
        assert!(write.is_err());
        assert!(image.undo().iter().all(|failure| failure.to_string().contains("Read-only")));
        image.unmount();
        assert_eq!(image.listing_after_unmount(), before);
    });
}

#[test]
fn masks_hide_files_and_directories_of_proc_read_only() {
    for as_before_6_15 in [false, true] {
        in_mount_namespace(move || {
            let image = Image::debian();
            image.mount_proc();
            let mask = |path: &str, content: &str| Mask {
                destination: path.into(),
                content: content.into(),
                why: "test".into(),
            };
            let masks = vec![
                mask("/proc/version", "ModifyDeviceFiles: 0\n"),
                mask("/proc/cmdline", "second"),
                mask("/proc/sys", ""),
                mask("/proc/driver/nothing/here", "absent"),
            ];
            let plan = Plan { masks, ..Plan::default() };
            let mut generated = Generated::default();
            generated.as_before_6_15 = as_before_6_15;
            masks::attach(&plan, &image.root(), &mut generated).unwrap();
            let read = |path: &str| std::fs::read_to_string(image.path(path)).unwrap();
            assert_eq!(read("/proc/version"), "ModifyDeviceFiles: 0\n");
            assert_eq!(read("/proc/cmdline"), "second");
            assert_eq!(std::fs::read_dir(image.path("/proc/sys")).unwrap().count(), 0);
            // Even for root.
            assert!(std::fs::write(image.path("/proc/version"), "x").is_err());
            assert!(std::fs::write(image.path("/proc/sys/x"), "x").is_err());
            assert!(!image.run(&["/bin/probe", "libc.so.6"]).is_empty());
        });
    }
}

/// Without SELinux the kernel refuses the label, which shows that it was asked for it.
#[test]
fn everything_that_is_made_here_asks_for_the_label() {
    if crate::init::label::are_known() {
        println!("skipped: this kernel has SELinux and takes the label");
        return;
    }
    const LABEL: Option<&str> = Some("system_u:object_r:container_file_t:s0:c1,c2");
    in_mount_namespace(|| {
        let image = Image::debian();
        image.mount_proc();
        let file = |path: &str| Mask {
            destination: path.into(),
            content: "text".into(),
            why: "test".into(),
        };
        let gpus = "/proc/sys";
        let filter = Filter { destination: gpus.into(), keep: vec![], why: "test".into() };
        for plan in [
            Plan { masks: vec![file("/proc/version")], ..Plan::default() },
            Plan { masks: vec![file("/proc/sys")], ..Plan::default() },
            Plan { generated: vec![file("/etc/generated")], ..Plan::default() },
            Plan { filters: vec![filter], ..Plan::default() },
        ] {
            let apply = |label| apply(&plan, &image.root(), label, &mut Journal::none());
            let error = apply(LABEL).unwrap_err();
            assert!(matches!(error, ApplyError::Generate { .. }), "{error}");
            apply(None).unwrap();
            apply(Some("")).unwrap();
        }
        // What covers a directory of a read-only rootfs.
        image.make_read_only();
        let plan = Plan { generated: vec![file("/etc/new")], ..Plan::default() };
        let error = apply(&plan, &image.root(), LABEL, &mut Journal::none()).unwrap_err();
        assert!(matches!(error, ApplyError::Cover { .. }), "{error}");
    });
}

#[test]
fn a_filtered_directory_shows_what_is_kept_as_it_was_and_nothing_else() {
    for as_before_6_15 in [false, true] {
        in_mount_namespace(move || {
            let image = Image::debian();
            for bus in ["0000:01:00.0", "0000:25:00.0", "0000:41:00.0"] {
                let directory = format!("/proc/driver/nvidia/gpus/{bus}");
                std::fs::create_dir_all(image.path(&directory)).unwrap();
                image.write(&format!("{directory}/information"), bus);
            }
            let filter = |path: &str, keep: &[&str]| Filter {
                destination: path.into(),
                keep: keep.iter().map(|name| (*name).to_owned()).collect(),
                why: "test".into(),
            };
            let absent = "/proc/driver/other/gpus";
            let hostile = ["0000:25:00.0", "0000:99:00.0", "..", "../gpus", "", "0000:25:00.0"];
            let gpus = "/proc/driver/nvidia/gpus";
            let plan = Plan {
                filters: vec![filter(gpus, &hostile), filter(absent, &["x"])],
                ..Plan::default()
            };
            let mut generated = Generated::default();
            generated.as_before_6_15 = as_before_6_15;
            filters::attach(&plan, &image.root(), &mut generated).unwrap();
            let names = || {
                let entries = std::fs::read_dir(image.path(gpus)).unwrap();
                entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
            };
            assert_eq!(names(), ["0000:25:00.0"]);
            let kept = image.path(gpus).join("0000:25:00.0/information");
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), "0000:25:00.0");
            assert!(std::fs::write(&kept, "x").is_err());
            assert!(std::fs::create_dir(image.path(gpus).join("new")).is_err());

            // A second filter takes away from the first and gives nothing back.
            let plan = Plan { filters: vec![filter(gpus, &["0000:01:00.0"])], ..Plan::default() };
            filters::attach(&plan, &image.root(), &mut generated).unwrap();
            assert!(names().is_empty());

            // The kernel's own directories, as on a machine with the driver.
            image.mount_proc();
            let plan = Plan { filters: vec![filter("/proc/sys", &["vm"])], ..Plan::default() };
            filters::attach(&plan, &image.root(), &mut generated).unwrap();
            assert!(image.path("/proc/sys/vm/overcommit_memory").exists());
            assert!(!image.path("/proc/sys/kernel").exists());

            image.write("/etc/plain", "");
            let plan = Plan { filters: vec![filter("/etc/plain", &[])], ..Plan::default() };
            let error = filters::attach(&plan, &image.root(), &mut generated).unwrap_err();
            assert!(error.to_string().contains("/etc/plain"), "{error}");
        });
    }
}

#[test]
fn an_entry_to_keep_that_is_a_link_of_the_image_shows_nothing_of_where_it_leads() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let gpus = "/proc/driver/nvidia/gpus";
        std::fs::create_dir_all(image.path(gpus)).unwrap();
        std::os::unix::fs::symlink("/etc", image.path(gpus).join("0000:01:00.0")).unwrap();
        let keep = vec!["0000:01:00.0".to_owned()];
        let filter = Filter { destination: gpus.into(), keep, why: "test".into() };
        let plan = Plan { filters: vec![filter], ..Plan::default() };
        filters::attach(&plan, &image.root(), &mut Generated::default()).unwrap();
        assert_eq!(std::fs::read_dir(image.path(gpus)).unwrap().count(), 0);
    });
}

#[test]
fn sockets_can_be_connected_to_and_directories_of_data_are_read_only() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let host = tempfile();
        let socket = host.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::create_dir(host.join("firmware")).unwrap();
        std::fs::write(host.join("firmware/gsp.bin"), "gsp").unwrap();
        let mount = |source: &Path, destination: &str, kind| FileMount {
            source: source.to_owned(),
            destination: Place::Path(destination.into()),
            kind,
            why: "test".into(),
        };
        let files = vec![
            mount(&socket, "/run/nvidia-persistenced/socket", FileKind::Ipc),
            mount(&host.join("firmware"), "/lib/firmware/nvidia", FileKind::Data),
        ];
        let plan = Plan { files, ..Plan::default() };
        let before = image.listing();
        image.apply(&plan).unwrap();
        let inside = image.path("/run/nvidia-persistenced/socket");
        assert!(std::fs::metadata(&inside).unwrap().file_type().is_socket());
        std::os::unix::net::UnixStream::connect(&inside).unwrap();
        let data = image.path("/usr/lib/firmware/nvidia");
        assert_eq!(std::fs::read_to_string(data.join("gsp.bin")).unwrap(), "gsp");
        assert!(std::fs::write(data.join("x"), "").is_err());
        let flags = rustix::fs::statvfs(&data).unwrap().f_flag;
        assert!(flags.contains(StatVfsMountFlags::NOEXEC));
        drop(listener);
        assert!(image.undo().is_empty());
        assert_eq!(image.listing_after_unmount(), before);
        std::fs::remove_dir_all(host).unwrap();
    });
}

#[test]
fn a_source_that_has_become_a_link_is_not_followed() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let host = tempfile();
        std::fs::create_dir_all(host.join("secret/inner")).unwrap();
        std::os::unix::fs::symlink("secret", host.join("link")).unwrap();
        for (source, kind) in [
            ("link", FileKind::Ipc),
            ("link/inner", FileKind::Ipc),
            ("link", FileKind::Data),
            ("link", FileKind::Binary),
        ] {
            let file = FileMount {
                source: host.join(source),
                destination: Place::Path("/opt/place".into()),
                kind,
                why: "test".into(),
            };
            let plan = Plan { files: vec![file], ..Plan::default() };
            let error = image.apply(&plan).unwrap_err().to_string();
            assert!(error.contains(&format!("/{source} (test)")), "{error}");
            assert!(error.contains("link"), "{error}");
        }
        std::fs::remove_dir_all(host).unwrap();
    });
}

#[test]
fn a_volume_over_etc_is_not_written_to() {
    in_mount_namespace(|| {
        let image = Image::debian();
        image.run(&["/sbin/ldconfig"]);
        let volume = tempfile();
        let cache = std::fs::read(image.path(CACHE)).unwrap();
        std::fs::write(volume.join("ld.so.cache"), &cache).unwrap();
        std::fs::write(volume.join("debian_version"), "12").unwrap();
        image.bind(&volume, "/etc");
        image.apply(&stubs().plan()).unwrap();
        assert!(image.run(&["/sbin/ldconfig", "-p"]).contains("libcuda.so.1 (libc6"));
        assert_eq!(image.probe("libcuda.so.1"), "driver");
        image.unmount();
        assert_eq!(std::fs::read(volume.join("ld.so.cache")).unwrap(), cache);
        assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 2);
        std::fs::remove_dir_all(volume).unwrap();
    });
}

#[test]
fn a_source_that_is_gone_is_named() {
    in_mount_namespace(|| {
        let image = Image::debian();
        let mut plan = stubs().plan();
        plan.files[0].source = "/nonexistent/libcuda.so.1".into();
        let text = image.apply(&plan).unwrap_err().to_string();
        assert!(text.contains("/nonexistent/libcuda.so.1 (the driver's library)"), "{text}");
    });
}

/// A new directory of the host.
fn tempfile() -> std::path::PathBuf {
    fixture::new_dir("host")
}

/// The names in a directory.
fn fs_names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
