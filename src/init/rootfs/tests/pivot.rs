//! From the mounts to the closed container.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&item| item.to_owned()).collect()
}

fn open_ended<'a>() -> Finish<'a> {
    Finish {
        propagation: None,
        deferred: &[],
        readonly_root: false,
        readonly_paths: &[],
        masked_paths: &[],
        label: None,
    }
}

#[test]
fn after_the_pivot_the_host_is_out_of_reach() {
    for no_pivot in [false, true] {
        sandbox(|place| {
            fs::write(place.rootfs.join("marker"), "").unwrap();
            let root = prepared(place);
            mount_and_fill(&root, place);
            pivot(&root, no_pivot).unwrap();
            assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
            assert!(Path::new("/marker").exists());
            assert!(!place.dir.exists());
            assert!(Path::new("/../../marker").exists());
            let lines = mountinfo();
            assert_eq!(lines.len(), 7, "{lines:#?}");
            if !no_pivot {
                assert_eq!(fs::metadata("/..").unwrap().ino(), fs::metadata("/").unwrap().ino());
            }
        });
    }
}

#[test]
fn a_mount_in_the_container_does_not_reach_the_host() {
    let before = mountinfo().len();
    sandbox(|place| {
        let root = prepare_root(&place.rootfs, Some("rshared")).unwrap();
        mount(&root, place, docker_mounts()).unwrap();
        pivot(&root, false).unwrap();
        let spec = Finish { propagation: Some("rshared"), ..open_ended() };
        finish(&root, &spec).unwrap();
        assert!(mounted("/").optional.contains("shared:"));
    });
    assert_eq!(mountinfo().len(), before);
}

#[test]
fn the_root_has_the_propagation_of_the_spec() {
    for (word, expected) in [
        (None, "master"),
        (Some("rslave"), "master"),
        (Some("private"), ""),
        (Some("shared"), "shared"),
        (Some("unbindable"), "unbindable"),
    ] {
        sandbox(|place| {
            let root = prepare_root(&place.rootfs, word).unwrap();
            mount(&root, place, docker_mounts()).unwrap();
            pivot(&root, false).unwrap();
            finish(&root, &Finish { propagation: word, ..open_ended() }).unwrap();
            let optional = mounted("/").optional;
            // The rootfs is bound from a mount that has been made private, so it has no master.
            let expected = if expected == "master" { "" } else { expected };
            assert!(
                optional.starts_with(expected) && optional.is_empty() == expected.is_empty(),
                "{word:?}: {optional}"
            );
        });
    }
    assert!(prepare_root(Path::new("/"), Some("sideways")).is_err());
}

#[test]
fn masks_and_readonly_paths_hold() {
    sandbox(|place| {
        fs::create_dir_all(place.rootfs.join("secrets/below")).unwrap();
        fs::create_dir_all(place.rootfs.join("etc")).unwrap();
        fs::write(place.rootfs.join("file"), "text").unwrap();
        symlink("/file", place.rootfs.join("alias")).unwrap();
        let root = prepared(place);
        mount_and_fill(&root, place);
        pivot(&root, false).unwrap();
        let masked = strings(&[
            "/proc/version",
            "/proc/keys",
            "/secrets",
            "/proc/scsi",
            "/alias",
            "/missing",
            "/file/below",
            "/sys/firmware",
        ]);
        let readonly = strings(&["/proc/sys", "/proc/bus", "/etc", "/missing"]);
        finish(&root, &Finish { readonly_paths: &readonly, masked_paths: &masked, ..open_ended() })
            .unwrap();
        assert_eq!(fs::read("/proc/version").unwrap(), b"");
        assert_eq!(fs::read("/file").unwrap(), b"");
        assert_eq!(fs::read_dir("/secrets").unwrap().count(), 0);
        let err = fs::create_dir("/secrets/new").unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EROFS));
        assert_eq!(fs::write("/etc/new", "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        assert!(mounted("/proc/sys").has("ro") && mounted("/proc/sys").has("nosuid"));
        fs::write("/still-writable", "").unwrap();
        assert!(
            finish(&root, &Finish { masked_paths: &strings(&["/."]), ..open_ended() }).is_err()
        );
        // Without SELinux the kernel refuses the label, which shows that it was asked for it.
        if !crate::init::label::are_known() {
            let masked = strings(&["/etc"]);
            let label = Some("system_u:object_r:container_file_t:s0:c1,c2");
            let spec = Finish { masked_paths: &masked, label, ..open_ended() };
            let error = finish(&root, &spec).unwrap_err().to_string();
            assert!(
                error.contains("cannot mask path \"/etc\"") && error.contains("context"),
                "{error}"
            );
        }
    });
}

#[test]
fn a_readonly_root_keeps_its_other_mounts_writable() {
    sandbox(|place| {
        let root = prepared(place);
        let mut list = docker_mounts();
        list[1]["options"].as_array_mut().unwrap().push(json!("ro"));
        let Mounted { deferred, dev: filesystem } = mount(&root, place, list).unwrap();
        let devices = Devices { filesystem, ..Devices::default() };
        create_devices(&root, devices, &mut Journal::none()).unwrap();
        pivot(&root, false).unwrap();
        finish(&root, &Finish { deferred: &deferred, readonly_root: true, ..open_ended() })
            .unwrap();
        let denied = |path: &str| fs::write(path, "").unwrap_err().raw_os_error();
        assert_eq!(denied("/x"), Some(libc::EROFS));
        assert_eq!(denied("/dev/x"), Some(libc::EROFS));
        fs::write("/dev/shm/x", "").unwrap();
        fs::write("/dev/null", "x").unwrap();
    });
}

#[test]
fn stdio_on_the_hosts_null_moves_to_the_containers() {
    sandbox(|place| {
        let host = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        rustix::stdio::dup2_stdin(&host).unwrap();
        let root = prepared(place);
        mount_and_fill(&root, place);
        pivot(&root, false).unwrap();
        let before = rustix::fs::fstat(rustix::stdio::stdin()).unwrap().st_ino;
        finish(&root, &open_ended()).unwrap();
        let after = rustix::fs::fstat(rustix::stdio::stdin()).unwrap();
        assert_ne!(after.st_ino, before);
        assert_eq!(after.st_ino, fs::metadata("/dev/null").unwrap().ino());
    });
}

#[test]
fn sysctls_land_in_the_kernel_whatever_is_on_proc() {
    sandbox(|place| {
        let root = prepared(place);
        mount(&root, place, docker_mounts()).unwrap();
        // A false /proc/sys over the true one.
        let fake = place.rootfs.join("proc/sys");
        unshare(CloneFlags::CLONE_NEWUTS).unwrap();
        rustix::mount::mount_bind(&place.host, &fake).unwrap();
        fs::create_dir_all(place.host.join("kernel")).unwrap();
        fs::write(place.host.join("kernel/shmmni"), "untouched").unwrap();
        pivot(&root, false).unwrap();
        let sysctls = std::collections::BTreeMap::from([
            ("kernel.shmmni".to_owned(), "1234".to_owned()),
            ("net/ipv4/ip_forward".to_owned(), "1".to_owned()),
        ]);
        write_sysctls(Some(&root), &sysctls).unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(), "untouched");
        rustix::mount::unmount(c"/proc/sys", rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/kernel/shmmni").unwrap().trim(), "1234");
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
        let missing = std::collections::BTreeMap::from([("net.none".to_owned(), "1".to_owned())]);
        let err = write_sysctls(Some(&root), &missing).unwrap_err().to_string();
        assert!(err.contains("net.none") && err.contains("no such file"), "{err}");
    });
}
