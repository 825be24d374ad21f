//! What a container can ask for besides whole GPUs: MIG devices and their administration, IMEX
//! channels, and the devices that a variable switches on.

use std::fs;
use std::io::Write;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{
    CAPS_MAJOR, GATED_NODES, IMEX_MAJOR, Layout, MadeUpHost, Mig, Node,
};
use integration_tests::{Runtime, gpurun_only, json};
use tempfile::TempDir;

/// The machine, and these lines in its `[nvidia]` table.
fn machine(layout: &Layout, lines: &str) -> (MadeUpHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), layout).expect("made-up machine");
    let mut file = fs::File::options().append(true).open(host.config()).expect("configuration");
    writeln!(file, "{lines}").expect("write the configuration");
    (host, directory)
}

/// Four GPUs. The one with index 2 has the minor number 3, and three MIG devices; their order in
/// the directory is not that of their numbers.
const MIG: [Mig; 3] = [
    Mig { gpu_minor: 3, gi: 11, ci: 0 },
    Mig { gpu_minor: 3, gi: 2, ci: 1 },
    Mig { gpu_minor: 3, gi: 2, ci: 0 },
];

fn divided() -> (MadeUpHost, TempDir) {
    machine(&Layout { mig: MIG.to_vec(), ..Layout::with_gpus(4) }, "")
}

/// The nodes of a container besides those that every `compute,utility` container has.
fn given(runtime: Runtime, host: &MadeUpHost, env: &[&str]) -> Vec<Node> {
    let config = config(env, &["nodes", "nodes"]);
    let nodes = gpu_nodes(GpuContainer::new(runtime, host, config).run().ok());
    let usual = MadeUpHost::control_nodes();
    nodes.into_iter().filter(|node| !usual.contains(node)).collect()
}

/// The GPUs with these minor numbers and these MIG devices, sorted by path.
fn nodes_of(minors: &[u32], parts: &[Mig]) -> Vec<Node> {
    let gpus = minors.iter().map(|minor| (format!("/dev/nvidia{minor}"), 195, *minor));
    let mut nodes: Vec<Node> = gpus.chain(parts.iter().flat_map(Mig::nodes)).collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

#[test]
fn every_form_of_mig_id_gives_the_gpu_and_the_rights_of_that_part() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = divided();
    let [last, second, first] = MIG;
    let uuid = &host.gpus[2].uuid;
    let table: &[(String, Vec<Node>)] = &[
        ("2:0".to_owned(), nodes_of(&[3], &[first])),
        ("2:1".to_owned(), nodes_of(&[3], &[second])),
        ("2:2".to_owned(), nodes_of(&[3], &[last])),
        ("2:0,2:1".to_owned(), nodes_of(&[3], &[first, second])),
        ("2:2,0,2:2".to_owned(), nodes_of(&[0, 3], &[last])),
        (format!("MIG-{uuid}/11/0"), nodes_of(&[3], &[last])),
        (format!("MIG-{uuid}/2/1,2:1"), nodes_of(&[3], &[second])),
        ("nvidia.com/gpu=2:2".to_owned(), nodes_of(&[3], &[last])),
        // A whole GPU of these is its parts.
        ("all".to_owned(), nodes_of(&[0, 1, 2, 3], &MIG)),
        ("2".to_owned(), nodes_of(&[3], &[])),
        ("0".to_owned(), nodes_of(&[0], &[])),
        ("none".to_owned(), vec![]),
    ];
    for runtime in Runtime::each() {
        for (request, expected) in table {
            let variable = format!("NVIDIA_VISIBLE_DEVICES={request}");
            assert_eq!(given(runtime, &host, &[&variable]), *expected, "{runtime:?} {request}");
        }
    }
}

#[test]
fn the_rights_of_another_part_cannot_be_opened_even_when_made_inside() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = divided();
    let [last, _, first] = MIG;
    let number = |node: &Node| format!("{}:{}", node.1, node.2);
    let [own, other] = [first, last].map(|mig| mig.nodes().map(|node| number(&node)));
    for runtime in Runtime::each() {
        let program = ["nodes", "make", &own[0], &own[1], &other[0], &other[1], "508:1"];
        let config = config(&["NVIDIA_VISIBLE_DEVICES=2:0"], &program);
        let expected = format!(
            "{} ENXIO\n{} ENXIO\n{} EPERM\n{} EPERM\n508:1 EPERM",
            own[0], own[1], other[0], other[1]
        );
        assert_eq!(GpuContainer::new(runtime, &host, config).run().ok(), expected, "{runtime:?}");
    }
}

#[test]
fn a_mig_device_that_does_not_exist_is_named_with_those_that_do() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = divided();
    let uuid = &host.gpus[2].uuid;
    let unknown = format!("MIG-{uuid}/3/0");
    for (request, phrases) in [
        ("2:3", &["no MIG device", "2:3", "MIG device 2 (GI 11, CI 0)"][..]),
        ("0:0", &["no MIG device", "there is none"]),
        ("9:0", &["no GPU", "9:0"]),
        (&unknown, &["no MIG device", "GI 2, CI 1"]),
        ("MIG-5e1f0000", &["MIG-<uuid> and MIG-GPU-<uuid>/<gi>/<ci>"]),
    ] {
        let variable = format!("NVIDIA_VISIBLE_DEVICES={request}");
        let config = config(&[&variable], &["true"]);
        GpuContainer::new(Runtime::native(), &host, config).run().refused(1, phrases);
    }
}

#[test]
fn a_privileged_container_may_administer_mig_and_no_other() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = divided();
    let gpu = "NVIDIA_VISIBLE_DEVICES=0";
    let cap = |minor| (format!("/dev/nvidia-caps/nvidia-cap{minor}"), CAPS_MAJOR, minor);
    for (variable, minor) in [("NVIDIA_MIG_CONFIG_DEVICES", 1), ("NVIDIA_MIG_MONITOR_DEVICES", 2)] {
        let set = format!("{variable}=all");
        let privileged =
            |program: &[&str]| config(&[gpu, &set], program).capabilities(&["CAP_SYS_ADMIN"], true);
        let container =
            GpuContainer::new(Runtime::native(), &host, privileged(&["nodes", "nodes"]));
        let usual = MadeUpHost::control_nodes();
        let mut nodes = gpu_nodes(container.run().ok());
        nodes.retain(|node| !usual.contains(node));
        let mut expected = nodes_of(&[0], &MIG);
        expected.push(cap(minor));
        expected.sort();
        assert_eq!(nodes, expected, "{variable}");

        let what = variable.trim_start_matches("NVIDIA_");
        let phrase = format!("cannot set {what} in non privileged container");
        let container = GpuContainer::new(
            Runtime::native(),
            &host,
            config(&[gpu, &set], &["true"]).capabilities(&["CAP_CHOWN"], true),
        );
        container.run().refused(1, &[&phrase]);
        let one = config(&[gpu, &format!("{variable}=0")], &["true"]);
        let one = one.capabilities(&["CAP_SYS_ADMIN"], true);
        GpuContainer::new(Runtime::native(), &host, one).run().refused(1, &["only all"]);
    }
}

fn channel(number: u32) -> Node {
    (format!("/dev/nvidia-caps-imex-channels/channel{number}"), IMEX_MAJOR, number)
}

#[test]
fn imex_channels_are_given_by_number_and_a_missing_one_is_an_error() {
    gpurun_only!("other runtimes know no GPU requests");
    let layout = Layout { imex_channels: vec![0, 7], ..Layout::with_gpus(1) };
    let (host, _directory) = machine(&layout, "");
    let gpu = ("/dev/nvidia0".to_owned(), 195, 0);
    let table: &[(&str, Vec<Node>)] = &[
        ("0", vec![channel(0), gpu.clone()]),
        ("channel7,0", vec![channel(0), channel(7), gpu.clone()]),
        ("", vec![gpu.clone()]),
        ("void", vec![gpu.clone()]),
        ("none", vec![gpu.clone()]),
        ("all", vec![gpu.clone()]),
    ];
    for runtime in Runtime::each() {
        for (channels, expected) in table {
            let variable = format!("NVIDIA_IMEX_CHANNELS={channels}");
            let nodes = given(runtime, &host, &["NVIDIA_VISIBLE_DEVICES=all", &variable]);
            assert_eq!(nodes, *expected, "{runtime:?} {channels:?}");
        }
    }
    assert_eq!(given(Runtime::native(), &host, &["NVIDIA_IMEX_CHANNELS=0"]), []);
    for (channels, phrase) in [
        ("3", "IMEX channel 3 not found at"),
        ("1048576", "IMEX channel \"1048576\""),
        ("../nvidia0", "IMEX channel"),
    ] {
        let variable = format!("NVIDIA_IMEX_CHANNELS={channels}");
        let config = config(&["NVIDIA_VISIBLE_DEVICES=all", &variable], &["true"]);
        GpuContainer::new(Runtime::native(), &host, config).run().refused(1, &[phrase]);
    }
    let (host, _directory) = machine(&layout, "ignore-imex-channel-requests = true");
    let nodes =
        given(Runtime::native(), &host, &["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_IMEX_CHANNELS=3"]);
    assert_eq!(nodes, [gpu]);
}

#[test]
fn imex_channels_of_mounts_beat_those_of_the_variable() {
    gpurun_only!("other runtimes know no GPU requests");
    let layout = Layout { imex_channels: vec![0, 7], ..Layout::with_gpus(1) };
    let accept = "accept-nvidia-visible-devices-as-volume-mounts = true";
    let gpu = ("/dev/nvidia0".to_owned(), 195, 0);
    let env = ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=0"];
    for (lines, marker, channels) in [
        (accept, "7", vec![channel(7)]),
        (accept, "all", vec![channel(0), channel(7)]),
        ("", "7", vec![channel(0)]),
    ] {
        let (host, _directory) = machine(&layout, lines);
        let mount = json!({
            "source": "/dev/null", "type": "bind", "options": ["bind"],
            "destination": format!("/var/run/nvidia-container-devices/imex/{marker}")
        });
        let config = config(&env, &["nodes", "nodes"]).push("/mounts", mount);
        let usual = MadeUpHost::control_nodes();
        let output = GpuContainer::new(Runtime::native(), &host, config).run();
        let mut nodes = gpu_nodes(output.ok());
        nodes.retain(|node| !usual.contains(node));
        assert_eq!(nodes, [channels, vec![gpu.clone()]].concat(), "{lines} {marker}");
    }
}

#[test]
fn drivers_beside_the_gpu_are_given_when_a_variable_says_enabled() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine(&Layout { gated_nodes: true, ..Layout::with_gpus(1) }, "");
    let gated = |part: &'static str| {
        let of = GATED_NODES.into_iter().filter(move |(path, ..)| path.contains(part));
        of.map(|(path, major, minor)| (path.to_owned(), major, minor))
    };
    let table = [
        ("NVIDIA_GDS=enabled", "nvidia-fs"),
        ("NVIDIA_MOFED=enabled", "infiniband"),
        ("NVIDIA_GDRCOPY=enabled", "gdrdrv"),
        ("NVIDIA_NVSWITCH=enabled", "nvswitch"),
        ("NVIDIA_GDS=1", "nothing"),
        ("NVIDIA_GDS=Enabled", "nothing"),
    ];
    for runtime in Runtime::each() {
        for (variable, part) in table {
            let mut expected: Vec<Node> = nodes_of(&[0], &[]);
            expected.extend(gated(part));
            expected.sort();
            let nodes = given(runtime, &host, &["NVIDIA_VISIBLE_DEVICES=0", variable]);
            assert_eq!(nodes, expected, "{runtime:?} {variable}");
        }
    }
    // With none as well, as in NVIDIA's toolkit, but not without a request.
    let none = ["NVIDIA_VISIBLE_DEVICES=none", "NVIDIA_GDRCOPY=enabled"];
    assert_eq!(given(Runtime::native(), &host, &none), gated("gdrdrv").collect::<Vec<_>>());
    let void = ["NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_GDRCOPY=enabled"];
    assert_eq!(given(Runtime::native(), &host, &void), []);
    // No error on a machine without them.
    let (bare, _directory) = machine(&Layout::with_gpus(1), "");
    for (variable, _) in table {
        let nodes = given(Runtime::native(), &bare, &["NVIDIA_VISIBLE_DEVICES=0", variable]);
        assert_eq!(nodes, nodes_of(&[0], &[]), "{variable}");
    }
}
