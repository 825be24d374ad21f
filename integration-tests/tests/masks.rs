//! Masked paths, read-only paths and a read-only root.

use integration_tests::{Config, Container, gpurun_only, json};
use std::fs;

/// Runs `script` in a container made by `change` and returns what it printed.
#[track_caller]
fn run(script: &str, change: impl FnOnce(Config) -> Config) -> String {
    Container::native(change(Config::sh(script))).run().ok().to_owned()
}

#[test]
fn masked_files_read_empty_and_masked_directories_are_empty() {
    let config = Config::sh(
        "cat /etc/secret /etc/other; for dir in a b c; do ls /etc/$dir; \
         touch /etc/$dir/x 2>/dev/null || echo read-only; done; echo end",
    );
    let masked =
        ["/etc/secret", "/etc/a", "/not/there", "/etc/other", "/etc/b", "/etc/c", "/etc/a"];
    let c = Container::native(config.set("/linux/maskedPaths", json!(masked)));
    fs::write(c.rootfs().join("etc/secret"), "secret").unwrap();
    fs::write(c.rootfs().join("etc/other"), "secret").unwrap();
    for dir in ["a", "b", "c"] {
        fs::create_dir(c.rootfs().join("etc").join(dir)).unwrap();
        fs::write(c.rootfs().join("etc").join(dir).join("one"), "secret").unwrap();
    }
    assert_eq!(c.run().ok(), "read-only\nread-only\nread-only\nend");
    assert!(!c.rootfs().join("not").exists(), "what is not there need not be masked");
}

#[test]
fn read_only_paths_are_read_only() {
    let config = Config::sh("echo x > /etc/passwd; touch /var/lib/x; touch /var/x; echo end");
    let c = Container::native(
        config.set("/linux/readonlyPaths", json!(["/etc/passwd", "/var/lib", "/not/there"])),
    );
    let output = c.run();
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output:?}");
    assert!(c.rootfs().join("var/x").exists());
}

#[test]
fn a_masked_or_read_only_path_has_to_be_absolute() {
    gpurun_only!("runc 1.1 takes relative ones");
    for list in ["maskedPaths", "readonlyPaths"] {
        let c =
            Container::native(Config::idle().set(&format!("/linux/{list}"), json!(["etc/passwd"])));
        c.create().refused(1, &["etc/passwd"]);
        c.assert_gone();
    }
}

#[test]
fn the_usual_masks_hide_the_kernel() {
    let script = "cat /proc/kcore /proc/keys 2>/dev/null; echo x > /proc/sysrq-trigger || echo ro; \
                  echo 1 > /proc/sys/kernel/panic || echo ro";
    let output = Container::native(Config::sh(script)).run();
    assert_eq!(output.ok(), "ro\nro");
}

#[test]
fn a_read_only_root_is_read_only_and_its_mounts_are_not() {
    let seen =
        run("touch /x 2>/dev/null || echo ro; touch /mnt/x && touch /dev/shm/x && echo rw", |c| {
            c.set("/root/readonly", true.into()).mount("/mnt", "tmpfs", "tmpfs", &[])
        });
    assert_eq!(seen, "ro\nrw");
}
