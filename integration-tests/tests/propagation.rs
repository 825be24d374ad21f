//! linux.rootfsPropagation (runtime-spec config-linux.md, "Rootfs Mount Propagation"). The options
//! of single mounts are in mounts.rs.

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, runtime};
use std::fs;
use std::process::Command;

/// The optional fields of the container's root in its mountinfo.
fn root_fields(propagation: Value) -> String {
    let script = "grep ' / / \\|/rootfs / ' /proc/self/mountinfo";
    let c = Container::native(Config::sh(script).set("/linux/rootfsPropagation", propagation));
    let output = c.run();
    let line = output.ok().lines().next().unwrap_or_default().to_owned();
    let before = line.split(" - ").next().unwrap_or_default().to_owned();
    before.split(' ').skip(6).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for() {
    for (propagation, expected) in [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
    ] {
        let fields = root_fields(propagation.into());
        if expected.is_empty() {
            assert_eq!(fields, "", "{propagation}");
        } else {
            assert!(fields.contains(expected), "{propagation}: {fields}");
        }
    }
    for propagation in ["slave", "rslave"] {
        assert!(!root_fields(propagation.into()).contains("shared:"), "{propagation}");
    }
}

/// Runs `create`, `start` and then `script` in one mount namespace in which `directory` is shared.
fn while_it_runs(c: &Container, directory: &std::path::Path, script: &str) -> runtime::Output {
    let call = |args: &[&str]| {
        let command = c.command(args);
        let mut words = vec![text(command.get_program().as_ref()).to_owned()];
        words.extend(command.get_args().map(|arg| text(arg.as_ref()).to_owned()));
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    };
    let all = format!(
        "set -e; mount --make-rprivate /; mount --bind '{0}' '{0}'; mount --make-shared '{0}'; \
         {1} >/dev/null 2>&1 </dev/null; {2}; {script}",
        text(directory),
        call(&["create", "--bundle", text(&c.bundle()), c.id()]),
        call(&["start", c.id()]),
    )
    .replace("EXEC", &call(&["exec", c.id()]));
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &all]);
    runtime::finish(&mut command, b"")
}

#[test]
fn a_slave_sees_what_the_host_mounts_later_and_a_private_mount_does_not() {
    for (option, expected) in [("rslave", "later"), ("rprivate", "nothing")] {
        let c = Container::native(Config::idle());
        let volume = c.path("volume");
        fs::create_dir_all(volume.join("sub")).unwrap();
        c.configure(Config::idle().mount("/data", "bind", text(&volume), &["rbind", option]));
        let script = format!(
            "mount -t tmpfs later '{0}/sub'; touch '{0}/sub/file'; \
             EXEC sh -c '[ -e /data/sub/file ] && echo later || echo nothing'; umount '{0}/sub'",
            text(&volume)
        );
        assert_eq!(while_it_runs(&c, &volume, &script).ok(), expected, "{option}");
    }
}

#[test]
fn what_a_container_mounts_in_a_shared_volume_is_seen_by_the_host() {
    for (option, expected) in [("rshared", "there"), ("rslave", "nothing")] {
        let c = Container::native(Config::idle());
        let volume = c.path("volume");
        fs::create_dir_all(volume.join("sub")).unwrap();
        let config = Config::idle()
            .capabilities(&["CAP_SYS_ADMIN"], false)
            .set("/linux/rootfsPropagation", "rshared".into())
            .mount("/data", "bind", text(&volume), &["rbind", option]);
        c.configure(config);
        let script = format!(
            "EXEC sh -c 'mount -t tmpfs inside /data/sub && touch /data/sub/file'; \
             [ -e '{0}/sub/file' ] && echo there || echo nothing",
            text(&volume)
        );
        assert_eq!(while_it_runs(&c, &volume, &script).ok(), expected, "{option}");
    }
}

#[test]
fn nothing_of_the_containers_own_root_reaches_the_host_by_default() {
    let c = Container::running(
        Runtime::native(),
        Config::idle().capabilities(&["CAP_SYS_ADMIN"], false),
    );
    c.sh("mount -t tmpfs inside /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs inside /mnt");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(c.id()), "{table}");
}
