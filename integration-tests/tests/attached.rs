//! `run` and `exec` in between: what goes in, what comes out, which signals arrive.

use integration_tests::console::{Terminal, on_terminal};
use integration_tests::container::text;
use integration_tests::{Config, Container, json, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const MEGABYTES_100: usize = 100 << 20;

fn run(c: &Container) -> Command {
    c.command(&["run", "--bundle", text(&c.bundle()), c.id()])
}

fn terminal(script: &str) -> Config {
    Config::sh(script).set("/process/terminal", true.into())
}

fn signal(child: &Child, number: i32) {
    // By the shell: rustix has no name for a real-time signal.
    let kill = format!("kill -{number} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

#[test]
fn every_signal_that_can_be_caught_is_passed_on_also_in_a_burst() {
    // SIGPIPE, SIGCHLD and SIGURG are about run itself; SIGKILL and SIGSTOP cannot be caught; 32
    // and 33 belong to the C library.
    let skipped = [9, 13, 17, 19, 23, 32, 33];
    let numbers: Vec<i32> = (1..=64).filter(|n| !skipped.contains(n)).collect();
    let mut script = String::new();
    for number in &numbers {
        script += &format!("trap 'echo > /tmp/{number}' {number}; ");
    }
    script += "echo > /tmp/ready; while :; do sleep 0.01; done";
    let c = Container::native(Config::sh(&script));
    let mut child = run(&c).stdin(Stdio::null()).spawn().unwrap();
    let there = |name: &str| c.rootfs().join("tmp").join(name).exists();
    wait_for("the traps", || there("ready"));
    // Stop and continue signals take each other out of a queue: those one by one.
    let job_control = [18, 20, 21, 22];
    for number in numbers.iter().filter(|n| !job_control.contains(n)) {
        signal(&child, *number);
    }
    for number in job_control {
        signal(&child, number);
        wait_for("a job control signal", || there(&number.to_string()));
    }
    let missing = || -> Vec<_> { numbers.iter().filter(|n| !there(&n.to_string())).collect() };
    for _ in 0..200 {
        if missing().is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(missing().is_empty(), "{:?}", missing());
    c.kill("KILL").silent();
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

#[test]
fn a_signal_sent_before_the_program_runs_is_not_lost() {
    let c = Container::native(Config::idle());
    let (reached, gate) = (c.path("reached"), c.path("gate"));
    let script = format!(
        "echo > {}; while ! [ -e {} ]; do sleep 0.01; done",
        reached.display(),
        gate.display()
    );
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    c.configure(Config::idle().namespace("pid", None).hook("createRuntime", hook));
    let mut child = run(&c).stdin(Stdio::null()).spawn().unwrap();
    wait_for("the hook", || reached.exists());
    signal(&child, 15);
    fs::write(gate, "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_hundred_megabytes_go_through_run_and_exec_and_end_where_they_end() {
    let c = Container::native(Config::args(&["cat"]));
    through_cat(&mut run(&c));
    let idle = Container::idle();
    through_cat(&mut idle.command(&["exec", idle.id(), "cat"]));
}

fn through_cat(command: &mut Command) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // No pipe's or buffer's size is a period of it.
    let pattern = |offset: usize| (offset ^ (offset >> 9) ^ (offset >> 17)) as u8;
    let block: Vec<u8> = (0..(1 << 20) + 77).map(pattern).collect();
    let sent = block.clone();
    let writer = thread::spawn(move || {
        for _ in 0..MEGABYTES_100 >> 20 {
            stdin.write_all(&sent).unwrap();
        }
        // The half-close: `cat` ends.
    });
    let mut stdout = child.stdout.take().unwrap();
    let mut read = vec![0; block.len()];
    for _ in 0..MEGABYTES_100 >> 20 {
        stdout.read_exact(&mut read).unwrap();
        assert!(read == block, "what came back differs");
    }
    assert_eq!(stdout.read(&mut read).unwrap(), 0, "more came back than was sent");
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_hundred_megabytes_arrive_whole_through_a_terminal() {
    // 63 characters and a line end, which stays one for whoever reads us from a pipe.
    let line = &"0123456789abcdef".repeat(4)[..63];
    let c = Container::native(terminal(&format!("yes {line} | head -c {MEGABYTES_100}")));
    let mut child = run(&c).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::with_capacity(1 << 20, child.stdout.take().unwrap());
    let (mut lines, mut read) = (0, Vec::new());
    while stdout.read_until(b'\n', &mut read).unwrap() > 0 {
        assert!(
            read.strip_suffix(b"\n") == Some(line.as_bytes()),
            "line {lines}: {:?}",
            String::from_utf8_lossy(&read)
        );
        lines += 1;
        read.clear();
    }
    assert_eq!(lines, MEGABYTES_100 / 64);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_stands_on_stdin_already_reaches_a_program_with_a_terminal() {
    let c = Container::native(terminal("stty -echo; read a; read b; echo \"<$b$a>\""));
    let output = c.run_with(&[], b"one\ntwo\n");
    assert!(output.ok().contains("<twoone>"), "{output:?}");
}

#[test]
fn a_reader_that_goes_away_is_an_error_for_the_program_and_none_for_its_terminal() {
    let c = Container::native(Config::sh("trap '' PIPE; yes; echo > /tmp/gone; sleep 1000"));
    let mut command = run(&c);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    wait_for("EPIPE", || c.rootfs().join("tmp/gone").exists());
    c.kill("KILL").silent();
    child.wait().unwrap();

    let c = Container::native(terminal("seq 100000; echo > /tmp/done; exit 8"));
    let mut child = run(&c).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(8));
    assert!(c.rootfs().join("tmp/done").exists());
}

#[test]
fn a_stdout_that_is_full_keeps_no_signal_from_the_program() {
    let c = Container::native(terminal(
        "trap 'echo > /tmp/got; exit 5' TERM; (yes &); echo > /tmp/ready; \
         while :; do sleep 0.01; done",
    ));
    // Nobody reads this pipe.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = run(&c).stdin(Stdio::null()).stdout(writer).spawn().unwrap();
    wait_for("the trap", || c.rootfs().join("tmp/ready").exists());
    signal(&child, 15);
    wait_for("the signal", || c.rootfs().join("tmp/got").exists());
    // It has ended; its output still waits for a reader, and another signal gives that up.
    let mut status = None;
    wait_for("the end of run", || {
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        thread::sleep(Duration::from_millis(10));
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(5));
    drop(reader);
}

#[test]
fn a_terminal_that_the_program_has_closed_costs_nothing_and_can_be_opened_again() {
    let c = Container::native(terminal(
        "exec 0<&- 1>&- 2>&-; echo > /tmp/closed; while ! [ -e /tmp/go ]; do sleep 0.01; done; \
         echo again > /dev/console; sleep 1000",
    ));
    let mut child = run(&c).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the close", || c.rootfs().join("tmp/closed").exists());
    let before = ticks(&child);
    thread::sleep(Duration::from_millis(500));
    // A hundred a second would be a whole CPU.
    let used = ticks(&child) - before;
    assert!(used < 10, "{used} ticks");
    fs::write(c.rootfs().join("tmp/go"), "").unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "again\n");
    c.kill("KILL").silent();
    child.wait().unwrap();
}

/// The CPU time of a process, user and system.
fn ticks(child: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_terminal_that_hangs_up_hangs_up_the_program() {
    let c = Container::native(terminal(
        "trap 'echo > /tmp/hup; exit 6' HUP; echo > /tmp/ready; while :; do sleep 0.01; done",
    ));
    let (outer, path) = Terminal::open(24, 80);
    let mut child = on_terminal(&run(&c), &path).spawn().unwrap();
    wait_for("the trap", || c.rootfs().join("tmp/ready").exists());
    drop(outer);
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert!(c.rootfs().join("tmp/hup").exists());
}

#[test]
fn the_users_terminal_is_as_before_however_run_and_exec_end() {
    let config = terminal("echo > /tmp/ready; exec sleep 1000").namespace("pid", None);
    let c = Container::native(config);
    let (outer, path) = Terminal::open(24, 80);
    let before = outer.settings();
    for (signal, code) in [(Signal::KILL, 137), (Signal::TERM, 143)] {
        let mut child = on_terminal(&run(&c), &path).spawn().unwrap();
        wait_for("the program", || c.rootfs().join("tmp/ready").exists());
        wait_for("raw mode", || outer.settings() != before);
        if signal == Signal::KILL {
            c.kill("KILL").silent();
        } else {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(outer.settings(), before, "{signal:?}");
        fs::remove_file(c.rootfs().join("tmp/ready")).unwrap();
    }
    let idle = Container::idle();
    for (args, code) in [
        (&["sh", "-c", "exit 3"][..], 3),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["/no/such/program"], 255),
    ] {
        let exec = idle.command(&[&["exec", "-t", idle.id()], args].concat());
        assert_eq!(on_terminal(&exec, &path).status().unwrap().code(), Some(code));
        assert_eq!(outer.settings(), before, "{args:?}");
    }
}

#[test]
fn a_program_finds_the_size_of_the_users_terminal_from_its_first_instruction_on() {
    let c = Container::native(terminal("stty size"));
    let idle = Container::idle();
    let (outer, path) = Terminal::open(33, 77);
    // Somebody has to have it open between two commands, or it hangs up.
    let _open = fs::File::open(&path).unwrap();
    for _ in 0..10 {
        let exec = idle.command(&["exec", "-t", idle.id(), "stty", "size"]);
        for command in [run(&c), exec] {
            assert!(on_terminal(&command, &path).status().unwrap().success());
            assert_eq!(outer.read_until("\n").trim(), "33 77");
        }
    }
}

#[test]
fn of_many_quick_resizes_the_last_one_counts_for_run_and_exec() {
    let script = "echo ready; until [ \"$(stty size)\" = '99 199' ]; do sleep 0.02; done";
    let c = Container::native(terminal(script));
    let idle = Container::idle();
    for command in [run(&c), idle.command(&["exec", "-t", idle.id(), "sh", "-c", script])] {
        let (outer, path) = Terminal::open(24, 80);
        let mut child = on_terminal(&command, &path).spawn().unwrap();
        for step in 0..50 {
            outer.resize(step, 2 * step + 1);
        }
        outer.read_until("ready");
        for step in 0..100 {
            outer.resize(step, 2 * step + 1);
        }
        assert!(child.wait().unwrap().success());
    }
}
