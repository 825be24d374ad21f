//! create, start, state, kill, delete: what engines call, in order and out of order.

use integration_tests::container::text;
use integration_tests::{Config, Container, Output, Runtime, Value, gpurun_only, wait_for};
use std::fs;
use std::process::Command;

#[test]
fn a_container_goes_through_created_running_stopped_and_leaves_nothing() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        c.create().silent();
        assert_eq!(c.status(), "created");
        c.start().silent();
        assert_eq!(c.status(), "running");
        c.kill("KILL").silent();
        c.wait_until("stopped");
        c.delete(&[]).silent();
        c.assert_gone();
        c.call_on("state", &[]).refused(1, &["container does not exist"]);
    }
}

#[test]
fn state_carries_the_fields_that_engines_read() {
    let c = Container::native(
        Config::idle().set("/annotations", integration_tests::json!({"com.example.key": "value"})),
    );
    c.create().silent();
    let state = c.state();
    assert_eq!(state["id"], c.id());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], text(&c.bundle()));
    assert_eq!(state["rootfs"], text(&c.rootfs()));
    assert_eq!(state["annotations"]["com.example.key"], "value");
    assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "{state}");
    assert!(state["owner"].is_string(), "{state}");
    let created = state["created"].as_str().unwrap_or_default();
    assert!(created.len() >= 20 && created.contains('T') && created.ends_with('Z'), "{created}");
    assert!(fs::exists(format!("/proc/{}", state["pid"])).unwrap(), "the pid is a live process");
}

#[test]
fn state_of_a_stopped_container_has_pid_0() {
    let c = Container::idle();
    c.stop();
    assert_eq!(c.state()["pid"], 0);
}

#[test]
fn the_pid_is_the_same_before_and_after_start() {
    let c = Container::native(Config::idle());
    c.create().silent();
    let pid = c.pid();
    c.start().silent();
    assert_eq!(c.pid(), pid);
    wait_for("the program", || {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == "sleep\x001000\0")
    });
}

#[test]
fn the_pid_file_is_the_number_without_a_newline() {
    let c = Container::native(Config::idle());
    let file = c.path("pid");
    c.create_with(&["--pid-file", text(&file)]).silent();
    assert_eq!(fs::read_to_string(file).unwrap(), c.pid().to_string());
}

#[test]
fn a_relative_pid_file_is_relative_to_the_working_directory() {
    let c = Container::native(Config::idle());
    let bundle = c.bundle();
    let mut create =
        c.command(&["create", "--bundle", text(&bundle), "--pid-file", "relative.pid", c.id()]);
    create.current_dir(c.path(""));
    integration_tests::runtime::finish(&mut create, b"").silent();
    assert_eq!(fs::read_to_string(c.path("relative.pid")).unwrap(), c.pid().to_string());
}

#[test]
fn the_bundle_defaults_to_the_working_directory() {
    let c = Container::native(Config::idle());
    let mut create = c.command(&["create", c.id()]);
    create.current_dir(c.bundle());
    integration_tests::runtime::finish(&mut create, b"").silent();
    assert_eq!(c.state()["bundle"], text(&c.bundle()));
}

#[test]
fn options_may_be_joined_to_their_values() {
    let c = Container::native(Config::idle());
    let mut create = c.runtime().command();
    create.arg(format!("--root={}", text(&c.state_root())));
    create.args(["create", &format!("-b={}", text(&c.bundle())), c.id()]);
    let joined_short = integration_tests::runtime::finish(&mut create, b"");
    joined_short.silent();
    assert_eq!(c.status(), "created");
}

#[test]
fn a_missing_container_is_named_as_such_by_every_command() {
    let c = Container::native(Config::idle());
    for args in [
        &["state", "nope"][..],
        &["start", "nope"],
        &["kill", "nope", "KILL"],
        &["kill", "--all", "nope", "9"],
        &["delete", "nope"],
        &["pause", "nope"],
        &["resume", "nope"],
        &["ps", "nope"],
        &["update", "--pids-limit", "10", "nope"],
    ] {
        c.call(args).refused(1, &["container does not exist"]);
    }
    c.call(&["exec", "nope", "true"]).refused(255, &["container does not exist"]);
    c.call(&["delete", "--force", "nope"]).silent();
}

#[test]
fn an_id_can_be_used_once_at_a_time() {
    let c = Container::native(Config::idle());
    c.create().silent();
    c.create().refused(1, &["container with given ID already exists"]);
    c.run().refused(1, &["container with given ID already exists"]);
    assert_eq!(c.status(), "created");
    c.delete(&["--force"]).silent();
    c.create().silent();
}

#[test]
fn an_id_that_is_not_a_plain_name_is_refused_and_touches_nothing() {
    let c = Container::native(Config::idle());
    let long = "a".repeat(5000);
    let bundle = c.bundle();
    fs::create_dir(c.path("victim")).unwrap();
    for id in ["", ".", "..", "../victim", "a/b", "/", "a b", "a\nb", "ä", &long] {
        refused_somehow(&c.call(&["create", "--bundle", text(&bundle), id]));
        refused_somehow(&c.call(&["run", "--bundle", text(&bundle), id]));
        refused_somehow(&c.call(&["state", id]));
        refused_somehow(&c.call(&["start", id]));
        refused_somehow(&c.call(&["kill", id]));
        let _ = c.call(&["delete", "--force", id]);
    }
    assert!(c.path("victim").exists(), "delete --force of `../victim` left the state root");
    c.call(&["create", "--bundle", text(&bundle), "../victim"])
        .refused(1, &["invalid container ID"]);
}

/// Exit code 1 and a message, whatever its words.
#[track_caller]
fn refused_somehow(output: &Output) {
    output.refused(1, &[]);
}

#[test]
fn ids_with_every_allowed_character_work() {
    let c = Container::native(Config::idle());
    let bundle = c.bundle();
    let id = format!("{}_A.b+c-0", c.id());
    c.call(&["create", "--bundle", text(&bundle), &id]).silent();
    assert_eq!(c.call(&["state", &id]).json()["id"], *id);
    c.call(&["delete", "--force", &id]).silent();
}

#[test]
fn start_needs_a_created_container() {
    let c = Container::idle();
    c.start().refused(1, &["cannot start an already running container"]);
    c.stop();
    c.start().refused(1, &["cannot start a container that has stopped"]);
}

#[test]
fn two_starts_at_once_start_it_once() {
    gpurun_only!("the second start of runc 1.1 can hang");
    let c = Container::native(Config::sh("echo started >> /tmp/starts; exec sleep 1000"));
    c.create().silent();
    let first = c.start_call(&["start", c.id()]);
    let second = c.start_call(&["start", c.id()]);
    let codes = [first.wait().code, second.wait().code];
    assert!(codes.contains(&0), "{codes:?}");
    wait_for("the process", || c.rootfs().join("tmp/starts").exists());
    assert_eq!(fs::read_to_string(c.rootfs().join("tmp/starts")).unwrap(), "started\n");
}

#[test]
fn a_running_container_is_deleted_only_by_force() {
    let c = Container::idle();
    let text = format!("cannot delete container {} that is not stopped: running", c.id());
    c.delete(&[]).refused(1, &[&text]);
    assert_eq!(c.status(), "running");
    c.delete(&["--force"]).silent();
    c.assert_gone();
}

#[test]
fn a_created_container_can_be_deleted_without_being_started() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        c.create().silent();
        c.delete(&[]).silent();
        c.assert_gone();
    }
}

#[test]
fn a_created_container_can_be_killed() {
    let c = Container::native(Config::idle());
    c.create().silent();
    c.stop();
    c.delete(&[]).silent();
}

#[test]
fn delete_kills_the_children_that_outlive_the_first_process() {
    gpurun_only!("runc 1.1 gives up on a cgroup whose processes are slow to die");
    for runtime in Runtime::each() {
        // Without a pid namespace nobody else does it.
        let config = Config::sh("sleep 1000 & sleep 1001 & exit 0").namespace("pid", None);
        let c = Container::running(runtime, config);
        c.wait_until("stopped");
        c.delete(&["--force"]).ok();
        c.assert_gone();
    }
}

const COUNTS_SIGNALS: &str = "trap 'echo usr1 >> /tmp/seen' USR1; trap 'echo term >> /tmp/seen' TERM; \
     echo ready > /tmp/ready; while :; do sleep 0.02; done";

fn counting() -> Container {
    let c = Container::running(Runtime::native(), Config::sh(COUNTS_SIGNALS));
    wait_for("the traps", || c.rootfs().join("tmp/ready").exists());
    c
}

fn wait_for_signals(c: &Container, expected: &str) {
    let file = c.rootfs().join("tmp/seen");
    wait_for(expected, || fs::read_to_string(&file).is_ok_and(|seen| seen == expected));
}

#[test]
fn a_signal_has_a_name_with_or_without_sig_or_a_number() {
    let c = counting();
    let mut expected = String::new();
    for signal in ["USR1", "SIGUSR1", "usr1", "10"] {
        c.kill(signal).silent();
        expected.push_str("usr1\n");
        wait_for_signals(&c, &expected);
    }
}

#[test]
fn kill_without_a_signal_sends_term() {
    let c = counting();
    c.call_on("kill", &[]).silent();
    wait_for_signals(&c, "term\n");
}

#[test]
fn signal_0_only_asks_whether_the_process_lives() {
    let c = Container::idle();
    c.kill("0").silent();
    assert_eq!(c.status(), "running");
    c.stop();
    c.kill("0").refused(1, &[]);
}

#[test]
fn an_unknown_signal_is_refused_and_sends_nothing() {
    let c = Container::idle();
    for signal in ["NOPE", "SIG", "9999", "99999999999999999999", "KILL "] {
        c.kill(signal).refused(1, &[]);
    }
    c.kill("NOPE").refused(1, &["NOPE"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn kill_of_a_stopped_container_says_what_containerd_looks_for() {
    let c = Container::idle();
    c.stop();
    let output = c.kill("TERM");
    assert_eq!(output.code, 1, "{output:?}");
    let known = ["process already finished", "container not running", "no such process"];
    assert!(known.iter().any(|text| output.stderr.contains(text)), "{output:?}");
}

#[test]
fn kill_all_of_a_stopped_container_succeeds() {
    let c = Container::idle();
    c.stop();
    c.call(&["kill", "--all", c.id(), "9"]).silent();
    c.call(&["kill", "-a", c.id(), "KILL"]).silent();
}

#[test]
fn kill_all_reaches_every_process_of_the_container() {
    for runtime in Runtime::each() {
        let config = Config::sh("sleep 1000 & sleep 1001 & wait").namespace("pid", None);
        let c = Container::running(runtime, config);
        wait_for("three processes", || {
            c.call_on("ps", &["--format", "json"]).json().as_array().map(Vec::len) == Some(3)
        });
        c.call(&["kill", "--all", c.id(), "9"]).silent();
        c.wait_until("stopped");
        wait_for("no process", || integration_tests::leak::processes(c.id()).is_empty());
    }
}

#[test]
fn containers_of_one_state_root_are_listed() {
    let c = Container::native(Config::idle());
    assert_eq!(c.call(&["list", "-q"]).ok(), "");
    c.create().silent();
    assert_eq!(c.call(&["list", "-q"]).ok(), c.id());
    assert_eq!(c.call(&["list", "--quiet"]).ok(), c.id());
    let listed = c.call(&["list", "--format", "json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["id"], c.id());
    assert_eq!(listed[0]["status"], "created");
    assert_eq!(listed[0]["pid"], c.pid());
    assert_eq!(listed[0]["bundle"], text(&c.bundle()));
    let table = c.call(&["list"]);
    let mut lines = table.ok().lines();
    let heading: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heading[..6], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let row: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[..4], [c.id(), &c.pid().to_string(), "created", text(&c.bundle())]);
    c.call(&["list", "--format", "yaml"]).refused(1, &["format"]);
}

#[test]
fn list_of_a_state_root_that_does_not_exist_is_empty() {
    let c = Container::native(Config::idle());
    let listed = c.call(&["list", "--format", "json"]).json();
    assert!(listed.is_null() || listed == Value::Array(Vec::new()), "{listed}");
}

#[test]
fn a_broken_bundle_is_refused_and_leaves_nothing() {
    let c = Container::native(Config::idle());
    let config = c.bundle().join("config.json");
    let good = fs::read_to_string(&config).unwrap();
    for bad in
        ["", "{", "[]", "{\"ociVersion\": 3}", "\u{0}", &good[..good.len() / 2], "null", "{}"]
    {
        if ["null", "{}"].contains(&bad) && !Runtime::is_gpurun() {
            continue; // runc 1.1 crashes on these
        }
        fs::write(&config, bad).unwrap();
        c.create().refused(1, &[]);
        c.assert_gone();
    }
    fs::remove_file(&config).unwrap();
    c.create().refused(1, &["config.json"]);
    c.assert_gone();
}

#[test]
fn a_container_keeps_its_mounts_when_another_of_the_same_rootfs_by_another_name_is_deleted() {
    gpurun_only!("runc leaves the mount points in the image");
    let c = Container::native(Config::idle());
    for name in ["proc", "sys", "dev"] {
        fs::remove_dir_all(c.rootfs().join(name)).unwrap();
    }
    let bundle = c.path("second");
    let other = bundle.join("rootfs");
    fs::create_dir_all(&other).unwrap();
    let mounted = Command::new("mount").arg("--bind").args([&c.rootfs(), &other]).status();
    assert!(mounted.expect("mount(8)").success());
    let config = fs::read_to_string(c.bundle().join("config.json")).unwrap();
    let id = format!("{}-second", c.id());
    fs::write(bundle.join("config.json"), config.replace(c.id(), &id)).unwrap();
    c.create().silent();
    c.call(&["run", "--detach", "--bundle", text(&bundle), &id]).silent();
    c.delete(&["--force"]).silent();
    let seen = c.call(&["exec", &id, "ls", "/proc/self/exe", "/sys/class", "/dev/null"]);
    c.call(&["delete", "--force", &id]).silent();
    assert!(Command::new("umount").arg(&other).status().expect("umount(8)").success());
    seen.ok();
    assert!(!c.rootfs().join("proc").exists(), "the last of them takes the mount points away");
}

#[test]
fn a_missing_rootfs_or_bundle_is_named() {
    let c = Container::native(Config::idle().set("/root/path", "nothere".into()));
    c.create().refused(1, &["nothere"]);
    c.call(&["create", "--bundle", "/nonexistent/bundle", c.id()])
        .refused(1, &["/nonexistent/bundle"]);
    c.assert_gone();
}

#[test]
fn a_spec_of_another_major_version_is_refused() {
    gpurun_only!("runc 1.1 reads any version");
    let c = Container::native(Config::idle().set("/ociVersion", "2.0.0".into()));
    c.create().refused(1, &["2.0.0"]);
}

#[test]
fn a_bundle_is_never_written_to() {
    let c = Container::native(Config::idle());
    let config = c.bundle().join("config.json");
    let before = (fs::read(&config).unwrap(), fs::metadata(&config).unwrap().modified().unwrap());
    c.run_detached();
    c.delete(&["--force"]).silent();
    let after = (fs::read(&config).unwrap(), fs::metadata(&config).unwrap().modified().unwrap());
    assert!(before == after, "config.json was changed");
}
