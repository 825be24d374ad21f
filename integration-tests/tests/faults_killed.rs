//! gpurun, or its init, is killed before each of its system calls. `delete --force` then clears
//! everything away, and the id can be used again.
//!
//! `hack/faults --kill` does it before every call. Here it is a few that differ from run to run.

use integration_tests::faults::scene::{Kind, Scene, walk, worlds};
use integration_tests::faults::{Disturbance, Disturbed, Point};
use integration_tests::{Runtime, gpurun_only};

/// What is disturbed, from nothing to the command itself.
type Disturb = fn(&Scene, Disturbance<'_>) -> Disturbed;

fn each(disturb: Disturb, check: fn(&Scene) -> Result<(), String>) {
    gpurun_only!("runc leaves cgroups behind");
    for (runtime, kind) in worlds() {
        let list = |scene: &Scene| disturb(scene, Disturbance::List).points;
        walk(runtime, kind, false, list, |scene, point| {
            disturb(scene, Disturbance::Kill(point));
            check(scene)?;
            again(scene)?;
            if point.process > 0 {
                disturb(scene, Disturbance::KillCaller(point));
                again(scene)?;
            }
            Ok(())
        });
    }
}

/// What is left goes, and the id is free.
fn again(scene: &Scene) -> Result<(), String> {
    scene.clear()?;
    let created = scene.create();
    if created.code != 0 {
        return Err(format!("not created again: {created:?}"));
    }
    scene.clear()
}

fn anything(_: &Scene) -> Result<(), String> {
    Ok(())
}

#[test]
fn after_a_create_that_was_killed_at_any_call_delete_force_clears_everything_away() {
    each(
        |scene, how| {
            let args = scene.create_args();
            scene.disturb(&args.iter().map(String::as_str).collect::<Vec<_>>(), 0, how)
        },
        anything,
    );
}

#[test]
fn after_a_start_that_was_killed_at_any_call_the_container_runs_or_can_be_started_or_deleted() {
    each(
        |scene, how| {
            scene.create().silent();
            scene.disturb(&["start", scene.id()], scene.pid(), how)
        },
        |scene| {
            if scene.status() == "created" {
                let started = scene.call(&["start", scene.id()]);
                // The byte may have been written, and not been read yet.
                let said = &started.stderr;
                let known = ["already running", "does not wait"].iter().any(|it| said.contains(it));
                if started.code != 0 && !known {
                    return Err(format!("cannot be started: {started:?}"));
                }
            }
            scene.check_confinement()
        },
    );
}

#[test]
fn an_exec_that_is_killed_at_any_call_leaves_the_container_as_it_is() {
    each(
        |scene, how| {
            scene.run();
            scene.check_confinement().expect("confined");
            let (done, same) = scene.join(how);
            same.expect("a process whose runtime was killed is as confined as any");
            done
        },
        Scene::check_confinement,
    );
}

#[test]
fn an_update_that_is_killed_at_any_call_can_be_repeated() {
    fn update(scene: &Scene) -> [&str; 4] {
        ["update", "--pids-limit", "40", scene.id()]
    }
    if Runtime::native().cgroup == integration_tests::cgroup::Version::V1 {
        let disturb = |scene: &Scene, how: Disturbance<'_>| {
            scene.run();
            scene.disturb(&update(scene), 0, how)
        };
        let list = |scene: &Scene| disturb(scene, Disturbance::List).points;
        walk(Runtime::native(), Kind::Gpu, false, list, |scene, point: &Point| {
            disturb(scene, Disturbance::Kill(point));
            let updated = scene.call(&update(scene));
            if updated.code != 0 {
                return Err(format!("cannot be repeated: {updated:?}"));
            }
            scene.check_confinement()?;
            again(scene)
        });
    }
}

#[test]
fn a_delete_that_is_killed_at_any_call_can_be_repeated() {
    each(
        |scene, how| {
            scene.run();
            scene.disturb(&["delete", "--force", scene.id()], 0, how)
        },
        anything,
    );
}
