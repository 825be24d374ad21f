//! A process gets more than it should: capabilities, a user, a descriptor of the host, a directory,
//! devices.

use crate::Scene;
use integration_tests::container::text;
use integration_tests::ordinary_user::{self, OrdinaryUser};
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, skipped};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

/// A field of /proc/self/status of an `exec` with these options.
fn field(c: &Container, options: &[&str], name: &str) -> String {
    let output = c.exec_with(options, &["grep", &format!("^{name}:"), "/proc/self/status"]);
    output.ok().split_once(':').unwrap().1.trim().to_owned()
}

/// runc's: a length in the message that starts the container overflows, and ids of the attacker's
/// choice follow. There is no such message; what is that long is refused by its name.
#[test]
fn cve_2021_43784_what_is_too_long_for_a_message_is_an_error() {
    let path = format!("/proc/self/{}", "x".repeat(70_000));
    let scene = Scene::new(Config::idle().namespace("network", Some(&path)));
    scene.refused(&[]);
    let many: Vec<Value> =
        (0..7000).map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1})).collect();
    scene.container.configure(
        Config::idle()
            .namespace("user", Some(""))
            .set("/linux/uidMappings", many.clone().into())
            .set("/linux/gidMappings", many.into()),
    );
    scene.refused(&[]);
}

/// runc's, and crun's CVE-2022-27650: `exec --cap` and containers with inheritable capabilities.
#[test]
fn cve_2022_29162_no_capability_is_inheritable() {
    let c = Container::idle();
    for options in [&[][..], &["--cap", "CAP_NET_ADMIN"], &["--cap", "CAP_SYS_ADMIN", "-u", "1000"]]
    {
        assert_eq!(field(&c, options, "CapInh"), "0000000000000000", "{options:?}");
        assert_eq!(field(&c, options, "CapAmb"), "0000000000000000", "{options:?}");
    }
    let inside = c.sh("grep CapInh /proc/1/status");
    assert_eq!(inside.split_whitespace().nth(1), Some("0000000000000000"));
}

/// runc's: without a cgroup namespace the user's own cgroups can be written to from inside.
#[test]
fn cve_2023_25809_the_cgroups_of_the_user_cannot_be_changed_from_inside() {
    // A user to whom a cgroup is delegated can make cgroups in it: so could their container.
    let Some(user) = OrdinaryUser::with_delegated_cgroup() else {
        return skipped("no cgroup v2 to delegate from");
    };
    let script = "for d in /sys/fs/cgroup $(find /sys/fs/cgroup -type d -name \"*$0*\"); do \
                    mkdir $d/escape 2>/dev/null && rmdir $d/escape && echo made $d; done; echo tried";
    let script = script.replace("$0", user.mark());
    // Without a cgroup namespace all cgroups of the machine are seen; with the mount that
    // `spec --rootless` writes, and with one for which the spec wants write access.
    for (options, name) in [(&["ro"][..], "ro"), (&[][..], "rw")] {
        let config = ordinary_user::config(Config::sh(&script)).namespace("cgroup", None).mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &[&["nosuid", "noexec", "nodev"], options].concat(),
        );
        let output = user.run(name, &config);
        if name == "ro" {
            assert_eq!(output.ok(), "tried");
        } else {
            assert!(
                output.ok().contains("made"),
                "the attack works where the spec lets it: {output:?}"
            );
        }
    }
}

#[test]
fn cve_2023_25809_neither_below_the_sysfs_of_the_host_that_stands_in_for_one() {
    gpurun_only!("runc mounts sysfs or fails");
    let Some(user) = OrdinaryUser::with_delegated_cgroup() else {
        return skipped("no cgroup v2 to delegate from");
    };
    let script = "for d in $(find /sys/fs/cgroup -type d -name \"*$0*\"); do \
                    mkdir $d/escape 2>/dev/null && rmdir $d/escape && echo made $d; done; echo tried";
    // Without a network namespace of its own there is no sysfs of its own.
    let config = ordinary_user::config(Config::sh(&script.replace("$0", user.mark())))
        .without_mount("/sys")
        .mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    assert_eq!(user.run("box", &config).ok(), "tried");
}

/// runc's ("Leaky Vessels"): a descriptor of a directory of the host is open in the new process, and
/// is its working directory.
#[test]
fn cve_2024_21626_no_descriptor_of_the_host_is_there_to_be_a_working_directory() {
    let scene = Scene::new(Config::args(&["ls", "../../../../.."]));
    let running = Container::idle();
    for n in 3..64 {
        for cwd in [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/../..")] {
            let config =
                Config::args(&["ls", "../../../../.."]).set("/process/cwd", cwd.clone().into());
            scene.container.configure(config);
            let output = scene.container.run();
            assert!(output.code != 0 && output.stdout.is_empty(), "{cwd}: {output:?}");
            let output = running.exec_with(&["--cwd", &cwd], &["ls", "../../../../.."]);
            assert!(output.code != 0 && output.stdout.is_empty(), "{cwd}: {output:?}");
        }
        if n > 16 && n % 8 != 0 {
            continue;
        }
        // The same by a link of the image.
        scene.link("here", format!("/proc/self/fd/{n}"));
        let config = Config::args(&["ls", "../../../../.."]).set("/process/cwd", "/here".into());
        scene.container.configure(config);
        let output = scene.container.run();
        assert!(output.code != 0 && output.stdout.is_empty(), "link to {n}: {output:?}");
    }
    scene.assert_safe();
}

/// The other half of CVE-2024-21626: descriptors that the caller had open are open nowhere inside,
/// neither in the program, nor in `exec`, nor in hooks.
#[test]
fn cve_2024_21626_descriptors_of_the_caller_are_not_inherited() {
    gpurun_only!("runc 1.1 leaves them open in hooks");
    let c = Container::native(Config::idle());
    let list = "ls -l /proc/self/fd";
    let hook = |kind: &str| {
        let file = c.path(kind);
        let script = format!("{list} > {} 2>&1", file.display());
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]})
    };
    let inside = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("{list} > /tmp/hook")],
                        "env": ["PATH=/bin"]});
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart"];
    let config = kinds
        .iter()
        .fold(Config::sh(&format!("{list} > /tmp/main; sleep 1000")), |config, kind| {
            config.hook(kind, hook(kind))
        });
    c.configure(config.hook("startContainer", inside));
    let secret = fs::File::open("/").unwrap();
    let leaking = |args: &[&str]| {
        let mut command = c.command(args);
        let raw = secret.as_raw_fd();
        // SAFETY: dup2 is async-signal-safe.
        #[allow(unsafe_code, reason = "descriptors for the child")]
        unsafe {
            command.pre_exec(move || {
                for n in [9, 10, 42] {
                    let fd = std::os::fd::BorrowedFd::borrow_raw(raw);
                    let copy = rustix::io::fcntl_dupfd_cloexec(fd, n)?;
                    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty())?;
                    std::mem::forget(copy);
                }
                Ok(())
            });
        }
        integration_tests::runtime::finish(&mut command, b"")
    };
    let bundle = c.bundle();
    leaking(&["run", "--detach", "--bundle", text(&bundle), c.id()]).ok();
    let exec = leaking(&["exec", c.id(), "sh", "-c", list]);
    integration_tests::wait_for("the listing", || c.rootfs().join("tmp/main").exists());
    std::thread::sleep(std::time::Duration::from_millis(100));
    let mut listings = vec![("exec".to_owned(), exec.ok().to_owned())];
    for kind in kinds {
        listings.push((kind.to_owned(), fs::read_to_string(c.path(kind)).unwrap()));
    }
    for file in ["main", "hook"] {
        listings.push((
            file.to_owned(),
            fs::read_to_string(c.rootfs().join("tmp").join(file)).unwrap(),
        ));
    }
    for (who, listing) in listings {
        // `ls` itself has the directory open that it lists.
        let open: Vec<&str> = listing
            .lines()
            .filter(|line| line.contains("->") && !line.contains("/proc/"))
            .filter(|line| {
                let number = line.split(" -> ").next().and_then(|left| left.rsplit(' ').next());
                !["0", "1", "2"].contains(&number.unwrap_or_default())
            })
            .collect();
        assert!(open.is_empty(), "{who}: {open:?}");
    }
}

/// youki's: a second process had ambient and inheritable capabilities.
#[test]
fn cve_2025_27612_a_second_process_has_the_sets_of_the_container() {
    let config = Config::idle().capabilities(&["CAP_NET_RAW", "CAP_KILL"], false);
    let c = Container::running(Runtime::native(), config);
    let expected = format!("{:016x}", (1 << 13) | (1 << 5));
    for (set, value) in [
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("CapPrm", &expected),
        ("CapEff", &expected),
        ("CapBnd", &expected),
    ] {
        assert_eq!(field(&c, &[], set), value, "{set}");
    }
}

/// crun's: `exec -u 1` became root.
#[test]
fn cve_2026_30892_the_user_of_exec_is_the_one_that_was_given() {
    let c = Container::idle();
    for (given, user, group) in [("1", "1", "0"), ("1:2", "1", "2"), ("1000:1000", "1000", "1000")]
    {
        let output = c.exec_with(&["-u", given], &["sh", "-c", "id -u; id -g"]);
        assert_eq!(output.ok(), format!("{user}\n{group}"), "{given}");
    }
    gpurun_only!("runc 1.1 wraps a number that is too large");
    for given in ["-1", "x", "1:", ":1", "1:x", "4294967295", "1:4294967295", "4294967296", "1 "] {
        let output = c.exec_with(&[&format!("--user={given}")], &["id", "-u"]);
        assert!(output.code != 0 && output.stdout.is_empty(), "{given:?}: {output:?}");
    }
    // None given is the container's own.
    let ordinary = Config::idle().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let ordinary = Container::running(Runtime::native(), ordinary);
    assert_eq!(ordinary.exec_with(&["--user="], &["id", "-u"]).ok(), "1000");
    // A leading zero is decimal, as for strconv.
    let output = c.exec_with(&["-u", "01"], &["id", "-u"]);
    assert!(output.code != 0 || output.ok() == "1", "{output:?}");
}

/// containerd's: a user number that overflows is root.
#[test]
fn cve_2026_46680_a_user_number_that_overflows_is_not_root() {
    for number in [json!(4_294_967_295_u64), json!(4_294_967_296_u64), json!(-1), json!(1e19)] {
        for place in ["uid", "gid"] {
            let config =
                Config::args(&["id"]).set(&format!("/process/user/{place}"), number.clone());
            let output = Container::native(config).run();
            output.refused(1, &[]);
            assert_eq!(output.stdout, "");
        }
        let config = Config::args(&["id"]).set("/process/user/additionalGids", json!([number]));
        Container::native(config).run().refused(1, &[]);
    }
}

/// youki's, without a number: `exec` without seccomp and as root, supplementary groups kept, devices
/// open in cgroup v2, /dev writable though `ro`.
#[test]
fn no_process_is_less_confined_than_the_container() {
    for runtime in Runtime::each() {
        let config = Config::idle()
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}]}),
            )
            .without_mount("/dev")
            .without_mount("/dev/pts")
            .without_mount("/dev/shm")
            .without_mount("/dev/mqueue")
            .mount("/dev", "tmpfs", "tmpfs", &["ro", "mode=777"]);
        let c = Container::running(runtime, config);
        assert_eq!(field(&c, &[], "Seccomp"), "2");
        assert_eq!(field(&c, &[], "Groups"), "");
        assert_eq!(c.exec(&["id", "-u"]).ok(), "1000");
        let touched = c.exec_with(&["-u", "0"], &["touch", "/dev/x"]);
        assert!(touched.stderr.contains("Read-only file system"), "{touched:?}");
        let made = c.exec_with(
            &["-u", "0", "--cap", "CAP_MKNOD"],
            &["sh", "-c", "mknod /tmp/fuse c 10 229 && : < /tmp/fuse"],
        );
        assert!(made.stderr.contains("not permitted"), "{runtime:?}: {made:?}");
    }
}
