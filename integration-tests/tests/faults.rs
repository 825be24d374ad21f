//! Each system call of a command fails once. Either that does not matter, and the container is as
//! confined as any other, or the command says in one line what failed and leaves the machine as it
//! was.
//!
//! `hack/faults` tries every call. Here it is those that confine a container, and a few more that
//! differ from run to run.

use integration_tests::faults::scene::{Kind, Scene, orderly, walk, worlds};
use integration_tests::faults::{Disturbance, Point};
use integration_tests::{Runtime, gpurun_only};
use std::time::Duration;

/// After a failure nothing may be left, but for what takes a moment to die.
const MOMENT: Duration = Duration::from_millis(500);

fn each(test: impl Fn(Runtime, Kind)) {
    worlds().into_iter().for_each(|(runtime, kind)| test(runtime, kind));
}

fn create(scene: &Scene, how: Disturbance<'_>) -> integration_tests::faults::Disturbed {
    let args = scene.create_args();
    scene.disturb(&args.iter().map(String::as_str).collect::<Vec<_>>(), 0, how)
}

fn checked(scene: &Scene) -> Result<(), String> {
    let started = scene.call(&["start", scene.id()]);
    if started.code != 0 {
        return Err(format!("cannot be started: {started:?}"));
    }
    scene.check_confinement()
}

#[test]
fn a_create_whose_call_fails_makes_a_whole_container_or_none() {
    gpurun_only!("runc leaves more behind");
    let attempt = |scene: &Scene, point: &Point| {
        let keys = point.call == "keyctl";
        if keys {
            scene.forget_keyring();
        }
        let done = create(scene, Disturbance::Fail(point));
        orderly(&done, point)?;
        if done.output.code == 0 {
            if keys && !scene.has_keyring() {
                return Err("it has its creator's keyring".to_owned());
            }
            checked(scene).map_err(|reason| format!("{reason}; {:?}", done.output))?;
        } else if !point.is_memory() {
            let gone = scene.check_gone(MOMENT);
            gone.map_err(|reason| format!("{reason}; {:?}", done.output))?;
        }
        scene.clear()
    };
    each(|runtime, kind| {
        walk(runtime, kind, true, |scene| create(scene, Disturbance::List).points, attempt);
    });
}

#[test]
fn a_start_whose_call_fails_starts_the_container_or_says_that_it_does_not() {
    gpurun_only!("the words are gpurun's");
    let start = |scene: &Scene, how: Disturbance<'_>| {
        scene.create().silent();
        scene.disturb(&["start", scene.id()], scene.pid(), how)
    };
    let attempt = |scene: &Scene, point: &Point| {
        let done = start(scene, Disturbance::Fail(point));
        if point.process == 0 {
            orderly(&done, point)?;
        }
        let status = scene.status();
        match (done.output.code, &*status) {
            (0, "running") => scene.check_confinement()?,
            // The init's own calls: it has ended, and said why on the container's stderr.
            (_, "stopped") if point.process == 1 => {}
            (0, _) => return Err(format!("it is {status}; {:?}", done.output)),
            (_, "created") => checked(scene)?,
            (_, "running") => {
                return Err(format!("it runs all the same; {:?}", done.output));
            }
            _ => {}
        }
        scene.clear()
    };
    each(|runtime, kind| {
        walk(runtime, kind, true, |scene| start(scene, Disturbance::List).points, attempt);
    });
}

#[test]
fn an_exec_whose_call_fails_runs_the_program_as_confined_as_ever_or_not_at_all() {
    gpurun_only!("the words are gpurun's");
    let attempt = |scene: &Scene, point: &Point| {
        scene.run();
        scene.check_confinement()?;
        let (done, same) = scene.join(Disturbance::Fail(point));
        orderly(&done, point)?;
        if done.output.code == 0 {
            if !same.map_err(|reason| format!("{reason}; {:?}", done.output))? {
                return Err(format!("success without the program: {:?}", done.output));
            }
        } else if ![1, 255].contains(&done.output.code) && !point.is_memory() {
            return Err(format!("an exit code of its own: {:?}", done.output));
        }
        scene.check_confinement()?;
        let processes = scene.call(&["ps", "--format", "json", scene.id()]);
        if processes.stdout.matches(',').count() != 0 {
            return Err(format!("a process stays: {processes:?}; {:?}", done.output));
        }
        scene.clear()
    };
    let list = |scene: &Scene| {
        scene.run();
        scene.check_confinement().unwrap();
        scene.join(Disturbance::List).0.points
    };
    each(|runtime, kind| walk(runtime, kind, true, list, attempt));
}

#[test]
fn an_update_whose_call_fails_changes_all_or_nothing() {
    gpurun_only!("the words are gpurun's");
    let limits = |scene: &Scene| {
        let limit = ["pids", "cpu"].map(|controller| {
            let file = if controller == "pids" { "pids.max" } else { "cpu.shares" };
            let runtime = scene.container.runtime();
            integration_tests::cgroup::read(runtime.cgroup, controller, scene.pid(), file)
        });
        let file = scene.container.state_root().join(scene.id()).join("config.json");
        let spec: integration_tests::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let resources = spec["linux"]["resources"].clone();
        (limit, resources["pids"].clone(), resources["cpu"]["shares"].clone())
    };
    let update = |scene: &Scene, how: Disturbance<'_>| {
        scene.run();
        scene.check_confinement().unwrap();
        let before = limits(scene);
        let v1 = scene.container.cgroup("cpu", "cpu.shares").is_some();
        let mut args = vec!["update"];
        if scene.container.cgroup("pids", "pids.max").is_some() {
            args.extend(["--pids-limit", "40"]);
        }
        if v1 {
            args.extend(["--cpu-share", "500"]);
        }
        if args.len() == 1 {
            args.extend(["--cpu-rt-runtime", "0"]);
        }
        args.push(scene.id());
        (scene.disturb(&args, 0, how), before)
    };
    let attempt = |scene: &Scene, point: &Point| {
        let (done, before) = update(scene, Disturbance::Fail(point));
        orderly(&done, point)?;
        let after = limits(scene);
        let is_right = match done.output.code {
            0 => after.0[0].as_deref().is_none_or(|limit| limit == "40"),
            _ => after == before,
        };
        if !is_right && !point.is_memory() {
            return Err(format!("from {before:?} to {after:?}; {:?}", done.output));
        }
        scene.check_confinement().or_else(|reason| match done.output.code {
            0 => Ok(()),
            _ => Err(reason),
        })?;
        scene.clear()
    };
    let list = |scene: &Scene| update(scene, Disturbance::List).0.points;
    walk(Runtime::native(), Kind::Gpu, true, list, attempt);
}

#[test]
fn a_delete_whose_call_fails_deletes_all_or_can_be_repeated() {
    gpurun_only!("runc leaves more behind");
    let delete = |scene: &Scene, how: Disturbance<'_>| {
        scene.run();
        scene.disturb(&["delete", "--force", scene.id()], 0, how)
    };
    let attempt = |scene: &Scene, point: &Point| {
        let done = delete(scene, Disturbance::Fail(point));
        orderly(&done, point)?;
        let gone = scene.check_gone(MOMENT);
        match (done.output.code, gone) {
            (0, Err(reason)) if !done.output.stderr.contains("rootfs") => {
                Err(format!("{reason}; {:?}", done.output))
            }
            _ => scene.clear(),
        }
    };
    let list = |scene: &Scene| delete(scene, Disturbance::List).points;
    each(|runtime, kind| walk(runtime, kind, true, list, attempt));
}
