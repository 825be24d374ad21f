//! Machines on which something is wrong with the driver or a GPU: what the user reads, and that
//! nothing is left behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, gpurun_only};
use tempfile::TempDir;

fn machine() -> (MadeUpHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(2)).expect("build a machine");
    (host, directory)
}

fn container(host: &MadeUpHost, request: &str) -> GpuContainer {
    let variable = format!("NVIDIA_VISIBLE_DEVICES={request}");
    GpuContainer::new(Runtime::native(), host, config(&[&variable], &["nodes", "nodes"]))
}

/// The container is refused with these words, and is not there afterwards.
#[track_caller]
fn refused(host: &MadeUpHost, request: &str, parts: &[&str]) {
    let container = container(host, request);
    let output = container.run();
    assert_ne!(output.code, 0, "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "{part}: {output:?}");
    }
    container.container.assert_gone();
}

fn device(host: &MadeUpHost, index: usize) -> std::path::PathBuf {
    host.root.join("sys/bus/pci/devices").join(&host.gpus[index].bus_id)
}

fn awake(device: &Path, config: &[u8]) {
    fs::create_dir_all(device.join("power")).expect("make a directory");
    fs::write(device.join("power/runtime_status"), "active\n").expect("write the state");
    fs::write(device.join("config"), config).expect("write the configuration space");
}

#[test]
fn a_gpu_taken_by_nouveau_is_an_error_with_its_remedy() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine();
    fs::remove_dir_all(host.root.join("proc/driver")).expect("unload the driver");
    fs::remove_dir_all(host.root.join("sys/module/nvidia")).expect("unload the module");
    refused(&host, "all", &["not loaded", "modprobe nvidia"]);
    symlink("../../drivers/nouveau", device(&host, 0).join("driver")).expect("bind nouveau");
    refused(&host, "all", &[&host.gpus[0].bus_id, "bound to nouveau", "blacklist"]);
}

#[test]
fn a_gpu_off_the_bus_does_not_keep_the_others_from_all() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine();
    awake(&device(&host, 0), &[0xff; 64]);
    awake(&device(&host, 1), &[0xde, 0x10, 0x30, 0x23]);
    refused(&host, "0", &["fallen off the bus", &host.gpus[0].uuid]);
    let output = container(&host, "all").run();
    let nodes = gpu_nodes(output.ok());
    assert!(nodes.iter().any(|(path, ..)| *path == host.gpus[1].node()), "{nodes:?}");
    assert!(nodes.iter().all(|(path, ..)| *path != host.gpus[0].node()), "{nodes:?}");
}
