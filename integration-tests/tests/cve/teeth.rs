//! The attackers of these tests win where there is a hole: against a resolver as it was usual, and
//! against runtimes of Debian that have the hole still.

use crate::Scene;
use integration_tests::race::Racer;
use integration_tests::{Config, skipped};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What runtimes did for years: make sure that the path is inside, and then use the path.
fn made_by_path(rootfs: &Path, path: &str) -> bool {
    let inside = rootfs.join(path);
    let Ok(real) = inside.parent().unwrap().canonicalize() else { return false };
    real.starts_with(rootfs.canonicalize().unwrap()) && fs::write(inside, "").is_ok()
}

/// Whether two can run at once.
fn can_race() -> bool {
    let there = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    if !there {
        skipped("a race takes two CPUs");
    }
    there
}

#[test]
fn the_racer_wins_against_a_path_that_is_resolved_twice() {
    if !can_race() {
        return;
    }
    let scene = Scene::new(Config::idle());
    fs::create_dir_all(scene.at("vol/point")).unwrap();
    let outside = scene.container.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, scene.at("vol/link")).unwrap();
    let racer = Racer::start(vec![(scene.at("vol/point"), scene.at("vol/link"))]);
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end && !outside.join("file").exists() {
        let _ = made_by_path(&scene.container.rootfs(), "vol/point/file");
    }
    let won = outside.join("file").exists();
    assert!(won, "after {} exchanges", racer.exchanges());
}

/// Makes containers with runc for ten seconds at most, while the mount point is exchanged.
#[test]
fn the_racer_wins_against_a_runc_with_cve_2024_45310() {
    if !can_race() {
        return;
    }
    let version = match Command::new("/usr/sbin/runc").arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => return skipped("no runc"),
    };
    if !version.starts_with("runc version 1.1.5") {
        return skipped("the runc of this machine may have no such hole");
    }
    let config = Config::args(&["true"]);
    let config = (0..20).fold(config, |config, n| {
        config.mount(&format!("/vol/point/new{n}"), "tmpfs", "tmpfs", &["size=64k"])
    });
    let scene = Scene::new(config);
    fs::create_dir_all(scene.at("vol/point")).unwrap();
    let outside = scene.container.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink("../../../outside", scene.at("vol/link")).unwrap();
    let racer = Racer::start(vec![(scene.at("vol/point"), scene.at("vol/link"))]);
    let won = || fs::read_dir(&outside).unwrap().count() > 0;
    let end = Instant::now() + Duration::from_secs(20);
    let (mut tries, mut said) = (0, String::new());
    while Instant::now() < end && !won() {
        let mut runc = Command::new("/usr/sbin/runc");
        runc.arg("--root").arg(scene.container.path("runc")).arg("run");
        runc.arg("--bundle").arg(scene.container.bundle()).arg(scene.container.id());
        let output = integration_tests::runtime::finish(&mut runc, b"");
        said = output.stderr;
        tries += 1;
    }
    if !won() {
        let exchanges = racer.exchanges();
        skipped(&format!(
            "the racer had no luck: {tries} containers, {exchanges} exchanges: {said}"
        ));
    }
}
