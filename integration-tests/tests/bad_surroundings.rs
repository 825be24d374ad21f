//! A caller or a machine that makes it hard: odd options, full disks, closed streams, low limits.

use integration_tests::console::ConsoleSocket;
use integration_tests::container::text;
use integration_tests::{Config, Container, Output, Runtime, gpurun_only, runtime, skipped};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The runtime called through a shell that does `before` first.
fn after(c: &Container, before: &str, args: &[&str]) -> Output {
    let inner = c.command(args);
    let mut outer = Command::new("sh");
    outer.args(["-c", &format!("{before}; exec \"$@\""), "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    runtime::finish(&mut outer, b"")
}

#[test]
fn an_option_that_makes_no_sense_is_named() {
    let c = Container::native(Config::args(&["true"]));
    let bundle = c.bundle();
    for (args, words) in [
        (&["run", "--preserve-fds", "-1"][..], "-1"),
        (&["run", "--preserve-fds", "x"], "preserve-fds"),
        (&["run", "--preserve-fds", "99999999999999"], "preserve-fds"),
        (&["run", "--nonsense"], "nonsense"),
        (&["--log-format", "xml", "run"], "xml"),
    ] {
        let all = [args, &["--bundle", text(&bundle), c.id()]].concat();
        let output = c.call(&all);
        assert_ne!(output.code, 0, "{all:?}: {output:?}");
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains(words) && !said.contains("panicked"), "{all:?}: {output:?}");
        c.assert_gone();
    }
}

#[test]
fn a_state_root_that_cannot_be_used_is_named_by_every_command() {
    gpurun_only!("the words are gpurun's");
    let c = Container::native(Config::args(&["true"]));
    fs::write(c.path("file"), "").unwrap();
    symlink("loop", c.path("loop")).unwrap();
    symlink("/nonexistent/deep", c.path("dangling")).unwrap();
    let long = c.path(&"x".repeat(300));
    let bundle = c.bundle();
    for root in ["file", "file/below", "loop", "dangling", "/proc/nothing", text(&long)] {
        let root = c.path(root);
        let call = |args: &[&str]| {
            let all = [&["--root", text(&root)], args].concat();
            Runtime::native().call(&all)
        };
        let name = root.file_name().unwrap().to_str().unwrap();
        call(&["create", "--bundle", text(&bundle), c.id()]).refused(1, &[name]);
        for command in ["state", "start", "kill", "delete"] {
            let output = call(&[command, c.id()]);
            output.refused(1, &[]);
        }
        assert!(!call(&["list"]).stderr.contains("panicked"));
    }
    c.assert_gone();
}

#[test]
fn a_log_that_cannot_be_written_is_named_or_ignored_and_never_hangs() {
    gpurun_only!("the words are gpurun's");
    let c = Container::native(Config::sh("exit 3"));
    let bundle = c.bundle();
    let run = |log: &str| c.call(&["--log", log, "run", "--bundle", text(&bundle), c.id()]);
    run(text(&c.path(""))).refused(1, &["log"]);
    run("/nonexistent/log").refused(1, &["/nonexistent/log"]);
    assert_eq!(run("/dev/full").code, 3);
    // What cannot be said there is still said on stderr.
    let output = c.call(&["--log", "/dev/full", "run", "--bundle", "/nonexistent", "x"]);
    output.refused(1, &["/nonexistent"]);
    c.assert_gone();
}

#[test]
fn a_pid_file_that_cannot_be_written_is_named_and_nothing_stays() {
    let c = Container::native(Config::idle());
    for path in ["missing/pid", "bundle"] {
        let path = c.path(path);
        let output = c.create_with(&["--pid-file", text(&path)]);
        output.refused(1, &[path.file_name().unwrap().to_str().unwrap()]);
        c.assert_gone();
    }
    let running = Container::idle();
    let output = running.exec_with(&["--pid-file", "/nonexistent/pid"], &["true"]);
    output.refused(255, &["/nonexistent/pid"]);
}

/// Beside the pid file is where it is made; what lies there may be somebody else's.
#[test]
fn a_pid_file_is_a_new_file_whatever_lies_in_its_way() {
    gpurun_only!("runc refuses");
    let c = Container::native(Config::idle());
    let (path, way) = (c.path("pid"), c.path(".pid"));
    let mut theirs = fs::File::create(&way).unwrap();
    c.create_with(&["--pid-file", text(&path)]).silent();
    theirs.write_all(b"x").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), c.pid().to_string());
    assert!(Command::new("mkfifo").arg(&way).status().unwrap().success());
    c.exec_with(&["--pid-file", text(&path)], &["true"]).silent();
    assert!(!way.exists());
}

#[test]
fn a_pid_file_that_is_something_else_is_refused_and_stays_what_it_is() {
    gpurun_only!("runc replaces it");
    let c = Container::native(Config::idle());
    let fifo = c.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let link = c.path("link");
    symlink("/dev/full", &link).unwrap();
    for path in [&fifo, &link] {
        let before = fs::symlink_metadata(path).unwrap().file_type();
        c.create_with(&["--pid-file", text(path)]).refused(1, &["not a regular file", text(path)]);
        assert_eq!(fs::symlink_metadata(path).unwrap().file_type(), before);
        c.assert_gone();
    }
}

#[test]
fn a_console_socket_of_another_kind_or_that_nobody_accepts_on_is_no_reason_to_hang() {
    let c = Container::native(Config::args(&["true"]).set("/process/terminal", true.into()));
    fs::write(c.path("file"), "").unwrap();
    for path in ["file", "bundle"] {
        let path = c.path(path);
        c.create_with(&["--console-socket", text(&path)]).refused(1, &[]);
        c.assert_gone();
    }
    // Connected and never accepted: the message waits in the queue.
    let socket = ConsoleSocket::listen(&c.path("quiet.sock"));
    c.create_with(&["--console-socket", text(&c.path("quiet.sock"))]).silent();
    c.delete(&["--force"]).silent();
    drop(socket);
}

#[test]
fn a_full_disk_under_the_state_root_leaves_nothing_and_can_be_deleted() {
    gpurun_only!("the words are gpurun's");
    // In a mount namespace of its own: the disk goes with it. The size is in pages of 4 KiB, one
    // of them for every directory and file; the spec alone takes two.
    let c = Container::native(Config::idle());
    for blocks in 1..6 {
        let script = format!(
            "mkdir -p {root} && mount -t tmpfs -o nr_blocks={blocks} none {root} && \
             for i in 1 2 3 4 5 6; do echo x >> {root}/fill$i 2>/dev/null; done; \
             rm -f {root}/fill1; \"$@\"; code=$?; ls {root} | grep -v fill; exit $code",
            root = c.state_root().display()
        );
        let create = c.command(&["create", "--bundle", text(&c.bundle()), c.id()]);
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
        outer.arg(create.get_program()).args(create.get_args());
        let output = runtime::finish(&mut outer, b"");
        output.refused(1, &["No space left on device"]);
        assert_eq!(output.stdout, "", "{output:?}");
    }
    c.assert_gone();
}

#[test]
fn closed_streams_are_dev_null_and_not_somebody_elses_file() {
    let script = "for f in 0 1 2; do readlink /proc/self/fd/$f >> /tmp/streams; done; exit 4";
    let c = Container::native(Config::sh(script));
    let run = ["run", "--bundle", text(&c.bundle()), c.id()].map(str::to_owned);
    let run: Vec<&str> = run.iter().map(String::as_str).collect();
    for closed in ["exec 0<&-", "exec 1>&-", "exec 2>&-", "exec 0<&- 1>&- 2>&-"] {
        assert_eq!(after(&c, closed, &run).code, 4, "{closed}");
    }
    let streams = fs::read_to_string(c.rootfs().join("tmp/streams")).unwrap();
    assert!(!streams.contains("state") && !streams.contains("config.json"), "{streams}");
    let idle = Container::idle();
    let output = after(&idle, "exec 0<&- 1>&- 2>&-", &["exec", idle.id(), "sh", "-c", "exit 5"]);
    assert_eq!(output.code, 5);
    // An error has nowhere to go, and is one all the same.
    let output = after(&c, "exec 0<&- 1>&- 2>&-", &["state", "nobody"]);
    assert_eq!((output.code, &*output.stderr), (1, ""));
    assert_eq!(after(&c, "exec 2>/dev/full", &["state", "nobody"]).code, 1);
    for command in ["features", "list", "--version"] {
        let output = after(&c, "exec 1>/dev/full", &[command]);
        assert_eq!(output.code, 1, "{output:?}");
        assert!(!output.stderr.contains("panicked"), "{output:?}");
    }
}

#[test]
fn a_low_limit_of_descriptors_is_an_error_or_enough() {
    let c = Container::native(Config::sh("exit 6"));
    let run = ["run", "--bundle", text(&c.bundle()), c.id()].map(str::to_owned);
    let run: Vec<&str> = run.iter().map(String::as_str).collect();
    for limit in 3..40 {
        let output = after(&c, &format!("ulimit -Sn {limit}"), &run);
        assert!(!output.stderr.contains("panicked"), "{limit}: {output:?}");
        if output.code != 6 {
            assert_eq!(output.code, 1, "{limit}: {output:?}");
            assert!(output.stderr.contains("oo many open files"), "{limit}: {output:?}");
        }
        c.delete(&["--force"]).ok();
        c.assert_gone();
    }
}

#[test]
fn a_working_directory_that_has_been_deleted_disturbs_only_what_is_relative_to_it() {
    let c = Container::native(Config::sh("exit 7"));
    let gone = format!("mkdir {0}; cd {0}; rmdir {0}", c.path("gone").display());
    let bundle = c.bundle();
    assert_eq!(after(&c, &gone, &["run", "--bundle", text(&bundle), c.id()]).code, 7);
    after(&c, &gone, &["run", c.id()]).refused(1, &[]);
    let idle = Container::idle();
    assert_eq!(after(&idle, &gone, &["exec", idle.id(), "sh", "-c", "exit 8"]).code, 8);
    c.assert_gone();
}

#[test]
fn a_limit_of_processes_that_is_reached_is_an_error() {
    // The kernel holds root to it only in a user namespace or without the rights over resources;
    // the pids cgroup holds everybody to it.
    let c =
        Container::native(Config::sh("true & true; exit 3").set("/linux/resources/pids", pids(1)));
    let output = c.run();
    assert_ne!(output.code, 0, "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    let idle =
        Container::running(Runtime::native(), Config::idle().set("/linux/resources/pids", pids(1)));
    if idle.cgroup("pids", "pids.max").is_none() {
        return skipped("no pids controller");
    }
    let output = idle.exec(&["true"]);
    assert!(output.code == 0 || output.code == 255, "{output:?}");
    assert_eq!(idle.status(), "running");
    c.assert_gone();
}

fn pids(limit: i64) -> integration_tests::Value {
    integration_tests::json!({"limit": limit})
}
