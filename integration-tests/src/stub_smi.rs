//! A driver root whose `nvidia-smi` is a shell script that says what a test wants it to say. It
//! runs chrooted into that root, so there is a busybox in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::gpu_host::{DRIVER_VERSION, Gpu, Mig};
use crate::{images, rootfs, stub_driver};

/// Such a root.
#[derive(Debug)]
pub struct StubSmi {
    /// The root.
    pub root: PathBuf,
}

impl StubSmi {
    /// The root at this path, with a script for `nvidia-smi`; what it is called with is noted.
    pub fn build(root: &Path, script: &str) -> Self {
        fs::create_dir_all(root).expect("create the root");
        let stubs = stub_driver::cached(DRIVER_VERSION).expect("make the stub driver");
        images::install(&stubs, root).expect("copy the stub driver");
        let tools = root.join("tools");
        rootfs::build(&tools);
        fs::rename(tools.join("bin"), root.join("bin")).expect("move the tools");
        fs::create_dir_all(root.join("dev")).expect("create /dev");
        let smi = Self { root: root.to_owned() };
        smi.says(script);
        smi
    }

    /// Another script.
    pub fn says(&self, script: &str) {
        let path = self.root.join("usr/bin/nvidia-smi");
        let script = format!("#!/bin/sh\necho \"$*\" >>/called\n{script}\n");
        fs::write(&path, script).expect("write nvidia-smi");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod nvidia-smi");
    }

    /// What it was called with since the last time that this was asked, one call a line.
    pub fn calls(&self) -> Vec<String> {
        let path = self.root.join("called");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        calls.lines().map(str::to_owned).collect()
    }
}

/// A script that answers `-L` and `-q -x -i GPU` as the driver does since 470: `devices` are the
/// MIG devices with their UUIDs, in the order of their indexes on each GPU.
pub fn script(gpus: &[Gpu], devices: &[(Mig, &str)]) -> String {
    let of = |gpu: &Gpu| {
        let minor = gpu.minor;
        (0..).zip(devices.iter().filter(move |(mig, _)| mig.gpu_minor == minor))
    };
    let mut list = String::new();
    let mut reports = String::new();
    for gpu in gpus {
        list.push_str(&format!("GPU {}: {} (UUID: {})\n", gpu.index, gpu.model, gpu.uuid));
        let mut parts = String::new();
        for (index, (mig, uuid)) in of(gpu) {
            list.push_str(&format!("  MIG 1g.10gb     Device {index:2}: (UUID: {uuid})\n"));
            parts.push_str(&format!(
                "<mig_device>\n<index>{index}</index>\n<gpu_instance_id>{}</gpu_instance_id>\n\
                 <compute_instance_id>{}</compute_instance_id>\n</mig_device>\n",
                mig.gi, mig.ci
            ));
        }
        reports.push_str(&format!(
            "'-q -x -i {uuid}') cat <<END\n<?xml version=\"1.0\" ?>\n<nvidia_smi_log>\n\
             <gpu id=\"0000{}\">\n<mig_devices>\n{parts}</mig_devices>\n<uuid>{uuid}</uuid>\n\
             </gpu>\n</nvidia_smi_log>\nEND\n;;\n",
            gpu.bus_id,
            uuid = gpu.uuid
        ));
    }
    format!("case \"$*\" in\n-L) cat <<END\n{list}END\n;;\n{reports}*) exit 2;;\nesac")
}
