//! What a container asks for, and the device nodes and libraries that it gets for that, on a
//! made-up machine. The nodes lead nowhere, so opening one says what the device rules say:
//! `ENXIO` where they allow it, `EPERM` where they do not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost, Node};
use integration_tests::stub_driver::{LIBRARIES, LIBRARIES_32};
use integration_tests::{Config, Runtime, gpurun_only, json, rootfs, runtime, skipped};
use tempfile::TempDir;

/// A machine in a temporary directory.
struct Machine {
    host: MadeUpHost,
    _directory: TempDir,
}

fn machine_like(layout: &Layout) -> Machine {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), layout).expect("build a made-up machine");
    Machine { host, _directory: directory }
}

/// Four GPUs; those with index 2 and 3 have the minor numbers 3 and 2.
fn four_gpus() -> Machine {
    machine_like(&Layout::with_gpus(4))
}

/// The nodes of a `compute,utility` container with these GPUs, sorted by path.
fn nodes_for(host: &MadeUpHost, indexes: &[usize]) -> Vec<Node> {
    let mut nodes = MadeUpHost::control_nodes();
    nodes.extend(indexes.iter().map(|i| &host.gpus[*i]).map(|gpu| (gpu.node(), 195, gpu.minor)));
    nodes.sort();
    nodes
}

/// Every form of `NVIDIA_VISIBLE_DEVICES`, each with the indexes of the GPUs that it means.
/// `None`: no request at all.
fn request_forms(host: &MadeUpHost) -> Vec<(String, Option<Vec<usize>>)> {
    let gpu = |index: usize| &host.gpus[index];
    let bus = |index: usize| gpu(index).bus_id.clone();
    vec![
        ("all".to_owned(), Some(vec![0, 1, 2, 3])),
        ("none".to_owned(), Some(vec![])),
        ("void".to_owned(), None),
        (String::new(), None),
        (",".to_owned(), None),
        ("0".to_owned(), Some(vec![0])),
        ("2".to_owned(), Some(vec![2])),
        ("3".to_owned(), Some(vec![3])),
        ("0,2".to_owned(), Some(vec![0, 2])),
        (" 3 , 1 ".to_owned(), Some(vec![1, 3])),
        ("1,1".to_owned(), Some(vec![1])),
        ("0,all".to_owned(), Some(vec![0, 1, 2, 3])),
        ("0,none".to_owned(), Some(vec![])),
        ("all,void".to_owned(), None),
        (gpu(2).uuid.clone(), Some(vec![2])),
        (format!("{},{}", gpu(0).uuid, gpu(3).uuid), Some(vec![0, 3])),
        (format!("1,{}", gpu(1).uuid), Some(vec![1])),
        (bus(1), Some(vec![1])),
        (bus(1).to_uppercase(), Some(vec![1])),
        (format!("0000{}", bus(2)), Some(vec![2])),
    ]
}

#[test]
fn each_form_of_request_gives_exactly_its_nodes() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = four_gpus();
    for runtime in Runtime::each() {
        for (request, indexes) in request_forms(&machine.host) {
            let variable = format!("NVIDIA_VISIBLE_DEVICES={request}");
            let config = config(&[&variable], &["nodes", "nodes"]);
            let output = GpuContainer::new(runtime, &machine.host, config).run();
            let expected = indexes.map(|i| nodes_for(&machine.host, &i)).unwrap_or_default();
            assert_eq!(gpu_nodes(output.ok()), expected, "{runtime:?} {variable:?}");
        }
    }
}

#[test]
fn an_unset_variable_asks_for_nothing_except_in_a_legacy_image() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = four_gpus();
    let nodes = |env: &[&str]| {
        let config = config(env, &["nodes", "nodes"]);
        gpu_nodes(GpuContainer::new(Runtime::native(), &machine.host, config).run().ok())
    };
    assert_eq!(nodes(&[]), []);
    assert_eq!(nodes(&["NVIDIA_DRIVER_CAPABILITIES=all"]), []);
    assert_eq!(nodes(&["CUDA_VERSION=9.0", "NVIDIA_REQUIRE_CUDA=cuda>=9.0"]), []);
    let legacy = nodes(&["CUDA_VERSION=9.0"]);
    for gpu in &machine.host.gpus {
        assert!(legacy.contains(&(gpu.node(), 195, gpu.minor)), "{legacy:?}");
    }
    // An empty variable is not an unset one.
    assert_eq!(nodes(&["CUDA_VERSION=9.0", "NVIDIA_VISIBLE_DEVICES="]), []);
}

#[test]
fn allowed_nodes_can_be_opened_and_no_other_even_when_made_inside() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = four_gpus();
    for runtime in Runtime::each() {
        for (request, index) in [("0", Some(0)), ("2", Some(2)), ("none", None)] {
            let granted = nodes_for(&machine.host, index.as_slice());
            let all = machine.host.all_nodes();
            let numbers: Vec<String> = all.iter().map(|(_, a, i)| format!("{a}:{i}")).collect();
            let mut program = vec!["nodes", "make"];
            program.extend(numbers.iter().map(String::as_str));
            let variable = format!("NVIDIA_VISIBLE_DEVICES={request}");
            let container =
                GpuContainer::new(runtime, &machine.host, config(&[&variable], &program));
            let output = container.run();
            let expected: Vec<String> = all
                .iter()
                .map(|node| {
                    let verdict = if granted.contains(node) { "ENXIO" } else { "EPERM" };
                    format!("{}:{} {verdict}", node.1, node.2)
                })
                .collect();
            let seen: Vec<&str> = output.ok().lines().collect();
            assert_eq!(seen, expected, "{runtime:?} {variable}");

            let mut program = vec!["nodes", "open"];
            program.extend(granted.iter().map(|(path, ..)| path.as_str()));
            let container =
                GpuContainer::new(runtime, &machine.host, config(&[&variable], &program));
            for line in container.run().ok().lines() {
                assert!(line.ends_with(" ENXIO"), "{runtime:?} {variable}: {line}");
            }
        }
    }
}

#[test]
fn device_rules_hold_for_exec_and_after_an_update() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(2));
    for runtime in Runtime::each() {
        let config = config(&["NVIDIA_VISIBLE_DEVICES=1"], &["sleep", "1000"]);
        let gpu = GpuContainer::new(runtime, &machine.host, config);
        gpu.run_detached();
        let check = |when: &str| {
            let output =
                gpu.exec(&["nodes", "make", "195:1", "195:255", "511:0", "195:0", "508:1"]);
            let expected = "195:1 ENXIO\n195:255 ENXIO\n511:0 ENXIO\n195:0 EPERM\n508:1 EPERM";
            assert_eq!(output.ok(), expected, "{runtime:?} {when}");
        };
        check("after start");
        gpu.call(&["update", "--cpu-share", "512", gpu.container.id()]);
        gpu.call(&["update", "--pids-limit", "100", gpu.container.id()]);
        check("after update");
    }
}

#[test]
fn a_container_without_a_request_may_open_no_gpu_node() {
    gpurun_only!("the words of the configuration file are gpurun's");
    let machine = machine_like(&Layout::with_gpus(2));
    for runtime in Runtime::each() {
        let program = ["nodes", "make", "195:0", "195:255", "511:0", "226:128"];
        let output = GpuContainer::new(runtime, &machine.host, config(&[], &program)).run();
        assert_eq!(output.ok(), "195:0 EPERM\n195:255 EPERM\n511:0 EPERM\n226:128 EPERM");
    }
}

#[test]
fn unknown_gpus_are_refused_by_name() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(2));
    let requests = ["7", "0,9", "GPU-00000000-0000-0000-0000-000000000000", "0000:ff:00.0", "gpu"];
    for request in requests {
        let variable = format!("NVIDIA_VISIBLE_DEVICES={request}");
        let gpu =
            GpuContainer::new(Runtime::native(), &machine.host, config(&[&variable], &["true"]));
        let id = request.rsplit(',').next().unwrap_or(request);
        gpu.run().refused(1, &[id]);
        gpu.container.assert_gone();
    }
}

#[test]
fn a_wrong_capability_is_refused_by_name() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(1));
    let env = ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,gaming"];
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, config(&env, &["true"]));
    gpu.run().refused(1, &["gaming", "NVIDIA_DRIVER_CAPABILITIES"]);
}

/// The names of the driver's libraries in the container's file system.
fn libraries_of(output: &str) -> BTreeSet<String> {
    output
        .lines()
        .filter_map(|path| path.rsplit('/').next())
        .filter(|name| LIBRARIES.iter().any(|l| *name == l.file_name(DRIVER)))
        .map(str::to_owned)
        .collect()
}

const DRIVER: &str = integration_tests::gpu_host::DRIVER_VERSION;
const FIND: &str = "find / -path /proc -prune -o -path /sys -prune -o \\( -name '*.so.*' -o -path '/usr/bin/nvidia-*' \\) -print";

/// A value of `NVIDIA_DRIVER_CAPABILITIES`, the groups of libraries that it brings, and the nodes
/// besides those of every container: `/dev/nvidiactl`, `/dev/nvidia-modeset` and the GPU's own.
type Choice = (Option<&'static str>, &'static [&'static str], &'static [&'static [&'static str]]);

#[test]
fn driver_capabilities_choose_the_libraries_programs_and_nodes() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(2));
    const UVM: &[&str] = &["/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"];
    const DRM: &[&str] = &["/dev/dri/card2", "/dev/dri/renderD129"];
    const USUAL: &[&str] = &["compute", "utility"];
    const EVERY: &[&str] = &["compute", "utility", "video", "graphics", "ngx"];
    let table: &[Choice] = &[
        (None, USUAL, &[UVM]),
        (Some(""), USUAL, &[UVM]),
        (Some("compute"), &["compute"], &[UVM]),
        (Some("utility"), &["utility"], &[]),
        (Some("utility, compute"), USUAL, &[UVM]),
        (Some("graphics"), &["graphics"], &[DRM]),
        (Some("display"), &["graphics"], &[DRM]),
        (Some("ngx"), &["ngx"], &[]),
        (Some("all"), EVERY, &[UVM, DRM]),
        (Some("compute,all"), EVERY, &[UVM, DRM]),
    ];
    for (value, groups, extra) in table {
        let mut env = vec!["NVIDIA_VISIBLE_DEVICES=1".to_owned()];
        env.extend(value.map(|v| format!("NVIDIA_DRIVER_CAPABILITIES={v}")));
        let env: Vec<&str> = env.iter().map(String::as_str).collect();
        let script = format!("nodes nodes; {FIND}");
        let config = config(&env, &["sh", "-c", &script]);
        let output = GpuContainer::new(Runtime::native(), &machine.host, config).run();

        let expected: BTreeSet<String> = LIBRARIES
            .iter()
            .filter(|library| library.is_for(groups))
            .map(|library| library.file_name(DRIVER))
            .collect();
        assert_eq!(libraries_of(output.ok()), expected, "libraries for {value:?}");
        let has_smi = output.stdout.lines().any(|line| line == "/usr/bin/nvidia-smi");
        assert_eq!(has_smi, groups.contains(&"utility"), "nvidia-smi for {value:?}");

        let mut expected: Vec<&str> = vec!["/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia1"];
        extra.iter().for_each(|nodes| expected.extend(*nodes));
        expected.sort_unstable();
        let nodes = gpu_nodes(&output.stdout);
        let paths: Vec<&str> = nodes.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, expected, "nodes for {value:?}");
    }
}

#[test]
fn video_brings_the_codecs_and_what_they_need() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(1));
    let env = ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=video"];
    let gpu =
        GpuContainer::new(Runtime::native(), &machine.host, config(&env, &["sh", "-c", FIND]));
    let output = gpu.run();
    let found = libraries_of(output.ok());
    for library in LIBRARIES.iter().filter(|l| l.is_for(&["video"]) || l.stem == "libcuda") {
        assert!(found.contains(&library.file_name(DRIVER)), "{library:?} in {found:?}");
    }
    assert!(!found.contains(&format!("libnvidia-ml.so.{DRIVER}")), "{found:?}");
}

#[test]
fn compat32_adds_the_32_bit_libraries() {
    gpurun_only!("other runtimes know no GPU requests");
    if std::env::consts::ARCH != "x86_64" {
        return skipped("32-bit libraries exist on x86_64 only");
    }
    let machine = machine_like(&Layout::with_gpus(1));
    let count = |capabilities: &str| {
        let capabilities = format!("NVIDIA_DRIVER_CAPABILITIES={capabilities}");
        let env = ["NVIDIA_VISIBLE_DEVICES=0", &capabilities];
        let config = config(&env, &["sh", "-c", FIND]);
        let output = GpuContainer::new(Runtime::native(), &machine.host, config).run();
        let name = format!("/libcuda.so.{DRIVER}");
        output.ok().lines().filter(|line| line.ends_with(&name)).count()
    };
    assert!(LIBRARIES_32.contains(&"libcuda"));
    assert_eq!((count("compute"), count("compute,compat32")), (1, 2));
}

#[test]
fn a_driver_that_does_not_match_its_libraries_is_refused_with_both_versions() {
    gpurun_only!("other runtimes know no GPU requests");
    let layout = Layout { module_version: "550.54.15".to_owned(), ..Layout::with_gpus(1) };
    let machine = machine_like(&layout);
    let config = config(&["NVIDIA_VISIBLE_DEVICES=all"], &["true"]);
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, config);
    gpu.run().refused(1, &["550.54.15", DRIVER]);
}

#[test]
fn newer_drivers_name_their_major_number_differently() {
    gpurun_only!("other runtimes know no GPU requests");
    let version = "570.172.08".to_owned();
    let layout = Layout {
        module_version: version.clone(),
        library_version: version,
        ..Layout::with_gpus(2)
    };
    let machine = machine_like(&layout);
    let config = config(&["NVIDIA_VISIBLE_DEVICES=1"], &["nodes", "nodes"]);
    let output = GpuContainer::new(Runtime::native(), &machine.host, config).run();
    assert_eq!(gpu_nodes(output.ok()), nodes_for(&machine.host, &[1]));
}

#[test]
fn nodes_that_nothing_has_made_on_the_machine_yet_are_made_in_the_container() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout { uvm_nodes: false, ..Layout::with_gpus(1) });
    let config = config(&["NVIDIA_VISIBLE_DEVICES=0"], &["nodes", "nodes"]);
    let output = GpuContainer::new(Runtime::native(), &machine.host, config).run();
    assert_eq!(gpu_nodes(output.ok()), nodes_for(&machine.host, &[0]));
}

#[test]
fn a_machine_without_the_driver_is_told_so() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(1));
    fs::remove_dir_all(machine.host.root.join("proc/driver")).expect("remove proc/driver");
    fs::remove_dir_all(machine.host.root.join("sys/module/nvidia")).expect("unload the module");
    fs::write(
        machine.host.root.join("proc/devices"),
        "Character devices:\n  1 mem\n\nBlock devices:\n",
    )
    .expect("write proc/devices");
    let config = config(&["NVIDIA_VISIBLE_DEVICES=all"], &["true"]);
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, config);
    gpu.run().refused(1, &["driver", "not loaded"]);
}

#[test]
fn the_driver_is_told_not_to_make_nodes_in_the_container() {
    gpurun_only!("other runtimes know no GPU requests");
    if !Path::new("/proc/driver/nvidia/params").exists() {
        return skipped(
            "the kernel here has no NVIDIA driver, so a container's proc lacks its files",
        );
    }
    let machine = machine_like(&Layout::with_gpus(1));
    let program = ["grep", "ModifyDeviceFiles", "/proc/driver/nvidia/params"];
    let config = config(&["NVIDIA_VISIBLE_DEVICES=0"], &program);
    let output = GpuContainer::new(Runtime::native(), &machine.host, config).run();
    assert_eq!(output.ok(), "ModifyDeviceFiles: 0");
}

#[test]
fn a_container_in_a_user_namespace_gets_the_machines_nodes() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(2));
    for (runtime, user) in Runtime::each().into_iter().flat_map(|r| [(r, 0), (r, 1000)]) {
        let program =
            ["sh", "-c", "nodes nodes; nodes open /dev/nvidia0 /dev/nvidiactl /dev/nvidia-uvm"];
        let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        let config = config(&["NVIDIA_VISIBLE_DEVICES=0"], &program)
            .namespace("user", Some(""))
            .set("/process/user", json!({"uid": user, "gid": user}))
            .set("/linux/uidMappings", mapping.clone())
            .set("/linux/gidMappings", mapping);
        let gpu = GpuContainer::new(runtime, &machine.host, config);
        rootfs::give_to(&gpu.container.rootfs(), 100_000, 100_000);
        let output = gpu.run();
        assert_eq!(gpu_nodes(output.ok()), nodes_for(&machine.host, &[0]), "{runtime:?} {user}");
        let opened: Vec<&str> = output.stdout.lines().filter(|l| l.ends_with(" ENXIO")).collect();
        assert_eq!(opened.len(), 3, "{runtime:?} {user} {output:?}");
    }
}

#[test]
fn a_node_that_the_machine_lacks_is_named_where_a_user_namespace_forbids_making_it() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout { uvm_nodes: false, ..Layout::with_gpus(1) });
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let config = config(&["NVIDIA_VISIBLE_DEVICES=0"], &["true"])
        .namespace("user", Some(""))
        .set("/linux/uidMappings", mapping.clone())
        .set("/linux/gidMappings", mapping);
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, config);
    rootfs::give_to(&gpu.container.rootfs(), 100_000, 100_000);
    gpu.run().refused(1, &["/dev/nvidia-uvm", "user namespace", "create it on the host"]);
    gpu.container.assert_gone();
}

#[test]
fn a_user_without_privileges_can_open_the_nodes() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(1));
    let config =
        config(&["NVIDIA_VISIBLE_DEVICES=0"], &["nodes", "open", "/dev/nvidia0", "/dev/nvidiactl"])
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .capabilities(&[], false);
    let output = GpuContainer::new(Runtime::native(), &machine.host, config).run();
    assert_eq!(output.ok(), "/dev/nvidia0 ENXIO\n/dev/nvidiactl ENXIO");
}

fn with_docker_hook(config: Config) -> Config {
    let hook = json!({
        "path": "/no/such/directory/nvidia-container-runtime-hook",
        "args": ["nvidia-container-runtime-hook", "prestart"],
        "env": ["PATH=/usr/bin:/bin"]
    });
    config.hook("prestart", hook)
}

#[test]
fn dockers_gpu_hook_is_done_natively_and_its_program_need_not_exist() {
    gpurun_only!("other runtimes run the hook");
    let machine = machine_like(&Layout::with_gpus(2));
    let asking = with_docker_hook(config(&["NVIDIA_VISIBLE_DEVICES=1"], &["nodes", "nodes"]));
    let output = GpuContainer::new(Runtime::native(), &machine.host, asking).run();
    assert_eq!(gpu_nodes(output.ok()), nodes_for(&machine.host, &[1]));
    let void = with_docker_hook(config(&["NVIDIA_VISIBLE_DEVICES=void"], &["nodes", "nodes"]));
    let output = GpuContainer::new(Runtime::native(), &machine.host, void).run();
    assert_eq!(gpu_nodes(output.ok()), []);
}

#[test]
fn called_as_nvidias_hook_it_says_what_is_wrong() {
    gpurun_only!("the name has a meaning for gpurun only");
    let directory = tempfile::tempdir().expect("temporary directory");
    let hook = directory.path().join("nvidia-container-runtime-hook");
    symlink(Runtime::binary(), &hook).expect("symlink");
    let output = runtime::finish(Command::new(&hook).arg("prestart"), b"{}");
    assert_ne!(output.code, 0);
    output.refused(output.code, &["nvidia-container-runtime-hook", "--runtime"]);
}

#[test]
fn the_configuration_is_not_read_without_a_request() {
    gpurun_only!("the configuration is gpurun's");
    let directory = tempfile::tempdir().expect("temporary directory");
    let broken = directory.path().join("config.toml");
    fs::write(&broken, "[host\nthis is not TOML").expect("write");
    for file in [broken.as_path(), Path::new("/no/such/file.toml")] {
        let plain =
            GpuContainer::with_configuration(Runtime::native(), file, config(&[], &["true"]));
        plain.run().ok();
        let config = config(&["NVIDIA_VISIBLE_DEVICES=all"], &["true"]);
        let asking = GpuContainer::with_configuration(Runtime::native(), file, config);
        asking.run().refused(1, &[file.to_str().expect("UTF-8 path")]);
    }
}

#[test]
fn a_refused_request_leaves_nothing_behind() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(1));
    for runtime in Runtime::each() {
        let config = config(&["NVIDIA_VISIBLE_DEVICES=5"], &["true"]);
        let gpu = GpuContainer::new(runtime, &machine.host, config);
        assert_ne!(gpu.run().code, 0);
        gpu.container.assert_gone();
    }
}

#[test]
fn the_image_is_unchanged_when_the_container_is_gone() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_like(&Layout::with_gpus(1));
    let env = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"];
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, config(&env, &["true"]));
    let listing = || integration_tests::leak::listing(&gpu.container.rootfs());
    let before = listing();
    gpu.run().ok();
    gpu.container.delete(&["--force"]).ok();
    assert_eq!(listing(), before);
}
