//! runtime.md, requirement by requirement, where no other test holds it already: operations,
//! their order, and hooks.

use integration_tests::container::text;
use integration_tests::{Config, Container, Value, cgroup, gpurun_only, json, wait_for};
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

#[test]
fn runtime_md_lifecycle_the_program_does_not_run_before_start_and_runs_once() {
    let c = Container::native(Config::sh("echo called >> /output"));
    let output = c.rootfs().join("output");
    c.create().silent();
    assert!(!output.exists(), "process.args MUST NOT be applied until start");
    c.start().silent();
    c.wait_until("stopped");
    assert_eq!(fs::read_to_string(&output).unwrap(), "called\n");
    assert_ne!(c.start().code, 0, "a stopped container cannot be started");
    assert_eq!(fs::read_to_string(&output).unwrap(), "called\n", "and nothing has run again");
}

#[test]
fn runtime_md_lifecycle_step_2_changes_of_config_json_after_create_have_no_effect() {
    let c = Container::native(Config::sh("echo first > /output"));
    c.create().silent();
    c.configure(Config::sh("echo second > /output"));
    c.start().silent();
    c.wait_until("stopped");
    assert_eq!(fs::read_to_string(c.rootfs().join("output")).unwrap(), "first\n");
}

#[test]
fn runtime_md_operations_every_command_needs_an_id() {
    let c = Container::native(Config::idle());
    for command in ["create", "start", "state", "kill", "delete"] {
        let output = c.call(&[command]);
        assert_ne!(output.code, 0, "{command}: {output:?}");
        assert!(!output.stderr.trim().is_empty(), "{command}: {output:?}");
    }
    c.assert_gone();
}

#[test]
fn runtime_md_operations_an_error_leaves_the_container_as_it_was() {
    let c = Container::idle();
    let pid = c.pid();
    for args in [vec!["start", c.id()], vec!["delete", c.id()], vec!["kill", c.id(), "NONE"]] {
        assert_ne!(c.call(&args).code, 0, "{args:?}");
        assert_eq!((c.status().as_str(), c.pid()), ("running", pid), "{args:?}");
    }
    assert_ne!(c.create().code, 0, "the id is in use");
    assert_eq!((c.status().as_str(), c.pid()), ("running", pid));
}

#[test]
fn runtime_md_delete_does_not_remove_what_create_did_not_make() {
    let c = Container::native(Config::idle());
    let parent = format!("{}-parent", c.id());
    c.configure(Config::idle().set("/linux/cgroupsPath", format!("/{parent}/child").into()));
    // Somebody's own cgroup, in which the container's is made.
    c.create().silent();
    let directory = cgroup::directory(c.runtime().cgroup, "pids", c.pid())
        .and_then(|own| own.parent().map(ToOwned::to_owned));
    let Some(directory) = directory else {
        return integration_tests::skipped("no pids controller");
    };
    let neighbour = directory.join("neighbour");
    fs::create_dir(&neighbour).unwrap();
    c.delete(&["--force"]).ok();
    assert!(neighbour.exists(), "the neighbour is not the container's");
    assert!(!directory.join("child").exists());
    fs::remove_dir(&neighbour).unwrap();
    cgroup::sweep(&parent);
}

#[test]
fn runtime_md_kill_reaches_processes_that_outlived_the_first_one() {
    gpurun_only!("runc 1.1 says that the container does not run");
    let script = "sleep 1000 & echo $! > /child; exit 0";
    let c = Container::native(Config::sh(script).namespace("pid", None));
    c.run_detached();
    c.wait_until("stopped");
    let child = fs::read_to_string(c.rootfs().join("child")).unwrap();
    let alive = || {
        fs::read_to_string(format!("/proc/{}/stat", child.trim()))
            .is_ok_and(|stat| !stat.contains(") Z"))
    };
    assert!(alive());
    c.kill("KILL").ok();
    wait_for("the child to go", || !alive());
}

#[test]
fn runtime_md_lifecycle_step_9_a_failing_poststart_hook_is_a_warning_and_the_others_run() {
    gpurun_only!("runc 1.1 kills the container");
    let c = Container::native(Config::idle());
    let log = c.path("log");
    c.configure(
        Config::idle()
            .hook("poststart", shell("exit 1"))
            .hook("poststart", shell(&format!("echo second > {}", text(&log)))),
    );
    c.create().silent();
    assert_eq!(c.start().code, 0);
    assert_eq!(c.status(), "running");
    assert_eq!(fs::read_to_string(&log).unwrap(), "second\n");
}

#[test]
fn config_md_hooks_a_failure_says_which_hook_it_was() {
    gpurun_only!("runc 1.1 counts too, in other words");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let c =
            Container::native(Config::idle().hook(kind, shell("true")).hook(kind, shell("exit 3")));
        c.create().refused(1, &[&format!("error running {kind} hook #1: "), "exit status: 3"]);
        c.assert_gone();
    }
}

#[test]
fn config_md_hooks_those_of_the_host_start_in_the_bundle() {
    let c = Container::native(
        Config::sh("true")
            .hook("prestart", shell("pwd > prestart"))
            .hook("createRuntime", shell("pwd > createRuntime")),
    );
    c.run().ok();
    for kind in ["prestart", "createRuntime"] {
        let seen = fs::read_to_string(c.bundle().join(kind)).unwrap_or_default();
        assert_eq!(seen.trim(), text(&c.bundle()), "{kind}");
    }
}

#[test]
fn config_md_hooks_start_container_without_env_has_the_program_s() {
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo $COLOUR > /hook"]});
    let c = Container::native(
        Config::sh("true").push("/process/env", "COLOUR=red".into()).hook("startContainer", hook),
    );
    c.run().ok();
    assert_eq!(fs::read_to_string(c.rootfs().join("hook")).unwrap(), "red\n");
}

#[test]
fn a_created_container_keeps_nothing_open_that_its_caller_had() {
    let c = Container::native(Config::idle());
    let mut create = c.command(&["create", "--bundle", text(&c.bundle()), c.id()]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer = std::os::fd::OwnedFd::from(writer);
    // Descriptor 9 of the caller, open across the exec of the runtime.
    let program = create.get_program().to_owned();
    let args: Vec<_> = create.get_args().map(ToOwned::to_owned).collect();
    create = Command::new("sh");
    create.args(["-c", r#"exec "$0" "$@" 9>&1 >/dev/null"#]).arg(program).args(args);
    create.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null()).process_group(0);
    let status = create.spawn().unwrap().wait().unwrap();
    drop(create);
    assert!(status.success());
    let mut rest = String::new();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(reader.read_to_string(&mut rest).is_ok()));
    assert_eq!(ended.recv_timeout(std::time::Duration::from_secs(10)), Ok(true));
    assert_eq!(c.status(), "created");
}

#[test]
fn of_an_option_given_twice_the_last_counts() {
    let c = Container::idle();
    let state = c.state_root();
    let mut command = c.runtime().command();
    command.args(["--root", "/nonexistent", "--root", text(&state), "state", c.id()]);
    let output = integration_tests::runtime::finish(&mut command, b"");
    assert_eq!(output.json()["id"], c.id());
}
