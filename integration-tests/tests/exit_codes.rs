//! No lost wake-ups: `run` and `exec` of what ends at once return its exit code, every time.

use integration_tests::console::{Terminal, on_terminal};
use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, gpurun_only, json, runtime};
use std::process::{Command, Stdio};
use std::thread;

/// Runs `one` from as many threads at once as is asked for, and in each as often.
fn in_parallel(threads: usize, times: usize, one: impl Fn(usize, usize) + Sync) {
    thread::scope(|scope| {
        for thread in 0..threads {
            let one = &one;
            scope.spawn(move || (0..times).for_each(|time| one(thread, time)));
        }
    });
}

/// Runs `command` with streams as a script has them, and asks for its exit code.
#[track_caller]
fn ends_with(mut command: Command, code: i32) {
    command.stdin(Stdio::null());
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

#[test]
fn exec_returns_the_exit_code_a_thousand_times() {
    let c = Container::idle();
    in_parallel(16, 63, |thread, time| {
        let code = (thread * 63 + time) % 256;
        let mut exec = c.command(&["exec", c.id(), "sh", "-c", &format!("exit {code}")]);
        exec.stdout(if time % 2 == 0 { Stdio::piped() } else { Stdio::null() });
        ends_with(exec, code as i32);
    });
    assert_eq!(c.status(), "running");
}

#[test]
fn run_returns_the_exit_code_with_sixteen_in_parallel() {
    in_parallel(16, 1, |thread, _| {
        let c = Container::native(Config::sh(&format!("exit {thread}")));
        for time in 0..12 {
            let mut run = c.command(&["run", "--bundle", text(&c.bundle())]);
            if time % 3 == 0 {
                run.arg("--no-subreaper");
            }
            run.arg(c.id()).stdout(if time % 2 == 0 { Stdio::piped() } else { Stdio::null() });
            ends_with(run, thread as i32);
        }
    });
}

#[test]
fn a_program_with_a_terminal_that_ends_at_once_ends_run_and_exec() {
    let idle = Container::idle();
    let (terminal, path) = Terminal::open(24, 80);
    let before = terminal.settings();
    in_parallel(4, 1, |thread, _| {
        let config = Config::sh(&format!("exit {thread}")).set("/process/terminal", true.into());
        let c = Container::native(config);
        for _ in 0..10 {
            // Once with an outer terminal, once without.
            let run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
            ends_with(run, thread as i32);
            ends_with(idle.command(&["exec", "-t", idle.id(), "sh", "-c", "exit 6"]), 6);
        }
    });
    for _ in 0..20 {
        let exec = idle.command(&["exec", "-t", idle.id(), "sh", "-c", "exit 6"]);
        assert_eq!(on_terminal(&exec, &path).status().unwrap().code(), Some(6));
    }
    assert_eq!(terminal.settings(), before);
}

#[test]
fn a_program_ended_by_any_signal_gives_128_and_its_number() {
    gpurun_only!("runc gives a real-time signal another number");
    let c = Container::idle();
    // SIGCHLD, SIGCONT, SIGSTOP and the like do not end a program; busybox ignores SIGQUIT.
    for number in [1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 24, 31, 34, 35, 50, 64] {
        let exec = c.exec(&["sh", "-c", &format!("kill -{number} $$; exit 1")]);
        assert_eq!(exec.code, 128 + number, "{exec:?}");
    }
    // Not the first process of a pid namespace, which such a signal does not reach.
    let shared = Container::native(Config::sh("kill -40 $$; exit 1").namespace("pid", None));
    assert_eq!(shared.run().code, 168);
}

#[test]
fn a_child_that_keeps_the_streams_open_does_not_keep_run_waiting() {
    for runtime in Runtime::each() {
        let config = Config::sh("setsid sleep 1000 & exit 3").namespace("pid", None);
        let c = Container::new(runtime, config);
        let mut run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
        // Read to the end of the pipe: it comes when `run` has killed the child, too.
        run.stdout(Stdio::piped());
        ends_with(run, 3);
        c.assert_gone();
    }
}

#[test]
fn orphans_of_an_exec_neither_delay_it_nor_die_with_it() {
    let c = Container::idle();
    let exec = c.exec(&["sh", "-c", "(setsid sleep 2000 &) ; (sleep 0 &) ; exit 4"]);
    assert_eq!(exec.code, 4, "{exec:?}");
    assert!(c.sh("ps").contains("sleep 2000"));
}

#[test]
fn orphans_of_a_container_without_a_pid_namespace_do_not_end_run() {
    let script = "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &) ; done; sleep 0.1; exit 5";
    for option in ["--no-subreaper=false", "--no-subreaper"] {
        let c = Container::native(Config::sh(script).namespace("pid", None));
        let options: &[&str] = if option.ends_with("false") { &[] } else { &[option] };
        assert_eq!(c.run_with(options, b"").code, 5, "{option}");
    }
}

#[test]
fn a_caller_that_ignores_or_blocks_signals_still_hears_of_the_end() {
    let hook = json!({"path": "/bin/true", "timeout": 10});
    let c = Container::native(Config::sh("exit 9").hook("createRuntime", hook));
    for command in ["trap '' CHLD", "trap '' CHLD HUP INT TERM PIPE TTOU USR1"] {
        let inner = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
        let mut outer = Command::new("sh");
        outer.args(["-c", &format!("{command}; exec \"$@\""), "sh"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        let output = runtime::finish(&mut outer, b"");
        assert_eq!(output.code, 9, "{command}: {output:?}");
        c.assert_gone();
    }
}

#[test]
fn hooks_of_run_start_with_no_signal_blocked_or_ignored() {
    let c = Container::native(Config::args(&["true"]));
    let seen = c.path("seen");
    let script = format!("grep -E 'SigBlk|SigIgn' /proc/self/status >> {}", seen.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    c.configure(Config::args(&["true"]).hook("createRuntime", hook.clone()).hook("poststop", hook));
    c.run().silent();
    let seen = std::fs::read_to_string(seen).unwrap();
    let masks: Vec<_> = seen.lines().filter_map(|l| l.split_whitespace().last()).collect();
    assert_eq!(masks, ["0000000000000000"; 4], "{seen}");
}
