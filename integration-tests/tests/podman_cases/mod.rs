//! What podman does with a runtime, whoever runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use integration_tests::cases::Case;
use integration_tests::gpu_container::gpu_nodes;
use integration_tests::podman::{IMAGE, Podman};
use integration_tests::{Runtime, runtime, skipped, terminal, wait_for};

/// The cases for root and for an ordinary user.
pub const COMMON: &[Case<Podman>] = &[
    ("output_and_exit_code_are_the_programs", output_and_exit_code_are_the_programs),
    ("stdin_reaches_the_program", stdin_reaches_the_program),
    ("a_missing_program_exits_127", a_missing_program_exits_127),
    ("a_file_that_is_no_program_exits_126", a_file_that_is_no_program_exits_126),
    (
        "stop_lets_the_program_finish_and_logs_keep_it",
        stop_lets_the_program_finish_and_logs_keep_it,
    ),
    ("kill_ends_with_128_plus_signal", kill_ends_with_128_plus_signal),
    ("exec_runs_beside_the_program", exec_runs_beside_the_program),
    ("exec_detached_is_a_process_of_the_container", exec_detached_is_a_process_of_the_container),
    ("exec_and_run_with_a_terminal", exec_and_run_with_a_terminal),
    ("descriptors_are_passed_on", descriptors_are_passed_on),
    ("restart_starts_the_same_container_again", restart_starts_the_same_container_again),
    ("volumes_are_writable_or_read_only", volumes_are_writable_or_read_only),
    ("read_only_root_with_a_tmpfs", read_only_root_with_a_tmpfs),
    ("user_groups_and_hostname", user_groups_and_hostname),
    ("the_containers_of_a_pod_share_namespaces", the_containers_of_a_pod_share_namespaces),
    ("the_hosts_namespaces", the_hosts_namespaces),
    ("a_healthcheck_is_an_exec", a_healthcheck_is_an_exec),
    ("privileged_sees_the_hosts_devices", privileged_sees_the_hosts_devices),
    ("gpu_by_environment", gpu_by_environment),
    ("gpu_that_does_not_exist_is_named", gpu_that_does_not_exist_is_named),
    ("gpu_for_one_container_alone", gpu_for_one_container_alone),
    ("annotations_of_an_image_give_no_device", annotations_of_an_image_give_no_device),
];

/// The last case: what all others have left.
pub fn nothing_is_left_behind(podman: &Podman) {
    assert_eq!(podman.leftovers(), Vec::<String>::new());
}

fn output_and_exit_code_are_the_programs(podman: &Podman) {
    let output = podman.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((&*output.stdout, &*output.stderr, output.code), ("out\n", "err\n", 7));
}

fn stdin_reaches_the_program(podman: &Podman) {
    let args = ["run", "--rm", "--interactive", "--network", "none", IMAGE, "wc", "-c"];
    let output = runtime::finish(&mut podman.command(&args), &[b'x'; 100_000]);
    assert_eq!(output.ok(), "100000");
}

fn a_missing_program_exits_127(podman: &Podman) {
    let output = podman.run(&[], &["no-such-program"]);
    assert_eq!(output.code, 127, "{output:?}");
    assert!(output.stderr.contains("no-such-program"), "{output:?}");
    assert_eq!(podman.run(&[], &["/no/such/program"]).code, 127);
}

fn a_file_that_is_no_program_exits_126(podman: &Podman) {
    let output = podman.run(&[], &["/etc/not-a-program"]);
    assert_eq!(output.code, 126, "{output:?}");
}

fn stop_lets_the_program_finish_and_logs_keep_it(podman: &Podman) {
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let _container = podman.detached("stop", &[], &["sh", "-c", script]);
    wait_for("the trap", || podman.call(&["logs", "stop"]).stdout.contains("ready"));
    podman.call(&["stop", "--time", "10", "stop"]).ok();
    assert_eq!(podman.inspect("stop", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    assert!(podman.call(&["logs", "stop"]).stdout.contains("bye"));
}

fn kill_ends_with_128_plus_signal(podman: &Podman) {
    let _container = podman.detached("kill", &[], &["sleep", "1000"]);
    podman.call(&["kill", "kill"]).ok();
    assert_eq!(podman.call(&["wait", "kill"]).ok(), "137");
}

fn exec_runs_beside_the_program(podman: &Podman) {
    let container = podman.detached("exec", &[], &["sleep", "1000"]);
    let output = container.exec(&[], &["sh", "-c", "ps -o args; echo err >&2; exit 9"]);
    assert!(output.stdout.contains("sleep 1000"), "{output:?}");
    assert_eq!((output.stderr.trim(), output.code), ("err", 9));
    let options = ["--user", "33:44", "--workdir", "/tmp", "--env", "A=b"];
    let output = container.exec(&options, &["sh", "-c", "echo $(id -u):$(id -g) $PWD $A"]);
    assert_eq!(output.ok(), "33:44 /tmp b");
    assert_eq!(container.exec(&[], &["no-such-program"]).code, 127);
}

fn exec_detached_is_a_process_of_the_container(podman: &Podman) {
    let container = podman.detached("top", &[], &["sleep", "1000"]);
    container.exec(&["--detach"], &["sleep", "2000"]).ok();
    wait_for("the process", || {
        let top = podman.call(&["top", "top", "args"]).stdout;
        top.contains("sleep 1000") && top.contains("sleep 2000")
    });
}

fn exec_and_run_with_a_terminal(podman: &Podman) {
    let args = ["run", "--rm", "-it", "--network", "none", IMAGE, "sh", "-c", "tty; echo $TERM"];
    let (seen, status) = terminal::run(&mut podman.command(&args), "").expect("a terminal");
    assert!(seen.contains("/dev/pts/0") && status.success(), "{seen}");
    let _container = podman.detached("tty", &[], &["sleep", "1000"]);
    let mut exec = podman.command(&["exec", "-it", "tty", "tty"]);
    let (seen, status) = terminal::run(&mut exec, "").expect("a terminal");
    assert!(seen.contains("/dev/pts/") && status.success(), "{seen}");
}

fn descriptors_are_passed_on(podman: &Podman) {
    let container = podman.detached("fds", &[], &["sleep", "1000"]);
    let script = r#"echo passed > pipe; exec "$@" 3< pipe"#;
    let inner = podman.command(&["exec", "--preserve-fds", "1", "fds", "sh", "-c", "cat <&3"]);
    let place = tempfile::tempdir().expect("temporary directory");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(place.path());
    assert_eq!(runtime::finish(&mut command, b"").ok(), "passed");
    drop(container);
}

fn restart_starts_the_same_container_again(podman: &Podman) {
    let container = podman.detached("again", &[], &["sleep", "1000"]);
    container.exec(&[], &["touch", "/kept"]).ok();
    podman.call(&["restart", "--time", "0", "again"]).ok();
    container.exec(&[], &["ls", "/kept"]).ok();
}

fn volumes_are_writable_or_read_only(podman: &Podman) {
    let write = ["sh", "-c", "echo here > /data/file && cat /data/file"];
    assert_eq!(podman.run(&["--volume", "gpurun-test:/data"], &write).ok(), "here");
    let output = podman.run(&["--volume", "gpurun-test:/data:ro"], &write);
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    podman.call(&["volume", "rm", "gpurun-test"]).ok();
}

fn read_only_root_with_a_tmpfs(podman: &Podman) {
    let options = ["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/scratch:size=1m"];
    let script = "touch /scratch/a && touch /b";
    let output = podman.run(&options, &["sh", "-c", script]);
    assert!(output.stderr.contains("/b: Read-only file system"), "{output:?}");
}

fn user_groups_and_hostname(podman: &Podman) {
    let options = ["--user", "33:44", "--group-add", "55", "--hostname", "named"];
    let output = podman.run(&options, &["sh", "-c", "id -u; id -G; hostname"]);
    assert_eq!(output.ok().split_whitespace().collect::<Vec<_>>(), ["33", "44", "55", "named"]);
}

fn the_containers_of_a_pod_share_namespaces(podman: &Podman) {
    let infra = ["--infra-image", IMAGE, "--infra-command", "sleep 3000", "--network", "none"];
    let share = ["--share", "pid,ipc,uts,net"];
    let place = podman.pod_place();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    podman.call(&[&["pod", "create", "--name", "pod"], &infra[..], &share, &place].concat()).ok();
    let member = ["run", "--detach", "--pod", "pod", "--name", "member", IMAGE, "sleep", "1000"];
    let started = podman.call(&member);
    let listed = podman.call(&["exec", "member", "ps", "-o", "args"]);
    let removed = podman.call(&["pod", "rm", "--force", "--time", "0", "pod"]);
    started.ok();
    assert!(listed.stdout.contains("sleep 3000"), "{listed:?}");
    assert!(listed.stdout.contains("sleep 1000"), "{listed:?}");
    // podman cannot clean up after itself where a v1 hierarchy is not mounted.
    if !removed.stderr.contains("conmon cgroup") {
        removed.ok();
    }
}

fn the_hosts_namespaces(podman: &Podman) {
    let mut args = vec!["run", "--rm", "--network", "host", "--pid", "host"];
    // podman binds an ordinary user's.
    if std::path::Path::new("/dev/mqueue").exists() {
        args.extend(["--ipc", "host"]);
    } else {
        skipped("--ipc host: this machine has no /dev/mqueue");
    }
    args.extend([IMAGE, "readlink", "/proc/self/ns/net"]);
    let output = podman.call(&args);
    let own = fs::read_link("/proc/self/ns/net").expect("our network namespace");
    assert_eq!(output.ok(), own.to_str().expect("UTF-8"));
}

fn a_healthcheck_is_an_exec(podman: &Podman) {
    let options = ["--health-cmd", "test -e /healthy", "--health-interval", "disable"];
    let container = podman.detached("health", &options, &["sleep", "1000"]);
    assert_ne!(podman.call(&["healthcheck", "run", "health"]).code, 0);
    container.exec(&[], &["touch", "/healthy"]).ok();
    podman.call(&["healthcheck", "run", "health"]).ok();
}

fn privileged_sees_the_hosts_devices(podman: &Podman) {
    let output = podman.run(&["--privileged"], &["sh", "-c", "echo x > /dev/null; ls /dev"]);
    assert!(output.ok().lines().any(|name| name == "null"), "{output:?}");
    if std::path::Path::new("/dev/fuse").exists() {
        assert!(output.stdout.lines().any(|name| name == "fuse"), "{output:?}");
    }
}

fn gpu_by_environment(podman: &Podman) {
    if !Runtime::is_gpurun() {
        return skipped("only gpurun gives GPUs");
    }
    let output = podman.run(&["--env", "NVIDIA_VISIBLE_DEVICES=1"], &["nodes", "nodes"]);
    let nodes: Vec<String> = gpu_nodes(output.ok()).into_iter().map(|node| node.0).collect();
    assert!(nodes.contains(&"/dev/nvidia1".to_owned()), "{output:?}");
    assert!(!nodes.contains(&"/dev/nvidia0".to_owned()), "{output:?}");
}

fn gpu_that_does_not_exist_is_named(podman: &Podman) {
    if !Runtime::is_gpurun() {
        return skipped("only gpurun gives GPUs");
    }
    let output = podman.run(&["--env", "NVIDIA_VISIBLE_DEVICES=7"], &["true"]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains('7'), "{output:?}");
}

/// podman copies the annotations of an image's manifest into its containers.
fn annotations_of_an_image_give_no_device(podman: &Podman) {
    if !Runtime::is_gpurun() {
        return skipped("only gpurun gives GPUs");
    }
    let context = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(context.path(), Permissions::from_mode(0o755)).expect("chmod");
    let file = context.path().join("Containerfile");
    let text = format!("FROM {IMAGE}\nENV NVIDIA_VISIBLE_DEVICES=management.nvidia.com/gpu=all\n");
    fs::write(&file, text).expect("write the Containerfile");
    let forged = [
        "cdi.k8s.io/evil=nvidia.com/gpu=all",
        "cdi.k8s.io/more=management.nvidia.com/gpu=all",
        "io.container.manager=cri-o",
        "io.kubernetes.cri-o.ContainerType=container",
        "io.kubernetes.pod.namespace=kube-system",
        "io.kubernetes.cri.container-type=container",
        "io.kubernetes.cri.sandbox-namespace=kube-system",
    ];
    let mut build = vec!["build", "--quiet", "--format", "oci", "--tag", "localhost/evil"];
    build.extend(forged.iter().flat_map(|one| ["--annotation", *one]));
    let (file, context) = (file.to_str().expect("path"), context.path().to_str().expect("path"));
    podman.call(&[&build[..], &["--file", file, context]].concat()).ok();
    let run = ["run", "--rm", "--network", "none", "localhost/evil", "nodes", "nodes"];
    let output = podman.call(&run);
    assert_eq!(gpu_nodes(output.ok()), [], "{output:?}");
    podman.call(&["rmi", "localhost/evil"]).ok();
}

fn gpu_for_one_container_alone(podman: &Podman) {
    if !Runtime::is_gpurun() {
        return skipped("only gpurun gives GPUs");
    }
    let request = ["--env", "NVIDIA_VISIBLE_DEVICES=0"];
    let alone = [&request[..], &["--annotation", "gpurun.gpu.exclusive=true"]].concat();
    let _container = podman.detached("alone", &alone, &["sleep", "1000"]);
    let id = podman.inspect("alone", "{{.Id}}");
    let refused = || {
        let output = podman.run(&request, &["true"]);
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains(&id) && output.stderr.contains("exclusively"), "{output:?}");
    };
    refused();
    podman.call(&["restart", "--time", "0", "alone"]).ok();
    refused();
    podman.call(&["stop", "--time", "0", "alone"]).ok();
    podman.run(&request, &["true"]).ok();
}
