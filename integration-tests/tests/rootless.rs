//! Containers of an ordinary user, and of the root of a user namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use integration_tests::cgroup::Version;
use integration_tests::container::text;
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::ordinary_user::{self, GROUP, ID, OrdinaryUser, SUBORDINATE};
use integration_tests::{
    Config, Output, Runtime, gpurun_only, json, probe, rootfs, runtime, skipped,
};

fn config(script: &str) -> Config {
    ordinary_user::config(Config::sh(script))
}

fn idle() -> Config {
    ordinary_user::config(Config::idle())
}

/// A user whose subordinate ids work, or a line that says why not.
fn user_with_ranges() -> Option<OrdinaryUser> {
    if !OrdinaryUser::has_id_ranges() {
        skipped("newuidmap is not installed (package uidmap)");
        return None;
    }
    Some(OrdinaryUser::new())
}

#[test]
fn an_ordinary_user_runs_what_spec_rootless_writes() {
    let user = OrdinaryUser::new();
    let bundle = user.bundle("box", &Config::idle());
    fs::remove_file(bundle.join("config.json")).unwrap();
    let path = text(&bundle);
    user.call(&["spec", "--rootless", "--bundle", path]).silent();
    let spec = fs::read_to_string(bundle.join("config.json")).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["sh", "-c", "id -u; cat /proc/self/uid_map; hostname"]);
    fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    let output = user.call(&["run", "--bundle", path, "box"]);
    let words: Vec<&str> = output.ok().split_whitespace().collect();
    assert_eq!(words[..4], ["0", "0", &*ID.to_string(), "1"], "{output:?}");
}

#[test]
fn the_life_of_an_ordinary_users_container() {
    let user = OrdinaryUser::new();
    let bundle = user.bundle("box", &idle());
    user.call(&["create", "--bundle", text(&bundle), "box"]).silent();
    // Also before its program runs.
    assert_eq!(user.call(&["exec", "box", "id", "-u"]).ok(), "0");
    user.call(&["start", "box"]).silent();
    let state = user.call(&["state", "box"]).json();
    assert_eq!(state["status"], "running");
    let pid = state["pid"].to_string();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), ID);
    let listing = user.call(&["exec", "box", "sh", "-c", "ps -o args | grep -cx 'sleep 1000'"]);
    assert_eq!(listing.ok(), "1");
    assert_eq!(user.call(&["exec", "box", "sh", "-c", "exit 7"]).code, 7);
    assert!(user.call(&["list"]).ok().contains("running"));
    assert!(user.path("run/gpurun/box").is_dir() || !Runtime::is_gpurun());
    user.call(&["kill", "box", "KILL"]).silent();
    integration_tests::wait_for("the container to stop", || {
        user.call(&["state", "box"]).json()["status"] == "stopped"
    });
    user.call(&["delete", "box"]).silent();
}

#[test]
fn the_devices_are_the_machines_own_nodes() {
    let user = OrdinaryUser::new();
    let script = "cd /dev; for n in null zero full random urandom tty; do stat -c '%n %t:%T' $n; done; echo x > null; head -c 2 zero | od -An -tx1";
    let output = user.run("box", &config(script));
    assert_eq!(
        output.ok().lines().map(str::trim).collect::<Vec<_>>(),
        ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0", "00 00"]
    );
}

#[test]
fn without_a_right_to_cgroups_there_are_no_limits_and_the_log_says_so() {
    gpurun_only!("runc says nothing");
    let user = OrdinaryUser::new();
    let bundle = user.bundle("box", &idle());
    let log = user.path("home/log");
    let run = ["--log", text(&log), "run", "--detach", "--bundle", text(&bundle), "box"];
    user.call(&run).silent();
    let said = fs::read_to_string(&log).unwrap();
    let warnings = said.lines().filter(|line| line.contains("level=warning")).count();
    assert_eq!(warnings, 1, "{said}");
    assert!(said.contains("without limits"), "{said}");

    user.call(&["pause", "box"]).refused(1, &["no cgroup", "delegated"]);
    user.call(&["update", "--pids-limit", "10", "box"]).refused(1, &["cannot set pids limit"]);
    assert!(user.call(&["ps", "box"]).ok().contains("sleep 1000"));
    assert_eq!(user.call(&["ps", "--format", "json", "box"]).json().as_array().unwrap().len(), 1);
    user.call(&["kill", "--all", "box", "KILL"]).silent();
    user.call(&["delete", "--force", "box"]).silent();
}

#[test]
fn a_limit_or_a_cgroup_that_cannot_be_had_is_refused() {
    let user = OrdinaryUser::new();
    let limited = idle().set("/linux/resources/pids/limit", 10.into());
    // runc's words.
    let reason = match Version::of_host() {
        Version::V1 => "container could not join or create cgroup",
        Version::V2 => "no permission is granted for cgroups",
    };
    user.run("limited", &limited).refused(1, &["cannot set pids limit", reason]);
    let placed = idle().set("/linux/cgroupsPath", "/gpurun-test-not-mine".into());
    user.run("placed", &placed).refused(1, &["permission denied", "gpurun-test-not-mine"]);
    gpurun_only!("runc has no --rootless=false for an ordinary user without systemd");
    let bundle = user.bundle("strict", &idle());
    user.call(&["--rootless", "false", "run", "--bundle", text(&bundle), "strict"])
        .refused(1, &["permission denied"]);
}

#[test]
fn in_a_delegated_cgroup_an_ordinary_users_container_can_be_paused() {
    let Some(user) = OrdinaryUser::with_delegated_cgroup() else { return };
    user.start("box", &idle());
    let pid = user.call(&["state", "box"]).json()["pid"].to_string();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let place = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    assert!(place.ends_with("/box"), "{cgroup}");
    // runc warns that it may fail.
    user.call(&["pause", "box"]).ok();
    assert_eq!(user.call(&["state", "box"]).json()["status"], "paused");
    user.call(&["resume", "box"]).ok();
    assert_eq!(user.call(&["exec", "box", "echo", "on"]).ok(), "on");
    user.call(&["delete", "--force", "box"]).silent();
}

#[test]
fn what_only_root_can_have_is_refused_with_the_reason() {
    gpurun_only!("the words differ between runc's versions");
    let user = OrdinaryUser::new();
    for (name, config, phrases) in [
        ("userns", Config::idle(), &["requires user namespaces"][..]),
        (
            "option",
            idle().mount("/mnt", "tmpfs", "tmpfs", &["gid=5"]),
            &["cannot specify gid=5 mount option for rootless container"],
        ),
        (
            "groups",
            idle().set("/process/user/additionalGids", json!([1])),
            &["cannot set any additional groups in a rootless container"],
        ),
        ("user", idle().set("/process/user/uid", 5.into()), &["cannot become user 5"]),
        (
            "score",
            idle().set("/process/oomScoreAdj", (-1000).into()),
            &["oom", "permission denied"],
        ),
        (
            "rlimit",
            idle().set(
                "/process/rlimits",
                json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 999_999_999}]),
            ),
            &["not permitted"],
        ),
    ] {
        user.run(name, &config).refused(1, phrases);
    }
}

#[test]
fn a_range_of_ids_comes_from_etc_subuid() {
    let Some(user) = user_with_ranges() else { return };
    let script = "id -u; id -g; touch /tmp/file; grep Groups /proc/self/status";
    let config = ordinary_user::with_range(config(script))
        .set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [7]}));
    let output = user.run("box", &config);
    let expected: &[&str] = match Runtime::is_gpurun() {
        true => &["1000", "1001", "Groups:", "7"],
        // runc refuses additional groups to every ordinary user.
        false => return,
    };
    assert_eq!(output.ok().split_whitespace().collect::<Vec<_>>(), expected);
    let made = fs::metadata(user.path("home/box/rootfs/tmp/file")).unwrap();
    assert_eq!((made.uid(), made.gid()), (SUBORDINATE.0 + 999, SUBORDINATE.0 + 1000));
}

#[test]
fn a_container_whose_user_is_not_its_root_can_be_joined_before_and_after_start() {
    gpurun_only!("runc's init hides its namespaces then");
    let Some(user) = user_with_ranges() else { return };
    let config = ordinary_user::with_range(idle()).set("/process/user/uid", 1000.into());
    let bundle = user.bundle("box", &config);
    user.call(&["create", "--bundle", text(&bundle), "box"]).silent();
    assert_eq!(user.call(&["exec", "box", "id", "-u"]).ok(), "1000");
    user.call(&["start", "box"]).silent();
    assert_eq!(user.call(&["exec", "--user", "7", "box", "id", "-u"]).ok(), "7");
    user.call(&["delete", "--force", "box"]).silent();
}

#[test]
fn ids_that_the_user_was_not_given_are_refused_with_the_file_to_change() {
    gpurun_only!("runc's words are its helper's");
    let Some(user) = user_with_ranges() else { return };
    let map = |first: u32, count: u32| json!([{"containerID": 0, "hostID": first, "size": count}]);
    let too_many = idle().set("/linux/uidMappings", map(SUBORDINATE.0, SUBORDINATE.1 + 1));
    user.run("many", &too_many).refused(1, &["newuidmap", "/etc/subuid", "linux.uidMappings"]);
    let strange = idle().set("/linux/gidMappings", map(5, 1));
    user.run("strange", &strange).refused(1, &["newgidmap", "/etc/subgid", "linux.gidMappings"]);

    let bundle = user.bundle("none", &ordinary_user::with_range(idle()));
    let mut command = user.command("/usr/bin/env".as_ref());
    command.arg("PATH=/nonexistent").arg(user.binary());
    command.args(["run", "--bundle", text(&bundle), "none"]);
    runtime::finish(&mut command, b"").refused(1, &["newuidmap", "package uidmap"]);
}

#[test]
fn the_users_own_groups_stay() {
    let user = OrdinaryUser::new();
    let bundle = user.bundle("box", &config("cat /data/file"));
    let data = user.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "for the group").unwrap();
    std::os::unix::fs::chown(data.join("file"), Some(0), Some(GROUP)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    fs::set_permissions(data.join("file"), mode).unwrap();
    let config = config("cat /data/file").mount("/data", "bind", text(&data), &["rbind", "ro"]);
    fs::write(bundle.join("config.json"), config.json().to_string()).unwrap();
    assert_eq!(user.call(&["run", "--bundle", text(&bundle), "box"]).ok(), "for the group");
}

#[test]
fn an_ordinary_user_has_the_hosts_network_or_one_of_their_own() {
    let user = OrdinaryUser::new();
    let script = "readlink /proc/self/ns/net; ip -o link | grep -c .";
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(user.run("host", &config(script)).ok().starts_with(text(&host)));
    let own = user.run("own", &config("ip -o addr show lo").namespace("network", Some("")));
    assert!(own.ok().contains("127.0.0.1/8"), "{own:?}");
    // With a network namespace goes a sysfs of its own.
    let sysfs = config("ls /sys/class/net")
        .namespace("network", Some(""))
        .without_mount("/sys")
        .mount("/sys", "sysfs", "sysfs", &["ro"]);
    assert!(user.run("sysfs", &sysfs).ok().contains("lo"));
}

#[test]
fn a_bind_mount_keeps_the_attributes_that_are_locked() {
    gpurun_only!("runc 1.1 fails here");
    let user = OrdinaryUser::new();
    let source = user.path("source");
    fs::create_dir(&source).unwrap();
    let run = |name: &str, options: &[&str]| {
        let config =
            config("grep ' /mnt ' /proc/mounts").mount("/mnt", "bind", text(&source), options);
        let bundle = user.bundle(name, &config);
        let mut own = user.command(&user.binary());
        own.args(["run", "--bundle", text(&bundle), name]);
        // The machine has something mounted there that an ordinary user must not change.
        let script = r#"mount -t tmpfs -o nosuid,nodev,noexec tmpfs "$0" && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        command.arg(&source).arg(own.get_program()).args(own.get_args());
        command.current_dir(user.path("home"));
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        runtime::finish(&mut command, b"")
    };
    let output = run("kept", &["rbind", "ro"]);
    assert!(output.ok().contains("ro,nosuid,nodev,noexec"), "{output:?}");
    let output = run("asked", &["rbind", "exec"]);
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("locked"), "{output:?}");
}

#[test]
fn a_time_namespace_with_offsets_is_made_by_the_init() {
    gpurun_only!("runc before 1.2 has no time namespaces");
    if !Path::new("/proc/self/ns/time").exists() {
        return skipped("this kernel has no time namespaces");
    }
    let user = OrdinaryUser::new();
    let config = config("cat /proc/uptime; echo $$")
        .namespace("time", Some(""))
        .set("/linux/timeOffsets/boottime/secs", 1_000_000_000.into());
    let output = user.run("box", &config);
    let words: Vec<&str> = output.ok().split_whitespace().collect();
    assert!(words[0].parse::<f64>().unwrap() > 1e9, "{output:?}");
    assert_eq!(words[2], "1", "{output:?}");
}

/// Runs the runtime as the root of a user namespace that holds the user's id alone, as a rootless
/// engine does; the specs have no user namespace.
fn as_namespace_root(user: &OrdinaryUser, script: &str) -> Output {
    let mut command = user.command("/usr/bin/unshare".as_ref());
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]);
    command.arg(user.binary());
    runtime::finish(&mut command, b"")
}

fn in_namespace(script: &str) -> Config {
    config(script).namespace("user", None).remove("/linux/uidMappings").remove("/linux/gidMappings")
}

#[test]
fn the_root_of_a_user_namespace_runs_containers_without_one_of_their_own() {
    let user = OrdinaryUser::new();
    user.bundle("box", &in_namespace("id -u; cat /proc/self/uid_map; ls /dev/null"));
    let output = as_namespace_root(&user, "$0 run --bundle box box; ls $XDG_RUNTIME_DIR");
    let words: Vec<&str> = output.ok().split_whitespace().collect();
    assert_eq!(words[..5], ["0", "0", &*ID.to_string(), "1", "/dev/null"], "{output:?}");
    if Runtime::is_gpurun() {
        assert_eq!(words[5..], ["gpurun"], "the state belongs to the user");
    }
}

#[test]
fn the_root_of_a_user_namespace_joins_and_shares_pid_namespaces() {
    let user = OrdinaryUser::new();
    user.bundle("one", &in_namespace("exec sleep 1000"));
    user.bundle("two", &in_namespace("ps -o args | grep -c '^sleep 1000'"));
    let script = r#"
        "$0" run --detach --bundle one one >/dev/null
        "$0" exec one sh -c 'ps -o args | grep -c "^sleep 1000"'
        pid=$("$0" state one | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
        sed "s,\"type\":\"pid\",&\,\"path\":\"/proc/$pid/ns/pid\"," two/config.json > two/new
        mv two/new two/config.json
        "$0" run --bundle two two
        "$0" delete --force one"#;
    assert_eq!(as_namespace_root(&user, script).ok(), "1\n1");
}

#[test]
fn an_annotation_keeps_the_groups_of_who_calls() {
    gpurun_only!("runc does not know crun's annotation");
    let user = OrdinaryUser::new();
    let asked = in_namespace("id -G").set("/annotations/run.oci.keep_original_groups", "1".into());
    user.bundle("asked", &asked);
    let output = as_namespace_root(&user, "\"$0\" run --bundle asked asked");
    // Groups that are not mapped are shown as nobody's.
    assert!(output.ok().split_whitespace().any(|gid| gid == "65534"), "{output:?}");
}

#[test]
fn an_ordinary_user_gets_the_gpus() {
    gpurun_only!("the others have no GPUs to give");
    let user = OrdinaryUser::new();
    let place = user.path("machine");
    fs::create_dir(&place).unwrap();
    let host = MadeUpHost::build(&place, &Layout::with_gpus(2)).expect("build a made-up machine");
    let script = "stat -c '%n %t:%T' /dev/nvidia1 /dev/nvidiactl; ls /dev/nvidia0; \
                  ls /usr/lib/*/libcuda.so.1 /usr/lib64/libcuda.so.1 2>/dev/null | head -n 1";
    let config = config(script).push("/process/env", "NVIDIA_VISIBLE_DEVICES=1".into());
    let bundle = user.bundle("box", &config);
    fs::copy(probe::nodes().expect("probe"), bundle.join("rootfs/bin/nodes")).unwrap();
    let call = |args: &[&str]| {
        let mut command = user.command(&user.binary());
        command.env("GPURUN_CONFIG", host.config()).args(args);
        runtime::finish(&mut command, b"")
    };
    let output = call(&["run", "--bundle", text(&bundle), "box"]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..2], ["/dev/nvidia1 c3:1", "/dev/nvidiactl c3:ff"], "{output:?}");
    assert!(output.stderr.contains("/dev/nvidia0"), "{output:?}");
    assert!(lines[2].ends_with("libcuda.so.1"), "{output:?}");
    let explained = call(&["explain", "--bundle", text(&bundle)]);
    assert!(explained.ok().contains("/dev/nvidia1"), "{explained:?}");
}

#[test]
fn nothing_of_a_failed_start_is_left() {
    let user = OrdinaryUser::new();
    let bundle = user.bundle("box", &idle().set("/process/args", json!(["nothing"])));
    user.call(&["run", "--bundle", text(&bundle), "box"])
        .refused(1, &["executable file not found"]);
    let image = rootfs_names(&bundle);
    assert_eq!(user.leftovers(), Vec::<String>::new());
    let fresh = user.path("home/fresh");
    rootfs::build(&fresh);
    assert_eq!(image, names(&fresh), "created mount points are removed");
}

fn rootfs_names(bundle: &Path) -> Vec<String> {
    names(&bundle.join("rootfs"))
}

fn names(root: &Path) -> Vec<String> {
    let mut all: Vec<String> = integration_tests::images::listing(root, &[])
        .unwrap()
        .iter()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    all.sort();
    all
}
