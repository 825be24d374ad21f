//! /proc or /sys is something else than it seems, so that what the runtime writes there is lost or
//! lands elsewhere.

use crate::Scene;
use integration_tests::container::text;
use integration_tests::race::Racer;
use integration_tests::{Config, Container, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// A tree that looks like /proc to whoever writes labels.
fn false_proc(directory: &std::path::Path) {
    fs::create_dir_all(directory.join("self/attr")).unwrap();
    fs::create_dir_all(directory.join("sys/kernel")).unwrap();
    for file in ["self/attr/exec", "self/attr/current", "self/status", "sys/kernel/hostname"] {
        fs::write(directory.join(file), "").unwrap();
    }
}

/// runc's and crun's (CVE-2019-18837): a volume over /proc, with a label to be written.
#[test]
fn cve_2019_16884_a_volume_over_proc_is_refused() {
    let scene = Scene::new(Config::idle());
    let fake = scene.container.path("fake");
    false_proc(&fake);
    for destination in ["/proc", "/proc/", "/./proc", "/tmp/../proc"] {
        for kind in ["bind", "tmpfs"] {
            let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
            let config = Config::idle().mount(destination, kind, text(&fake), options);
            scene.container.configure(config.set("/process/apparmorProfile", "x".into()));
            scene.refused(&[]);
            assert_eq!(fs::read_to_string(fake.join("self/attr/exec")).unwrap(), "");
        }
    }
}

/// runc's: /proc of the image leads to a directory that another container shares.
#[test]
fn cve_2019_19921_a_proc_that_leads_to_a_shared_volume_is_refused() {
    let scene = Scene::new(Config::idle());
    let volume = scene.container.path("volume");
    false_proc(&volume.join("proc"));
    let shared = |config: Config| config.mount("/volume", "bind", text(&volume), &["rbind"]);
    fs::create_dir(scene.at("volume")).unwrap();
    // Its mounts carry the first one's name, so it has ended before what is left is listed.
    let other = Container::native(shared(Config::args(&["true"])));
    fs::create_dir(other.rootfs().join("volume")).unwrap();
    other.run().ok();
    for target in ["volume/proc", "/volume/proc", "tmp"] {
        scene.link("proc", target);
        scene.container.configure(shared(Config::idle()));
        scene.refused(&["proc"]);
        // The volume first, then the link that leads to it.
        let mut config = shared(Config::idle().without_mount("/proc"));
        config = config.mount("/proc", "proc", "proc", &[]);
        scene.container.configure(config);
        scene.refused(&["proc"]);
    }
}

/// runc's regression of CVE-2019-19921.
#[test]
fn cve_2023_27561_a_link_in_place_of_proc_is_refused() {
    for target in ["canary", "upwards", "/proc", "/tmp", "proc", "nowhere"] {
        let scene = Scene::new(Config::idle());
        match target {
            "canary" => scene.link("proc", scene.canary.path("")),
            "upwards" => scene.link("proc", scene.canary.upwards("")),
            other => scene.link("proc", other),
        }
        scene.refused(&[]);
    }
}

/// runc's: the same with /sys.
#[test]
fn cve_2023_28642_a_link_in_place_of_sys_is_refused() {
    for target in ["canary", "upwards", "/tmp", "proc"] {
        let scene = Scene::new(Config::idle());
        match target {
            "canary" => scene.link("sys", scene.canary.path("")),
            "upwards" => scene.link("sys", scene.canary.upwards("")),
            other => scene.link("sys", other),
        }
        scene.refused(&[]);
    }
}

/// youki's: the same as CVE-2019-19921 and its kin, looked at by path and then mounted by path.
#[test]
fn cve_2025_54867_a_proc_exchanged_for_a_link_meanwhile_covers_nothing_outside() {
    let config = Config::sh("test -e /proc/self/status && test -e /sys/kernel && echo real");
    for name in ["proc", "sys"] {
        let scene = Scene::new(config.clone());
        symlink(scene.canary.upwards("empty"), scene.at("link")).unwrap();
        let racer = Racer::start(vec![(scene.at(name), scene.at("link"))]);
        let end = Instant::now() + Duration::from_secs(5);
        let (mut started, mut refused) = (0, 0);
        while Instant::now() < end {
            let output = scene.container.run();
            if output.code == 0 {
                // What is mounted is where the container looks for it.
                assert_eq!(output.ok(), "real");
                started += 1;
            } else {
                refused += 1;
            }
            scene.canary.assert_untouched();
        }
        assert!(started + refused > 5 && racer.exchanges() > 100, "{started} {refused}");
    }
}

/// runc's, and youki's CVE-2025-62596: what the runtime writes to /proc goes elsewhere, because a
/// part of /proc is covered.
#[test]
fn cve_2025_52881_no_part_of_proc_can_be_covered_before_the_runtime_writes_to_it() {
    let scene = Scene::new(Config::idle());
    let fake = scene.container.path("fake");
    false_proc(&fake);
    for part in ["self", "self/attr", "self/attr/exec", "sys", "sys/kernel", "thread-self", "1"] {
        let destination = format!("/proc/{part}");
        let source = fake.join(if part == "self/attr/exec" { "self/attr/exec" } else { "self" });
        for via in [destination.clone(), format!("/loop/..{destination}"), format!("/link/{part}")]
        {
            let _ = fs::remove_file(scene.at("link"));
            symlink("proc", scene.at("link")).unwrap();
            let config = Config::idle().mount(&via, "bind", text(&source), &["bind"]);
            scene
                .container
                .configure(config.set("/linux/sysctl", json!({"net.core.somaxconn": "77"})));
            scene.refused(&[]);
        }
    }
    // Where nothing is in the way the value arrives in the kernel.
    let config = Config::sh("cat /proc/sys/net/core/somaxconn");
    scene.container.configure(config.set("/linux/sysctl", json!({"net.core.somaxconn": "77"})));
    assert_eq!(scene.container.run().ok(), "77");
}

/// Somebody outside renames the directories on which /proc and /sys are mounted. In the container's
/// mount namespace the mounts go along, and what is to be masked is not where it was.
#[test]
fn masks_are_put_into_a_proc_and_sys_that_are_renamed_meanwhile() {
    let script = "for at in / /other-; do \
        ls ${at}proc/self > /dev/null 2>&1 && test -s ${at}proc/version && echo version; \
        (: >> ${at}proc/sys/kernel/core_pattern) 2> /dev/null && echo core_pattern; \
        ls ${at}sys/kernel 2> /dev/null; done; echo ran";
    let config = Config::sh(script)
        .set("/linux/maskedPaths", json!(["/proc/version", "/sys/kernel"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys"]));
    for name in ["proc", "sys"] {
        let scene = Scene::new(config.clone());
        let other = scene.at(&format!("other-{name}"));
        fs::create_dir(&other).unwrap();
        let racer = Racer::start(vec![(scene.at(name), other)]);
        let end = Instant::now() + Duration::from_secs(5);
        let (mut started, mut refused) = (0, 0);
        while Instant::now() < end {
            let output = scene.container.run();
            if output.code == 0 {
                assert_eq!(output.ok(), "ran");
                started += 1;
            } else {
                output.refused(1, &["renamed"]);
                refused += 1;
            }
        }
        assert!(started > 5 && refused > 5 && racer.exchanges() > 100, "{started} {refused}");
    }
}
