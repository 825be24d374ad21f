//! Images that try to reach the host while their container is being made.
//!
//! Each test has canaries outside of the rootfs; whether the container is refused or contained,
//! they must be untouched and the host must have no new mount.

use integration_tests::canary::assert_no_mount_at;
use integration_tests::container::text;
use integration_tests::leak::{assert_same, listing};
use integration_tests::{Config, Container, Output, Runtime, gpurun_only, json, rootfs, wait_for};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

struct Attack {
    container: Container,
    canary: PathBuf,
    before: Vec<String>,
}

impl Attack {
    fn new(config: Config) -> Attack {
        let container = Container::native(config);
        let canary = container.path("canary");
        fs::create_dir_all(canary.join("sub")).unwrap();
        for file in ["ptmx", "null", "console", "tty", "zero", "fd", "core", "victim", "sub/file"] {
            fs::write(canary.join(file), format!("canary {file}")).unwrap();
        }
        let before = listing(&canary);
        Attack { container, canary, before }
    }

    /// Replaces `name` in the image by a link to the canary, absolute or by way of `..`.
    fn link(&self, name: &str, target: &str, relative: bool) {
        let place = self.container.rootfs().join(name);
        rootfs::clear(&place);
        let target = self.canary.join(target);
        let target = if relative {
            PathBuf::from(format!("../../../../../../../..{}", text(&target)))
        } else {
            target
        };
        symlink(target, place).unwrap();
    }

    #[track_caller]
    fn create_and_check(&self) -> Output {
        let output = self.container.create();
        self.check();
        if output.code == 0 {
            self.container.start();
            self.check();
        } else {
            output.refused(1, &[]);
        }
        self.container.delete(&["--force"]).ok();
        self.check();
        self.container.assert_gone();
        output
    }

    #[track_caller]
    fn check(&self) {
        assert_same(&self.before, &listing(&self.canary));
        assert_no_mount_at(self.container.id());
    }
}

#[test]
fn links_in_place_of_mount_points_do_not_lead_out() {
    gpurun_only!("CVE-2026-41579 in runc before 1.3.6");
    for name in ["dev", "sys", "tmp", "var"] {
        for relative in [false, true] {
            let attack = Attack::new(Config::idle().mount("/tmp", "tmpfs", "tmpfs", &[]).mount(
                "/var/lib",
                "tmpfs",
                "tmpfs",
                &[],
            ));
            attack.link(name, "", relative);
            attack.create_and_check();
        }
    }
}

#[test]
fn a_link_in_place_of_proc_is_refused() {
    for relative in [false, true] {
        let attack = Attack::new(Config::idle());
        attack.link("proc", "", relative);
        let output = attack.create_and_check();
        assert_eq!(output.code, 1, "{output:?}");
    }
    let attack = Attack::new(Config::idle());
    fs::remove_dir(attack.container.rootfs().join("proc")).unwrap();
    symlink("tmp", attack.container.rootfs().join("proc")).unwrap();
    assert_eq!(attack.create_and_check().code, 1);
}

#[test]
fn a_link_in_place_of_sys_is_refused() {
    let attack = Attack::new(Config::idle());
    fs::remove_dir(attack.container.rootfs().join("sys")).unwrap();
    symlink("tmp", attack.container.rootfs().join("sys")).unwrap();
    assert_eq!(attack.create_and_check().code, 1);
}

#[test]
fn a_dev_link_without_a_dev_mount_is_refused() {
    gpurun_only!("CVE-2026-41579 in runc before 1.3.6");
    for relative in [false, true] {
        let attack = Attack::new(Config::idle().without_dev());
        attack.link("dev", "", relative);
        let output = attack.create_and_check();
        assert_eq!(output.code, 1, "{output:?}");
    }
}

#[test]
fn links_below_dev_do_not_lead_out() {
    gpurun_only!("some of these lead out with runc 1.1");
    for name in ["pts", "shm", "mqueue", "fd", "ptmx", "console", "null", "zero", "tty", "core"] {
        for relative in [false, true] {
            let mounted = Config::idle().without_mount("/dev").set(
                "/linux/devices",
                json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]),
            );
            for config in [mounted, Config::idle().without_dev()] {
                let attack = Attack::new(config);
                attack.link(
                    &format!("dev/{name}"),
                    if name == "pts" { "" } else { name },
                    relative,
                );
                attack.create_and_check();
            }
        }
    }
}

#[test]
fn a_device_path_does_not_lead_out() {
    for path in ["/evil/node", "/dev/../evil/node", "/../../../../evil/node"] {
        let device = json!({"path": path, "type": "c", "major": 1, "minor": 3});
        let attack = Attack::new(Config::idle().push("/linux/devices", device));
        attack.link("evil", "", false);
        attack.create_and_check();
    }
}

#[test]
fn a_mount_destination_with_dots_stays_inside() {
    for destination in ["/../../../../../../tmp/x", "/tmp/../../../x", "relative/../../x"] {
        let attack = Attack::new(Config::idle().mount(destination, "tmpfs", "tmpfs", &[]));
        attack.create_and_check();
    }
}

#[test]
fn a_bind_onto_a_link_does_not_lead_out() {
    let attack = Attack::new(Config::idle());
    let source = attack.container.path("source");
    fs::write(&source, "source").unwrap();
    attack.container.configure(Config::idle().mount(
        "/etc/target",
        "bind",
        text(&source),
        &["bind"],
    ));
    for relative in [false, true] {
        attack.link("etc/target", "victim", relative);
        attack.create_and_check();
    }
}

/// It would be on top of the root: `exec` would enter it, and what is read-only would not be.
#[test]
fn nothing_is_mounted_on_the_root_through_a_link() {
    gpurun_only!("runc 1.1 mounts it");
    let attack = Attack::new(Config::idle());
    let volume = attack.container.path("volume");
    fs::create_dir(&volume).unwrap();
    for target in ["/", "..", "etc/..", "../../..", "back"] {
        rootfs::clear(&attack.container.rootfs().join("data"));
        symlink(target, attack.container.rootfs().join("data")).unwrap();
        if target == "back" {
            symlink("etc/../etc/..", attack.container.rootfs().join("back")).unwrap();
        }
        for (kind, source, options) in [
            ("bind", text(&volume), &["rbind", "rw"][..]),
            ("tmpfs", "tmpfs", &[]),
            ("cgroup", "cgroup", &[]),
            ("none", "none", &["remount", "bind", "rw"]),
        ] {
            attack.container.configure(Config::idle().mount("/data", kind, source, options));
            let output = attack.create_and_check();
            output.refused(1, &["/data", "root of the container", "link"]);
        }
    }
}

/// A volume that has become the container's /dev is a directory of the host.
#[test]
fn a_volume_that_a_link_leads_to_dev_gets_no_node_and_loses_no_file() {
    gpurun_only!("runc 1.1 fills it");
    let attack = Attack::new(Config::idle());
    symlink("/dev", attack.container.rootfs().join("data")).unwrap();
    let volume = attack.container.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("ptmx"), "mine").unwrap();
    let before = listing(&volume);
    for without_dev in [false, true] {
        let config = Config::idle().without_mount("/dev/pts").without_mount("/dev/shm");
        let config = config.without_mount("/dev/mqueue");
        let config = if without_dev { config.without_mount("/dev") } else { config };
        attack.container.configure(config.mount("/data", "bind", text(&volume), &["rbind", "rw"]));
        let output = attack.create_and_check();
        assert_same(&before, &listing(&volume));
        output.refused(1, &["/dev", "link"]);
    }
}

#[test]
fn masks_are_not_led_out_by_links() {
    let config = Config::idle()
        .set("/linux/maskedPaths", json!(["/evil", "/evil2/sub", "/evil/sub"]))
        .set("/linux/readonlyPaths", json!(["/evil", "/evil2"]));
    for relative in [false, true] {
        let attack = Attack::new(config.clone());
        attack.link("evil", "", relative);
        attack.link("evil2", "victim", relative);
        attack.create_and_check();
    }
}

#[test]
fn a_false_dev_null_of_the_image_is_not_what_masks_are_made_of() {
    gpurun_only!("CVE-2025-31133 in runc before 1.2.8");
    let config = Config::sh("cat /etc/secret")
        .without_dev()
        .set("/linux/maskedPaths", json!(["/etc/secret"]));
    let attack = Attack::new(config);
    fs::write(attack.container.rootfs().join("etc/secret"), "secret").unwrap();
    fs::write(attack.container.rootfs().join("etc/bait"), "bait").unwrap();
    symlink("/etc/bait", attack.container.rootfs().join("dev/null")).unwrap();
    let output = attack.container.run();
    attack.check();
    assert!(!output.stdout.contains("secret") && !output.stdout.contains("bait"), "{output:?}");
}

#[test]
fn a_bind_over_proc_is_refused() {
    let attack = Attack::new(Config::idle());
    let fake = attack.container.path("fake");
    fs::create_dir_all(fake.join("self/attr")).unwrap();
    fs::create_dir_all(attack.container.path("empty")).unwrap();
    for destination in ["/proc", "/proc/self", "/proc/sys", "/proc/self/attr"] {
        attack.container.configure(Config::idle().mount(
            destination,
            "bind",
            text(&fake),
            &["bind"],
        ));
        let output = attack.create_and_check();
        assert_eq!(output.code, 1, "bind on {destination}: {output:?}");
    }
}

#[test]
fn a_working_directory_that_is_a_link_does_not_lead_out() {
    let attack = Attack::new(Config::sh("pwd; ls").set("/process/cwd", "/evil/new".into()));
    attack.link("evil", "", true);
    attack.create_and_check();
}

#[test]
fn an_etc_passwd_that_is_a_link_does_not_lead_out() {
    let config = Config::sh("echo $HOME").set("/process/env", json!(["PATH=/bin"]));
    let attack = Attack::new(config);
    fs::write(attack.canary.join("victim"), "root:x:0:0::/canary-home:/bin/sh\n").unwrap();
    attack.link("etc/passwd", "victim", true);
    let output = attack.container.run();
    assert!(!output.stdout.contains("canary-home"), "{output:?}");
}

#[test]
fn an_etc_passwd_that_never_ends_does_not_hang() {
    gpurun_only!("runc 1.1 opens a pipe and reads without end");
    let config = Config::sh("echo fine").set("/process/env", json!(["PATH=/bin"]));
    for kind in ["fifo", "zero"] {
        let attack = Attack::new(config.clone());
        let passwd = attack.container.rootfs().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        if kind == "fifo" {
            assert!(std::process::Command::new("mkfifo").arg(&passwd).status().unwrap().success());
        } else {
            symlink("/dev/zero", &passwd).unwrap();
        }
        assert_eq!(attack.container.run().ok(), "fine");
    }
}

#[test]
fn an_entrypoint_that_is_the_runtime_itself_does_not_change_it() {
    let binary = Runtime::binary();
    let before = fs::read(&binary).unwrap();
    let c = Container::native(Config::args(&["/entry"]));
    fs::write(c.rootfs().join("entry"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(
        c.rootfs().join("entry"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let _ = c.run();
    assert!(before == fs::read(&binary).unwrap());
}

#[test]
fn the_runtime_cannot_be_opened_for_writing_while_it_executes() {
    let binary = Runtime::binary();
    let before = fs::read(&binary).unwrap();
    // Whoever is in the container's pid namespace and not from the image is the runtime.
    let script = "while :; do for p in /proc/[0-9]*; do \
                    { true >> $p/exe; } 2>/dev/null && case $(readlink $p/exe) in \
                      *busybox*) ;; *) echo opened $(readlink $p/exe) >> /tmp/opened;; esac; \
                  done; done";
    let c = Container::running(Runtime::native(), Config::sh(script));
    for _ in 0..20 {
        c.exec(&["true"]).ok();
    }
    let opened = fs::read_to_string(c.rootfs().join("tmp/opened")).unwrap_or_default();
    assert_eq!(opened, "");
    assert!(before == fs::read(&binary).unwrap());
}

#[test]
fn the_runtime_held_open_while_it_waits_cannot_be_written_afterwards() {
    gpurun_only!("runc executes a copy of itself, which this would write to");
    // Docker's capabilities cannot look into the waiting init; with CAP_SYS_PTRACE a process can.
    for (caps, expected) in [
        (&["CAP_DAC_OVERRIDE"][..], "ermission denied"),
        (&["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"][..], "Read-only file system"),
    ] {
        let c = Container::native(Config::idle().capabilities(caps, false));
        // A binary that nobody else executes: what is executed cannot be written anyway.
        let binary = c.path("runtime");
        fs::copy(Runtime::binary(), &binary).unwrap();
        let call = |args: &[&str]| {
            let mut command = std::process::Command::new(&binary);
            command.args(c.command(args).get_args());
            integration_tests::runtime::finish(&mut command, b"").ok();
        };
        call(&["create", "--bundle", text(&c.bundle()), c.id()]);
        let script = "exec 2> /tmp/errors; exec 9</proc/1/exe; touch /tmp/held; \
                      while [ ! -e /tmp/started ]; do sleep 0.02; done; \
                      true >> /proc/self/fd/9 && echo opened >&2; touch /tmp/tried";
        call(&["exec", "--detach", c.id(), "sh", "-c", script]);
        let file = |name: &str| c.rootfs().join("tmp").join(name);
        let errors = || fs::read_to_string(file("errors")).unwrap_or_default();
        wait_for("a try", || file("held").exists() || !errors().is_empty());
        call(&["start", c.id()]);
        fs::write(file("started"), "").unwrap();
        wait_for("the end", || file("tried").exists() || errors().contains(expected));
        assert!(errors().contains(expected) && !errors().contains("opened"), "{}", errors());
    }
}

#[test]
fn a_mount_point_exchanged_for_a_link_while_it_is_used_does_not_lead_out() {
    let attack = Attack::new(Config::args(&["true"]).mount("/vol/point/x", "tmpfs", "tmpfs", &[]));
    let volume = attack.container.rootfs().join("vol");
    fs::create_dir_all(volume.join("point/x")).unwrap();
    fs::create_dir(attack.canary.join("x")).unwrap();
    let attack = Attack { before: listing(&attack.canary), ..attack };
    symlink(&attack.canary, volume.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(Ordering::Relaxed) {
                let flags = RenameFlags::EXCHANGE;
                let _ = renameat_with(CWD, volume.join("point"), CWD, volume.join("link"), flags);
            }
        });
        for _ in 0..40 {
            let _ = attack.container.run();
            let _ = attack.container.delete(&["--force"]);
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            if mounts.contains(attack.container.id()) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    attack.check();
}
