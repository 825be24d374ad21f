//! Hooks of the six kinds: when they run, what they are told, what their failure does.

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json};
use std::fs;
use std::time::{Duration, Instant};

const KINDS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// A container whose hooks of all kinds append one line, `kind state`, to /hooks/log.
fn recording() -> Container {
    let c = Container::native(Config::idle());
    let hooks = c.path("hooks");
    fs::create_dir(&hooks).unwrap();
    let mut config = Config::sh("echo process >> /hooks/log; exec sleep 1000")
        .set("/annotations", json!({"com.example": "yes"}))
        .mount("/hooks", "bind", text(&hooks), &["bind"]);
    for kind in KINDS {
        // The start hook is run inside of the container, the others see the host's paths.
        let log = if *kind == "startContainer" { "/hooks" } else { text(&hooks) };
        config = config.hook(kind, shell(&format!("echo {kind} $(cat) >> {log}/log")));
    }
    c.configure(config);
    c
}

fn lines(c: &Container) -> Vec<String> {
    let log = fs::read_to_string(c.path("hooks/log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

fn kinds(c: &Container) -> Vec<String> {
    lines(c).iter().map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn each_kind_runs_at_its_time() {
    gpurun_only!("runc 1.1 runs the poststart hooks before the start");
    let c = recording();
    c.create().silent();
    assert_eq!(kinds(&c), ["prestart", "createRuntime", "createContainer"]);
    c.start().silent();
    integration_tests::wait_for("the process", || kinds(&c).contains(&"process".to_owned()));
    let mut after_start = kinds(&c).split_off(3);
    assert_eq!(after_start.remove(0), "startContainer");
    after_start.sort();
    assert_eq!(after_start, ["poststart", "process"]);
    c.stop();
    assert_eq!(kinds(&c).len(), 6);
    c.delete(&[]).silent();
    assert_eq!(kinds(&c).last().map(String::as_str), Some("poststop"));
}

#[test]
fn each_kind_reads_the_state_on_its_standard_input() {
    let c = recording();
    c.create().silent();
    let pid = c.pid();
    c.start().silent();
    integration_tests::wait_for("the process", || kinds(&c).contains(&"process".to_owned()));
    c.stop();
    c.delete(&[]).silent();
    for line in lines(&c).iter().filter(|line| *line != "process") {
        let (kind, state) = line.split_once(' ').unwrap();
        let state: Value =
            serde_json::from_str(state).unwrap_or_else(|e| panic!("{kind}: {e}: {state}"));
        assert_eq!(state["id"], c.id(), "{kind}");
        assert_eq!(state["bundle"], text(&c.bundle()), "{kind}");
        assert_eq!(state["annotations"]["com.example"], "yes", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        let status = match kind {
            "prestart" | "createRuntime" | "createContainer" => "creating",
            "startContainer" => "created",
            // runc 1.1 runs them before the start.
            "poststart" if !Runtime::is_gpurun() => "created",
            "poststart" => "running",
            _ => "stopped",
        };
        assert_eq!(state["status"], status, "{kind}");
        match kind {
            // "For hooks executed in the container namespace, it is the pid as seen by the container."
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{kind}"),
            "poststop" => assert!(state["pid"] == 0 || state["pid"].is_null(), "{kind}: {state}"),
            _ => assert_eq!(state["pid"], pid, "{kind}"),
        }
    }
}

#[test]
fn hooks_of_one_kind_run_in_their_order() {
    let c = Container::native(Config::idle());
    let log = c.path("log");
    let mut config = Config::args(&["true"]);
    for n in 1..=5 {
        config = config.hook("createRuntime", shell(&format!("echo {n} >> {}", text(&log))));
    }
    c.configure(config);
    c.run().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "1\n2\n3\n4\n5\n");
}

#[test]
fn a_hook_gets_its_own_arguments_and_environment_only() {
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let c = Container::native(Config::idle());
        let log = c.path("log");
        let script = format!("echo \"$0|$1\" > {0}; env | sort >> {0}", text(&log));
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "a b"],
                          "env": ["PATH=/bin:/usr/bin", "ONE=1"]});
        c.configure(Config::args(&["true"]).hook(kind, hook));
        let mut run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
        run.env("LEAKED", "secret");
        integration_tests::runtime::finish(&mut run, b"").ok();
        let seen = fs::read_to_string(&log).unwrap();
        let mut seen: Vec<&str> = seen.lines().collect();
        seen.retain(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
        assert_eq!(seen, ["zero|a b", "ONE=1", "PATH=/bin:/usr/bin"], "{kind}");
    }
}

#[test]
fn hooks_run_in_the_namespaces_they_belong_to() {
    let c = Container::native(Config::idle());
    let log = c.path("log");
    fs::write(&log, "").unwrap();
    let record =
        |kind: &str| shell(&format!("echo {kind} $(readlink /proc/self/ns/mnt) >> {}", text(&log)));
    c.configure(
        Config::idle()
            .hook("createRuntime", record("createRuntime"))
            .hook("createContainer", record("createContainer")),
    );
    c.create().silent();
    let of = |pid: &str| text(&fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap()).to_owned();
    let seen = fs::read_to_string(&log).unwrap();
    let expected =
        format!("createRuntime {}\ncreateContainer {}\n", of("self"), of(&c.pid().to_string()));
    assert_eq!(seen, expected);
}

#[test]
fn what_a_create_container_hook_mounts_is_in_the_container() {
    let c = Container::native(Config::idle());
    fs::create_dir(c.path("volume")).unwrap();
    fs::write(c.path("volume/file"), "by hook").unwrap();
    fs::create_dir(c.rootfs().join("mnt")).unwrap();
    let script = format!("mount --bind {} {}/mnt", text(&c.path("volume")), text(&c.rootfs()));
    c.configure(Config::sh("cat /mnt/file").hook("createContainer", shell(&script)));
    assert_eq!(c.run().ok(), "by hook");
}

#[test]
fn a_failing_hook_before_the_start_fails_create_and_leaves_nothing() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let c =
            Container::native(Config::idle().hook(kind, shell("echo because of this >&2; exit 3")));
        c.create().refused(1, &["hook"]);
        c.assert_gone();
    }
}

#[test]
fn a_failing_start_container_hook_fails_the_process() {
    let config = Config::sh("touch /started").hook("startContainer", shell("exit 3"));
    let c = Container::native(config);
    let output = c.run();
    assert_ne!(output.code, 0, "{output:?}");
    assert!(!c.rootfs().join("started").exists(), "the program was executed");
}

#[test]
fn a_failing_poststop_hook_is_a_warning_and_the_others_run() {
    gpurun_only!("runc 1.1 leaves the others out");
    let c = Container::native(Config::idle());
    let log = c.path("log");
    let config = Config::idle()
        .hook("poststop", shell("exit 1"))
        .hook("poststop", shell(&format!("echo second > {}", text(&log))));
    c.configure(config);
    c.run_detached();
    c.stop();
    assert_eq!(c.delete(&[]).code, 0);
    assert_eq!(fs::read_to_string(&log).unwrap(), "second\n", "the failed one is only a warning");
    c.assert_gone();
}

#[test]
fn a_hook_that_takes_too_long_is_killed_and_fails() {
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "exec sleep 20"], "timeout": 1});
    for kind in ["createRuntime", "createContainer"] {
        let c = Container::native(Config::idle().hook(kind, hook.clone()));
        let begin = Instant::now();
        c.create().refused(1, &["hook"]);
        assert!(begin.elapsed() < Duration::from_secs(8), "{kind} took {:?}", begin.elapsed());
        c.assert_gone();
    }
}

#[test]
fn a_hook_that_does_not_read_its_standard_input_is_fine() {
    let annotations = json!({"big": "x".repeat(200_000)});
    let c = Container::native(
        Config::args(&["true"])
            .set("/annotations", annotations)
            .hook("createRuntime", json!({"path": "/bin/true"})),
    );
    assert_eq!(c.run().code, 0);
}

#[test]
fn a_hook_that_is_not_there_is_named() {
    let c =
        Container::native(Config::idle().hook("createRuntime", json!({"path": "/no/such/hook"})));
    c.create().refused(1, &["/no/such/hook"]);
    c.assert_gone();
}

#[test]
fn a_hook_path_has_to_be_absolute() {
    let c = Container::native(Config::idle().hook("createRuntime", json!({"path": "true"})));
    c.create().refused(1, &["hook"]);
    c.assert_gone();
}

#[test]
fn each_kind_starts_in_the_directory_of_its_time() {
    let c = Container::native(Config::idle());
    let directory = |kind: &str| format!("pwd > {}; true", text(&c.path(kind)));
    let mut config = Config::sh("cat /tmp/started").set("/process/cwd", "/var".into());
    for kind in ["prestart", "createRuntime", "createContainer"] {
        config = config.hook(kind, shell(&directory(kind)));
    }
    config = config.hook("startContainer", shell("pwd > /tmp/started"));
    c.configure(config);
    assert_eq!(c.run().ok(), "/var");
    let seen = |kind: &str| fs::read_to_string(c.path(kind)).unwrap().trim().to_owned();
    assert_eq!(seen("prestart"), text(&c.bundle()));
    assert_eq!(seen("createRuntime"), text(&c.bundle()));
    assert_eq!(seen("createContainer"), text(&c.rootfs()));
}

#[test]
fn a_start_container_hook_without_an_environment_has_the_programs() {
    gpurun_only!("runc 1.1 gives it none");
    let script = "echo $OF_PROGRAM > /tmp/seen";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let own = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo own:$OF_PROGRAM >> /tmp/seen"],
                     "env": ["PATH=/bin"]});
    let config = Config::sh("cat /tmp/seen").push("/process/env", "OF_PROGRAM=yes".into());
    let c = Container::native(config.hook("startContainer", hook).hook("startContainer", own));
    assert_eq!(c.run().ok(), "yes\nown:");
}
