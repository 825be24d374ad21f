//! Who has which GPU: `gpu list`, what `list` and `state` say, and GPUs for one container alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use integration_tests::container::text;
use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{Layout, MadeUpHost, Mig};
use integration_tests::ordinary_user::{self, OrdinaryUser};
use integration_tests::runtime::{self, Output};
use integration_tests::{Config, Runtime, Value, gpurun_only, json, wait_for};
use tempfile::TempDir;

const EXCLUSIVE: &str = "gpurun.gpu.exclusive";

/// A machine that tests have to themselves, with these lines in its `[gpu]` table.
fn machine(layout: &Layout, lines: &str) -> (MadeUpHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), layout).expect("made-up machine");
    let text = fs::read_to_string(host.config()).expect("configuration");
    let text = text.replace("[gpu]\n", &format!("[gpu]\n{lines}\n"));
    fs::write(host.config(), text).expect("write the configuration");
    (host, directory)
}

/// GPU 1 is divided into two MIG devices of one GPU instance.
fn divided() -> Layout {
    let mig = [0, 1].map(|ci| Mig { gpu_minor: 1, gi: 2, ci }).to_vec();
    Layout { mig, ..Layout::with_gpus(2) }
}

/// An idle container that asks for GPUs.
fn asking(host: &MadeUpHost, devices: &str) -> GpuContainer {
    let variable = format!("NVIDIA_VISIBLE_DEVICES={devices}");
    GpuContainer::new(Runtime::native(), host, idle(&[&variable]))
}

/// The same, and for itself alone.
fn alone(host: &MadeUpHost, devices: &str, annotation: &str) -> GpuContainer {
    let container = asking(host, devices);
    let variable = format!("NVIDIA_VISIBLE_DEVICES={devices}");
    container.container.configure(exclusive(idle(&[&variable]), annotation));
    container
}

fn idle(env: &[&str]) -> Config {
    config(env, &["sleep", "1000"])
}

fn exclusive(config: Config, annotation: &str) -> Config {
    config.set("/annotations", json!({ EXCLUSIVE: annotation }))
}

fn create(container: &GpuContainer) -> Output {
    runtime::finish(&mut create_command(container), b"")
}

fn create_command(container: &GpuContainer) -> std::process::Command {
    let bundle = container.container.bundle();
    container.command(&["create", "--bundle", text(&bundle), container.container.id()])
}

fn gpu_list(container: &GpuContainer, options: &[&str]) -> Output {
    container.call(&[&["gpu", "list"], options].concat())
}

/// Per GPU and part the ids of those who have it.
fn holders(container: &GpuContainer) -> Vec<(String, Vec<String>)> {
    let ids = |of: &Value| {
        let all = of["holders"].as_array().expect("holders").iter();
        all.map(|holder| holder["id"].as_str().expect("id").to_owned()).collect::<Vec<_>>()
    };
    let name = |of: &Value| of["name"].as_str().expect("name").to_owned();
    let json = gpu_list(container, &["--json"]).json();
    let mut found = Vec::new();
    for gpu in json["gpus"].as_array().expect("gpus") {
        found.push((name(gpu), ids(gpu)));
        for part in gpu["parts"].as_array().into_iter().flatten() {
            found.push((name(part), ids(part)));
        }
    }
    found
}

/// What is entered in the machine's list of holders.
fn entries(host: &MadeUpHost) -> Vec<PathBuf> {
    let directory = host.root.join("holders");
    let all = [directory.clone(), directory.join("exclusive")];
    let all = all.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten());
    all.flatten().map(|entry| entry.path()).collect()
}

#[test]
fn gpus_are_listed_with_those_who_have_them_whatever_their_root() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&divided(), "");
    for runtime in Runtime::each() {
        let with = |env: &str| GpuContainer::new(runtime, &host, idle(&[env]));
        let first = with("NVIDIA_VISIBLE_DEVICES=0");
        let second = with("NVIDIA_VISIBLE_DEVICES=all");
        let none = with("NVIDIA_VISIBLE_DEVICES=none");
        [&first, &second, &none].iter().for_each(|container| container.run_detached());
        let [one, two] = [&first, &second].map(|c| c.container.id().to_owned());
        let mut both = vec![one.clone(), two.clone()];
        both.sort();
        let expected = [("0", both), ("1", vec![]), ("1:0", vec![two.clone()]), ("1:1", vec![two])];
        let expected = expected.map(|(name, ids)| (name.to_owned(), ids));
        // Each has a state root of its own; that of the caller does not matter.
        for caller in [&first, &none] {
            assert_eq!(holders(caller), expected, "{runtime:?}");
        }
        let json = gpu_list(&none, &["--json"]).json();
        let gpu = &json["gpus"][0];
        assert_eq!(gpu["uuid"], host.gpus[0].uuid);
        assert_eq!(gpu["nodes"], json!(["/dev/nvidia0", "/dev/dri/card1", "/dev/dri/renderD128"]));
        let all = gpu["holders"].as_array().expect("holders");
        let holder = all.iter().find(|holder| holder["id"] == one).expect("holder");
        assert_eq!(holder["root"], text(&first.container.state_root()));
        assert_eq!(holder["status"], "running");
        assert_eq!(holder["exclusive"], false);

        let table = gpu_list(&none, &[]);
        let rows: Vec<&str> = table.ok().lines().collect();
        assert_eq!(rows.len(), 5, "{table:?}");
        assert!(rows[1].starts_with("nvidia.com/gpu=0  NVIDIA H100 80GB HBM3"), "{table:?}");
        assert!(
            rows[1].ends_with(&format!("{one}, {}", second.container.id()))
                || rows[1].ends_with(&format!("{}, {one}", second.container.id())),
            "{table:?}"
        );
        assert!(rows[4].starts_with("  1:1 "), "{table:?}");
        let wide = gpu_list(&none, &["--wide"]);
        assert!(wide.ok().contains(&host.gpus[0].uuid), "{wide:?}");
        assert!(wide.stdout.contains("nvidia 535.261.03"), "{wide:?}");

        // One whose program has ended uses nothing.
        first.container.kill("KILL").silent();
        first.container.wait_until("stopped");
        assert_eq!(holders(&none)[0].1, [second.container.id()]);
        drop((first, second, none));
        assert_eq!(entries(&host), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_machine_without_gpus_says_so_and_that_is_no_error() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(1), "");
    fs::remove_dir_all(host.root.join("proc/driver")).expect("remove the driver");
    let container = asking(&host, "0");
    assert!(gpu_list(&container, &[]).ok().contains("no GPU"));
    assert_eq!(gpu_list(&container, &["--json"]).json(), json!({"gpus": []}));
}

#[test]
fn state_and_list_tell_a_containers_gpus() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&divided(), "");
    let container = alone(&host, "0,1:1", "0");
    container.run_detached();
    let c = &container.container;
    let names = "nvidia.com/gpu=0,1 MIG device 1 (GI 2, CI 1)";
    let annotations = &c.state()["annotations"];
    assert_eq!(annotations["gpurun.gpu.devices"], names);
    let uuids = format!("{},{}", host.gpus[0].uuid, host.gpus[1].uuid);
    assert_eq!(annotations["gpurun.gpu.uuids"], uuids);
    assert_eq!(annotations[EXCLUSIVE], host.gpus[0].uuid);
    let listed = c.call(&["list", "--format", "json"]).json();
    assert_eq!(listed[0]["gpus"][0]["uuid"], host.gpus[0].uuid);
    assert_eq!(listed[0]["gpus"][1]["part"], "MIG device 1 (GI 2, CI 1)");
    let table = c.call(&["list"]);
    let rows: Vec<&str> = table.ok().lines().collect();
    assert!(rows[0].ends_with("OWNER       GPUS"), "{table:?}");
    assert!(rows[1].ends_with(&format!("root        {names}")), "{table:?}");

    // A state of a version that did not know of all this.
    let path = c.state_root().join(c.id()).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = state["gpus"]["entry"].as_str().expect("entry").to_owned();
    state.as_object_mut().unwrap().remove("gpus");
    fs::write(&path, state.to_string()).unwrap();
    fs::remove_file(entry).unwrap();
    assert!(c.state()["annotations"].is_null());
    assert!(c.call(&["list", "--format", "json"]).json()[0]["gpus"].is_null());
    // Its device rules tell, where its root is known.
    let has = vec![c.id().to_owned()];
    let found = holders(&container);
    assert_eq!((&found[0].1, &found[1].1, &found[3].1), (&has, &vec![], &has));
}

#[test]
fn a_container_without_gpus_is_as_it_was() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(1), "exclusive = true");
    for env in [&[][..], &["NVIDIA_VISIBLE_DEVICES=void"], &["NVIDIA_VISIBLE_DEVICES=none"]] {
        // What its image may say in gpurun's own words is not repeated.
        let said = json!({
            EXCLUSIVE: "true",
            "gpurun.gpu.devices": "nvidia.com/gpu=0",
            "gpurun.gpu.uuids": "GPU-0",
            "other": "kept",
        });
        let config = idle(env).set("/annotations", said);
        let container = GpuContainer::new(Runtime::native(), &host, config);
        container.run_detached();
        let c = &container.container;
        assert_eq!(c.state()["annotations"], json!({ "other": "kept" }), "{env:?}");
        assert!(c.call(&["list", "--format", "json"]).json()[0]["gpus"].is_null(), "{env:?}");
        assert_eq!(entries(&host), Vec::<PathBuf>::new(), "{env:?}");
    }
}

#[test]
fn a_gpu_that_one_has_alone_is_refused_to_others_until_that_one_is_gone() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    let first = alone(&host, "0", "true");
    first.run_detached();
    let id = first.container.id();
    let pid = first.container.pid().to_string();
    let shared = asking(&host, "0");
    let second = alone(&host, "all", "true");
    for other in [&shared, &second] {
        let gpu = &host.gpus[0];
        let phrases =
            ["nvidia.com/gpu=0", &gpu.uuid, id, &pid, "exclusively", "delete it", "gpu list"];
        create(other).refused(1, &phrases);
        other.container.assert_gone();
        let look =
            |of: &GpuContainer| other.call(&["doctor", "--bundle", text(&of.container.bundle())]);
        let page = look(other).stdout;
        assert!(page.contains("red     create: cannot give GPU nvidia.com/gpu=0"), "{page}");
        assert!(page.contains(id), "{page}");
        // Nobody is in one's own way.
        assert!(!look(&first).stdout.contains("cannot give"));
    }
    let free = asking(&host, "1");
    free.run_detached();
    assert!(gpu_list(&free, &[]).ok().contains(&format!("{id} (exclusive)")));
    // Its init killed, and nothing said to gpurun.
    let raw = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    first.container.wait_until("stopped");
    create(&shared).silent();
    // All: the other GPU is shared by somebody.
    create(&second).refused(1, &["cannot give GPU", "exclusively", "has it;"]);
    shared.container.delete(&["--force"]).silent();
    free.container.delete(&["--force"]).silent();
    create(&second).silent();
    create(&shared).refused(1, &[second.container.id()]);
    second.container.delete(&["--force"]).silent();
    create(&shared).silent();
    drop(shared);
    first.container.delete(&[]).silent();
    assert_eq!(entries(&host), Vec::<PathBuf>::new());
}

#[test]
fn the_configuration_makes_all_or_some_gpus_exclusive() {
    gpurun_only!("other runtimes know no GPUs");
    let (any, _directory) = machine(&Layout::with_gpus(2), "");
    let (uuid, bus_id) = (&any.gpus[0].uuid, &any.gpus[0].bus_id);
    for (lines, is_first, is_second) in [
        ("exclusive = true".to_owned(), true, true),
        ("exclusive = false".to_owned(), false, false),
        (format!("exclusive = [\"{uuid}\"]"), true, false),
        (format!("exclusive = [\"{bus_id}\"]"), true, false),
        ("exclusive = [\"1\"]".to_owned(), false, true),
        ("exclusive = [\"nvidia.com/gpu=0\", \"GPU-of-another-machine\"]".to_owned(), true, false),
    ] {
        let (host, _directory) = machine(&Layout::with_gpus(2), &lines);
        let first = asking(&host, "all");
        first.run_detached();
        for (device, refused) in [("0", is_first), ("1", is_second)] {
            // A container does not get around it.
            for annotation in [None, Some("false")] {
                let other = match annotation {
                    None => asking(&host, device),
                    Some(value) => alone(&host, device, value),
                };
                let output = create(&other);
                match refused {
                    true => output.refused(1, &[first.container.id(), "exclusively"]),
                    false => output.silent(),
                }
            }
        }
        let said = gpu_list(&first, &[]).stderr;
        assert_eq!(said.contains("GPU-of-another-machine"), lines.contains("another"), "{said}");
    }
    let (host, _directory) = machine(&Layout::with_gpus(1), "exclusive = 1");
    create(&asking(&host, "0")).refused(1, &["gpu.exclusive must be true, false or an array"]);
}

#[test]
fn an_annotation_that_cannot_be_met_is_refused() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    for (annotation, phrases) in [
        ("yes,", &["annotation gpurun.gpu.exclusive must be true, false, or names"][..]),
        ("1", &["names \"1\", which the container does not have", "nvidia.com/gpu=0"]),
        ("yes", &["names \"yes\""]),
    ] {
        let container = alone(&host, "0", annotation);
        create(&container).refused(1, phrases);
        container.container.assert_gone();
    }
}

#[test]
fn features_list_the_annotation_among_those_that_an_engine_should_not_let_everyone_set() {
    gpurun_only!("other runtimes know no GPUs");
    let features = Runtime::native().call(&["features"]).json();
    let listed = features["potentiallyUnsafeConfigAnnotations"].as_array().expect("list");
    assert!(listed.contains(&json!(EXCLUSIVE)), "{features}");
}

#[test]
fn mig_devices_are_held_one_by_one_and_conflict_with_the_whole() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&divided(), "");
    let first = alone(&host, "1:0", "true");
    first.run_detached();
    create(&asking(&host, "1:0")).refused(1, &["nvidia.com/gpu=1:0", first.container.id()]);
    create(&asking(&host, "1")).refused(1, &["nvidia.com/gpu=1 ", first.container.id()]);
    create(&asking(&host, "all")).refused(1, &[first.container.id()]);
    let second = alone(&host, "1:1", "true");
    create(&second).silent();
    drop(first);
    drop(second);
    let whole = alone(&host, "1", "true");
    create(&whole).silent();
    create(&asking(&host, "1:1")).refused(1, &["nvidia.com/gpu=1:1", whole.container.id()]);
}

/// As an engine's CDI gives a GPU: nodes and rules in the spec, and nothing to ask gpurun for.
fn given_by_an_engine(minor: u32) -> Config {
    let node = json!({"path": format!("/dev/nvidia{minor}"), "type": "c", "major": 195,
                      "minor": minor});
    let rule = json!({"allow": true, "type": "c", "major": 195, "minor": minor, "access": "rwm"});
    idle(&[]).push("/linux/devices", node).push("/linux/resources/devices", rule)
}

#[test]
fn gpus_that_an_engine_gave_are_held_as_well() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    let engine = |config| GpuContainer::new(Runtime::native(), &host, config);
    let first = engine(given_by_an_engine(1));
    first.run_detached();
    let id = first.container.id();
    assert_eq!(holders(&first)[1], ("1".to_owned(), vec![id.to_owned()]));
    assert_eq!(first.container.state()["annotations"]["gpurun.gpu.devices"], "/dev/nvidia1");
    let listed = first.container.call(&["list", "--format", "json"]).json();
    assert_eq!(listed[0]["gpus"], json!([{"node": "/dev/nvidia1"}]));
    create(&alone(&host, "1", "true")).refused(1, &[id, "exclusively"]);
    drop(first);
    let first = engine(exclusive(given_by_an_engine(1), "true"));
    create(&first).silent();
    create(&engine(given_by_an_engine(1))).refused(1, &[first.container.id()]);
    create(&asking(&host, "1")).refused(1, &[first.container.id()]);
    create(&engine(given_by_an_engine(0))).silent();
    // One that may use the whole machine has no GPU in particular.
    let privileged = given_by_an_engine(1)
        .push("/linux/resources/devices", json!({"allow": true, "access": "rwm"}));
    let privileged = engine(privileged);
    create(&privileged).silent();
    assert_eq!(holders(&privileged)[1].1, [first.container.id()]);
}

/// A GPU's device under another name, or by rules alone: the image or a volume may have the node.
fn given_otherwise(minor: u32) -> Vec<Config> {
    let rule = |minor: Value| json!({"allow": true, "type": "c", "major": 195, "minor": minor, "access": "rw"});
    let by = |rule| idle(&[]).push("/linux/resources/devices", rule);
    let node = json!({"path": "/dev/foo", "type": "c", "major": 195, "minor": minor});
    vec![
        by(rule(minor.into())).push("/linux/devices", node),
        by(rule(minor.into())),
        by(rule(Value::Null)),
        by(json!({"allow": true, "type": "c", "access": "rwm"})),
    ]
}

#[test]
fn gpus_under_another_name_or_by_rules_alone_are_held_as_well() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    let engine = |config| GpuContainer::new(Runtime::native(), &host, config);
    for config in given_otherwise(1) {
        let first = engine(config.clone());
        first.run_detached();
        let id = first.container.id();
        assert!(holders(&first)[1].1.contains(&id.to_owned()));
        create(&alone(&host, "1", "true")).refused(1, &[id, "exclusively"]);
        drop(first);
        let first = alone(&host, "1", "true");
        first.run_detached();
        create(&engine(config.clone())).refused(1, &[first.container.id(), "exclusively"]);
        drop(first);
        let first = engine(exclusive(config, "true"));
        first.run_detached();
        create(&asking(&host, "1")).refused(1, &[first.container.id(), "exclusively"]);
        drop(first);
        assert_eq!(entries(&host), Vec::<PathBuf>::new());
    }
    // Devices that may be anybody's are nobody's GPU until the machine says so.
    let rule = json!({"allow": true, "type": "c", "major": 244, "access": "rwm"});
    let other = engine(exclusive(idle(&[]).push("/linux/resources/devices", rule), "true"));
    other.run_detached();
    assert_eq!(entries(&host), Vec::<PathBuf>::new());
    // It holds nothing, so `state` says nothing, whatever its spec claims.
    assert_eq!(other.container.state()["annotations"], Value::Null);
}

#[test]
fn gpus_by_an_update_of_the_rules_are_held_as_well() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    for runtime in Runtime::each() {
        let update = |of: &GpuContainer, minor: u32| {
            let rule = json!({"allow": true, "type": "c", "major": 195, "minor": minor,
                              "access": "rw"});
            let resources = json!({ "devices": [rule] });
            let mut command = of.command(&["update", "--resources", "-", of.container.id()]);
            runtime::finish(&mut command, resources.to_string().as_bytes())
        };
        let plain = GpuContainer::new(runtime, &host, idle(&[]));
        plain.run_detached();
        let id = plain.container.id();
        let first = alone(&host, "1", "true");
        first.run_detached();
        update(&plain, 1).refused(1, &[first.container.id(), "exclusively"]);
        assert!(plain.container.state()["annotations"].is_null());
        assert_eq!(holders(&plain)[1].1, [first.container.id()]);
        assert_eq!(entries(&host).len(), 2, "{:?}", entries(&host));
        update(&plain, 0).silent();
        assert_eq!(holders(&plain)[0].1, [id]);
        create(&alone(&host, "0", "true")).refused(1, &[id, "exclusively"]);
        // One that has its GPUs alone asks for those of others in the same way.
        update(&first, 0).refused(1, &[id, "exclusively"]);
        drop(first);
        update(&plain, 1).silent();
        create(&alone(&host, "1", "true")).refused(1, &[id, "exclusively"]);
        create(&alone(&host, "0", "true")).silent();
        drop(plain);
        assert_eq!(entries(&host), Vec::<PathBuf>::new());
    }
}

#[test]
fn gpus_of_cdi_files_are_held_as_well() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    let cdi = host.root.join("cdi");
    fs::create_dir(&cdi).unwrap();
    let node = json!({"path": "/dev/nvidia1"});
    let renamed = json!({"path": "/dev/gpu1", "hostPath": host.root.join("dev/nvidia1")});
    let file = json!({"cdiVersion": "0.6.0", "kind": "vendor.com/device", "devices": [
        {"name": "second", "containerEdits": {"deviceNodes": [node]}},
        {"name": "renamed", "containerEdits": {"deviceNodes": [renamed]}}]});
    fs::write(cdi.join("vendor.json"), file.to_string()).unwrap();
    let mut config = fs::OpenOptions::new().append(true).open(host.config()).unwrap();
    writeln!(config, "[cdi]\nspec-dirs = [{:?}]", text(&cdi)).unwrap();
    for name in ["second", "renamed"] {
        let first = asking(&host, &format!("vendor.com/device={name}"));
        first.run_detached();
        let id = first.container.id();
        assert_eq!(holders(&first)[1], ("1".to_owned(), vec![id.to_owned()]));
        create(&alone(&host, "1", "true")).refused(1, &[id, "exclusively"]);
    }
}

#[test]
fn of_twenty_creates_at_once_for_one_exclusive_gpu_exactly_one_wins() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    for round in 0..2 {
        // Shared requests are among them in some rounds.
        let containers: Vec<_> = (0..20)
            .map(|index| match (round, index % 4) {
                (1.., 0) => asking(&host, "0"),
                _ => alone(&host, "0", "true"),
            })
            .collect();
        let calls: Vec<_> = containers
            .iter()
            .map(|container| runtime::start(&mut create_command(container), b""))
            .collect();
        let done: Vec<Output> = calls.into_iter().map(|call| call.wait()).collect();
        let winners: Vec<_> =
            containers.iter().zip(&done).filter(|(_, output)| output.code == 0).collect();
        for output in done.iter().filter(|output| output.code != 0) {
            output.refused(1, &["cannot give GPU nvidia.com/gpu=0", "exclusively"]);
        }
        let annotated = |container: &GpuContainer| {
            let annotations = &container.container.state()["annotations"];
            annotations[EXCLUSIVE] == "true"
        };
        let exclusive = winners.iter().filter(|(container, _)| annotated(container)).count();
        match exclusive {
            1 => assert_eq!(winners.len(), 1, "{done:?}"),
            0 => assert!(round > 0 && !winners.is_empty(), "{done:?}"),
            _ => panic!("{exclusive} have it alone: {done:?}"),
        }
        drop(containers);
        assert_eq!(entries(&host), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_create_that_was_killed_holds_nothing() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(1), "");
    let first = asking(&host, "0");
    let c = &first.container;
    let (began, pid) = (c.path("began"), c.path("pid"));
    let script = format!("echo $$ > {}; mv {0} {}; exec sleep 1000", text(&pid), text(&began));
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let config = idle(&["NVIDIA_VISIBLE_DEVICES=0"]).hook("createRuntime", hook);
    c.configure(exclusive(config, "true"));
    let mut creating = runtime::start(&mut create_command(&first), b"");
    wait_for("the hook", || began.exists());
    let second = asking(&host, "0");
    create(&second).refused(1, &[c.id(), "being created", "exclusively"]);
    creating.child.kill().unwrap();
    creating.child.wait().unwrap();
    let hook: i32 = fs::read_to_string(&began).unwrap().trim().parse().unwrap();
    let hook = rustix::process::Pid::from_raw(hook).unwrap();
    rustix::process::kill_process(hook, rustix::process::Signal::KILL).unwrap();
    assert!(c.state_root().join(c.id()).exists());
    wait_for("the GPU to be free", || create(&second).code == 0);
}

#[test]
fn an_ordinary_users_containers_have_gpus_among_themselves() {
    gpurun_only!("other runtimes know no GPUs");
    let user = OrdinaryUser::new();
    let place = user.path("machine");
    fs::create_dir(&place).unwrap();
    let host = MadeUpHost::build(&place, &Layout::with_gpus(1)).expect("made-up machine");
    let call = |args: &[&str]| {
        let mut command = user.command(&user.binary());
        command.env("GPURUN_CONFIG", host.config()).args(args);
        runtime::finish(&mut command, b"")
    };
    let bundle = |name: &str| {
        let config = idle(&["NVIDIA_VISIBLE_DEVICES=0"]);
        user.bundle(name, &ordinary_user::config(exclusive(config, "true")))
    };
    let (first, second) = (bundle("first"), bundle("second"));
    // Another user's, of whom this one cannot know more than that there are some.
    let foreign = alone(&host, "0", "true");
    foreign.run_detached();
    call(&["run", "--detach", "--bundle", text(&first), "first"]).ok();
    call(&["run", "--detach", "--bundle", text(&second), "second"])
        .refused(1, &["container first", "exclusively"]);
    let listed = call(&["gpu", "list"]);
    assert!(listed.ok().ends_with("first (exclusive)"), "{listed:?}");
    assert!(listed.stderr.contains("containers of other users are not seen"), "{listed:?}");
    call(&["delete", "--force", "first"]).silent();
    call(&["run", "--detach", "--bundle", text(&second), "second"]).ok();
    call(&["delete", "--force", "second"]).silent();
    let left: Vec<_> = fs::read_dir(user.path("run/gpurun-gpus")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_link_that_a_lost_container_left_is_no_hindrance_to_its_successor() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(1), "");
    for container in [asking(&host, "0"), alone(&host, "0", "true")] {
        create(&container).silent();
        let entry = entries(&host).into_iter().find(|entry| entry.is_symlink()).expect("entry");
        let target = fs::read_link(&entry).unwrap();
        assert_eq!(target, container.container.state_root().join(container.container.id()));
        container.container.delete(&["--force"]).silent();
        fs::create_dir_all(entry.parent().unwrap()).unwrap();
        symlink(&target, &entry).unwrap();
        create(&container).silent();
        assert_eq!(holders(&container)[0].1, [container.container.id()]);
    }
    assert_eq!(entries(&host), Vec::<PathBuf>::new());
}

#[test]
fn links_that_lead_nowhere_are_removed_and_others_never_trusted() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(1), "");
    let gone = alone(&host, "0", "true");
    gone.run_detached();
    // Somebody removes the state, and later the processes.
    let state = gone.container.state_root().join(gone.container.id());
    let pid = gone.container.pid();
    let kept = gone.container.path("kept");
    fs::rename(&state, &kept).unwrap();
    let directory = host.root.join("holders/exclusive");
    for (name, target) in [("a", "/nonexistent/x"), ("b", "relative"), ("c", "/etc"), ("d", "/")] {
        symlink(target, directory.join(name)).unwrap();
    }
    fs::File::create(directory.join("file")).unwrap().write_all(b"x").unwrap();
    fs::remove_file(directory.join("file")).unwrap();
    let second = alone(&host, "0", "true");
    create(&second).ok();
    let names: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
    assert!(names.len() <= 2, "{names:?}");
    fs::rename(&kept, &state).unwrap();
    assert_eq!(gone.container.pid(), pid);
}

#[test]
fn what_is_wrong_with_one_vendors_files_hides_no_others_gpus() {
    gpurun_only!("other runtimes know no GPUs");
    let (host, _directory) = machine(&Layout::with_gpus(2), "");
    let class = host.root.join("sys/class");
    fs::create_dir_all(&class).unwrap();
    symlink("accel", class.join("accel")).unwrap();
    let container = asking(&host, "0");
    let listed = gpu_list(&container, &[]);
    assert!(listed.stdout.contains("nvidia.com/gpu=1"), "{listed:?}");
    listed.refused(1, &["GPUs are missing from the list: intel: ", "class/accel"]);
    let listed = gpu_list(&container, &["--json"]);
    let json: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(json["gpus"].as_array().unwrap().len(), 2);
    assert_eq!(json["failures"][0]["vendor"], "intel");
    let generated = container.call(&["cdi", "generate", "--format", "json"]);
    assert!(generated.ok().contains("\"1\"") && generated.stderr.contains("class/accel"));
    container.run_detached();
    // Nobody knows what the others have.
    create(&alone(&host, "1", "true")).refused(1, &["class/accel"]);
}

#[test]
fn explain_tells_who_asks_for_a_gpu_alone() {
    gpurun_only!("other runtimes know no GPUs");
    let explained = |lines: &str, annotation: &str| {
        let (host, _directory) = machine(&Layout::with_gpus(2), lines);
        let container = alone(&host, "0", annotation);
        let bundle = container.container.bundle();
        let of = |more: &[&str]| {
            let words = [&["explain", "--bundle", text(&bundle)], more].concat();
            container.call(&words).ok().to_owned()
        };
        let json: Value = serde_json::from_str(&of(&["--json"])).unwrap();
        (of(&[]), json["exclusive"].clone())
    };
    let (table, json) = explained("", "0");
    assert!(table.contains("by the annotation gpurun.gpu.exclusive"), "{table}");
    assert!(json[0]["gpu"].as_str().unwrap().starts_with("nvidia.com/gpu=0 ("), "{json}");
    let (table, _) = explained("exclusive = true", "false");
    assert!(table.contains("by gpu.exclusive in the configuration"), "{table}");
    for lines in ["", "exclusive = [\"1\"]"] {
        let (table, json) = explained(lines, "false");
        assert!(!table.contains("Exclusive") && json.is_null(), "{table}");
    }
}

#[test]
fn root_believes_no_entry_that_an_ordinary_user_has_made() {
    gpurun_only!("the others have no GPUs to give");
    let (host, _directory) = machine(&Layout::with_gpus(1), "");
    let container = asking(&host, "0");
    create(&container).silent();
    // What su leaves in the environment, with a link to the same container by another way.
    let run = tempfile::tempdir().expect("temporary directory");
    let (entries, way) = (run.path().join("gpurun-gpus"), run.path().join("way"));
    fs::create_dir(&entries).unwrap();
    symlink(container.container.state_root(), &way).unwrap();
    symlink(way.join(container.container.id()), entries.join("entry")).unwrap();
    let mut list = container.command(&["gpu", "list", "--json"]);
    let found = runtime::finish(list.env("XDG_RUNTIME_DIR", run.path()), b"").json();
    assert_eq!(found["gpus"][0]["holders"].as_array().map(Vec::len), Some(1), "{found}");
}
