//! Requests that are not `NVIDIA_VISIBLE_DEVICES`: marker mounts and swarm resources, which the
//! administrator must have allowed, and what beats what.

use std::fs;
use std::io::Write;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost, Node};
use integration_tests::{Config, Runtime, gpurun_only, json};
use tempfile::TempDir;

/// Two GPUs, and these lines in the `[nvidia]` table.
fn two_gpus(lines: &str) -> (MadeUpHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(2)).expect("made-up machine");
    let mut file = fs::File::options().append(true).open(host.config()).expect("configuration");
    writeln!(file, "{lines}").expect("write the configuration");
    (host, directory)
}

fn with_markers(env: &[&str], markers: &[&str]) -> Config {
    markers.iter().fold(config(env, &["nodes", "nodes"]), |config, marker| {
        let destination = format!("/var/run/nvidia-container-devices/{marker}");
        let options = ["bind", "ro"];
        config.push(
            "/mounts",
            json!({"source": "/dev/null", "destination": destination, "type": "bind",
                   "options": options}),
        )
    })
}

/// The indexes of the GPUs that a container of this config gets; `None`: not even the driver.
fn given(runtime: Runtime, host: &MadeUpHost, config: Config) -> Option<Vec<u32>> {
    let nodes = gpu_nodes(GpuContainer::new(runtime, host, config).run().ok());
    let has = |path: &str| nodes.iter().any(|(known, ..): &Node| known == path);
    let indexes = host.gpus.iter().filter(|gpu| has(&gpu.node())).map(|gpu| gpu.index).collect();
    (!nodes.is_empty()).then_some(indexes)
}

const ACCEPT: &str = "accept-nvidia-visible-devices-as-volume-mounts = true";

#[test]
fn mounts_of_dev_null_name_the_gpus_and_beat_the_variable() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = two_gpus(ACCEPT);
    let uuid = host.gpus[1].uuid.clone();
    let cdi = format!("cdi/nvidia.com/gpu={uuid}");
    let all = "NVIDIA_VISIBLE_DEVICES=all";
    type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a [u32]>);
    let table: &[Case<'_>] = &[
        (&[], &["1"], Some(&[1])),
        (&[], &["0", "1"], Some(&[0, 1])),
        (&[], &["all"], Some(&[0, 1])),
        (&[], &["none"], Some(&[])),
        (&[], &[&uuid], Some(&[1])),
        (&[], &["cdi/nvidia.com/gpu/0"], Some(&[0])),
        (&[], &[&cdi], Some(&[1])),
        (&[all], &["0"], Some(&[0])),
        (&[all], &["void"], None),
        (&[all], &[], Some(&[0, 1])),
        // What NVIDIA's device plugin sets besides its mounts.
        (&["NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices"], &["1"], Some(&[1])),
    ];
    for runtime in Runtime::each() {
        for (env, markers, expected) in table {
            let indexes = given(runtime, &host, with_markers(env, markers));
            assert_eq!(indexes.as_deref(), *expected, "{runtime:?} {env:?} {markers:?}");
        }
    }
}

#[test]
fn mounts_do_not_count_unless_the_administrator_says_so() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = two_gpus("");
    let native = Runtime::native();
    assert_eq!(given(native, &host, with_markers(&[], &["0"])), None);
    let env = ["NVIDIA_VISIBLE_DEVICES=1"];
    assert_eq!(given(native, &host, with_markers(&env, &["0"])), Some(vec![1]));
    // A pod of the device plugin is told which key is missing.
    let env = ["NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices"];
    let gpu = GpuContainer::new(native, &host, with_markers(&env, &["0"]));
    gpu.run().refused(1, &["accept-nvidia-visible-devices-as-volume-mounts"]);
}

#[test]
fn mounts_count_where_variables_of_unprivileged_containers_do_not() {
    gpurun_only!("other runtimes know no GPU requests");
    let lines = format!("{ACCEPT}\naccept-nvidia-visible-devices-envvar-when-unprivileged = false");
    let (host, _directory) = two_gpus(&lines);
    let env = ["NVIDIA_VISIBLE_DEVICES=all"];
    let native = Runtime::native();
    let unprivileged = |config: Config| config.capabilities(&["CAP_CHOWN"], true);
    assert_eq!(given(native, &host, unprivileged(with_markers(&env, &[]))), None);
    let both = unprivileged(with_markers(&env, &["1"]));
    assert_eq!(given(native, &host, both), Some(vec![1]));
}

#[test]
fn swarm_resources_take_the_place_of_the_variable() {
    gpurun_only!("other runtimes know no GPU requests");
    let line = "swarm-resource = \"DOCKER_RESOURCE_GPU, DOCKER_RESOURCE_CARD\"";
    let (host, _directory) = two_gpus(line);
    let uuid = format!("DOCKER_RESOURCE_CARD={}", host.gpus[0].uuid);
    let table: &[(&[&str], Option<&[u32]>)] = &[
        (&["NVIDIA_VISIBLE_DEVICES=all", "DOCKER_RESOURCE_GPU=1"], Some(&[1])),
        (&["DOCKER_RESOURCE_GPU=1"], Some(&[1])),
        (&["DOCKER_RESOURCE_GPU=1", &uuid], Some(&[0, 1])),
        (&["NVIDIA_VISIBLE_DEVICES=all", "DOCKER_RESOURCE_GPU="], None),
        (&["NVIDIA_VISIBLE_DEVICES=0"], Some(&[0])),
        (&["DOCKER_RESOURCE_DISK=1"], None),
        (&[], None),
    ];
    for (env, expected) in table {
        let indexes = given(Runtime::native(), &host, config(env, &["nodes", "nodes"]));
        assert_eq!(indexes.as_deref(), *expected, "{env:?}");
    }
    let (host, _directory) = two_gpus("");
    let env = ["DOCKER_RESOURCE_GPU=1"];
    assert_eq!(given(Runtime::native(), &host, config(&env, &["nodes", "nodes"])), None);
}
