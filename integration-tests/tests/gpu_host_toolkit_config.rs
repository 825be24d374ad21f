//! A node that switches over from NVIDIA's runtime: its configuration file stays in force where
//! gpurun's own says nothing.

use std::fs;
use std::path::PathBuf;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, gpurun_only};
use tempfile::TempDir;

/// A machine with this file of NVIDIA's and these lines in gpurun's `[nvidia]` table.
fn machine(theirs: &str, ours: &str) -> (MadeUpHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(1)).expect("build a machine");
    let file: PathBuf = host.root.join("toolkit.toml");
    fs::write(&file, theirs).expect("write their file");
    let text = fs::read_to_string(host.config()).expect("read our file");
    let named = format!("toolkit-config = {file:?}\n{ours}");
    let text = text.replace("toolkit-config = \"none\"", &named);
    fs::write(host.config(), text).expect("write our file");
    (host, directory)
}

fn container(host: &MadeUpHost) -> GpuContainer {
    let config = config(&["NVIDIA_VISIBLE_DEVICES=all"], &["nodes", "nodes"]);
    GpuContainer::new(Runtime::native(), host, config.capabilities(&["CAP_MKNOD"], false))
}

const REFUSES: &str = "accept-nvidia-visible-devices-envvar-when-unprivileged";

#[test]
fn the_policy_of_nvidias_file_holds_until_gpuruns_own_says_otherwise() {
    gpurun_only!("other runtimes know no GPU requests");
    let theirs = format!("{REFUSES} = false\nunknown-key = 1\n[nvidia-container-runtime]\nx = 2\n");
    let (host, _directory) = machine(&theirs, "");
    assert_eq!(gpu_nodes(container(&host).run().ok()), []);
    let (host, _directory) = machine(&theirs, &format!("{REFUSES} = true"));
    assert!(!gpu_nodes(container(&host).run().ok()).is_empty());
}

#[test]
fn a_file_whose_policy_cannot_be_read_is_an_error_for_gpu_containers_only() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine(&format!("{REFUSES} = \n"), "");
    let refused = container(&host);
    let output = refused.run();
    assert!(output.code != 0 && output.stderr.contains("toolkit.toml line 1"), "{output:?}");
    refused.container.assert_gone();
    let plain = GpuContainer::new(Runtime::native(), &host, config(&[], &["true"]));
    assert_eq!(plain.run().code, 0);
}
