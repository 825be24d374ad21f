//! What gpurun writes down of a container: who may read and change it, and what happens when it
//! is damaged, of another version, or in a place that others can write to.

use integration_tests::container::text;
use integration_tests::leak::{assert_same, listing};
use integration_tests::{Config, Container, Output, Runtime, Value, gpurun_only};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// The container's state directory.
fn directory(c: &Container) -> PathBuf {
    c.state_root().join(c.id())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_files_are_the_users_alone_whatever_the_umask() {
    gpurun_only!("the files are gpurun's");
    let c = Container::native(Config::idle());
    for umask in ["000", "077"] {
        let create = c.command(&["create", "--bundle", text(&c.bundle()), c.id()]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        shell.arg(create.get_program()).args(create.get_args());
        integration_tests::runtime::finish(&mut shell, b"").ok();
        c.start().ok();
        c.call_on("update", &["--pids-limit", "100"]).ok();
        assert_eq!(mode(&directory(&c)), 0o700, "umask {umask}");
        for entry in fs::read_dir(directory(&c)).unwrap().flatten() {
            let shown = mode(&entry.path());
            assert_eq!(shown & 0o077, 0, "{}: {shown:o}", entry.path().display());
            assert_eq!(entry.metadata().unwrap().uid(), rustix::process::getuid().as_raw());
        }
        c.delete(&["--force"]).ok();
    }
}

#[test]
fn a_write_replaces_the_file_and_leaves_no_second_one() {
    gpurun_only!("the files are gpurun's");
    let c = Container::idle();
    let inode = |name: &str| fs::metadata(directory(&c).join(name)).unwrap().ino();
    let before = (inode("state.json"), inode("config.json"));
    c.call_on("update", &["--pids-limit", "100"]).ok();
    assert_ne!(before.1, inode("config.json"), "changed in place, which a crash may cut short");
    for entry in fs::read_dir(directory(&c)).unwrap().flatten() {
        assert!(!entry.file_name().to_string_lossy().starts_with('.'), "{:?}", entry.path());
    }
}

/// Each way to lose what the state file says.
const DAMAGES: [(&str, &[u8]); 7] = [
    ("empty", b""),
    ("cut short", b"{\"version\": 1, \"id\": "),
    ("of another shape", b"[1,2]"),
    ("without a version", b"{}"),
    ("binary", b"\0\xff\xfe\0"),
    ("of a version to come", b"{\"version\": 99, \"anything\": true}"),
    ("of another container", b"{\"version\": 1, \"id\": \"other\"}"),
];

/// A container that has something of every kind that has to be cleared away.
fn elaborate(runtime: Runtime, cgroup: &str) -> Container {
    let config = Config::idle().mount("/made/for/it", "tmpfs", "tmpfs", &[]);
    let c = Container::new(runtime, config.clone());
    if cgroup == "relative" {
        // Where it is depends on who calls: the directory of the caller's own cgroup.
        c.configure(config.set("/linux/cgroupsPath", format!("below/{}", c.id()).into()));
    }
    c
}

#[test]
fn a_damaged_state_is_said_and_delete_force_takes_everything_away() {
    gpurun_only!("runc cannot delete such a container");
    for runtime in Runtime::each() {
        for (what, bytes) in DAMAGES {
            let c = elaborate(runtime, "absolute");
            let image = listing(&c.rootfs());
            c.run_detached();
            fs::write(directory(&c).join("state.json"), bytes).unwrap();
            for command in ["state", "pause", "start"] {
                c.call_on(command, &[]).refused(1, &[c.id(), "delete --force"]);
            }
            c.call(&["kill", c.id(), "TERM"]).refused(1, &["delete --force"]);
            c.exec(&["true"]).refused(255, &["delete --force"]);
            c.delete(&[]).refused(1, &["delete --force"]);
            assert!(!c.call(&["list"]).stderr.contains("panicked"), "{what}");
            c.delete(&["--force"]).ok();
            c.assert_gone();
            assert_same(&image, &listing(&c.rootfs()));
            // The id is free again.
            c.run_detached();
            c.delete(&["--force"]).ok();
        }
    }
}

#[test]
fn one_readable_file_is_enough_for_delete_force() {
    gpurun_only!("runc cannot delete such a container");
    for runtime in Runtime::each() {
        for cgroup in ["absolute", "relative"] {
            for lost in [&["state.json"][..], &["config.json"], &["state.json", "traces"]] {
                for gone in [false, true] {
                    if lost.contains(&"traces") && cgroup == "relative" {
                        continue; // Where that was, only the caller's own cgroup tells.
                    }
                    let c = elaborate(runtime, cgroup);
                    let image = listing(&c.rootfs());
                    c.run_detached();
                    for name in lost {
                        let path = directory(&c).join(name);
                        if gone {
                            let _ = fs::remove_file(path);
                        } else {
                            fs::write(path, "{").unwrap();
                        }
                    }
                    c.delete(&["--force"]).ok();
                    c.assert_gone();
                    if !lost.contains(&"traces") {
                        assert_same(&image, &listing(&c.rootfs()));
                    }
                }
            }
        }
    }
}

#[test]
fn without_any_readable_file_delete_force_says_what_it_cannot_know() {
    gpurun_only!("runc cannot delete such a container");
    let c = Container::idle();
    let pid = c.pid();
    for entry in fs::read_dir(directory(&c)).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            fs::write(entry.path(), "\0{").unwrap();
        }
    }
    let log = c.path("log");
    c.call(&["--log", text(&log), "delete", "--force", c.id()]).ok();
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("cgroup") && said.contains("not known"), "{said}");
    assert!(!directory(&c).exists());
    // Nobody knows whose it was any more; nothing else was killed in its place.
    integration_tests::cgroup::kill(i32::try_from(pid).unwrap());
    integration_tests::cgroup::sweep(c.id());
    c.assert_gone();
}

#[test]
fn delete_force_of_a_damaged_state_kills_nobody_elses_processes() {
    gpurun_only!("runc has no second file");
    // A create that found the cgroup taken, killed before it could tidy up.
    let c = Container::idle();
    let other =
        Container::native(Config::idle().set("/linux/cgroupsPath", format!("/{}", c.id()).into()));
    // By then it had not written down which cgroup it was.
    let traces = fs::read(directory(&c).join("traces")).unwrap();
    let mut traces: Value = serde_json::from_slice(&traces).unwrap();
    traces["cgroup"].as_object_mut().unwrap().remove("id").expect("known");
    fs::create_dir_all(directory(&other)).unwrap();
    chmod(&directory(&other), 0o700);
    fs::write(directory(&other).join("traces"), traces.to_string()).unwrap();
    fs::write(directory(&other).join("state.json"), "{").unwrap();
    other.delete(&["--force"]).ok();
    assert_eq!(c.status(), "running");
}

/// Every command on a container whose directory is not to be believed.
#[track_caller]
fn every_command_refuses(c: &Container, phrases: &[&str]) {
    for args in [
        &["state", c.id()][..],
        &["start", c.id()],
        &["kill", c.id(), "KILL"],
        &["exec", c.id(), "true"],
        &["pause", c.id()],
        &["update", "--pids-limit", "10", c.id()],
        &["delete", c.id()],
        &["delete", "--force", c.id()],
    ] {
        let output: Output = c.call(args);
        output.refused(if args[0] == "exec" { 255 } else { 1 }, phrases);
    }
}

#[test]
fn a_state_directory_of_somebody_else_or_that_others_can_write_to_is_not_believed() {
    gpurun_only!("runc believes it");
    let c = Container::idle();
    let dir = directory(&c);
    let pid = c.pid();
    chown(&dir, Some(4711), Some(4711)).unwrap();
    every_command_refuses(&c, &["belongs to user 4711", text(&dir)]);
    chown(&dir, Some(0), Some(0)).unwrap();
    for open in [0o777, 0o770, 0o722] {
        chmod(&dir, open);
        every_command_refuses(&c, &["others can write", text(&dir)]);
    }
    chmod(&dir, 0o700);
    assert_eq!((c.status().as_str(), c.pid()), ("running", pid));
}

#[test]
fn a_state_root_of_another_user_or_that_everybody_can_write_to_is_refused() {
    gpurun_only!("runc takes it");
    let c = Container::native(Config::idle());
    fs::create_dir(c.state_root()).unwrap();
    chown(c.state_root(), Some(4711), Some(4711)).unwrap();
    c.create().refused(1, &["belongs to user 4711", "--root"]);
    chown(c.state_root(), Some(0), Some(0)).unwrap();
    chmod(&c.state_root(), 0o777);
    c.create().refused(1, &["others can write", "--root"]);
    assert_eq!(fs::read_dir(c.state_root()).unwrap().count(), 0);
    // As in /tmp: nobody can take away what is another's.
    chmod(&c.state_root(), 0o1777);
    c.create().ok();
    // A root that is opened to all later is not believed either.
    chmod(&c.state_root(), 0o777);
    every_command_refuses(&c, &["others can write"]);
    chmod(&c.state_root(), 0o711);
}

#[test]
fn a_link_in_place_of_a_state_directory_is_no_container_and_leads_nowhere() {
    gpurun_only!("the words are gpurun's");
    let c = Container::idle();
    let canary = c.path("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("state.json"), "canary").unwrap();
    let before = listing(&canary);
    let link = c.state_root().join("linked");
    for target in [canary.clone(), directory(&c)] {
        symlink(&target, &link).unwrap();
        c.call(&["state", "linked"]).refused(1, &["does not exist"]);
        c.call(&["delete", "linked"]).refused(1, &["does not exist"]);
        c.call(&["delete", "--force", "linked"]).ok();
        c.call(&["create", "--bundle", text(&c.bundle()), "linked"]).refused(1, &["exists"]);
        assert!(!c.call(&["list", "-q"]).ok().contains("linked"));
        fs::remove_file(&link).unwrap();
    }
    assert_same(&before, &listing(&canary));
    assert_eq!(c.status(), "running");
}

#[test]
fn a_link_to_the_state_root_is_followed_as_any_directory_is() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("elsewhere")).unwrap();
    symlink(c.path("elsewhere"), c.state_root()).unwrap();
    c.run_detached();
    assert_eq!(c.status(), "running");
    c.delete(&["--force"]).ok();
    assert_eq!(fs::read_dir(c.path("elsewhere")).unwrap().count(), 0);
    fs::remove_file(c.state_root()).unwrap();
}

#[test]
fn a_link_laid_out_for_the_next_write_is_not_followed() {
    gpurun_only!("the files are gpurun's");
    let c = Container::idle();
    let victim = c.path("victim");
    fs::write(&victim, "canary").unwrap();
    for name in ["state.json", "config.json"] {
        symlink(&victim, directory(&c).join(format!(".{name}.new"))).unwrap();
    }
    c.call_on("update", &["--pids-limit", "100"]).refused(1, &[]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "canary");
    c.delete(&["--force"]).ok();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "canary");
}

#[test]
fn an_id_is_a_name_and_never_a_path() {
    let c = Container::native(Config::idle());
    fs::create_dir_all(c.path("canary")).unwrap();
    let bundle = c.bundle();
    let deep = format!("../../../../../../../..{}", text(&c.path("canary")));
    for id in ["..", ".", "", "../canary", "/canary", "a/b", "a/../b", "x\n", "x y", "*", &deep] {
        for args in [
            &["create", "--bundle", text(&bundle), id][..],
            &["delete", "--force", id],
            &["state", id],
            &["kill", id],
            &["exec", id, "true"],
        ] {
            let output = c.call(args);
            assert_ne!(output.code, 0, "{args:?}: {output:?}");
            assert!(!output.stderr.contains("panicked"), "{args:?}: {output:?}");
        }
    }
    assert!(c.path("canary").exists());
    assert!(!c.state_root().exists(), "{:?}", fs::read_dir(c.state_root()).map(Iterator::count));
    // Names that only look odd.
    for id in ["-leading", "+", "_", "a..b", "...", ".hidden"] {
        let id = format!("{id}{}", c.id());
        let config = Config::args(&["true"]).set("/linux/cgroupsPath", format!("/{id}").into());
        c.configure(config);
        c.call(&["run", "--bundle", text(&bundle), "--", &id]).ok();
    }
}
