//! A machine on which nothing has used a GPU since boot: no device nodes, `nvidia-uvm` not
//! loaded. A script takes modprobe's place and changes the made-up list of devices.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost, UVM_MAJOR};
use integration_tests::{Runtime, gpurun_only};
use tempfile::TempDir;

struct Booted {
    host: MadeUpHost,
    _directory: TempDir,
}

impl Booted {
    /// The module is not loaded; modprobe does this.
    fn with_modprobe(script: &str) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(1)).expect("a machine");
        let booted = Self { host, _directory: directory };
        fs::copy(booted.at("proc/devices"), booted.at("loaded")).expect("keep the list");
        let list = fs::read_to_string(booted.at("proc/devices")).expect("read the list");
        let uvm = format!("{UVM_MAJOR} nvidia-uvm\n");
        fs::write(booted.at("proc/devices"), list.replace(&uvm, "")).expect("write the list");
        for name in fs::read_dir(booted.at("dev")).expect("list the nodes") {
            let path = name.expect("an entry").path();
            if !path.is_dir() {
                fs::remove_file(path).expect("remove a node");
            }
        }
        let root = booted.host.root.display();
        let modprobe = booted.at("modprobe");
        let script = format!("#!/bin/sh\ncd {root}\necho \"$*\" >>called\n{script}\n");
        fs::write(&modprobe, script).expect("write the script");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&modprobe, mode).expect("make it executable");
        booted.configure(&format!("modprobe = {modprobe:?}"), "");
        booted
    }

    fn at(&self, name: &str) -> PathBuf {
        self.host.root.join(name)
    }

    fn configure(&self, host: &str, nvidia: &str) {
        let text = fs::read_to_string(self.host.config()).expect("read the configuration");
        let text = text.replace("[host]\n", &format!("[host]\n{host}\n"));
        fs::write(self.host.config(), format!("{text}{nvidia}\n")).expect("write it");
    }

    fn called(&self) -> String {
        fs::read_to_string(self.at("called")).unwrap_or_default()
    }

    fn container(&self, capabilities: &str) -> GpuContainer {
        let capabilities = format!("NVIDIA_DRIVER_CAPABILITIES={capabilities}");
        let env = ["NVIDIA_VISIBLE_DEVICES=all", &capabilities];
        GpuContainer::new(Runtime::native(), &self.host, config(&env, &["nodes", "nodes"]))
    }
}

const LOADS: &str = "cp loaded proc/devices";

#[test]
fn the_first_container_after_boot_can_run_cuda() {
    gpurun_only!("other runtimes know no GPU requests");
    let booted = Booted::with_modprobe(LOADS);
    let nodes = gpu_nodes(booted.container("compute").run().ok());
    for expected in [("/dev/nvidia-uvm", UVM_MAJOR, 0), ("/dev/nvidia0", 195, 0)] {
        let expected = (expected.0.to_owned(), expected.1, expected.2);
        assert!(nodes.contains(&expected), "{nodes:?}");
    }
    booted.container("compute").run().ok();
    assert_eq!(booted.called(), "nvidia-uvm\n", "loaded once");
}

#[test]
fn nothing_is_loaded_for_a_container_that_does_not_compute() {
    gpurun_only!("other runtimes know no GPU requests");
    let booted = Booted::with_modprobe(LOADS);
    booted.container("utility").run().ok();
    assert_eq!(booted.called(), "");
}

#[test]
fn a_module_that_cannot_be_loaded_is_an_error_with_modprobes_words() {
    gpurun_only!("other runtimes know no GPU requests");
    let booted = Booted::with_modprobe("echo 'FATAL: Module nvidia-uvm not found.' >&2; exit 1");
    let container = booted.container("compute");
    let output = container.run();
    assert_ne!(output.code, 0, "{output:?}");
    for part in ["nvidia-uvm is not loaded", "FATAL: Module nvidia-uvm not found.", "install"] {
        assert!(output.stderr.contains(part), "{part}: {output:?}");
    }
    container.container.assert_gone();
}

#[test]
fn explain_and_the_configuration_leave_the_modules_alone() {
    gpurun_only!("other runtimes know no GPU requests");
    let booted = Booted::with_modprobe(LOADS);
    let container = booted.container("compute");
    let bundle = container.container.bundle();
    let output = container.call(&["explain", "--bundle", bundle.to_str().expect("UTF-8 path")]);
    assert!(output.stderr.contains("would load it"), "{output:?}");
    booted.configure("", "load-kmods = false");
    let output = booted.container("compute").run();
    assert!(output.stderr.contains("modprobe nvidia-uvm"), "{output:?}");
    assert_eq!(booted.called(), "");
}
