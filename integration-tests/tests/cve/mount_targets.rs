//! A place in the image that leads out of it: as a link that lies there, or one that comes in the
//! moment between a look and a mount.

use crate::Scene;
use integration_tests::console::ConsoleSocket;
use integration_tests::container::text;
use integration_tests::race::Racer;
use integration_tests::{Config, gpurun_only, json};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};

/// A terminal, with nothing mounted on /dev but the directory of terminals.
fn on_the_images_dev(config: Config) -> Config {
    let options = &["newinstance", "ptmxmode=0666"];
    config.without_dev().mount("/dev/pts", "devpts", "devpts", options)
}

/// Creates containers for ten seconds while `pairs` are exchanged. Every one is safe.
#[track_caller]
fn raced(scene: &Scene, pairs: &[(&str, &str)]) {
    let paths = pairs.iter().map(|(one, other)| (scene.at(one), scene.at(other))).collect();
    let racer = Racer::start(paths);
    let end = Instant::now() + Duration::from_secs(10);
    let mut creates = 0;
    while Instant::now() < end {
        let output = scene.container.run();
        assert!(output.code == 0 || output.code == 1, "{output:?}");
        assert!(!output.stderr.contains("panicked"), "{output:?}");
        let _ = scene.container.delete(&["--force"]);
        scene.assert_safe();
        creates += 1;
    }
    assert!(creates > 5 && racer.exchanges() > 1000, "{creates} creates");
    println!("{creates} creates, {} exchanges", racer.exchanges());
}

/// runc's: a volume's directory becomes a link to / between the check and the mount.
#[test]
fn cve_2021_30465_a_mount_point_exchanged_for_a_link_gets_no_mount_outside() {
    let tmpfs = |config: Config, at| config.mount(at, "tmpfs", "tmpfs", &["size=64k"]);
    let scene =
        Scene::new(tmpfs(tmpfs(Config::args(&["true"]), "/vol/point"), "/vol/point2/empty"));
    for name in ["vol/point", "vol/point2/empty"] {
        fs::create_dir_all(scene.at(name)).unwrap();
    }
    symlink(scene.canary.upwards(""), scene.at("vol/link")).unwrap();
    symlink(scene.canary.upwards(""), scene.at("vol/link2")).unwrap();
    raced(&scene, &[("vol/point", "vol/link"), ("vol/point2", "vol/link2")]);
}

/// runc's: what is missing of a mount point is made outside.
#[test]
fn cve_2024_45310_a_mount_point_that_has_to_be_made_is_not_made_outside() {
    let scene = Scene::new(Config::idle());
    fs::write(scene.container.path("source"), "source").unwrap();
    let source = scene.container.path("source");
    let config = Config::args(&["true"])
        .mount("/vol/point/new/directory", "tmpfs", "tmpfs", &["size=64k"])
        .mount("/vol/point/file", "bind", text(&source), &["bind"])
        .push(
            "/linux/devices",
            json!({"path": "/vol/point/node", "type": "c", "major": 1, "minor": 3}),
        );
    scene.container.configure(config);
    fs::create_dir_all(scene.at("vol/point")).unwrap();
    symlink(scene.canary.upwards("empty"), scene.at("vol/link")).unwrap();
    // `file` is there in the canary; a name that is not there must not come.
    raced(&scene, &[("vol/point", "vol/link")]);
    assert_eq!(fs::read_dir(scene.canary.path("empty")).unwrap().count(), 0);
}

/// runc's, and youki's CVE-2025-62161: masks are made of the image's /dev/null.
#[test]
fn cve_2025_31133_a_false_dev_null_masks_nothing_and_opens_nothing() {
    gpurun_only!("runc before 1.2.8");
    let script = "cat /etc/secret; echo x > /etc/secret; cat /proc/self/mountinfo";
    let config = Config::sh(script).without_dev().set("/linux/maskedPaths", json!(["/etc/secret"]));
    for bait in ["/proc/sys/kernel/hostname", "/etc/bait", "/proc/self/environ", "null"] {
        let scene = Scene::new(config.clone());
        fs::write(scene.at("etc/secret"), "secret").unwrap();
        fs::write(scene.at("etc/bait"), "bait").unwrap();
        scene.link("dev/null", bait);
        let output = scene.container.run();
        scene.assert_safe();
        let masked = output.stdout.lines().find(|line| line.contains(" /etc/secret "));
        if output.code != 0 && masked.is_none() {
            output.refused(1, &["/dev/null"]);
        } else {
            assert!(masked.unwrap().contains(" /null "), "{masked:?}");
        }
        assert!(
            !output.stdout.contains("bait\n") && !output.stdout.starts_with("secret"),
            "{output:?}"
        );
        assert_eq!(fs::read_to_string(scene.at("etc/bait")).unwrap(), "bait");
    }
    let scene = Scene::new(config);
    fs::write(scene.at("etc/secret"), "secret").unwrap();
    mknodat(CWD, scene.at("dev/null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3))
        .unwrap();
    symlink(scene.canary.upwards("victim"), scene.at("dev/link")).unwrap();
    raced(&scene, &[("dev/null", "dev/link")]);
}

/// runc's: the terminal is mounted on what /dev/console or /dev/pts/N leads to.
#[test]
fn cve_2025_52565_a_terminal_goes_to_the_containers_console_only() {
    let terminal = |config: Config| config.set("/process/terminal", true.into());
    let script = "stat -c %t:%T /dev/console; cat /proc/self/mountinfo";
    for config in [terminal(on_the_images_dev(Config::sh(script))), terminal(Config::sh(script))] {
        for target in ["victim", "empty", "new"] {
            let scene = Scene::new(config.clone());
            scene.link("dev/console", scene.canary.upwards(target));
            let socket = ConsoleSocket::listen(&scene.container.path("console.sock"));
            let path = scene.container.path("console.sock");
            let output = scene.container.create_with(&["--console-socket", text(&path)]);
            scene.assert_safe();
            if output.code != 0 {
                output.refused(1, &["dev"]);
            }
            scene.container.delete(&["--force"]).ok();
            scene.assert_safe();
            drop(socket);
        }
    }
    // While the console and the directory of terminals are exchanged.
    let scene = Scene::new(terminal(on_the_images_dev(Config::args(&["true"]))));
    fs::write(scene.at("dev/console"), "").unwrap();
    symlink(scene.canary.upwards("victim"), scene.at("dev/link")).unwrap();
    let racer = Racer::start(vec![(scene.at("dev/console"), scene.at("dev/link"))]);
    let end = Instant::now() + Duration::from_secs(5);
    let mut creates = 0;
    while Instant::now() < end {
        let path = scene.container.path(&format!("{creates}.sock"));
        let socket = ConsoleSocket::listen(&path);
        let output = scene.container.create_with(&["--console-socket", text(&path)]);
        assert!(output.code == 0 || output.code == 1, "{output:?}");
        scene.assert_safe();
        scene.container.delete(&["--force"]).ok();
        drop(socket);
        creates += 1;
    }
    assert!(creates > 3 && racer.exchanges() > 100, "{creates}");
}

/// runc's and crun's (CVE-2026-47766): /dev of the image is a directory of the host, in which the
/// runtime removes `ptmx` and makes links and nodes.
#[test]
fn cve_2026_41579_a_dev_that_is_a_link_is_refused_and_loses_nothing() {
    gpurun_only!("runc before 1.3.6");
    for target in ["", "empty"] {
        for upwards in [false, true] {
            let scene = Scene::new(Config::idle().without_dev());
            let target =
                if upwards { scene.canary.upwards(target) } else { scene.canary.path(target) };
            scene.link("dev", target);
            scene.refused(&["dev"]);
        }
    }
    for name in ["pts", "shm", "mqueue", "fd", "stdin", "ptmx", "null", "tty", "core", "console"] {
        for config in [Config::idle().without_dev(), Config::idle().without_mount("/dev")] {
            let scene = Scene::new(config);
            scene.link(&format!("dev/{name}"), scene.canary.upwards(name));
            scene.created();
        }
    }
    let scene = Scene::new(Config::args(&["true"]).without_dev());
    symlink(scene.canary.upwards(""), scene.at("link")).unwrap();
    raced(&scene, &[("dev", "link")]);
}

/// crun's: /dev/console is made through a link, and what is called /dev/null is believed by its
/// device number alone.
#[test]
fn cve_2026_88264_a_console_or_null_of_the_image_is_used_only_if_it_is_one() {
    gpurun_only!("crun's and runc's differ");
    let config = Config::sh("cat /etc/secret")
        .without_dev()
        .set("/linux/maskedPaths", json!(["/etc/secret"]))
        .set("/process/terminal", false.into());
    // A regular file, a directory, another device, a block device with the numbers of null.
    for shape in ["file", "directory", "zero", "block"] {
        let scene = Scene::new(config.clone());
        fs::write(scene.at("etc/secret"), "secret").unwrap();
        let path = scene.clear("dev/null");
        match shape {
            "file" => fs::write(&path, "not null").unwrap(),
            "directory" => fs::create_dir(&path).unwrap(),
            "zero" => {
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, makedev(1, 5)).unwrap();
            }
            _ => mknodat(CWD, &path, FileType::BlockDevice, Mode::RUSR, makedev(1, 3)).unwrap(),
        }
        let before = fs::symlink_metadata(&path).unwrap();
        let output = scene.container.run();
        output.refused(1, &["/dev/null"]);
        let after = fs::symlink_metadata(&path).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
        scene.assert_safe();
    }
    let scene = Scene::new(on_the_images_dev(Config::idle()).set("/process/terminal", true.into()));
    scene.link("dev/console", scene.canary.upwards("victim"));
    let path = scene.container.path("console.sock");
    let _socket = ConsoleSocket::listen(&path);
    scene.container.create_with(&["--console-socket", text(&path)]).refused(1, &["console"]);
    scene.assert_safe();
}
