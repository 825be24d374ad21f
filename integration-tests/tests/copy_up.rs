//! `tmpcopyup`: a tmpfs that starts with what the image has there (runtime-spec config.md,
//! "Linux mount options").

use integration_tests::container::text;
use integration_tests::{Config, Container, gpurun_only};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

const OPTIONS: &[&str] = &["tmpcopyup", "nosuid"];

fn over_data(script: &str) -> Container {
    let c = Container::native(Config::sh(script).mount("/data", "tmpfs", "tmpfs", OPTIONS));
    fs::create_dir(c.rootfs().join("data")).unwrap();
    c
}

#[test]
fn owners_modes_times_links_and_special_files_are_copied() {
    let script = "cd /data; stat -c '%n %u:%g %a %Y %F' d d/file link fifo; cat d/file; \
                  readlink link; echo changed > d/file";
    let c = over_data(script);
    let data = c.rootfs().join("data");
    fs::create_dir(data.join("d")).unwrap();
    fs::write(data.join("d/file"), "text").unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    assert!(Command::new("mkfifo").arg(data.join("fifo")).status().unwrap().success());
    chown(data.join("d/file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(data.join("d/file"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(data.join("fifo"), fs::Permissions::from_mode(0o622)).unwrap();
    chown(data.join("d"), Some(9), Some(10)).unwrap();
    fs::set_permissions(data.join("d"), fs::Permissions::from_mode(0o1711)).unwrap();
    for name in ["d/file", "d", "fifo"] {
        let mut touch = Command::new("touch");
        touch.args(["-d", "@1000000000"]).arg(data.join(name));
        assert!(touch.status().unwrap().success());
    }
    let link = fs::symlink_metadata(data.join("link")).unwrap();
    let expected = format!(
        "d 9:10 1711 1000000000 directory\nd/file 7:8 4750 1000000000 regular file\n\
         link 0:0 777 {} symbolic link\nfifo 0:0 622 1000000000 fifo\ntext/etc/passwd",
        link.mtime()
    );
    assert_eq!(c.run().ok(), expected);
    assert_eq!(fs::read_to_string(data.join("d/file")).unwrap(), "text", "the image is left alone");
}

#[test]
fn capabilities_of_files_and_attributes_of_users_are_copied() {
    let c = over_data("exec sleep 1000");
    let file = c.rootfs().join("data/tool");
    fs::write(&file, "x").unwrap();
    // VFS_CAP_REVISION_2, effective, CAP_NET_BIND_SERVICE.
    let mut capability = vec![1, 0, 0, 2, 0, 4, 0, 0];
    capability.resize(20, 0);
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&file, "security.capability", &capability, flags).is_err() {
        return integration_tests::skipped("no right to give a file capabilities");
    }
    rustix::fs::setxattr(&file, "user.note", b"hello", flags).expect("user attribute");
    c.run_detached();
    let inside = format!("/proc/{}/root/data/tool", c.pid());
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&inside, "security.capability", &mut value);
    assert_eq!(&value[..length.expect("a capability")], capability);
    match rustix::fs::getxattr(&inside, "user.note", &mut value) {
        Ok(length) => assert_eq!(&value[..length], b"hello"),
        // tmpfs has users' attributes since Linux 6.6.
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(err) => panic!("{err}"),
    }
}

#[test]
fn a_link_in_the_place_of_the_directory_leads_nowhere_outside() {
    let c = over_data("ls /data/ | head -3; ls /data/host-secret 2>&1 | head -1");
    let secret = c.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("host-secret"), "x").unwrap();
    fs::remove_dir(c.rootfs().join("data")).unwrap();
    symlink(&secret, c.rootfs().join("data")).unwrap();
    let output = c.run();
    assert!(!output.stdout.starts_with("host-secret"), "{output:?}");
}

#[test]
fn a_link_inside_is_copied_and_not_followed() {
    let c = over_data("readlink /data/out; cat /data/out/x 2>/dev/null || echo nothing");
    let secret = c.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("x"), "of the host").unwrap();
    symlink(&secret, c.rootfs().join("data/out")).unwrap();
    assert_eq!(c.run().ok(), format!("{}\nnothing", text(&secret)));
}

#[test]
fn a_tree_without_a_bottom_is_refused_in_an_orderly_way() {
    let c = over_data("true");
    let mut deep = c.rootfs().join("data");
    for _ in 0..100 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    c.create().refused(1, &["/data", "tmpfs"]);
    c.assert_gone();
}

#[test]
fn only_a_tmpfs_is_filled() {
    gpurun_only!("runc 1.1 ignores it");
    let c =
        Container::native(Config::idle().mount("/data", "bind", "/tmp", &["bind", "tmpcopyup"]));
    c.create().refused(1, &["tmpcopyup"]);
    c.assert_gone();
}
