//! `--systemd-cgroup`: scopes, their properties, and what survives of them.
//!
//! Where process 1 is systemd the tests run as they are. Elsewhere the last ones boot a systemd of
//! their own, for each cgroup version, and run this file in it.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::cgroup::Version;
use integration_tests::container::text;
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost};
use integration_tests::runtime::finish;
use integration_tests::systemd_machine::{Machine, runs_here};
use integration_tests::{Config, Container, Output, Runtime, json, skipped, stub_driver, wait_for};

/// Where the outer run has left a stub driver for the inner one, which has no compiler.
const DRIVER: &str = "GPURUN_TEST_DRIVER_ROOT";

macro_rules! needs_systemd {
    () => {
        if !runs_here() {
            // The last two tests run this one where it can.
            return;
        }
    };
}

/// A container whose scope is `SLICE:test:ID`.
struct Scope {
    container: Container,
    name: String,
}

impl Scope {
    fn new(config: Config) -> Scope {
        Self::in_slice("", config)
    }

    fn in_slice(slice: &str, config: Config) -> Scope {
        let container = Container::native(Config::idle());
        let path = format!("{slice}:test:{}", container.id());
        container.configure(config.set("/linux/cgroupsPath", json!(path)));
        let name = format!("test-{}.scope", container.id());
        Scope { container, name }
    }

    fn running(config: Config) -> Scope {
        let scope = Self::new(config);
        scope.run().silent();
        scope
    }

    fn run(&self) -> Output {
        run(&self.container)
    }

    /// A property as `systemctl show` prints it.
    fn property(&self, name: &str) -> String {
        show(&self.name, name)
    }

    fn is_gone(&self) -> bool {
        self.property("LoadState") == "not-found"
            && systemctl(&["list-units", "--all", "--no-legend", &self.name]).is_empty()
    }
}

fn run(c: &Container) -> Output {
    let bundle = c.bundle();
    c.call(&["--systemd-cgroup", "run", "--detach", "--bundle", text(&bundle), c.id()])
}

/// Tests run side by side, and one has systemd execute itself anew.
fn systemctl(args: &[&str]) -> String {
    for _ in 0..20 {
        let done = finish(Command::new("systemctl").args(args), b"");
        let is_lost = ["isconnected", "not connected", "Connection reset"]
            .iter()
            .any(|words| done.stderr.contains(words));
        if done.code == 0 || !is_lost {
            return done.ok().to_owned();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("systemd does not come back");
}

fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", unit, "--value", "--property", property])
}

/// Does to a unit, one after the other, what makes systemd write its cgroup again.
fn disturb(scope: &str, check: impl Fn(&str)) {
    let calls: [&[&str]; 5] = [
        &["daemon-reload"],
        &["daemon-reexec"],
        &["set-property", "--runtime", scope, "CPUQuota=50%"],
        &["set-property", "--runtime", scope, "DeviceAllow=/dev/char/1:11 r"],
        &["daemon-reload"],
    ];
    for call in calls {
        systemctl(call);
        check(&format!("after {call:?}"));
    }
}

/// What opening says: `ENXIO`, as the node has no driver, where the rules allow it.
const ALLOWED: &str = "No such device or address";
const DENIED: &str = "Operation not permitted";

fn with_nodes() -> Config {
    let node = |path: &str, minor: u32| json!({"path": path, "type": "c", "major": 195, "minor": minor, "fileMode": 438});
    let rule = |minor: u32| json!({"allow": true, "type": "c", "major": 195, "minor": minor, "access": "rw"});
    Config::idle()
        .push("/linux/devices", node("/dev/yes", 0))
        .push("/linux/devices", node("/dev/no", 1))
        .push("/linux/resources/devices", rule(0))
}

#[track_caller]
fn assert_access(c: &Container, when: &str) {
    for (node, answer) in [("/dev/yes", ALLOWED), ("/dev/no", DENIED)] {
        let opened = c.exec(&["cat", node]);
        assert!(opened.stderr.contains(answer), "{node} {when}: {opened:?}");
    }
    c.exec(&["sh", "-c", ": >/dev/null && head -c1 /dev/zero >/dev/null"]).ok();
}

#[test]
fn device_access_survives_everything_that_makes_systemd_write_its_rules_again() {
    needs_systemd!();
    let scope = Scope::running(with_nodes());
    let c = &scope.container;
    assert_eq!(scope.property("DevicePolicy"), "strict");
    assert!(scope.property("DeviceAllow").contains("/dev/char/195:0 rw"));
    assert_access(c, "at first");
    disturb(&scope.name, |when| assert_access(c, when));
    c.call_on("update", &["--pids-limit", "50"]);
    assert_access(c, "after update");
    systemctl(&["daemon-reload"]);
    assert_access(c, "after update and daemon-reload");
}

#[test]
fn a_device_that_update_adds_or_takes_away_stays_so_after_a_daemon_reload() {
    needs_systemd!();
    let scope = Scope::running(with_nodes());
    let c = &scope.container;
    let file = c.path("resources.json");
    let rules = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 195, "minor": 1, "access": "rw"},
    ]});
    fs::write(&file, rules.to_string()).unwrap();
    c.call_on("update", &["--resources", text(&file)]).ok();
    for when in ["update", "daemon-reload"] {
        for (node, answer) in [("/dev/yes", DENIED), ("/dev/no", ALLOWED)] {
            let opened = c.exec(&["cat", node]);
            assert!(opened.stderr.contains(answer), "{node} after {when}: {opened:?}");
        }
        systemctl(&["daemon-reload"]);
    }
}

#[test]
fn gpus_survive_daemon_reload_and_updates_that_do_not_know_them() {
    needs_systemd!();
    let scope =
        Scope::new(Config::idle().push("/process/env", json!("NVIDIA_VISIBLE_DEVICES=all")));
    let c = &scope.container;
    let mut layout = Layout::with_gpus(2);
    layout.driver_root = std::env::var_os(DRIVER).map(Into::into);
    let host = match MadeUpHost::build(&c.path("machine"), &layout) {
        Ok(host) => host,
        Err(error) => return skipped(&format!("no stub driver: {error}")),
    };
    let call = |args: &[&str]| finish(c.command(args).env("GPURUN_CONFIG", host.config()), b"");
    let bundle = c.bundle();
    call(&["--systemd-cgroup", "run", "--detach", "--bundle", text(&bundle), c.id()]).ok();
    let check = |when: &str| {
        for node in ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"] {
            let opened = call(&["exec", c.id(), "cat", node]);
            assert!(opened.stderr.contains(ALLOWED), "{node} {when}: {opened:?}");
        }
    };
    check("at first");
    let file = c.path("resources.json");
    fs::write(&file, r#"{"devices": [{"allow": false, "access": "rwm"}]}"#).unwrap();
    call(&["update", "--resources", text(&file), c.id()]).ok();
    check("after an update that forbids all devices");
    disturb(&scope.name, check);
}

#[test]
fn a_container_is_a_delegated_scope_in_the_slice_that_its_path_names() {
    needs_systemd!();
    let scope = Scope::in_slice("gpuruntest-a.slice", Config::idle());
    scope.run().silent();
    let place = format!("/gpuruntest.slice/gpuruntest-a.slice/{}", scope.name);
    assert_eq!(scope.property("ControlGroup"), place);
    assert_eq!(scope.property("Slice"), "gpuruntest-a.slice");
    assert_eq!(scope.property("Delegate"), "yes");
    assert_eq!(scope.property("ActiveState"), "active");
    let c = &scope.container;
    for pid in c.call_on("ps", &["--format", "json"]).json().as_array().unwrap() {
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(own.lines().any(|line| line.ends_with(&place)), "{own}");
    }
    // A process that joins is in the same cgroup, in every hierarchy.
    let joined = c.exec(&["--", "cat", "/proc/self/cgroup"]);
    let init = c.exec(&["--", "cat", "/proc/1/cgroup"]);
    assert_eq!(joined.ok(), init.ok());
    drop(scope);
    systemctl(&["stop", "gpuruntest-a.slice", "gpuruntest.slice"]);
}

#[test]
fn without_a_path_the_scope_is_named_after_the_container() {
    needs_systemd!();
    let c = Container::native(Config::idle().set("/linux/cgroupsPath", json!("")));
    run(&c).silent();
    let unit = format!("gpurun-{}.scope", c.id());
    assert_eq!(show(&unit, "ControlGroup"), format!("/system.slice/{unit}"));
    let root = Container::native(Config::idle());
    root.configure(
        Config::idle().set("/linux/cgroupsPath", json!(format!("-.slice:test:{}", root.id()))),
    );
    run(&root).silent();
    let unit = format!("test-{}.scope", root.id());
    assert_eq!(show(&unit, "ControlGroup"), format!("/{unit}"));
}

#[test]
fn limits_are_properties_and_an_update_changes_both() {
    needs_systemd!();
    let v2 = Version::of_host() == Version::V2;
    let offered = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if v2 && !["memory", "cpu", "pids"].iter().all(|name| offered.contains(name)) {
        return skipped("the memory, cpu and pids controllers are not offered in V2");
    }
    let limits = json!({
        "memory": {"limit": 67_108_864_u64}, "pids": {"limit": 77},
        "cpu": {"shares": 1024, "quota": 20_000, "period": 100_000},
    });
    let rules = json!([{"allow": false, "access": "rwm"}]);
    let scope = Scope::running(
        Config::idle().set("/linux/resources", limits).set("/linux/resources/devices", rules),
    );
    let memory = if v2 { "MemoryMax" } else { "MemoryLimit" };
    let seen = |name: &str| scope.property(name);
    assert_eq!(seen(memory), "67108864");
    assert_eq!(seen("TasksMax"), "77");
    assert_eq!(seen("CPUQuotaPerSecUSec"), "200ms");
    let weight = if v2 { ("CPUWeight", "100") } else { ("CPUShares", "1024") };
    assert_eq!(seen(weight.0), weight.1);
    let c = &scope.container;
    assert_eq!(c.cgroup("pids", "pids.max").as_deref(), Some("77"));
    c.call_on("update", &["--pids-limit", "99", "--memory", "134217728"]).ok();
    for when in ["after update", "after daemon-reload"] {
        assert_eq!((&*seen("TasksMax"), &*seen(memory)), ("99", "134217728"), "{when}");
        assert_eq!(c.cgroup("pids", "pids.max").as_deref(), Some("99"), "{when}");
        let file = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        assert_eq!(c.cgroup("memory", file).as_deref(), Some("134217728"), "{when}");
        systemctl(&["daemon-reload"]);
    }
}

#[test]
fn delete_leaves_no_unit() {
    needs_systemd!();
    let scope = Scope::running(Config::idle());
    let c = &scope.container;
    c.stop();
    c.delete(&[]).silent();
    assert!(scope.is_gone());
    // By force, and paused.
    let scope = Scope::running(Config::idle());
    let c = &scope.container;
    c.call_on("pause", &[]).ok();
    assert_eq!(c.status(), "paused");
    c.delete(&["--force"]).silent();
    assert!(scope.is_gone());
}

#[test]
fn a_create_that_fails_leaves_no_unit() {
    needs_systemd!();
    let scope = Scope::new(Config::args(&["/bin/nothing"]));
    scope.run().refused(1, &["/bin/nothing"]);
    assert!(scope.is_gone());
    scope.container.assert_gone();
    // A limit that is refused when the scope exists already.
    let scope = Scope::new(
        Config::idle()
            .push("/linux/resources/hugepageLimits", json!({"pageSize": "3MB", "limit": 1})),
    );
    assert_ne!(scope.run().code, 0);
    assert!(scope.is_gone());
    scope.container.assert_gone();
}

#[test]
fn a_unit_that_another_container_has_is_left_alone() {
    needs_systemd!();
    let first = Scope::running(Config::idle());
    let second = Container::native(Config::idle());
    let path = format!(":test:{}", first.container.id());
    second.configure(Config::idle().set("/linux/cgroupsPath", json!(path)));
    run(&second).refused(1, &["exists already", &first.name]);
    assert_eq!(first.property("ActiveState"), "active");
    first.container.exec(&["true"]).ok();
}

#[test]
fn a_name_can_be_used_again_at_once() {
    needs_systemd!();
    let scope = Scope::new(Config::idle());
    for _ in 0..5 {
        scope.run().silent();
        scope.container.delete(&["--force"]).silent();
    }
}

#[test]
fn annotations_become_properties() {
    needs_systemd!();
    let scope = Scope::running(
        Config::idle()
            .set("/annotations/org.systemd.property.CollectMode", json!("'inactive-or-failed'"))
            .set("/annotations/org.systemd.property.TimeoutStopSec", json!("5")),
    );
    assert_eq!(scope.property("CollectMode"), "inactive-or-failed");
    assert_eq!(scope.property("TimeoutStopUSec"), "5s");
    for (name, value, said) in [
        ("TimeoutStopUSec", "soon", "no value"),
        ("Bad1Name", "1", "consists of letters"),
        ("NoSuchThing", "1", "NoSuchThing"),
    ] {
        let key = format!("/annotations/org.systemd.property.{name}");
        let scope = Scope::new(Config::idle().set(&key, json!(value)));
        scope.run().refused(1, &[said]);
        assert!(scope.is_gone());
    }
}

#[test]
fn no_annotation_opens_what_the_device_rules_close() {
    needs_systemd!();
    let scope = Scope::running(
        with_nodes().set("/annotations/org.systemd.property.DevicePolicy", json!("'auto'")),
    );
    assert_eq!(scope.property("DevicePolicy"), "strict");
    systemctl(&["daemon-reload"]);
    assert_access(&scope.container, "with an annotation that asks for all");
}

#[test]
fn a_path_that_is_no_unit_is_refused() {
    needs_systemd!();
    for (path, said) in [
        ("/a/b", "slice:prefix:name"),
        ("a:b", "slice:prefix:name"),
        ("nothing:b:c", "no slice"),
        ("a--b.slice:b:c", "no slice"),
        ("system.slice:b:c/d", "'/'"),
        ("system.slice:b:c.slice", "slice"),
    ] {
        let c = Container::native(Config::idle().set("/linux/cgroupsPath", json!(path)));
        run(&c).refused(1, &["cgroupsPath", said]);
    }
}

#[test]
fn systemd_is_reached_without_a_bus() {
    needs_systemd!();
    let scope = Scope::new(Config::idle());
    let c = &scope.container;
    let bundle = c.bundle();
    let without = |args: &[&str]| {
        let nowhere = "unix:path=/nowhere";
        finish(c.command(args).env("DBUS_SYSTEM_BUS_ADDRESS", nowhere), b"")
    };
    without(&["--systemd-cgroup", "run", "--detach", "--bundle", text(&bundle), c.id()]).silent();
    assert_eq!(scope.property("ActiveState"), "active");
    without(&["delete", "--force", c.id()]).silent();
    assert!(scope.is_gone());
}

#[test]
fn a_stopped_container_does_not_stop_the_unit_of_the_one_that_has_its_name_now() {
    needs_systemd!();
    let first = Scope::running(Config::idle());
    first.container.stop();
    wait_for("the scope's end", || first.is_gone());
    let path = format!(":test:{}", first.container.id());
    let second = Container::native(Config::idle().set("/linux/cgroupsPath", json!(path)));
    run(&second).silent();
    first.container.call(&["kill", "--all", first.container.id(), "KILL"]).silent();
    first.container.delete(&[]).silent();
    assert_eq!(second.status(), "running");
    assert_eq!(first.property("ActiveState"), "active");
    second.delete(&["--force"]).silent();
    wait_for("the scope's end", || first.is_gone());
}

#[test]
fn a_unit_of_that_name_in_another_slice_is_another_container_s() {
    needs_systemd!();
    let first = Scope::running(Config::idle());
    first.container.stop();
    wait_for("the scope's end", || first.is_gone());
    let path = format!("gpuruntest-c.slice:test:{}", first.container.id());
    let second = Container::native(Config::idle().set("/linux/cgroupsPath", json!(path)));
    run(&second).silent();
    first.container.delete(&[]).silent();
    assert_eq!(second.status(), "running");
    // One that fails before it has a scope.
    first.container.configure(
        Config::idle()
            .set("/linux/cgroupsPath", json!(format!(":test:{}", first.container.id())))
            .set("/linux/resources/unified", json!({"memory.max": "lots"})),
    );
    assert_ne!(first.run().code, 0);
    first.container.call_on("state", &[]).refused(1, &["does not exist"]);
    assert_eq!(second.status(), "running");
    second.delete(&["--force"]).silent();
    systemctl(&["stop", "gpuruntest-c.slice", "gpuruntest.slice"]);
}

#[test]
fn a_create_that_was_killed_before_it_had_a_scope_has_none() {
    needs_systemd!();
    let first = Scope::new(Config::idle());
    let c = &first.container;
    // A bus that never answers.
    let bus = c.path("bus");
    let _listener = UnixListener::bind(&bus).unwrap();
    let bundle = c.bundle();
    let mut create = c
        .command(&["--systemd-cgroup", "create", "--bundle", text(&bundle), c.id()])
        .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the fifo", || c.state_root().join(c.id()).join("start.fifo").exists());
    create.kill().unwrap();
    create.wait().unwrap();
    let path = format!(":test:{}", c.id());
    let second = Container::native(Config::idle().set("/linux/cgroupsPath", json!(path)));
    run(&second).silent();
    c.delete(&["--force"]).ok();
    assert_eq!(second.status(), "running");
    second.exec(&["true"]).ok();
    second.delete(&["--force"]).silent();
    wait_for("the scope's end", || first.is_gone());
}

#[test]
fn annotations_of_an_image_change_no_other_unit() {
    needs_systemd!();
    let other = format!("gpuruntest-other-{}", std::process::id());
    let run = ["--quiet", &format!("--unit={other}"), "sleep", "1000"];
    finish(Command::new("systemd-run").args(run), b"").ok();
    let service = format!("{other}.service");
    // As podman hands them on, from the manifest of an image.
    let annotations = json!({
        "io.container.manager": "libpod",
        "org.systemd.property.Conflicts": format!("['{service}']"),
        "org.systemd.property.Wants": format!("['{other}.target']"),
        "org.systemd.property.PIDs": format!("@au [{}]", show(&service, "MainPID")),
        "org.systemd.property.TimeoutStopUSec": "uint64 5000000",
    });
    let scope = Scope::running(Config::idle().set("/annotations", annotations));
    assert_eq!(show(&service, "ActiveState"), "active");
    assert_eq!(scope.property("TimeoutStopUSec"), "5s");
    assert!(!scope.property("Wants").contains(&other));
    scope.container.delete(&["--force"]).silent();
    assert_eq!(show(&service, "ActiveState"), "active");
    systemctl(&["stop", &service]);
}

#[test]
fn processes_that_end_at_once_are_a_scope_for_as_long() {
    needs_systemd!();
    let scope = Scope::new(Config::args(&["true"]));
    let c = &scope.container;
    for _ in 0..20 {
        let bundle = c.bundle();
        c.call(&["--systemd-cgroup", "run", "--bundle", text(&bundle), c.id()]).silent();
    }
    wait_for("the unit to go", || scope.is_gone());
}

#[test]
fn without_systemd_the_error_names_the_remedy() {
    if runs_here() {
        return skipped("systemd runs here");
    }
    let c = Container::native(Config::idle().set("/linux/cgroupsPath", json!("system.slice:a:b")));
    run(&c).refused(1, &["systemd", "--systemd-cgroup"]);
}

#[test]
fn every_test_here_passes_under_systemd_on_cgroup_v2() {
    pass_under_systemd(Version::V2);
}

#[test]
fn every_test_here_passes_under_systemd_on_hybrid_cgroups() {
    pass_under_systemd(Version::V1);
}

fn pass_under_systemd(version: Version) {
    if runs_here() {
        return skipped("the machine itself runs systemd");
    }
    let driver = match stub_driver::cached(DRIVER_VERSION) {
        Ok(driver) => driver,
        Err(error) => return skipped(&format!("no stub driver: {error}")),
    };
    let (own, runtime) = (std::env::current_exe().expect("own path"), Runtime::binary());
    let machine = match Machine::boot(version, &[&own, &runtime, &driver]) {
        Ok(machine) => machine,
        Err(reason) => return skipped(&reason),
    };
    let env = [
        ("RUNTIME", &*Machine::path(&runtime)),
        (DRIVER, &*Machine::path(&driver)),
        ("TMPDIR", Path::new("/tmp")),
    ];
    let args = ["--test-threads", "2", "--skip", "every_test_here"];
    let output = machine.run(&env, &Machine::path(&own), &args);
    for line in output.stderr.lines().filter(|line| line.starts_with("skipped:")) {
        eprintln!("{line}");
    }
    assert_eq!(output.code, 0, "{version:?}: {}{}", output.stdout, output.stderr);
}
