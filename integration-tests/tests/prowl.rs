//! The runtime's processes, attacked from inside of the container by a program that does nothing
//! else (`src/probe/prowl.c`): through /proc/PID/exe, root, cwd, fd, mem, environ, and ptrace.

use integration_tests::container::text;
use integration_tests::ordinary_user::{self, OrdinaryUser};
use integration_tests::{
    Config, Container, Runtime, gpurun_only, json, probe, rootfs, runtime, wait_for,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Docker gives by default, as far as it matters here.
const ORDINARY: &[&str] = &["CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
/// What a debugger in a container is given.
const DEBUGGER: &[&str] =
    &["CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SYS_PTRACE"];

struct Prowled {
    runtime: Runtime,
    c: Container,
    binary: PathBuf,
    before: Vec<u8>,
}

impl Prowled {
    /// A container in which the attacker runs, and a copy of the runtime's binary for it alone: what
    /// others execute at the moment could not be written anyway.
    fn new(capabilities: &[&str]) -> Prowled {
        Prowled::of(Runtime::native(), capabilities)
    }

    fn of(runtime: Runtime, capabilities: &[&str]) -> Prowled {
        let c = Container::new(runtime, Config::idle());
        fs::write(c.path("canary"), "canary").unwrap();
        fs::copy(probe::prowl().expect("compile the probe"), c.rootfs().join("bin/prowl")).unwrap();
        let binary = c.path("runtime");
        fs::copy(Runtime::binary(), &binary).unwrap();
        let canary = c.path("canary");
        let args = ["prowl", "/tmp/log", text(&canary), "/bin/busybox", "/bin/prowl"];
        c.configure(Config::args(&args).capabilities(capabilities, false));
        let before = fs::read(&binary).unwrap();
        Prowled { runtime, c, binary, before }
    }

    fn call(&self, args: &[&str]) -> runtime::Output {
        let mut command = self.runtime.command_of(&self.binary);
        command.arg("--root").arg(self.c.state_root()).args(args);
        command.env("SECRET_OF_THE_HOST", "1");
        runtime::finish(&mut command, b"")
    }

    /// As `call`, by a caller who has left a directory of the host open.
    fn call_with_a_directory_open(&self, args: &[&str]) -> runtime::Output {
        let mut command = self.runtime.command_of(Path::new("sh"));
        command.args(["-c", r#"exec "$0" "$@" 9< /etc"#]).arg(&self.binary);
        command.arg("--root").arg(self.c.state_root()).args(args);
        runtime::finish(&mut command, b"")
    }

    fn start(&self) {
        let bundle = self.c.bundle();
        self.call(&["run", "--detach", "--bundle", text(&bundle), self.c.id()]).ok();
        wait_for("the attacker", || self.log().contains("begun"));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.c.rootfs().join("tmp/log")).unwrap_or_default()
    }

    /// Fails the test if an attack of a kind other than `harmless` gained something.
    #[track_caller]
    fn assert_nothing_gained(&self, harmless: &[&str]) {
        let log = self.log();
        let gained: Vec<&str> = log
            .lines()
            .filter(|line| {
                let kind = line.split(' ').nth(1).unwrap_or_default();
                !["begun", "seen"].contains(&kind) && !harmless.contains(&kind)
            })
            .collect();
        assert!(log.contains(" seen"), "no process of the runtime was seen: {log}");
        assert!(gained.is_empty(), "{gained:#?}");
        assert!(!log.contains("SECRET_OF_THE_HOST"), "{log}");
        assert!(self.before == fs::read(&self.binary).unwrap(), "the binary was changed");
    }
}

#[test]
fn an_exec_gives_nothing_to_an_ordinary_container() {
    gpurun_only!("other runtimes have other means");
    let it = Prowled::new(ORDINARY);
    it.start();
    for _ in 0..100 {
        it.call(&["exec", it.c.id(), "true"]).ok();
    }
    it.assert_nothing_gained(&[]);
}

#[test]
fn an_exec_gives_nothing_of_the_host_to_a_container_that_may_trace() {
    gpurun_only!("other runtimes have other means");
    for runtime in Runtime::each() {
        let it = Prowled::of(runtime, DEBUGGER);
        it.start();
        for _ in 0..200 {
            // It may be stopped or killed by the attacker, which is the container's own loss.
            let _ = it.call_with_a_directory_open(&["exec", it.c.id(), "true"]);
        }
        // Who may trace has the memory of all that is in the container, and with it what the runtime
        // was called with; the host's files, its binary and the runtime's capabilities are not there.
        it.assert_nothing_gained(&["mem", "ptrace", "environ"]);
    }
}

/// The line from a process of `exec` to the runtime is how the runtime learns which process it is:
/// the one whose limits it sets, whose pid and pidfd the engine gets, and which it kills in the end.
#[test]
fn who_speaks_for_a_process_of_exec_cannot_pass_another_one_off_as_it() {
    gpurun_only!("other runtimes have other means");
    let mut victim = Command::new("sleep").arg("1000").spawn().unwrap();
    let c = Container::native(Config::idle());
    fs::copy(probe::hijack().expect("compile the probe"), c.rootfs().join("bin/hijack")).unwrap();
    let args = ["hijack", "/tmp/log", &victim.id().to_string()];
    c.configure(Config::args(&args).capabilities(DEBUGGER, false));
    c.run_detached();
    let log = || fs::read_to_string(c.rootfs().join("tmp/log")).unwrap_or_default();
    wait_for("the attacker", || log().contains("begun"));
    let mut refused = 0;
    for _ in 0..300 {
        let output = c.exec(&["true"]);
        refused += usize::from(output.stderr.contains("speaks for it"));
        if refused == 3 || victim.try_wait().unwrap().is_some() {
            break;
        }
    }
    let survived = victim.try_wait().unwrap().is_none();
    let _ = victim.kill();
    let _ = victim.wait();
    assert!(survived, "the runtime killed a process of the host: {}", log());
    assert!(refused > 0, "no process of the runtime was spoken for: {}", log());
}

#[test]
fn a_container_that_joins_a_pid_namespace_gives_nothing_to_those_who_are_in_it() {
    gpurun_only!("other runtimes have other means");
    let it = Prowled::new(ORDINARY);
    it.start();
    let pid = format!("/proc/{}/ns/pid", it.c.pid());
    let other = Container::native(Config::args(&["true"]).namespace("pid", Some(&pid)));
    // The same file, which the attacker knows as no part of the runtime.
    let program = other.rootfs().join("bin/busybox");
    fs::remove_file(&program).unwrap();
    fs::hard_link(it.c.rootfs().join("bin/busybox"), &program).unwrap();
    let bundle = other.bundle();
    for _ in 0..50 {
        let run =
            ["--root", text(&other.state_root()), "run", "--bundle", text(&bundle), other.id()]
                .map(str::to_owned);
        runtime::finish(Command::new(&it.binary).args(&run), b"").ok();
    }
    // Who builds a container has what that takes; it is no use to those who may not trace.
    it.assert_nothing_gained(&["caps"]);
}

#[test]
fn hooks_that_run_inside_give_nothing_of_the_runtime() {
    gpurun_only!("other runtimes have other means");
    // The attacker is a startContainer hook's child, that is: it runs before the program does.
    let it = Prowled::new(ORDINARY);
    let canary = it.c.path("canary");
    let script = format!(
        "prowl /tmp/log {} /bin/busybox /bin/prowl > /dev/null 2>&1 & sleep 1",
        text(&canary)
    );
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]});
    it.c.configure(
        Config::args(&["sleep", "1"]).capabilities(ORDINARY, false).hook("startContainer", hook),
    );
    let bundle = it.c.bundle();
    it.call(&["run", "--bundle", text(&bundle), it.c.id()]).ok();
    it.assert_nothing_gained(&[]);
}

#[test]
fn a_user_namespace_of_which_the_attacker_is_root_gives_nothing_of_the_runtime() {
    gpurun_only!("other runtimes have other means");
    let it = Prowled::new(DEBUGGER);
    let canary = it.c.path("canary");
    let args = ["prowl", "/tmp/log", text(&canary), "/bin/busybox", "/bin/prowl"];
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    rootfs::give_to(&it.c.rootfs(), 100_000, 100_000);
    it.c.configure(
        Config::args(&args)
            .capabilities(&[DEBUGGER, &["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"]].concat(), false)
            .namespace("user", Some(""))
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map),
    );
    it.start();
    for _ in 0..100 {
        it.call(&["exec", it.c.id(), "true"]).ok();
    }
    it.assert_nothing_gained(&[]);
}

/// Looks for a file of the host below the root of every process that there is.
fn looks_for(canary: &Path) -> Config {
    let script = format!(
        "echo begun > /tmp/log; while :; do for p in /proc/[0-9]*; do \
         [ -e $p/root{0} ] && echo found >> /tmp/log; done; done 2>/dev/null",
        text(canary)
    );
    Config::sh(&script)
        .capabilities(&[DEBUGGER, &["CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"]].concat(), false)
}

#[test]
fn who_may_trace_in_a_joined_user_namespace_does_not_see_the_host_through_the_joining_process() {
    gpurun_only!("other runtimes have other means");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let (it, other) = (Container::native(Config::idle()), Container::native(Config::idle()));
    let canary = it.path("canary");
    fs::write(&canary, "canary").unwrap();
    it.configure(
        looks_for(&canary)
            .namespace("user", Some(""))
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
            .namespace("pid", None)
            .without_mount("/proc")
            .mount("/proc", "none", "/proc", &["rbind"])
            .remove("/linux/maskedPaths")
            .remove("/linux/readonlyPaths"),
    );
    rootfs::give_to(&it.rootfs(), 100_000, 100_000);
    it.run_detached();
    let log = || fs::read_to_string(it.rootfs().join("tmp/log")).unwrap_or_default();
    wait_for("the attacker", || log().contains("begun"));
    let user = format!("/proc/{}/ns/user", it.pid());
    other.configure(Config::args(&["true"]).namespace("user", Some(&user)));
    rootfs::give_to(&other.rootfs(), 100_000, 100_000);
    for _ in 0..15 {
        other.run().ok();
    }
    assert!(!log().contains("found"), "{} times", log().matches("found").count());
}

#[test]
fn neither_where_an_ordinary_users_container_joins_another_one() {
    gpurun_only!("other runtimes have other means");
    let user = OrdinaryUser::new();
    let canary = user.path("home/canary");
    fs::write(&canary, "canary").unwrap();
    user.start("one", &ordinary_user::config(looks_for(&canary)));
    let log = || fs::read_to_string(user.path("home/one/rootfs/tmp/log")).unwrap_or_default();
    wait_for("the attacker", || log().contains("begun"));
    let pid = user.call(&["state", "one"]).json()["pid"].to_string();
    let path = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    let other = ordinary_user::config(Config::args(&["true"]))
        .namespace("user", Some(&path("user")))
        .namespace("pid", Some(&path("pid")))
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings");
    let bundle = user.bundle("two", &other);
    for _ in 0..15 {
        user.call(&["run", "--bundle", text(&bundle), "two"]).ok();
    }
    user.call(&["delete", "--force", "one"]).silent();
    assert!(!log().contains("found"), "{} times", log().matches("found").count());
}
