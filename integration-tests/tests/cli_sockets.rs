//! Sockets around a container: one that gets a pidfd, those of socket activation, and the one over
//! which a service says that it is ready.

use integration_tests::console::ConsoleSocket;
use integration_tests::container::text;
use integration_tests::runtime;
use integration_tests::{Config, Container, Runtime, gpurun_only, wait_for};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

/// The pid that a received pidfd is on.
fn pid_of(c: &Container, socket: &ConsoleSocket) -> i64 {
    let info = socket.receive().info();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = pid.unwrap_or_else(|| panic!("{} sent no pidfd: {info}", c.id()));
    pid.trim().parse().expect("a pid")
}

#[test]
fn a_pidfd_of_the_init_is_sent_by_create_and_run() {
    gpurun_only!("runc 1.1 has no --pidfd-socket");
    for runtime in Runtime::each() {
        for (command, options) in [("create", &[][..]), ("run", &["--detach"])] {
            let c = Container::new(runtime, Config::idle());
            let (bundle, path) = (c.bundle(), c.path("pidfd.sock"));
            let socket = ConsoleSocket::listen(&path);
            let mut args = vec!["--bundle", text(&bundle), "--pidfd-socket", text(&path)];
            args.extend(options);
            c.call_on(command, &args).silent();
            assert_eq!(pid_of(&c, &socket), c.pid());
        }
    }
}

#[test]
fn a_pidfd_of_its_process_is_sent_by_exec() {
    gpurun_only!("runc 1.1 has no --pidfd-socket");
    let c = Container::idle();
    let (path, pid_file) = (c.path("pidfd.sock"), c.path("exec.pid"));
    let socket = ConsoleSocket::listen(&path);
    let options = ["--detach", "--pid-file", text(&pid_file), "--pidfd-socket", text(&path)];
    c.exec_with(&options, &["sleep", "1000"]).silent();
    assert_eq!(pid_of(&c, &socket).to_string(), fs::read_to_string(&pid_file).unwrap());
}

#[test]
fn nothing_is_started_when_nobody_wants_the_pidfd() {
    gpurun_only!("runc 1.1 has no --pidfd-socket");
    let c = Container::native(Config::idle());
    c.create_with(&["--pidfd-socket", "/no/such/socket"]).refused(1, &["/no/such/socket"]);
    c.assert_gone();
}

#[test]
fn a_peer_that_accepts_nothing_is_waited_for_without_the_container_and_not_for_ever() {
    gpurun_only!("runc waits for ever");
    for option in ["--console-socket", "--pidfd-socket"] {
        let terminal = option == "--console-socket";
        let c = Container::native(Config::idle().set("/process/terminal", terminal.into()));
        let path = c.path("jammed.sock");
        let (socket, first) = ConsoleSocket::jammed(&path);
        let (bundle, begin) = (c.bundle(), Instant::now());
        let args = ["create", "--bundle", text(&bundle), option, text(&path), c.id()];
        let create = c.start_call(&args);
        std::thread::sleep(Duration::from_millis(300));
        let delete = Instant::now();
        c.delete(&["--force"]).silent();
        c.call(&["list"]).ok();
        assert!(delete.elapsed() < Duration::from_secs(3), "nothing is locked: {option}");
        create.wait().refused(1, &["jammed.sock", "10 s"]);
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
        c.assert_gone();
        drop((socket, first));
    }
}

/// The runtime's `run` as a shell starts it that has opened descriptor 3 and knows its own pid.
fn activated(c: &Container, environment: &str) -> Command {
    let inner = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    let mut outer = Command::new("sh");
    let script = format!("exec 3<\"$0\"; export LISTEN_PID=$$ {environment}; exec \"$@\"");
    outer.args(["-c", &script]).arg(c.path("socket"));
    outer.arg(inner.get_program()).args(inner.get_args());
    outer
}

#[test]
fn descriptors_of_socket_activation_reach_the_program() {
    let script = "echo $LISTEN_FDS-$LISTEN_PID; cat <&3; ls /proc/$$/fd | grep -c '^[3-9]$'";
    let c = Container::native(Config::sh(script));
    fs::write(c.path("socket"), "through descriptor 3\n").unwrap();
    let output = runtime::finish(&mut activated(&c, "LISTEN_FDS=1"), b"");
    assert_eq!(output.ok(), "1-1\nthrough descriptor 3\n1");
}

#[test]
fn descriptors_that_are_meant_for_another_process_do_not() {
    let c = Container::native(Config::sh("echo \"$LISTEN_FDS\"; ls /proc/$$/fd | grep -c '^3$'"));
    fs::write(c.path("socket"), "").unwrap();
    let output = runtime::finish(&mut activated(&c, "LISTEN_FDS=1 LISTEN_PID=1"), b"");
    assert_eq!(output.stdout, "\n0\n");
}

#[test]
fn names_of_descriptors_come_along_and_exec_sees_none_of_it() {
    gpurun_only!("runc passes no names on");
    let c = Container::native(Config::sh("echo $LISTEN_FDNAMES; exec sleep 1000"));
    fs::write(c.path("socket"), "").unwrap();
    let run = runtime::start(&mut activated(&c, "LISTEN_FDS=1 LISTEN_FDNAMES=web"), b"");
    wait_for("the names", || run.stdout() == "web\n");
    assert_eq!(c.exec(&["sh", "-c", "env | grep -c LISTEN; true"]).ok(), "0");
    c.stop_quietly();
    run.wait();
}

/// A service manager's socket.
fn manager(c: &Container) -> UnixDatagram {
    let socket = UnixDatagram::bind(c.path("manager.sock")).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    socket
}

fn message(socket: &UnixDatagram) -> String {
    let mut text = [0; 256];
    let length = socket.recv(&mut text).expect("a message");
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// busybox has no program that sends a datagram, so the test does it for the container: the socket
/// is in the directory that is mounted there.
fn say_ready(c: &Container) {
    let path = c.state_root().join(c.id()).join("notify/notify.sock");
    wait_for("the socket", || path.exists());
    assert!(c.sh("ls /run/notify; touch /run/notify/x 2>&1; true").starts_with("notify.sock\n"));
    assert!(!path.with_file_name("x").exists(), "the directory is read-only");
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.send_to(b"STATUS=getting there", &path).expect("sent");
    sender.send_to(b"READY=1\nSTATUS=here", &path).expect("sent");
}

#[test]
fn a_service_that_is_ready_says_so_through_start() {
    gpurun_only!("runc 1.1 takes the first message for the last");
    let c = Container::native(Config::sh("echo $NOTIFY_SOCKET; exec sleep 1000"));
    let socket = manager(&c);
    let with = |mut command: Command| {
        command.env("NOTIFY_SOCKET", c.path("manager.sock"));
        command
    };
    // Its output is the program's, so it is kept beyond its end.
    let mut create = with(c.command(&["create", "--bundle", text(&c.bundle()), c.id()]));
    let mut created = runtime::start(&mut create, b"");
    assert!(created.child.wait().expect("create").success());
    let start = runtime::start(&mut with(c.command(&["start", c.id()])), b"");
    wait_for("the program", || created.stdout() == "/run/notify/notify.sock\n");
    say_ready(&c);
    assert_eq!(message(&socket), "READY=1\n");
    assert_eq!(message(&socket), format!("MAINPID={}\n", c.pid()));
    assert_eq!(message(&socket), "BARRIER=1");
    start.wait().silent();
    created.wait().ok();
    assert_eq!(c.status(), "running");
    assert_eq!(c.exec(&["sh", "-c", "echo \"$NOTIFY_SOCKET\""]).ok(), "");
}

#[test]
fn an_attached_run_is_the_main_process_itself() {
    gpurun_only!("runc 1.1 takes the first message for the last");
    let c = Container::native(Config::idle());
    let socket = manager(&c);
    let mut command = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    let run = runtime::start(command.env("NOTIFY_SOCKET", c.path("manager.sock")), b"");
    wait_for("running", || c.call_on("state", &[]).stdout.contains("\"running\""));
    say_ready(&c);
    assert_eq!(message(&socket), "READY=1\n");
    assert_eq!(message(&socket), format!("MAINPID={}\n", run.child.id()));
    c.stop_quietly();
    assert_eq!(run.wait().code, 137);
}

#[test]
fn a_service_that_ends_before_it_is_ready_keeps_nobody_waiting() {
    gpurun_only!("runc waits for its own zombie");
    let c = Container::native(Config::sh("exit 3"));
    let _socket = manager(&c);
    let mut command = c.command(&["run", "--detach", "--bundle", text(&c.bundle()), c.id()]);
    runtime::finish(command.env("NOTIFY_SOCKET", c.path("manager.sock")), b"").ok();
    c.wait_until("stopped");
}
