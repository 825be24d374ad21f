//! containerd's own client and shim, with the runtime under test as `--runc-binary`.

use std::fs;
use std::process::{Command, ExitCode};

use integration_tests::cases::{self, Case};
use integration_tests::cgroup::Version;
use integration_tests::containerd::Containerd;
use integration_tests::daemon::mounts_below;
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::runtime::finish;
use integration_tests::{Runtime, skipped, systemd_machine, terminal, wait_for};

const CASES: &[Case<Containerd>] = &[
    ("output_and_exit_code_are_the_programs", output_and_exit_code_are_the_programs),
    ("a_missing_program_is_an_error_that_names_it", a_missing_program_is_an_error_that_names_it),
    ("a_detached_container_runs_until_it_is_killed", a_detached_container_runs_until_it_is_killed),
    ("exec_runs_beside_the_program", exec_runs_beside_the_program),
    ("exec_with_a_terminal", exec_with_a_terminal),
    ("run_with_a_terminal", run_with_a_terminal),
    ("pause_and_resume", pause_and_resume),
    ("processes_are_listed", processes_are_listed),
    ("metrics_are_read_from_the_cgroup", metrics_are_read_from_the_cgroup),
    ("limits_are_in_the_cgroup", limits_are_in_the_cgroup),
    ("gpu_by_environment", gpu_by_environment),
    ("gpu_that_does_not_exist_is_named", gpu_that_does_not_exist_is_named),
    ("a_gpu_survives_a_daemon_reload_of_systemd", a_gpu_survives_a_daemon_reload_of_systemd),
    ("nothing_is_left_behind", nothing_is_left_behind),
];

fn main() -> ExitCode {
    let cases = cases::selected(CASES);
    if cases.is_empty() {
        return ExitCode::SUCCESS;
    }
    if Command::new("containerd").arg("--version").output().is_err() {
        skipped("no containerd in PATH (Debian: containerd)");
        return ExitCode::SUCCESS;
    }
    let machine = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(machine.path(), &Layout::with_gpus(2)).expect("made-up host");
    let containerd = Containerd::start(&host.config()).expect("start containerd");
    cases::run(&cases, &containerd)
}

fn output_and_exit_code_are_the_programs(containerd: &Containerd) {
    let output = containerd.run("plain", &[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((&*output.stdout, output.code), ("out\n", 7));
    assert!(output.stderr.starts_with("err\n"), "{output:?}");
}

fn a_missing_program_is_an_error_that_names_it(containerd: &Containerd) {
    let output = containerd.run("missing", &[], &["no-such-program"]);
    assert_ne!(output.code, 0);
    let expected = "exec: \"no-such-program\": executable file not found in $PATH";
    assert!(output.stderr.replace("\\\"", "\"").contains(expected), "{output:?}");
}

fn a_detached_container_runs_until_it_is_killed(containerd: &Containerd) {
    let container = containerd.detached("detached", &[], &["sleep", "1000"]);
    assert_eq!(container.status(), "RUNNING");
    containerd.call(&["tasks", "kill", "--signal", "SIGKILL", "detached"]).ok();
    wait_for("the end", || container.status() == "STOPPED");
    containerd.call(&["tasks", "delete", "detached"]).ok();
}

fn exec_runs_beside_the_program(containerd: &Containerd) {
    let container = containerd.detached("exec", &[], &["sleep", "1000"]);
    let output = container.exec("one", &[], &["sh", "-c", "echo $$; ps; exit 9"]);
    assert_eq!(output.code, 9);
    assert!(output.stdout.contains("sleep 1000"), "{output:?}");
    assert_ne!(output.stdout.lines().next(), Some("1"));
    let output = container.exec("two", &["--user", "1000"], &["id", "-u"]);
    assert_eq!(output.ok(), "1000");
}

fn exec_with_a_terminal(containerd: &Containerd) {
    let _container = containerd.detached("exec-tty", &[], &["sleep", "1000"]);
    let mut command = containerd.command(&[
        "tasks",
        "exec",
        "--tty",
        "--exec-id",
        "tty",
        "exec-tty",
        "sh",
        "-c",
        "tty; exit 5",
    ]);
    let (seen, status) = terminal::run(&mut command, "").expect("run under a terminal");
    assert!(seen.contains("/dev/pts/"), "{seen}");
    assert_eq!(status.code(), Some(5), "{seen}");
}

fn run_with_a_terminal(containerd: &Containerd) {
    let options = ["--rm", "--tty"];
    // ctr drops what a program wrote in its last moments, hence the sleep.
    let mut command = containerd.run_command(
        "tty",
        &options,
        &["sh", "-c", "tty; test -c /dev/console && echo console; sleep 0.2"],
    );
    let (seen, status) = terminal::run(&mut command, "").expect("run under a terminal");
    assert!(seen.contains("/dev/pts/0") && seen.contains("console"), "{seen}");
    assert_eq!(status.code(), Some(0), "{seen}");
}

fn pause_and_resume(containerd: &Containerd) {
    let container = containerd.detached("pause", &[], &["sleep", "1000"]);
    containerd.call(&["tasks", "pause", "pause"]).ok();
    assert_eq!(container.status(), "PAUSED");
    containerd.call(&["tasks", "resume", "pause"]).ok();
    assert_eq!(container.status(), "RUNNING");
}

fn processes_are_listed(containerd: &Containerd) {
    let _container = containerd.detached("ps", &[], &["sh", "-c", "sleep 1000 & wait"]);
    wait_for("both processes", || {
        containerd.call(&["tasks", "ps", "ps"]).ok().lines().count() == 3
    });
}

fn metrics_are_read_from_the_cgroup(containerd: &Containerd) {
    let _container = containerd.detached("metrics", &[], &["sleep", "1000"]);
    let metrics = containerd.call(&["tasks", "metrics", "metrics"]);
    assert!(metrics.ok().contains("memory"), "{metrics:?}");
}

fn limits_are_in_the_cgroup(containerd: &Containerd) {
    if Version::of_host() == Version::V2 {
        return skipped("this case reads a cgroup v1 file");
    }
    let options = ["--memory-limit", "67108864"];
    let _container = containerd.detached("limits", &options, &["sleep", "1000"]);
    let name = containerd.cgroup_parent().trim_start_matches('/');
    let file = format!("/sys/fs/cgroup/memory/{name}/limits/memory.limit_in_bytes");
    assert_eq!(fs::read_to_string(file).expect("the limit").trim(), "67108864");
}

fn gpu_by_environment(containerd: &Containerd) {
    if !Runtime::is_gpurun() {
        return skipped("GPUs are gpurun's business");
    }
    let request = ["--env", "NVIDIA_VISIBLE_DEVICES=1"];
    let container = containerd.detached("gpu", &request, &["sleep", "1000"]);
    let output = container.exec("nodes", &[], &["nodes", "make", "195:1", "195:255", "195:0"]);
    assert_eq!(output.ok(), "195:1 ENXIO\n195:255 ENXIO\n195:0 EPERM");
    let output = container.exec("smi", &[], &["nvidia-smi"]);
    assert!(output.ok().contains("GPU node: /dev/nvidia1"), "{output:?}");
    assert!(!output.stdout.contains("/dev/nvidia0"), "{output:?}");
}

fn gpu_that_does_not_exist_is_named(containerd: &Containerd) {
    if !Runtime::is_gpurun() {
        return skipped("GPUs are gpurun's business");
    }
    let output = containerd.run("gpu-7", &["--env", "NVIDIA_VISIBLE_DEVICES=GPU-7"], &["true"]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("GPU-7"), "{output:?}");
}

fn a_gpu_survives_a_daemon_reload_of_systemd(containerd: &Containerd) {
    if !Runtime::is_gpurun() {
        return skipped("GPUs are gpurun's business");
    }
    if !systemd_machine::runs_here() {
        return skipped("process 1 is not systemd (hack/vm runs this case)");
    }
    let unit = format!("gpurun-ctrd-{}.scope", std::process::id());
    let path = format!("system.slice:gpurun-ctrd:{}", std::process::id());
    let options = ["--runc-systemd-cgroup", "--cgroup", &path, "--env", "NVIDIA_VISIBLE_DEVICES=1"];
    let container = containerd.detached("gpu-systemd", &options, &["sleep", "1000"]);
    let systemctl = |args: &[&str]| finish(Command::new("systemctl").args(args), b"");
    let active = systemctl(&["show", &unit, "--value", "--property", "ActiveState"]);
    assert_eq!(active.ok(), "active");
    let calls: [&[&str]; 3] = [
        &["daemon-reload"],
        &["set-property", "--runtime", &unit, "CPUQuota=50%"],
        &["daemon-reexec"],
    ];
    for (index, call) in calls.iter().enumerate() {
        systemctl(call).ok();
        let name = format!("nodes-{index}");
        let output = container.exec(&name, &[], &["nodes", "make", "195:1", "195:255", "195:0"]);
        assert_eq!(output.ok(), "195:1 ENXIO\n195:255 ENXIO\n195:0 EPERM", "after {call:?}");
    }
    drop(container);
    let state = systemctl(&["show", &unit, "--value", "--property", "LoadState"]);
    assert_eq!(state.ok(), "not-found");
}

fn nothing_is_left_behind(containerd: &Containerd) {
    assert_eq!(containerd.call(&["tasks", "list", "--quiet"]).ok(), "");
    let mounts = mounts_below(&containerd.daemon.dir.join("state"));
    assert_eq!(mounts, Vec::<std::path::PathBuf>::new(), "mounts left");
    let tasks = containerd.daemon.dir.join("state/io.containerd.runtime.v2.task/default");
    let left: Vec<_> = fs::read_dir(&tasks).map(|d| d.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
    let runtime_root = containerd.runtime_root().join("default");
    let state: Vec<_> =
        fs::read_dir(&runtime_root).map(|d| d.flatten().collect()).unwrap_or_default();
    assert!(state.is_empty(), "runtime state left: {state:?}");
    let name = containerd.cgroup_parent().trim_start_matches('/');
    let cgroups: Vec<_> = integration_tests::cgroup::containing(name)
        .into_iter()
        .filter(|path| !path.ends_with(name))
        .collect();
    assert!(cgroups.is_empty(), "cgroups left: {cgroups:?}");
}
