//! podman as an ordinary user, with the runtime under test: podman makes a user namespace, and the
//! runtime is its root.

mod podman_cases;

use std::process::{Command, ExitCode};

use integration_tests::cases::{self, Case};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::ordinary_user::{ID, OrdinaryUser};
use integration_tests::podman::Podman;
use integration_tests::skipped;

const CASES: &[Case<Podman>] = &[
    ("the_containers_root_is_the_user", the_containers_root_is_the_user),
    ("keep_id_maps_the_user_to_themselves", keep_id_maps_the_user_to_themselves),
    ("keep_groups_keeps_groups", keep_groups_keeps_groups),
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
    if !OrdinaryUser::has_id_ranges() {
        skipped("no newuidmap in /usr/bin (Debian: uidmap)");
        return ExitCode::SUCCESS;
    }
    let user = OrdinaryUser::new();
    let machine = user.path("machine");
    std::fs::create_dir(&machine).expect("create a directory");
    let host = MadeUpHost::build(&machine, &Layout::with_gpus(2)).expect("made-up host");
    match Podman::new(Some(user), &host.config()) {
        Ok(podman) => cases::run(&cases, &podman),
        Err(reason) => {
            skipped(&format!("podman does not work for an ordinary user here: {reason}"));
            ExitCode::SUCCESS
        }
    }
}

fn the_containers_root_is_the_user(podman: &Podman) {
    let output = podman.run(&[], &["cat", "/proc/self/uid_map"]);
    let words: Vec<&str> = output.ok().split_whitespace().collect();
    assert_eq!(words[..3], ["0", &*ID.to_string(), "1"], "{output:?}");
}

fn keep_id_maps_the_user_to_themselves(podman: &Podman) {
    assert_eq!(podman.run(&["--userns", "keep-id"], &["id", "-u"]).ok(), ID.to_string());
}

fn keep_groups_keeps_groups(podman: &Podman) {
    let output = podman.run(&["--group-add", "keep-groups"], &["id", "-G"]);
    // The group is not mapped, and shown as nobody's.
    assert!(output.ok().split_whitespace().any(|gid| gid == "65534"), "{output:?}");
}
