//! Docker, as people use it, with the runtime under test as its default runtime.

use std::fs;
use std::process::{Command, ExitCode};

use integration_tests::cases::{self, Case};
use integration_tests::daemon::mounts_below;
use integration_tests::dockerd::{Docker, IMAGE};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, skipped, terminal, wait_for};

const CASES: &[Case<Docker>] = &[
    ("output_and_exit_code_are_the_programs", output_and_exit_code_are_the_programs),
    ("stdin_reaches_the_program", stdin_reaches_the_program),
    ("a_missing_program_exits_127", a_missing_program_exits_127),
    ("a_file_that_is_no_program_exits_126", a_file_that_is_no_program_exits_126),
    ("a_missing_working_directory_is_made", a_missing_working_directory_is_made),
    ("kill_ends_with_128_plus_signal", kill_ends_with_128_plus_signal),
    ("stop_lets_the_program_finish", stop_lets_the_program_finish),
    ("init_reaps_and_forwards_signals", init_reaps_and_forwards_signals),
    ("logs_keep_both_streams", logs_keep_both_streams),
    ("exec_runs_beside_the_program", exec_runs_beside_the_program),
    ("exec_has_exit_codes_of_its_own", exec_has_exit_codes_of_its_own),
    ("exec_takes_user_directory_and_environment", exec_takes_user_directory_and_environment),
    ("exec_with_a_terminal", exec_with_a_terminal),
    ("run_with_a_terminal", run_with_a_terminal),
    ("restart_starts_the_same_container_again", restart_starts_the_same_container_again),
    ("pause_stops_and_unpause_continues", pause_stops_and_unpause_continues),
    ("top_lists_the_processes", top_lists_the_processes),
    ("user_and_groups", user_and_groups),
    ("read_only_root_with_a_tmpfs", read_only_root_with_a_tmpfs),
    (
        "limits_are_in_the_cgroup_and_update_changes_them",
        limits_are_in_the_cgroup_and_update_changes_them,
    ),
    ("out_of_memory_is_noticed", out_of_memory_is_noticed),
    ("capabilities_are_dropped_and_added", capabilities_are_dropped_and_added),
    ("no_new_privileges_and_seccomp", no_new_privileges_and_seccomp),
    ("volumes_are_writable_or_read_only", volumes_are_writable_or_read_only),
    ("hostname_and_sysctl", hostname_and_sysctl),
    ("namespaces_of_another_container_are_joined", namespaces_of_another_container_are_joined),
    ("privileged_sees_the_hosts_devices", privileged_sees_the_hosts_devices),
    ("a_device_is_passed_with_its_access", a_device_is_passed_with_its_access),
    ("gpu_by_environment", gpu_by_environment),
    ("gpu_by_the_gpus_flag", gpu_by_the_gpus_flag),
    ("gpu_that_does_not_exist_is_named", gpu_that_does_not_exist_is_named),
    ("gpu_survives_update_exec_and_restart", gpu_survives_update_exec_and_restart),
    ("gpu_list_names_the_container", gpu_list_names_the_container),
    ("no_request_no_gpu", no_request_no_gpu),
    ("nothing_is_left_behind", nothing_is_left_behind),
];

fn main() -> ExitCode {
    let cases = cases::selected(CASES);
    if cases.is_empty() {
        return ExitCode::SUCCESS;
    }
    if Command::new("dockerd").arg("--version").output().is_err() {
        skipped("no dockerd in PATH (Debian: docker.io)");
        return ExitCode::SUCCESS;
    }
    let machine = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(machine.path(), &Layout::with_gpus(2)).expect("made-up host");
    let docker = Docker::start(&host.config()).expect("start dockerd");
    cases::run(&cases, &docker)
}

fn output_and_exit_code_are_the_programs(docker: &Docker) {
    let output = docker.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((&*output.stdout, &*output.stderr, output.code), ("out\n", "err\n", 7));
}

fn stdin_reaches_the_program(docker: &Docker) {
    let mut command = docker.command(&["run", "--rm", "--interactive", IMAGE, "wc", "-c"]);
    let output = integration_tests::runtime::finish(&mut command, &[b'x'; 100_000]);
    assert_eq!(output.ok(), "100000");
}

fn a_missing_program_exits_127(docker: &Docker) {
    let output = docker.run(&[], &["no-such-program"]);
    assert_eq!(output.code, 127, "{output:?}");
    assert!(output.stderr.contains("no-such-program"), "{output:?}");
    assert_eq!(docker.run(&[], &["/no/such/program"]).code, 127);
}

fn a_file_that_is_no_program_exits_126(docker: &Docker) {
    let output = docker.run(&[], &["/etc/not-a-program"]);
    assert_eq!(output.code, 126, "{output:?}");
    assert!(output.stderr.contains("permission denied"), "{output:?}");
}

fn a_missing_working_directory_is_made(docker: &Docker) {
    assert_eq!(docker.run(&["--workdir", "/work/here"], &["pwd"]).ok(), "/work/here");
}

fn kill_ends_with_128_plus_signal(docker: &Docker) {
    let _container = docker.detached("kill", &[], &["sleep", "1000"]);
    docker.call(&["kill", "kill"]).ok();
    assert_eq!(docker.call(&["wait", "kill"]).ok(), "137");
    let script = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.05; done";
    let _container = docker.detached("signal", &[], &["sh", "-c", script]);
    wait_for("the trap", || docker.call(&["logs", "signal"]).stdout.contains("ready"));
    docker.call(&["kill", "--signal", "USR1", "signal"]).ok();
    assert_eq!(docker.call(&["wait", "signal"]).ok(), "3");
}

fn stop_lets_the_program_finish(docker: &Docker) {
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let _container = docker.detached("stop", &[], &["sh", "-c", script]);
    wait_for("the trap", || docker.call(&["logs", "stop"]).stdout.contains("ready"));
    docker.call(&["stop", "--time", "10", "stop"]).ok();
    assert_eq!(docker.inspect("stop", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    assert!(docker.call(&["logs", "stop"]).stdout.contains("bye"));
}

fn init_reaps_and_forwards_signals(docker: &Docker) {
    if Command::new("docker-init").arg("--version").output().is_err() {
        return skipped("no docker-init in PATH (Debian: tini)");
    }
    let container = docker.detached("init", &["--init"], &["sleep", "1000"]);
    let first = container.exec(&[], &["cat", "/proc/1/cmdline"]);
    assert!(first.ok().contains("docker-init"), "{first:?}");
    docker.call(&["stop", "--time", "10", "init"]).ok();
    assert_eq!(docker.inspect("init", "{{.State.ExitCode}}"), "143");
}

fn logs_keep_both_streams(docker: &Docker) {
    let _container = docker.detached("logs", &[], &["sh", "-c", "echo out; echo err >&2"]);
    docker.call(&["wait", "logs"]).ok();
    let logs = docker.call(&["logs", "logs"]);
    assert_eq!((&*logs.stdout, &*logs.stderr), ("out\n", "err\n"));
}

fn exec_runs_beside_the_program(docker: &Docker) {
    let container = docker.detached("exec", &[], &["sleep", "1000"]);
    let list = container.exec(&[], &["ps"]);
    assert!(list.ok().contains("sleep 1000"), "{list:?}");
    // The same world as the container's own program, not merely a similar one.
    let script = "for n in pid mnt net ipc uts; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n differs; done; [ \"$(cat /proc/1/cgroup)\" = \"$(cat /proc/self/cgroup)\" ] || echo cgroup differs";
    assert_eq!(container.exec(&[], &["sh", "-c", script]).ok(), "");
}

fn exec_has_exit_codes_of_its_own(docker: &Docker) {
    let container = docker.detached("exec-codes", &[], &["sleep", "1000"]);
    assert_eq!(container.exec(&[], &["sh", "-c", "exit 9"]).code, 9);
    // Docker 20.10 says 126 for both, newer ones tell them apart by the runtime's words.
    let missing = container.exec(&[], &["no-such-program"]);
    assert!([126, 127].contains(&missing.code), "{missing:?}");
    assert!(
        (missing.stdout.clone() + &missing.stderr).contains("executable file not found in $PATH"),
        "{missing:?}"
    );
    let unusable = container.exec(&[], &["/etc/not-a-program"]);
    assert_eq!(unusable.code, 126);
    assert!(
        (unusable.stdout.clone() + &unusable.stderr).contains("permission denied"),
        "{unusable:?}"
    );
    assert_eq!(docker.inspect("exec-codes", "{{.State.Running}}"), "true");
}

fn exec_takes_user_directory_and_environment(docker: &Docker) {
    let container = docker.detached("exec-as", &[], &["sleep", "1000"]);
    let options = ["--user", "1000", "--workdir", "/tmp", "--env", "GREETING=hello"];
    let output = container.exec(&options, &["sh", "-c", "id -u; id -g; pwd; echo $GREETING"]);
    assert_eq!(output.ok(), "1000\n1000\n/tmp\nhello");
}

fn exec_with_a_terminal(docker: &Docker) {
    let _container = docker.detached("exec-tty", &[], &["sleep", "1000"]);
    let mut command = docker.command(&["exec", "--interactive", "--tty", "exec-tty", "sh"]);
    let (seen, status) = terminal::run(&mut command, "tty; echo sum $((40 + 2)); exit 5\n")
        .expect("run under a terminal");
    assert!(seen.contains("/dev/pts/") && seen.contains("sum 42"), "{seen}");
    assert_eq!(status.code(), Some(5), "{seen}");
}

fn run_with_a_terminal(docker: &Docker) {
    // The client sends the size after the start; a program that looks at once may see 0 0.
    let script = "i=0; while [ \"$(stty size)\" != '40 100' ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done; stty size; tty; echo console $(stat -c %t:%T /dev/console)";
    let args = ["run", "--rm", "--interactive", "--tty", IMAGE, "sh", "-c", script];
    let (seen, status) = terminal::run(&mut docker.command(&args), "").expect("run");
    assert!(seen.contains("40 100") && seen.contains("/dev/pts/0"), "{seen}");
    assert_eq!(status.code(), Some(0), "{seen}");
}

fn restart_starts_the_same_container_again(docker: &Docker) {
    let _container = docker.detached(
        "restart",
        &[],
        &["sh", "-c", "echo once >> /tmp/count; wc -l < /tmp/count; exec sleep 1000"],
    );
    wait_for("the first start", || docker.call(&["logs", "restart"]).stdout.contains('1'));
    docker.call(&["restart", "--time", "0", "restart"]).ok();
    wait_for("the second start", || docker.call(&["logs", "restart"]).stdout.contains('2'));
}

fn pause_stops_and_unpause_continues(docker: &Docker) {
    let container = docker.detached("pause", &[], &["sleep", "1000"]);
    docker.call(&["pause", "pause"]).ok();
    assert_eq!(docker.inspect("pause", "{{.State.Status}}"), "paused");
    docker.call(&["unpause", "pause"]).ok();
    assert_eq!(container.exec(&[], &["echo", "awake"]).ok(), "awake");
}

fn top_lists_the_processes(docker: &Docker) {
    let _container = docker.detached("top", &[], &["sleep", "1000"]);
    let top = docker.call(&["top", "top"]);
    assert!(top.ok().contains("sleep 1000"), "{top:?}");
}

fn user_and_groups(docker: &Docker) {
    let options = ["--user", "1000:1000", "--group-add", "44"];
    let output = docker.run(&options, &["sh", "-c", "id -u; id -g; id -G"]);
    assert_eq!(output.ok(), "1000\n1000\n1000 44");
}

fn read_only_root_with_a_tmpfs(docker: &Docker) {
    let script = "touch /file 2>&1; touch /scratch/file && echo scratch works";
    let output = docker.run(&["--read-only", "--tmpfs", "/scratch"], &["sh", "-c", script]);
    assert!(output.stdout.contains("Read-only file system"), "{output:?}");
    assert!(output.stdout.contains("scratch works"), "{output:?}");
}

fn limits_are_in_the_cgroup_and_update_changes_them(docker: &Docker) {
    if docker.call(&["info", "--format", "{{.CgroupVersion}}"]).ok() != "1" {
        return skipped("this case reads cgroup v1 files");
    }
    let options = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    let container = docker.detached("limits", &options, &["sleep", "1000"]);
    let read = |file: &str| {
        container.exec(&[], &["cat", &format!("/sys/fs/cgroup/{file}")]).ok().to_owned()
    };
    assert_eq!(read("memory/memory.limit_in_bytes"), "67108864");
    assert_eq!(read("cpu/cpu.cfs_quota_us"), "50000");
    assert_eq!(read("pids/pids.max"), "50");
    docker
        .call(&[
            "update",
            "--memory",
            "96m",
            "--memory-swap",
            "96m",
            "--pids-limit",
            "60",
            "limits",
        ])
        .ok();
    assert_eq!(read("memory/memory.limit_in_bytes"), "100663296");
    assert_eq!(read("pids/pids.max"), "60");
}

fn out_of_memory_is_noticed(docker: &Docker) {
    let options = ["--memory", "16m", "--memory-swap", "16m"];
    let _container = docker.detached("oom", &options, &["tail", "/dev/zero"]);
    assert_eq!(docker.call(&["wait", "oom"]).ok(), "137");
    wait_for("the report", || docker.inspect("oom", "{{.State.OOMKilled}}") == "true");
}

fn capabilities_are_dropped_and_added(docker: &Docker) {
    let script = ["grep", "CapEff", "/proc/self/status"];
    let none = docker.run(&["--cap-drop", "ALL"], &script);
    assert!(none.ok().ends_with("\t0000000000000000"), "{none:?}");
    // CAP_NET_ADMIN is 12.
    let one = docker.run(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], &script);
    assert!(one.ok().ends_with("\t0000000000001000"), "{one:?}");
}

fn no_new_privileges_and_seccomp(docker: &Docker) {
    let script = ["grep", "-E", "NoNewPrivs|Seccomp:", "/proc/self/status"];
    let output = docker.run(&["--security-opt", "no-new-privileges"], &script);
    assert_eq!(output.ok(), "NoNewPrivs:\t1\nSeccomp:\t2");
    let output = docker.run(&["--security-opt", "seccomp=unconfined"], &script);
    assert_eq!(output.ok(), "NoNewPrivs:\t0\nSeccomp:\t0");
    assert_ne!(docker.run(&[], &["unshare", "-U", "true"]).code, 0);
}

fn volumes_are_writable_or_read_only(docker: &Docker) {
    let data = tempfile::tempdir().expect("temporary directory");
    let writable = format!("{}:/data", data.path().display());
    docker.run(&["--volume", &writable], &["sh", "-c", "echo kept > /data/file"]).ok();
    assert_eq!(fs::read_to_string(data.path().join("file")).expect("the file"), "kept\n");
    let script = "cat /data/file; echo changed > /data/file";
    let output = docker.run(&["--volume", &format!("{writable}:ro")], &["sh", "-c", script]);
    assert!(output.stdout.contains("kept") && output.code != 0, "{output:?}");
    let script = "echo x > /made/by/docker && cat /made/by/docker";
    assert_eq!(docker.run(&["--volume", "/made/by"], &["sh", "-c", script]).ok(), "x");
}

fn hostname_and_sysctl(docker: &Docker) {
    let options = ["--hostname", "gpu-box", "--sysctl", "kernel.msgmax=9000"];
    let output = docker.run(&options, &["sh", "-c", "hostname; cat /proc/sys/kernel/msgmax"]);
    assert_eq!(output.ok(), "gpu-box\n9000");
}

fn namespaces_of_another_container_are_joined(docker: &Docker) {
    let first = docker.detached("first", &["--ipc", "shareable"], &["sleep", "1000"]);
    let script = "for n in net ipc pid; do readlink /proc/self/ns/$n; done";
    let namespaces = ["sh", "-c", script];
    let own = first.exec(&[], &namespaces);
    let options =
        ["--network", "container:first", "--ipc", "container:first", "--pid", "container:first"];
    assert_eq!(docker.run(&options, &namespaces).ok(), own.ok());
}

fn privileged_sees_the_hosts_devices(docker: &Docker) {
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    let last: u32 = last.trim().parse().unwrap_or(0);
    if !own.contains(&format!("CapBnd:\t{:016x}", (1u64 << (last + 1)) - 1)) {
        return skipped("this machine's root lacks capabilities that --privileged gives");
    }
    let script = "ls /dev/kmsg && grep CapEff /proc/self/status";
    let output = docker.run(&["--privileged"], &["sh", "-c", script]);
    assert!(output.ok().starts_with("/dev/kmsg"), "{output:?}");
}

fn a_device_is_passed_with_its_access(docker: &Docker) {
    // A node without a driver: what the rule allows ends in ENXIO.
    let node = docker.daemon.dir.join("node");
    let numbers = rustix::fs::makedev(195, 9);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &node,
        rustix::fs::FileType::CharacterDevice,
        mode,
        numbers,
    )
    .expect("mknod");
    let device = format!("{}:/dev/thing:w", node.display());
    let script = "(: < /dev/thing) 2>&1; (: > /dev/thing) 2>&1; true";
    let output = docker.run(&["--device", &device], &["sh", "-c", script]);
    let lines: Vec<&str> = output.ok().lines().collect();
    assert!(lines[0].contains("Operation not permitted"), "{output:?}");
    assert!(lines[1].contains("No such device or address"), "{output:?}");
}

/// The NVIDIA nodes among the probe's lines.
fn gpu_nodes(listing: &str) -> Vec<String> {
    let mut nodes: Vec<String> = listing
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|path| path.contains("nvidia") || path.contains("/dri/"))
        .map(str::to_owned)
        .collect();
    nodes.sort();
    nodes
}

const ONE_GPU: [&str; 5] = [
    "/dev/nvidia-modeset",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia0",
    "/dev/nvidiactl",
];

fn not_gpurun() -> bool {
    let other = !Runtime::is_gpurun();
    if other {
        skipped("GPUs are gpurun's business");
    }
    other
}

fn gpu_by_environment(docker: &Docker) {
    if not_gpurun() {
        return;
    }
    let request = ["--env", "NVIDIA_VISIBLE_DEVICES=0"];
    let output = docker.run(&request, &["nodes", "nodes"]);
    assert_eq!(gpu_nodes(output.ok()), ONE_GPU);
    let output = docker.run(&request, &["nodes", "open", "/dev/nvidia0", "/dev/nvidiactl"]);
    assert_eq!(output.ok(), "/dev/nvidia0 ENXIO\n/dev/nvidiactl ENXIO");
    let output = docker.run(&request, &["nodes", "make", "195:0", "195:1"]);
    assert_eq!(output.ok(), "195:0 ENXIO\n195:1 EPERM");
    let output = docker.run(&request, &["nvidia-smi"]);
    assert!(output.ok().contains("GPU node: /dev/nvidia0"), "{output:?}");
}

fn gpu_by_the_gpus_flag(docker: &Docker) {
    if not_gpurun() {
        return;
    }
    let output = docker.run(&["--gpus", "device=0"], &["nodes", "nodes"]);
    let nodes = gpu_nodes(output.ok());
    assert!(nodes.contains(&"/dev/nvidia0".to_owned()), "{nodes:?}");
    assert!(!nodes.contains(&"/dev/nvidia1".to_owned()), "{nodes:?}");
    let nodes = docker.run(&["--gpus", "all"], &["nodes", "nodes"]);
    let nodes = gpu_nodes(nodes.ok());
    assert!(nodes.contains(&"/dev/nvidia0".to_owned()), "{nodes:?}");
    assert!(nodes.contains(&"/dev/nvidia1".to_owned()), "{nodes:?}");
    let output = docker.run(&["--gpus", "all,\"capabilities=utility\""], &["nodes", "nodes"]);
    assert!(!gpu_nodes(output.ok()).contains(&"/dev/nvidia-uvm".to_owned()), "{output:?}");
}

fn gpu_that_does_not_exist_is_named(docker: &Docker) {
    if not_gpurun() {
        return;
    }
    let output = docker.run(&["--env", "NVIDIA_VISIBLE_DEVICES=7"], &["true"]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("OCI runtime create failed"), "{output:?}");
    assert!(output.stderr.contains("no GPU \"7\""), "{output:?}");
}

fn gpu_survives_update_exec_and_restart(docker: &Docker) {
    if not_gpurun() {
        return;
    }
    let request = ["--env", "NVIDIA_VISIBLE_DEVICES=1", "--memory", "64m"];
    let container = docker.detached("gpu", &request, &["sleep", "1000"]);
    let check = |when: &str| {
        let output = container.exec(&[], &["nodes", "make", "195:1", "195:255", "195:0"]);
        assert_eq!(output.ok(), "195:1 ENXIO\n195:255 ENXIO\n195:0 EPERM", "{when}");
        let output = container.exec(&[], &["nvidia-smi"]);
        assert!(output.ok().contains("GPU node: /dev/nvidia1"), "{when}: {output:?}");
    };
    check("after start");
    docker.call(&["update", "--memory", "96m", "--memory-swap", "96m", "gpu"]).ok();
    check("after update");
    for _ in 0..2 {
        docker.call(&["restart", "--time", "0", "gpu"]).ok();
        check("after restart");
    }
    // The driver's mount points, links and loader files are gone when the container has ended.
    docker.call(&["stop", "--time", "0", "gpu"]).ok();
    let changes = docker.call(&["diff", "gpu"]);
    let left: Vec<&str> = changes.ok().lines().filter(|line| !line.starts_with('C')).collect();
    assert_eq!(left, [""; 0]);
}

/// Docker keeps the state of its containers in a place of its own: it is found from elsewhere.
fn gpu_list_names_the_container(docker: &Docker) {
    if not_gpurun() {
        return;
    }
    let request = ["--env", "NVIDIA_VISIBLE_DEVICES=0"];
    let _container = docker.detached("holder", &request, &["sleep", "1000"]);
    let id = docker.inspect("holder", "{{.Id}}");
    let mut list = Runtime::native().command();
    list.args(["gpu", "list"]).env("GPURUN_CONFIG", &docker.config);
    let listed = integration_tests::runtime::finish(&mut list, b"");
    let rows: Vec<&str> = listed.ok().lines().collect();
    assert!(rows[1].ends_with(&id[..12]), "{listed:?}");
    assert!(rows[2].ends_with('-'), "{listed:?}");
}

fn no_request_no_gpu(docker: &Docker) {
    let output = docker.run(&[], &["nodes", "nodes"]);
    assert_eq!(gpu_nodes(output.ok()), [""; 0]);
    let output = docker.run(&[], &["nodes", "make", "195:0", "195:255", "511:0"]);
    assert_eq!(output.ok(), "195:0 EPERM\n195:255 EPERM\n511:0 EPERM");
}

fn nothing_is_left_behind(docker: &Docker) {
    let left = docker.call(&["ps", "--all", "--quiet"]);
    assert_eq!(left.ok(), "", "a case left a container");
    let state = docker.daemon.dir.join("exec/runtime-gpurun/moby");
    let entries: Vec<_> = fs::read_dir(&state).map(|d| d.flatten().collect()).unwrap_or_default();
    assert!(entries.is_empty(), "state left in {}: {entries:?}", state.display());
    let mounts = mounts_below(&docker.daemon.dir.join("data/overlay2"));
    assert_eq!(mounts, Vec::<std::path::PathBuf>::new(), "mounts left");
    let name = docker.cgroup_parent().trim_start_matches('/');
    let cgroups: Vec<_> = integration_tests::cgroup::containing(name)
        .into_iter()
        .filter(|path| !path.ends_with(name))
        .collect();
    assert!(cgroups.is_empty(), "cgroups left: {cgroups:?}");
}
