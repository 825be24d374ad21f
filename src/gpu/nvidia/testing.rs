//! A made-up machine with four GPUs and a driver, as a directory tree.

use std::path::Path;

use crate::host::elf::{EM_AARCH64, EM_X86_64};
use crate::host::testing::{Scratch, elf};
use crate::host::{Host, Settings};

/// The driver version of the made-up machine.
pub const VERSION: &str = "535.104.05";

/// The machine's own library directory, below its driver root.
pub const LIBRARIES: &str = "usr/lib64";

/// Libraries with their SONAMEs.
const STUBS: [(&str, &str); 9] = [
    ("libcuda", "libcuda.so.1"),
    ("libnvidia-ml", "libnvidia-ml.so.1"),
    ("libnvidia-ptxjitcompiler", "libnvidia-ptxjitcompiler.so.1"),
    ("libnvidia-opticalflow", "libnvidia-opticalflow.so.1"),
    ("libnvidia-encode", "libnvidia-encode.so.1"),
    ("libnvidia-allocator", "libnvidia-allocator.so.1"),
    ("libGLX_nvidia", "libGLX_nvidia.so.0"),
    ("libnvidia-brandnew", "libnvidia-brandnew.so.1"),
    ("libnvidia-ngx", "libnvidia-ngx.so.1"),
];

/// The machine.
pub struct Machine {
    /// Its files.
    pub files: Scratch,
}

impl Machine {
    /// Four GPUs; the third has minor 7. The host's `/dev` is empty.
    pub fn new() -> Self {
        let machine = Self { files: Scratch::new() };
        let files = &machine.files;
        files.directory("dev");
        files.directory("sys");
        files.write("proc/devices", "Character devices:\n  1 mem\n195 nvidia-frontend\n511 nvidia-uvm\n\nBlock devices:\n  8 sd\n");
        machine.kernel(VERSION);
        files.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\nDeviceFileMode: 438\n");
        for (n, (bus, minor)) in [("01", 0), ("25", 1), ("41", 7), ("61", 3)].iter().enumerate() {
            machine.gpu(&format!("0000:{bus}:00.0"), &format!(
                "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 51\nGPU UUID: \t GPU-0000000{n}-0000-0000-0000-000000000000\nBus Location: \t 0000:{bus}:00.0\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n"
            ));
        }
        for (stem, soname) in STUBS {
            machine.library(LIBRARIES, &format!("{stem}.so.{VERSION}"), Some(soname));
            files.link(&format!("{stem}.so.{VERSION}"), &format!("root/{LIBRARIES}/{soname}"));
        }
        files.program("root/usr/bin/nvidia-smi");
        files.program("root/usr/bin/nvidia-cuda-mps-control");
        files.write(&format!("root/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"), "x");
        machine
    }

    /// Loads a kernel module of this version.
    pub fn kernel(&self, version: &str) {
        self.files.write("proc/driver/nvidia/version", format!(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Sat Aug 19 01:15:15 UTC 2023\n"
        ));
    }

    /// Adds or changes a GPU.
    pub fn gpu(&self, bus_id: &str, information: &str) {
        self.files.write(&format!("proc/driver/nvidia/gpus/{bus_id}/information"), information);
    }

    /// Adds a 64-bit library below the driver root.
    pub fn library(&self, directory: &str, name: &str, soname: Option<&str>) {
        let machine = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
        self.files.write(&format!("root/{directory}/{name}"), elf(true, machine, soname));
    }

    /// The absolute path of a file of the machine.
    pub fn at(&self, relative: impl AsRef<Path>) -> std::path::PathBuf {
        self.files.path().join(relative)
    }

    /// The machine as the code sees it.
    pub fn host(&self) -> Host {
        Host::at(self.at("proc"), self.at("sys"), self.at("dev")).unwrap()
    }

    /// A configuration with the driver root and these further lines of the `[nvidia]` table.
    pub fn settings(&self, more: &str) -> Settings {
        let root = self.at("root");
        let text = format!("[nvidia]\ndriver-root = {:?}\n{more}\n", root.to_str().unwrap());
        Settings::parse(Path::new("/c.toml"), text, &crate::gpu::tables()).unwrap()
    }
}
