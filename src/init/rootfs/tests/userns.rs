//! A container in a user namespace: the test program runs itself again inside one, because a
//! thread cannot enter one alone.

use std::process::Command;

use super::*;

const INSIDE: &str = "GPURUN_TEST_USERNS";

/// Runs the test `name` of this file in a user and mount namespace. True when inside already.
fn inside_userns(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    sandbox(|place| {
        // The user namespace inherits this mount, so its attributes are locked there.
        let flags = rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV
            | rustix::mount::MountFlags::NOEXEC;
        rustix::mount::mount(c"locked", &place.host, c"tmpfs", flags, None).unwrap();
        run_inside(name, place);
    });
    false
}

fn run_inside(name: &str, place: &Place) {
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("init::rootfs::tests::userns::{name}"), "--nocapture"])
        .env(INSIDE, &place.host)
        .output();
    match run {
        Err(err) => eprintln!("skipped: unshare(1) cannot be run: {err}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            if text.contains("unshare failed") {
                eprintln!("skipped: no user namespaces here: {text}");
            } else {
                assert!(
                    output.status.success(),
                    "{}{text}",
                    String::from_utf8_lossy(&output.stdout)
                );
                eprint!("{text}");
            }
        }
    }
}

#[test]
fn locked_attributes_of_a_source_are_kept() {
    if !inside_userns("locked_attributes_of_a_source_are_kept") {
        return;
    }
    sandbox(|place| {
        let source = PathBuf::from(std::env::var_os(INSIDE).unwrap());
        let root = prepared(place);
        mount(
            &root,
            place,
            json!([
            {"destination": "/kept", "source": source, "options": ["rbind", "ro"]}]),
        )
        .unwrap();
        let kept = mounted(place.rootfs.join("kept"));
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(kept.has(option), "{kept:?}");
        }
        let text = refusal(
            &root,
            place,
            json!([
            {"destination": "/cleared", "source": source, "options": ["rbind", "exec"]}]),
        );
        assert!(text.contains("locked") && text.contains("exec"), "{text}");
    });
}

#[test]
fn a_container_in_a_user_namespace_gets_its_filesystem() {
    if !inside_userns("a_container_in_a_user_namespace_gets_its_filesystem") {
        return;
    }
    sandbox(|place| {
        let mut root = prepared(place);
        let mut list = docker_mounts();
        let devpts = list[2]["options"].as_array_mut().unwrap();
        devpts.retain(|option| option != "gid=5");
        let view = no_cgroups();
        let context = MountContext {
            bundle: &place.dir,
            label: None,
            cgroups: &view,
            userns: true,
            cgroupns: true,
            sources: &[],
        };
        let made = mount_all(&mut root, &mounts(list), &context, &mut Journal::none()).unwrap();
        let devices = Devices { bind: true, filesystem: made.dev, ..Devices::default() };
        create_devices(&root, devices, &mut Journal::none()).unwrap();
        pivot(&root, false).unwrap();
        let sysctls =
            std::collections::BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]);
        write_sysctls(Some(&root), &sysctls).unwrap();
        let masked = ["/proc/version".to_owned(), "/proc/scsi".to_owned()];
        finish(
            &root,
            &Finish {
                propagation: None,
                deferred: &[],
                readonly_root: true,
                readonly_paths: &["/proc/sys".to_owned()],
                masked_paths: &masked,
                label: None,
            },
        )
        .unwrap();
        assert_eq!(fs::read("/proc/version").unwrap(), b"");
        fs::write("/dev/null", "x").unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
    });
}
