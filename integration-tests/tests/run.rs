//! run: exit codes, streams, signals, terminals.

use integration_tests::console::{ConsoleSocket, Terminal, on_terminal};
use integration_tests::container::text;
use integration_tests::{
    Config, Container, Runtime, gpurun_only, json, runtime, skipped, wait_for,
};
use std::fs;
use std::os::unix::process::CommandExt;

#[test]
fn the_exit_code_of_the_process_is_the_exit_code_of_run() {
    let c = Container::native(Config::sh("exit 0"));
    for code in (0..=255).step_by(17).chain([1, 2, 42, 125, 126, 127, 128, 137]) {
        c.configure(Config::sh(&format!("exit {code}")));
        assert_eq!(c.run().code, code);
        c.assert_gone();
    }
}

#[test]
fn a_process_ended_by_a_signal_gives_128_and_the_signal() {
    // A first process of a pid namespace ignores what it has no handler for.
    let c = Container::native(Config::idle().namespace("pid", None));
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let running = c.start_run();
        wait_for("the container", || c.call_on("state", &[]).stdout.contains("running"));
        c.kill(signal).silent();
        assert_eq!(running.wait().code, code, "{signal}");
    }
}

#[test]
fn the_three_streams_are_passed_through() {
    let c = Container::native(Config::sh("cat; echo to stdout; echo to stderr >&2"));
    let output = c.run_with(&[], b"from stdin\n");
    assert_eq!(output.ok(), "from stdin\nto stdout");
    assert_eq!(output.stderr, "to stderr\n");
}

#[test]
fn a_stream_of_many_megabytes_arrives_whole() {
    let c = Container::native(Config::sh("yes 0123456789abcde | head -c 8388608"));
    assert_eq!(c.run().stdout.len(), 8_388_608);
}

#[test]
fn the_container_is_deleted_when_run_ends() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::sh("exit 3"));
        assert_eq!(c.run().code, 3);
        c.assert_gone();
    }
}

#[test]
fn a_kept_container_stays_until_delete() {
    if c_lacks("--keep") {
        return skipped("this runtime has no run --keep");
    }
    let c = Container::native(Config::sh("exit 3"));
    assert_eq!(c.run_with(&["--keep"], b"").code, 3);
    assert_eq!(c.status(), "stopped");
    c.delete(&[]).silent();
}

fn c_lacks(option: &str) -> bool {
    !Runtime::native().call(&["run", "--help"]).stdout.contains(option)
}

#[test]
fn run_of_a_process_that_ends_at_once_never_hangs() {
    let c = Container::native(Config::args(&["true"]));
    for _ in 0..50 {
        c.run().silent();
    }
    c.assert_gone();
}

#[test]
fn a_detached_run_returns_while_the_process_goes_on() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        let pid_file = c.path("pid");
        c.run_with(&["--detach", "--pid-file", text(&pid_file)], b"").silent();
        assert_eq!(c.status(), "running");
        assert_eq!(fs::read_to_string(pid_file).unwrap(), c.pid().to_string());
    }
}

#[test]
fn a_signal_to_run_is_passed_on_to_the_process() {
    let config =
        Config::sh("trap 'exit 7' TERM; echo ready > /tmp/ready; while :; do sleep 0.02; done");
    let c = Container::native(config);
    let running = c.start_run();
    wait_for("the trap", || c.rootfs().join("tmp/ready").exists());
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.wait().code, 7);
    c.assert_gone();
}

#[test]
fn an_executable_that_is_not_there_is_named_as_engines_expect_it() {
    let c = Container::native(Config::args(&["nope"]));
    let text = "exec: \"nope\": executable file not found in $PATH";
    c.run().refused(1, &[text]);
    c.assert_gone();
    c.create().refused(1, &[text]);
    c.assert_gone();
    c.configure(Config::args(&["/bin/nope"]));
    c.create().refused(1, &["/bin/nope", "no such file or directory"]);
    c.assert_gone();
}

#[test]
fn a_file_that_is_not_executable_is_permission_denied() {
    let c = Container::native(Config::args(&["/notexec"]));
    fs::write(c.rootfs().join("notexec"), "#!/bin/sh\n").unwrap();
    c.create().refused(1, &["/notexec", "permission denied"]);
    c.configure(Config::args(&["/tmp"]));
    let output = c.create();
    assert_eq!(output.code, 1, "{output:?}");
    let known = ["permission denied", "is a directory"];
    assert!(known.iter().any(|text| output.stderr.contains(text)), "{output:?}");
    c.assert_gone();
}

#[test]
fn an_interpreter_that_is_not_there_fails_cleanly() {
    let c = Container::native(Config::args(&["/script"]));
    fs::write(c.rootfs().join("script"), "#!/no/interpreter\n").unwrap();
    fs::set_permissions(
        c.rootfs().join("script"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let output = c.run();
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("no such file or directory"), "{output:?}");
}

#[test]
fn only_the_streams_are_open_in_the_container() {
    let c = Container::native(Config::sh("ls -l /proc/$$/fd; true"));
    let mut run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    // What an engine leaks: here, its own open directory.
    let leaked = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let output = runtime::finish(&mut run, b"");
    let numbers: Vec<&str> = output
        .ok()
        .lines()
        .filter_map(|line| line.split_once(" -> ")?.0.split_whitespace().last())
        .collect();
    // The shell may hold a copy of its script's end, never anything below 10.
    assert_eq!(numbers[..3], ["0", "1", "2"], "{output:?}");
    assert!(numbers[3..].iter().all(|n| n.len() > 1), "{output:?}");
}

#[test]
fn preserved_descriptors_reach_the_process() {
    let c = Container::native(Config::sh("ls /proc/$$/fd; cat <&3"));
    fs::write(c.path("kept"), "through descriptor 3\n").unwrap();
    // sh opens descriptor 3 and becomes the runtime.
    let inner = c.command(&["run", "--preserve-fds", "1", "--bundle", text(&c.bundle()), c.id()]);
    let mut outer = std::process::Command::new("sh");
    outer.args(["-c", "exec 3<\"$0\"; exec \"$@\""]).arg(c.path("kept"));
    outer.arg(inner.get_program()).args(inner.get_args());
    let output = runtime::finish(&mut outer, b"");
    assert!(output.ok().ends_with("through descriptor 3"), "{output:?}");
}

#[test]
fn any_number_of_descriptors_may_be_preserved() {
    gpurun_only!("runc wants each of them to be there");
    let c = Container::native(Config::sh("echo out; echo err >&2"));
    for number in ["65536", "4294967292", "4294967295"] {
        let output = c.run_with(&["--preserve-fds", number], b"");
        assert_eq!((output.ok(), &*output.stderr), ("out", "err\n"), "{number}");
    }
}

fn terminal(script: &str) -> Config {
    Config::sh(script).set("/process/terminal", true.into())
}

#[test]
fn the_console_socket_receives_the_terminal() {
    let c = Container::native(terminal("tty; read line; echo got $line; ls -l /dev/console"));
    let socket = ConsoleSocket::listen(&c.path("tty.sock"));
    c.create_with(&["--console-socket", text(&c.path("tty.sock"))]).silent();
    let mut terminal = socket.receive();
    c.start().silent();
    assert!(terminal.read_until("/dev/pts/0").contains("/dev/pts/0"));
    terminal.write("hello\n");
    let rest = terminal.read_to_end();
    assert!(rest.contains("got hello") && rest.contains("/dev/console"), "{rest}");
    c.wait_until("stopped");
}

#[test]
fn a_detached_run_sends_its_terminal_too() {
    let c =
        Container::native(terminal("test -t 0 && test -t 1 && test -t 2 && echo all terminals"));
    let socket = ConsoleSocket::listen(&c.path("tty.sock"));
    c.run_with(&["--detach", "--console-socket", text(&c.path("tty.sock"))], b"").silent();
    socket.receive().read_until("all terminals");
}

#[test]
fn the_terminal_gets_the_size_that_the_config_asks_for() {
    let config =
        terminal("sleep 1000").set("/process/consoleSize", json!({"height": 33, "width": 101}));
    let c = Container::native(config);
    let socket = ConsoleSocket::listen(&c.path("tty.sock"));
    c.create_with(&["--console-socket", text(&c.path("tty.sock"))]).silent();
    assert_eq!(socket.receive().size(), (33, 101));
}

#[test]
fn the_terminal_belongs_to_the_user_of_the_process() {
    let config = terminal("stat -c '%u:%g' $(tty); echo x > $(tty) && echo writable")
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let c = Container::native(config);
    let socket = ConsoleSocket::listen(&c.path("tty.sock"));
    c.run_with(&["--detach", "--console-socket", text(&c.path("tty.sock"))], b"").silent();
    let seen = socket.receive().read_until("writable");
    assert!(seen.contains("1000:"), "{seen}");
}

#[test]
fn a_console_socket_and_a_terminal_need_each_other() {
    let attached = Container::native(terminal("true"));
    let socket = attached.path("console");
    let output = attached.run_with(&["--console-socket", text(&socket)], b"");
    output.refused(1, &["cannot use console socket"]);
    let c = Container::native(terminal("true"));
    c.create().refused(1, &["console socket"]);
    c.assert_gone();
    c.configure(Config::args(&["true"]));
    let _socket = ConsoleSocket::listen(&c.path("tty.sock"));
    c.create_with(&["--console-socket", text(&c.path("tty.sock"))]).refused(1, &["console socket"]);
    c.assert_gone();
}

#[test]
fn a_console_socket_that_nobody_listens_on_fails_cleanly() {
    let c = Container::native(terminal("true"));
    c.create_with(&["--console-socket", text(&c.path("nothing.sock"))]).refused(1, &[]);
    c.assert_gone();
    drop(ConsoleSocket::listen(&c.path("dead.sock")));
    c.create_with(&["--console-socket", text(&c.path("dead.sock"))]).refused(1, &[]);
    c.assert_gone();
}

#[test]
fn an_attached_terminal_follows_the_window_of_the_outer_one() {
    let wait = |size: &str| format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.02; done");
    let script = format!(
        "{}; echo first; {}; echo second; read x; echo read-$x; exit 5",
        wait("40 120"),
        wait("50 90")
    );
    let c = Container::native(terminal(&script));
    let (mut outer, path) = Terminal::open(40, 120);
    let mut run = on_terminal(&c.command(&["run", "--bundle", text(&c.bundle()), c.id()]), &path);
    let mut child = run.spawn().unwrap();
    drop(run);
    outer.read_until("first");
    outer.resize(50, 90);
    outer.read_until("second");
    outer.write("typed\n");
    outer.read_until("read-typed");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn an_interrupt_typed_on_an_attached_terminal_reaches_the_process() {
    // The line discipline sends the signal and then drops pending output: answer a little later.
    let c = Container::native(terminal(
        "trap 'sleep 0.1; echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.02; done",
    ));
    let (mut outer, path) = Terminal::open(24, 80);
    let mut run = on_terminal(&c.command(&["run", "--bundle", text(&c.bundle()), c.id()]), &path);
    let mut child = run.spawn().unwrap();
    drop(run);
    outer.read_until("ready");
    outer.write("\u{3}");
    outer.read_until("interrupted");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_closed_stdin_does_not_disturb_anything() {
    let c = Container::native(Config::sh("echo fine"));
    let inner = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    let mut outer = std::process::Command::new("sh");
    outer.args(["-c", "exec \"$@\" <&-", "sh"]).arg(inner.get_program()).args(inner.get_args());
    outer.process_group(0);
    assert_eq!(runtime::finish(&mut outer, b"").ok(), "fine");
}
