//! Device rules, in v1 (devices cgroup) and v2 (programs).
//!
//! The nodes have numbers of drivers that no test machine has: where a rule allows the open, the
//! kernel answers ENXIO, where it does not, EPERM. No hardware is needed.

use integration_tests::faults::{Disturbance, Point, disturb};
use integration_tests::{Config, Container, Output, Runtime, Value, cgroup, gpurun_only, json};
use std::fs;
use std::path::Path;

const ALLOWED: &str = "No such device or address";
const DENIED: &str = "Operation not permitted";

fn node(name: &str, major: i64, minor: i64) -> Value {
    json!({"path": format!("/dev/{name}"), "type": "c", "major": major, "minor": minor, "fileMode": 0o666})
}

fn rule(allow: bool, major: Option<i64>, minor: Option<i64>, access: &str) -> Value {
    let mut rule = json!({"allow": allow, "type": "c", "access": access});
    if let Some(major) = major {
        rule["major"] = major.into();
    }
    if let Some(minor) = minor {
        rule["minor"] = minor.into();
    }
    rule
}

/// What the kernel says to an open of /dev/`name`, for reading (`<`) or writing (`>`).
#[track_caller]
fn open(c: &Container, direction: &str, name: &str) -> String {
    let output = c.exec(&["sh", "-c", &format!("true {direction} /dev/{name}")]);
    assert_ne!(output.code, 0, "/dev/{name} could be opened: {output:?}");
    output.stderr
}

#[track_caller]
fn expect(c: &Container, direction: &str, name: &str, answer: &str) {
    let said = open(c, direction, name);
    // busybox has words of its own for an open that would create the file.
    let said_so = said.contains(answer) || answer == ALLOWED && !said.contains(DENIED);
    assert!(said_so, "{direction} /dev/{name} should give {answer:?}: {said}");
}

fn with_nodes(rules: &[Value]) -> Config {
    let mut config = Config::idle()
        .push("/linux/devices", node("a0", 195, 0))
        .push("/linux/devices", node("a1", 195, 1))
        .push("/linux/devices", node("b0", 509, 0))
        .set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
    for rule in rules {
        config = config.push("/linux/resources/devices", rule.clone());
    }
    config
}

#[test]
fn a_device_is_denied_unless_a_rule_allows_it() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, with_nodes(&[rule(true, Some(195), Some(0), "rwm")]));
        expect(&c, "<", "a0", ALLOWED);
        expect(&c, ">", "a0", ALLOWED);
        expect(&c, "<", "a1", DENIED);
        expect(&c, ">", "a1", DENIED);
        expect(&c, "<", "b0", DENIED);
    }
}

#[test]
fn a_rule_without_a_minor_is_for_the_whole_major() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, with_nodes(&[rule(true, Some(195), None, "rw")]));
        expect(&c, "<", "a0", ALLOWED);
        expect(&c, "<", "a1", ALLOWED);
        expect(&c, "<", "b0", DENIED);
    }
}

#[test]
fn reading_and_writing_are_allowed_apart() {
    for runtime in Runtime::each() {
        let c = Container::running(
            runtime,
            with_nodes(&[rule(true, Some(195), Some(0), "r"), rule(true, Some(195), Some(1), "w")]),
        );
        expect(&c, "<", "a0", ALLOWED);
        expect(&c, ">", "a0", DENIED);
        expect(&c, "<", "a1", DENIED);
        expect(&c, ">", "a1", ALLOWED);
    }
}

#[test]
fn a_later_rule_takes_back_an_earlier_one() {
    for runtime in Runtime::each() {
        let c = Container::running(
            runtime,
            with_nodes(&[
                rule(true, Some(195), Some(0), "rw"),
                rule(true, Some(195), Some(1), "rw"),
                rule(false, Some(195), Some(1), "rw"),
            ]),
        );
        expect(&c, "<", "a0", ALLOWED);
        expect(&c, "<", "a1", DENIED);
    }
}

#[test]
fn the_default_devices_work_without_a_rule() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, with_nodes(&[]));
        let script = "echo x > /dev/null; echo x > /dev/zero; head -c 4 /dev/zero | wc -c; \
                      head -c 4 /dev/urandom | wc -c; head -c 4 /dev/random | wc -c; \
                      echo x 2>&1 > /dev/full | grep -o 'No space'";
        assert_eq!(c.sh(script), "4\n4\n4\nNo space");
    }
}

#[test]
fn nodes_can_be_made_but_not_used() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, with_nodes(&[]));
        assert_eq!(c.sh("mknod /dev/made c 195 5 && echo made"), "made");
        expect(&c, "<", "made", DENIED);
        assert_eq!(c.sh("mknod /dev/disk b 7 200 && echo made"), "made");
        expect(&c, "<", "disk", DENIED);
    }
}

#[test]
fn the_rules_hold_for_the_first_process_from_its_first_instruction() {
    for runtime in Runtime::each() {
        let script = "(true < /dev/a0); (true < /dev/a1); true";
        let config = with_nodes(&[rule(true, Some(195), Some(0), "rw")])
            .set("/process/args", json!(["sh", "-c", script]));
        let c = Container::new(runtime, config);
        let output = c.run();
        assert!(
            output.stderr.contains("/dev/a0: ") && output.stderr.contains("/dev/a1: "),
            "{output:?}"
        );
        assert_eq!(output.stderr.matches(DENIED).count(), 1, "{output:?}");
    }
}

#[test]
fn an_update_of_other_limits_keeps_the_rules() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, with_nodes(&[rule(true, Some(195), Some(0), "rw")]));
        let update = json!({"pids": {"limit": 100}}).to_string();
        let updated = c.call_with(&["update", "--resources=-", c.id()], update.as_bytes());
        if updated.code != 0 {
            integration_tests::skipped("update: no pids controller in this cgroup version");
            continue;
        }
        expect(&c, "<", "a0", ALLOWED);
        expect(&c, "<", "a1", DENIED);
    }
}

#[test]
fn a_privileged_container_may_open_everything() {
    for runtime in Runtime::each() {
        let all = json!([{"allow": true, "access": "rwm"}]);
        let config = with_nodes(&[]).set("/linux/resources/devices", all);
        let c = Container::running(runtime, config);
        expect(&c, "<", "a0", ALLOWED);
        expect(&c, "<", "b0", ALLOWED);
        assert_eq!(c.sh("mknod /dev/made c 195 9 && echo made"), "made");
        expect(&c, "<", "made", ALLOWED);
    }
}

#[test]
fn a_rule_that_cannot_be_is_refused() {
    gpurun_only!("runc 1.1 takes some of them");
    for bad in [
        json!({"allow": true, "type": "q", "major": 1, "minor": 3, "access": "rwm"}),
        json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwx"}),
        json!({"allow": true, "type": "c", "major": "one", "access": "rwm"}),
        json!({"allow": "yes", "access": "rwm"}),
    ] {
        let c = Container::native(with_nodes(&[bad]));
        c.create().refused(1, &[]);
        c.assert_gone();
    }
}

#[test]
fn hundreds_of_rules_work() {
    for runtime in Runtime::each() {
        let rules: Vec<Value> =
            (0..300).map(|n| rule(true, Some(195), Some(2 * n), "rw")).collect();
        let c = Container::running(runtime, with_nodes(&rules));
        expect(&c, "<", "a0", ALLOWED);
        expect(&c, "<", "a1", DENIED);
    }
}

/// Rules that deny everything but `more`, for `update`.
fn resources(more: &[Value]) -> String {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.extend_from_slice(more);
    json!({"devices": rules}).to_string()
}

/// Replaces the container's rules.
fn update(c: &Container, rules: &[Value]) -> Output {
    c.call_with(&["update", "--resources=-", c.id()], resources(rules).as_bytes())
}

#[test]
fn rules_that_could_not_all_be_set_are_as_before_the_update() {
    gpurun_only!("runc 1.1 ignores the rules of an update");
    let hierarchy = Path::new("/sys/fs/cgroup/devices");
    if !hierarchy.join("devices.list").exists() {
        return integration_tests::skipped("only v1 sets rules one by one");
    }
    let c = Container::native(Config::idle());
    let parent = format!("/{}-parent", c.id());
    let above = hierarchy.join(&parent[1..]);
    fs::create_dir(&above).expect("a cgroup");
    // So that the last of the new rules is refused.
    fs::write(above.join("devices.deny"), "a").expect("rules of the parent");
    for rule in ["c 1:* rwm", "c 5:* rwm", "c 136:* rwm", "c 195:0 rwm", "c *:* m", "b *:* m"] {
        fs::write(above.join("devices.allow"), rule).expect("rules of the parent");
    }
    c.configure(with_nodes(&[]).set("/linux/cgroupsPath", json!(format!("{parent}/{}", c.id()))));
    c.run_detached();
    let some = rule(true, Some(195), Some(0), "rw");
    update(&c, &[some.clone(), rule(true, Some(509), Some(0), "rw")]).refused(1, &["devices"]);
    expect(&c, "<", "a0", DENIED);
    // And what is allowed later can be taken back later.
    update(&c, std::slice::from_ref(&some)).silent();
    expect(&c, "<", "a0", ALLOWED);
    update(&c, &[]).silent();
    expect(&c, "<", "a0", DENIED);
    c.delete(&["--force"]).silent();
    cgroup::sweep(&parent[1..]);
}

#[test]
fn an_update_after_one_that_was_killed_sets_the_rules_that_it_says() {
    gpurun_only!("runc 1.1 ignores the rules of an update");
    for runtime in Runtime::each() {
        let c = Container::running(runtime, with_nodes(&[]));
        let file = c.path("rules.json");
        fs::write(&file, resources(&[rule(true, Some(195), Some(0), "rw")])).expect("rules");
        let file = format!("--resources={}", file.display());
        let wider = ["update", &file, c.id()];
        let calls = disturb(&c, &[], &wider, 0, Disturbance::List).points;
        update(&c, &[]).silent();
        let names = ["rename", "renameat", "renameat2", "bpf", "exit_group"];
        let changes = |point: &&Point| {
            let rules = point.call == "write" && point.detail.contains("devices.");
            rules || names.contains(&&*point.call)
        };
        let mut open = 0;
        for (point, any) in calls.iter().filter(changes).flat_map(|it| [(it, true), (it, false)]) {
            disturb(&c, &[], &wider, 0, Disturbance::Kill(point));
            open += usize::from(!self::open(&c, "<", "a0").contains(DENIED));
            if any {
                // What is in force is what is remembered after any update.
                c.call_with(&["update", "--resources=-", c.id()], b"{}").silent();
                let state = c.state_root().join(c.id()).join("state.json");
                let state = fs::read_to_string(state).expect("a state");
                let wide = state.contains(r#""major":195,"minor":0"#);
                expect(&c, "<", "a0", if wide { ALLOWED } else { DENIED });
            }
            update(&c, &[]).silent();
            expect(&c, "<", "a0", DENIED);
        }
        assert!(open > 0, "no kill left the device open: {calls:?}");
    }
}
