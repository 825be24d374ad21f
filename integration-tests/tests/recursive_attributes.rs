//! Mount options that are for a mount and all that is mounted below it: `rro`, `rnosuid`, …
//! (runtime-spec config.md, "Linux mount options").

use integration_tests::container::text;
use integration_tests::{Config, Container, gpurun_only, runtime};
use std::fs;
use std::process::Command;

/// Runs a container that shows the attributes of /data and /data/sub, a bind of a tree whose
/// mounts have the attributes `host` already.
fn attributes(options: &[&str], host: &str) -> (Vec<String>, Vec<String>) {
    let c = Container::native(Config::idle());
    let tree = c.path("tree");
    fs::create_dir(&tree).unwrap();
    let mut all = vec!["rbind"];
    all.extend(options);
    let config = Config::sh("cat /proc/self/mountinfo");
    c.configure(config.mount("/data", "bind", text(&tree), &all));
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs top '{0}' && mkdir '{0}/sub' && \
         mount -t tmpfs sub '{0}/sub' && mount -o remount,bind,{host} '{0}/sub' && \
         mount -o remount,bind,{host} '{0}' && exec \"$0\" \"$@\"",
        text(&tree)
    );
    let run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(run.get_program()).args(run.get_args());
    let output = runtime::finish(&mut command, b"");
    let table = output.ok();
    let of = |point: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(point));
        let line = line.unwrap_or_else(|| panic!("{point} in {table}"));
        line.split(' ').nth(5).unwrap().split(',').map(str::to_owned).collect()
    };
    (of("/data"), of("/data/sub"))
}

#[test]
fn each_setting_option_reaches_what_is_mounted_below() {
    gpurun_only!("runc 1.1.5 knows them only on some builds");
    for (option, shown) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnodiratime", "nodiratime"),
        ("rnoatime", "noatime"),
        ("rnosymfollow", "nosymfollow"),
        ("rrelatime", "relatime"),
    ] {
        let (top, sub) = attributes(&[option], "rw,strictatime");
        assert!(top.contains(&shown.to_owned()), "{option}: {top:?}");
        assert!(sub.contains(&shown.to_owned()), "{option}: {sub:?}");
    }
}

#[test]
fn each_clearing_option_reaches_what_is_mounted_below() {
    gpurun_only!("runc 1.1.5 knows them only on some builds");
    let host = "ro,nosuid,nodev,noexec,noatime,nodiratime";
    for (option, gone) in [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        ("rdiratime", "nodiratime"),
        ("ratime", "noatime"),
        ("rstrictatime", "noatime"),
        ("rrelatime", "noatime"),
    ] {
        let (top, sub) = attributes(&[option], host);
        for shown in [top, sub] {
            assert!(!shown.contains(&gone.to_owned()), "{option}: {shown:?}");
            // The others stay as they are.
            let kept = if gone == "nodev" { "nosuid" } else { "nodev" };
            assert!(shown.contains(&kept.to_owned()), "{option}: {shown:?}");
        }
    }
}

#[test]
fn an_option_for_the_mount_alone_leaves_those_below() {
    let (top, sub) = attributes(&["ro", "noexec"], "rw");
    assert!(top.contains(&"ro".to_owned()) && top.contains(&"noexec".to_owned()), "{top:?}");
    assert!(sub.contains(&"rw".to_owned()) && !sub.contains(&"noexec".to_owned()), "{sub:?}");
}

#[test]
fn both_kinds_together_mean_what_each_says() {
    gpurun_only!("runc 1.1.5 knows them only on some builds");
    let (top, sub) = attributes(&["nosuid", "rro", "rnoexec"], "rw");
    for option in ["ro", "noexec"] {
        assert!(top.contains(&option.to_owned()) && sub.contains(&option.to_owned()), "{sub:?}");
    }
    assert!(top.contains(&"nosuid".to_owned()) && !sub.contains(&"nosuid".to_owned()));
}
