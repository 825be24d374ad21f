//! podman as root, with the runtime under test.

mod podman_cases;

use std::process::{Command, ExitCode};

use integration_tests::cases::{self, Case};
use integration_tests::cgroup::Version;
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::podman::Podman;
use integration_tests::skipped;

const CASES: &[Case<Podman>] = &[
    ("pause_stops_and_unpause_continues", pause_stops_and_unpause_continues),
    ("limits_are_in_the_cgroup", limits_are_in_the_cgroup),
    ("a_user_namespace_of_its_own", a_user_namespace_of_its_own),
    ("nothing_is_left_behind", podman_cases::nothing_is_left_behind),
];

fn main() -> ExitCode {
    let cases = cases::selected(&[podman_cases::COMMON, CASES].concat());
    if cases.is_empty() {
        return ExitCode::SUCCESS;
    }
    if Command::new("podman").arg("--version").output().is_err() {
        skipped("no podman in PATH (Debian: podman)");
        return ExitCode::SUCCESS;
    }
    let machine = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(machine.path(), &Layout::with_gpus(2)).expect("made-up host");
    let podman = Podman::new(None, &host.config()).expect("podman import");
    cases::run(&cases, &podman)
}

fn pause_stops_and_unpause_continues(podman: &Podman) {
    let container = podman.detached("pause", &[], &["sleep", "1000"]);
    podman.call(&["pause", "pause"]).ok();
    assert_eq!(podman.inspect("pause", "{{.State.Status}}"), "paused");
    podman.call(&["unpause", "pause"]).ok();
    assert_eq!(container.exec(&[], &["echo", "on"]).ok(), "on");
}

fn limits_are_in_the_cgroup(podman: &Podman) {
    if Version::of_host() == Version::V2 {
        return skipped("the files of this case are those of cgroup v1");
    }
    let options = ["--memory", "64m", "--pids-limit", "50", "--cpu-shares", "512"];
    let _container = podman.detached("limits", &options, &["sleep", "1000"]);
    let pid = podman.inspect("limits", "{{.State.Pid}}").parse().expect("pid");
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("pids", "pids.max", "50"),
        ("cpu", "cpu.shares", "512"),
    ] {
        let found = integration_tests::cgroup::read(Version::V1, controller, pid, file);
        assert_eq!(found.as_deref(), Some(value), "{file}");
    }
}

fn a_user_namespace_of_its_own(podman: &Podman) {
    let map = ["--uidmap", "0:200000:1000", "--gidmap", "0:200000:1000"];
    let output = podman.run(&map, &["sh", "-c", "id -u; cat /proc/self/uid_map"]);
    let words: Vec<&str> = output.ok().split_whitespace().collect();
    assert_eq!(words, ["0", "0", "200000", "1000"]);
}
