//! What is in /dev: default nodes and links, and the nodes that a bundle lists.

use integration_tests::console::ConsoleSocket;
use integration_tests::container::text;
use integration_tests::leak::{assert_same, listing};
use integration_tests::{Config, Container, Output, gpurun_only, json};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Runs `script` in a container made by `change` and returns what it printed.
#[track_caller]
fn run(script: &str, change: impl FnOnce(Config) -> Config) -> String {
    Container::native(change(Config::sh(script))).run().ok().to_owned()
}

#[test]
fn a_read_only_dev_is_made_read_only_after_it_is_filled() {
    let config =
        Config::sh("echo x > /dev/null && echo filled; touch /dev/x 2>/dev/null || echo ro")
            .without_mount("/dev")
            .without_mount("/dev/pts")
            .without_mount("/dev/shm")
            .without_mount("/dev/mqueue")
            .mount("/dev", "tmpfs", "tmpfs", &["nosuid", "ro", "mode=755"]);
    assert_eq!(Container::native(config).run().ok(), "filled\nro");
}

#[test]
fn the_default_devices_and_links_are_there() {
    let script = "cd /dev; for d in null zero full random urandom tty; do \
                    echo $d $(stat -c '%t:%T %a %F' $d); done; \
                  for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done";
    let expected = "null 1:3 666 character special file\nzero 1:5 666 character special file\n\
                    full 1:7 666 character special file\nrandom 1:8 666 character special file\n\
                    urandom 1:9 666 character special file\ntty 5:0 666 character special file\n\
                    fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\n\
                    stderr /proc/self/fd/2\nptmx pts/ptmx";
    assert_eq!(run(script, |c| c), expected);
}

#[test]
fn devices_get_their_numbers_owner_and_mode() {
    let devices = json!([
        {"path": "/dev/mine/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/plain", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622}
    ]);
    let script =
        "cd /dev; for d in mine/null plain disk pipe; do stat -c '%F %t:%T %a %u:%g' $d; done";
    let expected = "character special file 1:3 640 7:8\ncharacter special file 1:5 666 0:0\n\
                    block special file 7:c8 600 0:0\nfifo 0:0 622 0:0";
    assert_eq!(run(script, |c| c.set("/linux/devices", devices)), expected);
}

#[test]
fn a_device_that_is_the_image_s_already_may_be_listed() {
    let config = Config::sh("stat -c '%t:%T' /dev/null").without_mount("/dev");
    let config = ["/dev/pts", "/dev/shm", "/dev/mqueue"]
        .iter()
        .fold(config, |config, point| config.without_mount(point))
        .set(
            "/linux/devices",
            json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]),
        )
        .push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}),
        );
    let c = Container::native(config);
    let made =
        Command::new("mknod").arg(c.rootfs().join("dev/null")).args(["c", "1", "3"]).status();
    assert!(made.unwrap().success());
    assert_eq!(c.run().ok(), "1:3");
}

/// A container with a terminal, whose /dev is the image's.
fn with_the_image_s_dev() -> Container {
    let options = &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    let config = Config::args(&["true"])
        .without_dev()
        .mount("/dev/pts", "devpts", "devpts", options)
        .push("/linux/devices", json!({"path": "/dev/pipe", "type": "p"}))
        .set("/process/terminal", true.into());
    Container::native(config)
}

#[track_caller]
fn create(c: &Container) -> Output {
    let path = c.path("console.sock");
    let _ = std::fs::remove_file(&path);
    let _socket = ConsoleSocket::listen(&path);
    c.create_with(&["--console-socket", text(&path)])
}

#[test]
fn nothing_of_ours_stays_in_a_dev_of_the_image() {
    gpurun_only!("runc leaves all of it");
    let c = with_the_image_s_dev();
    let before = listing(&c.rootfs());
    create(&c).silent();
    c.delete(&["--force"]).silent();
    assert_same(&before, &listing(&c.rootfs()));
    // A console of the image is not ours.
    let console = c.rootfs().join("dev/console");
    std::fs::create_dir_all(c.rootfs().join("dev")).unwrap();
    std::fs::write(&console, "").unwrap();
    let before = listing(&c.rootfs());
    create(&c).silent();
    c.delete(&["--force"]).silent();
    assert_same(&before, &listing(&c.rootfs()));
}

#[test]
fn a_ptmx_of_the_image_stays_or_is_refused_but_never_goes() {
    gpurun_only!("runc replaces it");
    for (shape, works) in
        [("pts/ptmx", true), ("/dev/pts/ptmx", true), ("5:2", true), ("/x", false), ("file", false)]
    {
        let c = with_the_image_s_dev();
        let ptmx = c.rootfs().join("dev/ptmx");
        std::fs::create_dir_all(c.rootfs().join("dev")).unwrap();
        match shape {
            "file" => std::fs::write(&ptmx, "mine").unwrap(),
            "5:2" => {
                let made = Command::new("mknod").arg(&ptmx).args(["c", "5", "2"]).status();
                assert!(made.is_ok_and(|status| status.success()));
            }
            text => std::os::unix::fs::symlink(text, &ptmx).unwrap(),
        }
        let before = listing(&c.rootfs());
        match works {
            true => create(&c).silent(),
            false => create(&c).refused(1, &["/dev/ptmx"]),
        };
        c.delete(&["--force"]);
        assert_same(&before, &listing(&c.rootfs()));
    }
}

#[test]
fn a_device_may_be_listed_twice_and_u_is_a_character_device() {
    gpurun_only!("runc 1.1 lets the first one win");
    let devices = json!([
        {"path": "/dev/plain", "type": "u", "major": 1, "minor": 5, "fileMode": 0o600},
        {"path": "/dev/plain", "type": "u", "major": 1, "minor": 5, "fileMode": 0o600}
    ]);
    let script = "stat -c '%F %t:%T %a' /dev/plain";
    let expected = "character special file 1:5 600";
    assert_eq!(run(script, |c| c.set("/linux/devices", devices)), expected);
}

#[test]
fn an_unusable_device_is_refused() {
    gpurun_only!("runc 1.1 takes some of them");
    for bad in [
        json!({"type": "c", "major": 1, "minor": 3}),
        json!({"path": "/dev/x", "type": "q", "major": 1, "minor": 3}),
        json!({"path": "/dev/x", "type": "c", "major": "one", "minor": 3}),
    ] {
        let c = Container::native(Config::idle().push("/linux/devices", bad));
        c.create().refused(1, &[]);
        c.assert_gone();
    }
}

#[test]
fn a_node_of_the_host_that_is_bound_keeps_its_mode_and_owner() {
    gpurun_only!("runc 1.1 refuses some of them");
    let c = Container::native(Config::idle());
    let (tty, directory) = (c.path("tty"), c.path("dri"));
    std::fs::create_dir(&directory).unwrap();
    let card = directory.join("card0");
    for (node, numbers) in [(&tty, ["5", "0"]), (&card, ["10", "229"])] {
        let mut mknod = Command::new("mknod");
        mknod.args(["-m", "0640"]).arg(node).arg("c").args(numbers);
        assert!(mknod.status().unwrap().success());
        std::os::unix::fs::chown(node, Some(7), Some(8)).unwrap();
    }
    let bound = |config: Config| {
        config.mount("/dev/tty", "bind", text(&tty), &["bind"]).mount(
            "/dev/dri",
            "bind",
            text(&directory),
            &["rbind"],
        )
    };
    let device = |minor| {
        json!([{"path": "/dev/dri/card0", "type": "c", "major": 10, "minor": minor,
                "fileMode": 0o666, "uid": 0, "gid": 0}])
    };
    let script = "stat -c '%t:%T %a %u:%g' /dev/tty /dev/dri/card0";
    c.configure(bound(Config::sh(script)).set("/linux/devices", device(229)));
    assert_eq!(c.run().ok(), "5:0 640 7:8\na:e5 640 7:8");
    for node in [&tty, &card] {
        let stat = std::fs::metadata(node).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 7, 8), "{node:?}");
    }
    c.configure(bound(Config::sh(script)).set("/linux/devices", device(230)));
    c.run().refused(1, &["/dev/dri/card0", "something else"]);
}
