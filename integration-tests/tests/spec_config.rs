//! config.md, requirement by requirement, where no other test holds it already.

use integration_tests::container::text;
use integration_tests::{Config, Container, gpurun_only, json};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn config_md_mounts_are_made_in_the_listed_order() {
    let script = "ls /a; ls /a/b; cat /a/b/c";
    let c = Container::native(Config::idle());
    fs::write(c.path("file"), "inner").unwrap();
    c.configure(
        Config::sh(script)
            .mount("/a", "tmpfs", "tmpfs", &[])
            .mount("/a/b", "tmpfs", "tmpfs", &[])
            .mount("/a/b/c", "bind", text(&c.path("file")), &["bind"]),
    );
    assert_eq!(c.run().ok(), "b\nc\ninner");
    // The other way round the outer one hides the inner one.
    c.configure(Config::sh("ls /a | wc -l").mount("/a/b", "tmpfs", "tmpfs", &[]).mount(
        "/a",
        "tmpfs",
        "tmpfs",
        &[],
    ));
    assert_eq!(c.run().ok(), "0");
}

#[test]
fn config_md_mounts_a_destination_that_is_a_link_to_nothing_is_made_inside() {
    gpurun_only!("runc 1.1 follows only the links on the way");
    for target in ["/run/there/hosts", "../run/there/hosts", "../../../run/there/hosts"] {
        let c = Container::native(Config::idle());
        fs::write(c.path("file"), "mounted").unwrap();
        symlink(target, c.rootfs().join("etc/hosts")).unwrap();
        c.configure(Config::sh("cat /etc/hosts /run/there/hosts").mount(
            "/etc/hosts",
            "bind",
            text(&c.path("file")),
            &["bind"],
        ));
        assert_eq!(c.run().ok(), "mountedmounted", "{target}");
        assert!(!c.rootfs().join("run").exists(), "{target}: made for the mount and gone with it");
    }
    // A link on the way.
    let c = Container::native(Config::idle());
    symlink("/far/away", c.rootfs().join("data")).unwrap();
    c.configure(Config::sh("touch /far/away/x/y; ls /data/x").mount(
        "/data/x",
        "tmpfs",
        "tmpfs",
        &[],
    ));
    assert_eq!(c.run().ok(), "y");
    // A loop.
    let c = Container::native(Config::idle().mount("/loop/x", "tmpfs", "tmpfs", &[]));
    symlink("loop", c.rootfs().join("loop")).unwrap();
    c.create().refused(1, &["/loop/x"]);
    c.assert_gone();
}

#[test]
fn config_md_mounts_a_destination_written_as_a_path_of_the_host_is_inside() {
    let c = Container::native(Config::idle());
    let destination = c.rootfs().join("var/lib");
    let config = Config::sh("touch /var/lib/x; grep -c ' /var/lib ' /proc/self/mounts");
    c.configure(config.mount(text(&destination), "tmpfs", "tmpfs", &[]));
    assert_eq!(c.run().ok(), "1");
    assert!(!c.rootfs().join("var/lib/x").exists());
}

#[test]
fn config_md_process_capabilities_that_nobody_knows_are_ignored_with_a_warning() {
    let c = Container::native(Config::sh("grep CapBnd /proc/self/status").set(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL", "CAP_OF_THE_FUTURE"], "permitted": ["NONSENSE"]}),
    ));
    let log = c.path("log");
    let output = c.call(&["--log", text(&log), "run", "--bundle", text(&c.bundle()), c.id()]);
    assert_eq!(output.ok(), "CapBnd:\t0000000000000020");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("warning") && log.contains("CAP_OF_THE_FUTURE"), "{log}");
}

#[test]
fn config_md_process_capabilities_an_ambient_one_that_is_not_inheritable_is_a_warning() {
    gpurun_only!("runc warns since 1.3");
    let c = Container::native(Config::sh("grep CapAmb /proc/self/status").set(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
               "effective": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"],
               "ambient": ["CAP_KILL", "CAP_CHOWN"]}),
    ));
    let log = c.path("log");
    let output = c.call(&["--log", text(&log), "run", "--bundle", text(&c.bundle()), c.id()]);
    assert_eq!(output.ok(), "CapAmb:\t0000000000000020");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("can't raise ambient capability CAP_CHOWN: "), "{log}");
}

#[test]
fn config_md_process_capabilities_added_by_exec_are_ambient_where_they_are_inheritable() {
    gpurun_only!("runc has it since 1.4");
    let c = Container::running(
        integration_tests::Runtime::native(),
        Config::idle().set(
            "/process/capabilities",
            json!({"bounding": ["CAP_CHOWN", "CAP_SYSLOG"], "permitted": ["CAP_CHOWN"],
                   "effective": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"],
                   "ambient": ["CAP_CHOWN"]}),
        ),
    );
    let seen = c.exec_with(&["--cap", "CAP_SYSLOG"], &["grep", "CapAmb", "/proc/self/status"]);
    assert_eq!(seen.ok(), "CapAmb:\t0000000400000001");
    let c = Container::idle();
    let seen = c.exec_with(&["--cap", "CAP_SYSLOG"], &["grep", "CapAmb", "/proc/self/status"]);
    assert_eq!(seen.ok(), "CapAmb:\t0000000000000000");
}

#[test]
fn config_md_process_without_a_user_is_root() {
    let c = Container::native(Config::sh("id -u; id -g").remove("/process/user"));
    assert_eq!(c.run().ok(), "0\n0");
    c.configure(Config::idle());
    c.run_detached();
    let process = c.path("process.json");
    fs::write(&process, r#"{"args": ["/bin/id", "-u"], "cwd": "/"}"#).unwrap();
    assert_eq!(c.exec_with(&["--process", text(&process)], &[]).ok(), "0");
}

#[test]
fn config_md_annotations_keys_and_properties_that_nobody_knows_are_no_error() {
    let c = Container::native(
        Config::sh("true")
            .set("/annotations", json!({"org.example.unknown": "", "x": "y"}))
            .set("/unknown", json!({"a": [1, 2]}))
            .set("/linux/unknown", json!("x")),
    );
    c.run().ok();
}

#[test]
fn config_md_valid_values_an_invalid_version_is_an_error() {
    gpurun_only!("runc 1.1 does not look at it");
    for version in ["invalid", "", "2.0.0"] {
        let c = Container::native(Config::idle().set("/ociVersion", version.into()));
        assert_ne!(c.create().code, 0, "{version:?}");
        c.assert_gone();
    }
}

#[test]
fn config_md_process_env_an_empty_home_is_none() {
    let c = Container::native(Config::idle());
    c.configure(Config::sh("echo $HOME").set("/process/env", json!(["PATH=/bin", "HOME="])));
    assert_eq!(c.run().ok(), "/root");
}

#[test]
fn config_md_process_terminal_newlines_reach_a_pipe_as_the_program_wrote_them() {
    gpurun_only!("runc runs with a terminal only where it has one itself");
    let c =
        Container::native(Config::sh("echo one; echo two").set("/process/terminal", true.into()));
    let output = c.run();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stdout, "one\ntwo\n");
}
