//! process.scheduler, execCPUAffinity, ioPriority and the CPUs that a process starts on
//! (runtime-spec config.md, "Linux Process").

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, runtime, skipped};
use std::fs;
use std::process::Command;

/// Policy, static priority and nice value from a line of /proc/PID/stat.
fn scheduling(stat: &str) -> (u32, u32, i32) {
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // The first field after the name is number 3 of proc_pid_stat(5).
    let field = |number: usize| fields[number - 3].parse::<i64>().unwrap();
    (field(41) as u32, field(40) as u32, field(19) as i32)
}

fn of_process(pid: i64) -> (u32, u32, i32) {
    scheduling(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap())
}

/// Runs a process of this JSON in the container.
fn exec(c: &Container, process: Value) -> runtime::Output {
    let file = c.path("process.json");
    fs::write(&file, process.to_string()).unwrap();
    c.call(&["exec", "--process", text(&file), c.id()])
}

#[test]
fn the_scheduler_is_that_of_the_config_and_exec_has_it_too() {
    gpurun_only!("runc 1.1 does not know process.scheduler");
    for runtime in Runtime::each() {
        let scheduler = json!({"policy": "SCHED_BATCH", "priority": 0, "nice": 19});
        let c = Container::running(runtime, Config::idle().set("/process/scheduler", scheduler));
        assert_eq!(of_process(c.pid()), (3, 0, 19));
        assert_eq!(scheduling(&c.sh("cat /proc/$$/stat")), (3, 0, 19));
        let idle = json!({"args": ["cat", "/proc/self/stat"], "cwd": "/",
                          "env": ["PATH=/bin"], "scheduler": {"policy": "SCHED_IDLE"}});
        assert_eq!(scheduling(exec(&c, idle).ok()).0, 5);
    }
}

#[test]
fn real_time_policies_and_flags_are_set_where_the_machine_allows_them() {
    gpurun_only!("runc 1.1 does not know process.scheduler");
    if !Command::new("chrt").args(["-f", "1", "true"]).status().is_ok_and(|s| s.success()) {
        return skipped("no right to real-time policies, or no chrt");
    }
    let runtimes = Runtime::each();
    let cases = [("SCHED_FIFO", 1), ("SCHED_RR", 2)];
    for (runtime, (policy, number)) in runtimes.iter().flat_map(|r| cases.map(|case| (*r, case))) {
        let scheduler =
            json!({"policy": policy, "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
        let c = Container::new(runtime, Config::idle().set("/process/scheduler", scheduler));
        let output = c.create();
        if output.code != 0 {
            // A new cgroup of version 1 has no real-time budget.
            output.refused(1, &["process.scheduler", "realtimeRuntime"]);
            continue;
        }
        c.start().silent();
        assert_eq!(of_process(c.pid()), (number, 7, 0), "{policy}");
        let shown = Command::new("chrt").arg("-p").arg(c.pid().to_string()).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(&format!("{policy}|SCHED_RESET_ON_FORK")), "{shown}");
    }
}

#[test]
fn a_deadline_is_set_and_excludes_a_cpuset() {
    gpurun_only!("runc 1.1 does not know process.scheduler");
    let try_it =
        "chrt -d --sched-runtime 42000 --sched-deadline 100000 --sched-period 1000000 0 true";
    if !Command::new("sh").args(["-c", try_it]).status().is_ok_and(|s| s.success()) {
        return skipped("no right to SCHED_DEADLINE, or no chrt");
    }
    let scheduler = json!({"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                           "runtime": 42_000, "deadline": 100_000, "period": 1_000_000});
    let config = Config::idle().set("/process/scheduler", scheduler);
    let c = Container::native(config.clone());
    let created = c.create();
    if created.code != 0 {
        created.refused(1, &["process.scheduler"]);
        return skipped("a container's cgroup gets no SCHED_DEADLINE here");
    }
    c.start().silent();
    assert_eq!(of_process(c.pid()).0, 6);
    let cpus = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if cpus.trim() == "0" {
        return skipped("one CPU is all CPUs");
    }
    let c = Container::native(config.set("/linux/resources/cpu", json!({"cpus": "0"})));
    c.create().refused(1, &["process scheduler can't be used together with AllowedCPUs"]);
    c.assert_gone();
}

#[test]
fn a_scheduler_that_contradicts_itself_is_refused() {
    gpurun_only!("runc 1.1 does not know process.scheduler");
    for (scheduler, phrase) in [
        (json!({"policy": "SCHED_OTHER", "nice": 20}), "nice"),
        (json!({"policy": "SCHED_BATCH", "nice": -21}), "nice"),
        (json!({"policy": "SCHED_OTHER", "priority": 1}), "priority"),
        (json!({"policy": "SCHED_FIFO", "priority": 1, "runtime": 5}), "untime"),
        (json!({"policy": "SCHED_NONE"}), "SCHED_NONE"),
        (json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]}), "SCHED_FLAG_X"),
        (json!({"nice": 1}), "policy"),
    ] {
        let c = Container::native(Config::idle().set("/process/scheduler", scheduler));
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
}

/// The CPUs of this machine, or nothing where one of them cannot be chosen.
fn two_cpus() -> Option<(String, String)> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let all = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    let (first, _) = all.split_once(['-', ','])?;
    Some((all.to_owned(), first.to_owned()))
}

/// The command, run by a caller that is pinned to the CPU.
fn pinned(cpu: &str, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", cpu]).arg(command.get_program()).args(command.get_args());
    pinned
}

const LIST: &str = "grep Cpus_allowed_list /proc/self/status | cut -f2";

#[test]
fn the_cpus_of_whoever_calls_the_runtime_are_nothing_to_the_container() {
    gpurun_only!("runc 1.1 hands its CPUs on");
    let Some((all, first)) = two_cpus() else { return skipped("one CPU") };
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::sh(LIST));
        let run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
        assert_eq!(runtime::finish(&mut pinned(&first, &run), b"").ok(), all);
        let c = Container::running(runtime, Config::idle());
        let exec = c.command(&["exec", c.id(), "sh", "-c", LIST]);
        assert_eq!(runtime::finish(&mut pinned(&first, &exec), b"").ok(), all);
    }
    let second = if first == "0" { "1" } else { "0" };
    let config = Config::sh(LIST).set("/linux/resources/cpu", json!({"cpus": second}));
    let c = Container::native(config);
    let run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    assert_eq!(runtime::finish(&mut pinned(&first, &run), b"").ok(), second);
}

#[test]
fn exec_runs_on_the_final_cpus_of_the_config_or_of_its_own_process() {
    gpurun_only!("runc 1.1 does not know execCPUAffinity");
    let Some((all, first)) = two_cpus() else { return skipped("one CPU") };
    for runtime in Runtime::each() {
        let affinity = json!({"initial": all, "final": first});
        let config = Config::idle().set("/process/execCPUAffinity", affinity);
        let c = Container::running(runtime, config);
        let init = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
        assert!(init.contains(&format!("Cpus_allowed_list:\t{all}\n")), "not for the init");
        assert_eq!(c.sh(LIST), first);
        let process = |affinity: Value| {
            json!({"args": ["sh", "-c", LIST], "cwd": "/", "env": ["PATH=/bin"],
                   "execCPUAffinity": affinity})
        };
        let output = exec(&c, process(json!({"initial": first, "final": all})));
        assert_eq!(output.ok(), all);
        let output = exec(&c, process(json!({"initial": "", "final": format!("{first}, ")})));
        assert_eq!(output.ok(), first);
        let after = exec(&c, process(json!({"initial": first})));
        after.ok();
        exec(&c, process(json!({"final": "1000"}))).refused(255, &["execCPUAffinity.final"]);
        exec(&c, process(json!({"initial": "1000"}))).refused(255, &["execCPUAffinity.initial"]);
        exec(&c, process(json!({"final": "3-1"}))).refused(255, &["3-1"]);
    }
}

#[test]
fn a_list_of_cpus_that_is_none_is_refused_at_create() {
    gpurun_only!("runc 1.1 does not know execCPUAffinity");
    for (affinity, phrase) in [
        (json!({"initial": "0-"}), "0-"),
        (json!({"final": "4096"}), "1023"),
        (json!({"final": "2-1"}), "2-1"),
    ] {
        let c = Container::native(Config::idle().set("/process/execCPUAffinity", affinity));
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
}

#[test]
fn the_io_priority_is_set_for_the_init_and_for_exec() {
    gpurun_only!("runc 1.1 does not know process.ioPriority");
    let priority = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    let c =
        Container::running(Runtime::native(), Config::idle().set("/process/ioPriority", priority));
    let shown = Command::new("ionice").arg("-p").arg(c.pid().to_string()).output();
    let Ok(shown) = shown else { return skipped("no ionice") };
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "best-effort: prio 6");
}
