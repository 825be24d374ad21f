//! A made-up NVIDIA machine in a directory.
//!
//! gpurun reads the machine through four roots (`proc`, `sys`, `dev`, the driver root), and its
//! configuration can point each of them elsewhere. [`MadeUpHost`] fills a directory with all
//! four: the text files that the kernel driver would show, device nodes with the real numbers,
//! and a driver root (see [`crate::stub_driver`]). The nodes lead nowhere, so opening one that a
//! container may use gives `ENXIO`, and one that it may not gives `EPERM`: device rules can be
//! observed without a GPU.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::stub_driver;

/// The static major number of the NVIDIA driver's GPU and control nodes.
pub const NVIDIA_MAJOR: u32 = 195;
/// The minor number of `/dev/nvidiactl`.
pub const CTL_MINOR: u32 = 255;
/// The minor number of `/dev/nvidia-modeset`.
pub const MODESET_MINOR: u32 = 254;
/// The major number that `nvidia-uvm` got on this machine; a real one is dynamic.
pub const UVM_MAJOR: u32 = 511;
/// The major number of `nvidia-caps`, dynamic as well.
pub const CAPS_MAJOR: u32 = 508;
/// The major number of `nvidia-caps-imex-channels`, dynamic as well.
pub const IMEX_MAJOR: u32 = 507;
/// The nodes of a machine with [`Layout::gated_nodes`], with numbers made up.
pub const GATED_NODES: [(&str, u32, u32); 6] = [
    ("/dev/nvidia-fs0", 506, 0),
    ("/dev/infiniband/uverbs0", 231, 192),
    ("/dev/infiniband/rdma_cm", 10, 120),
    ("/dev/gdrdrv", 505, 0),
    ("/dev/nvidia-nvswitchctl", 504, 255),
    ("/dev/nvidia-nvswitch0", 504, 0),
];
/// The static major number of DRM nodes.
pub const DRM_MAJOR: u32 = 226;
/// The driver version of a made-up machine, unless the test says otherwise.
pub const DRIVER_VERSION: &str = "535.261.03";

/// A character device node: path, major and minor number.
pub type Node = (String, u32, u32);

/// One made-up GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// NVML's index: the position in ascending PCI bus order.
    pub index: u32,
    /// The minor number: its node is `/dev/nvidia<minor>`.
    pub minor: u32,
    /// The PCI bus id in the spelling of `/sys/bus/pci/devices`.
    pub bus_id: String,
    /// The UUID, with its `GPU-` prefix.
    pub uuid: String,
    /// The product name.
    pub model: String,
}

impl Gpu {
    /// The GPU's device node, such as `/dev/nvidia3`.
    pub fn node(&self) -> String {
        format!("/dev/nvidia{}", self.minor)
    }

    /// The GPU's DRM nodes. Card numbers start at 1: the machine's own display adapter is 0.
    pub fn drm_nodes(&self) -> [Node; 2] {
        let (card, render) = (self.index + 1, self.index + 128);
        [
            (format!("/dev/dri/card{card}"), DRM_MAJOR, card),
            (format!("/dev/dri/renderD{render}"), DRM_MAJOR, render),
        ]
    }

    fn at(index: u32, minor: u32) -> Self {
        Self {
            index,
            minor,
            bus_id: format!("0000:{:02x}:00.0", 0x0b + 0x10 * index),
            uuid: format!("GPU-5e1f{index:04x}-9d0a-4c1b-8f00-00c0ffee{index:04x}"),
            model: "NVIDIA H100 80GB HBM3".to_owned(),
        }
    }
}

/// What a made-up machine should look like.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The minor number of each GPU, in index order.
    pub minors: Vec<u32>,
    /// The version that the loaded kernel module reports.
    pub module_version: String,
    /// The version in the library names of the driver root, when stubs are made.
    pub library_version: String,
    /// An existing driver root to use in place of stubs.
    pub driver_root: Option<PathBuf>,
    /// Whether `/dev` has the nodes of `nvidia-uvm`. On a machine where nothing used CUDA since
    /// boot it has not, though the module is loaded.
    pub uvm_nodes: bool,
    /// The MIG devices that were made.
    pub mig: Vec<Mig>,
    /// The IMEX channels whose nodes exist.
    pub imex_channels: Vec<u32>,
    /// Whether `/dev` has a node of each driver that containers get only when a variable asks:
    /// GPUDirect Storage, InfiniBand, gdrcopy and NVSwitch.
    pub gated_nodes: bool,
}

/// A MIG device: a compute instance in a GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mig {
    /// The minor number of the GPU.
    pub gpu_minor: u32,
    /// The id of the GPU instance.
    pub gi: u32,
    /// The id of the compute instance.
    pub ci: u32,
}

impl Mig {
    /// The nodes of the GPU instance and of the compute instance. Numbers as the driver gives them:
    /// after `config` and `monitor`, 15 GPU instances a GPU with 8 compute instances each.
    pub fn nodes(&self) -> [Node; 2] {
        let gi = 3 + 135 * self.gpu_minor + 9 * self.gi;
        [gi, gi + 1 + self.ci]
            .map(|minor| (format!("/dev/nvidia-caps/nvidia-cap{minor}"), CAPS_MAJOR, minor))
    }
}

impl Layout {
    /// A machine with `count` GPUs. With four of them index and minor differ, as they do on
    /// real machines where the driver bound the GPUs in another order than that of the bus.
    pub fn with_gpus(count: u32) -> Self {
        let minors = if count == 4 { vec![0, 1, 3, 2] } else { (0..count).collect() };
        Self {
            minors,
            module_version: DRIVER_VERSION.to_owned(),
            library_version: DRIVER_VERSION.to_owned(),
            driver_root: None,
            uvm_nodes: true,
            mig: Vec::new(),
            imex_channels: Vec::new(),
            gated_nodes: false,
        }
    }
}

/// A made-up machine. Dropping it leaves the directory alone; its owner removes it.
#[derive(Debug)]
pub struct MadeUpHost {
    /// The directory that holds `proc`, `sys`, `dev` and `config.toml`.
    pub root: PathBuf,
    /// The driver root.
    pub driver_root: PathBuf,
    /// The GPUs in index order.
    pub gpus: Vec<Gpu>,
}

impl MadeUpHost {
    /// Builds the machine in `root`, which is created. Needs the right to make device nodes and
    /// a file system that is not mounted `nodev`; `cc` where stubs are to be compiled.
    pub fn build(root: &Path, layout: &Layout) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = &root.canonicalize()?;
        // A container in a user namespace binds nodes from here as another user.
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
        let gpus: Vec<Gpu> = (0..).zip(&layout.minors).map(|(i, m)| Gpu::at(i, *m)).collect();
        write_proc(&root.join("proc"), layout, &gpus)?;
        write_sys(&root.join("sys"), layout, &gpus)?;
        make_nodes(&root.join("dev"), layout, &gpus)?;
        let driver_root = match &layout.driver_root {
            Some(existing) => existing.clone(),
            None => stub_driver::cached(&layout.library_version)?,
        };
        let host = Self { root: root.to_owned(), driver_root, gpus };
        host.write_config()?;
        Ok(host)
    }

    /// The configuration file, for the environment variable `GPURUN_CONFIG`.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Every NVIDIA and DRM node of the machine, as path, major and minor.
    pub fn all_nodes(&self) -> Vec<Node> {
        let mut nodes = Self::control_nodes();
        nodes.push(("/dev/nvidia-caps/nvidia-cap1".to_owned(), CAPS_MAJOR, 1));
        nodes.push(("/dev/nvidia-caps/nvidia-cap2".to_owned(), CAPS_MAJOR, 2));
        for gpu in &self.gpus {
            nodes.push((gpu.node(), NVIDIA_MAJOR, gpu.minor));
            nodes.extend(gpu.drm_nodes());
        }
        nodes
    }

    /// The nodes that every container with an NVIDIA request of `compute,utility` gets besides
    /// those of its GPUs, as path, major and minor.
    pub fn control_nodes() -> Vec<Node> {
        vec![
            ("/dev/nvidia-uvm".to_owned(), UVM_MAJOR, 0),
            ("/dev/nvidia-uvm-tools".to_owned(), UVM_MAJOR, 1),
            ("/dev/nvidiactl".to_owned(), NVIDIA_MAJOR, CTL_MINOR),
            ("/dev/nvidia-modeset".to_owned(), NVIDIA_MAJOR, MODESET_MINOR),
        ]
    }

    fn write_config(&self) -> io::Result<()> {
        let root = self.root.display();
        write(
            &self.config(),
            &format!(
                "[host]\nproc = \"{root}/proc\"\nsys = \"{root}/sys\"\ndev = \"{root}/dev\"\n\n\
                 [gpu]\nholders = \"{root}/holders\"\n\n\
                 [nvidia]\ntoolkit-config = \"none\"\ndriver-root = \"{}\"\n",
                self.driver_root.display()
            ),
        )
    }
}

fn write_proc(proc: &Path, layout: &Layout, gpus: &[Gpu]) -> io::Result<()> {
    // 550.40 renamed the major's owner.
    let major = layout.module_version.split('.').next().and_then(|v| v.parse::<u32>().ok());
    let nvidia = if major.unwrap_or(0) >= 550 { "nvidia" } else { "nvidia-frontend" };
    write(
        &proc.join("devices"),
        &format!(
            "Character devices:\n  1 mem\n  4 /dev/vc/0\n  5 /dev/tty\n 10 misc\n136 pts\n\
             {NVIDIA_MAJOR} {nvidia}\n{DRM_MAJOR} drm\n{CAPS_MAJOR} nvidia-caps\n\
             {IMEX_MAJOR} nvidia-caps-imex-channels\n\
             {UVM_MAJOR} nvidia-uvm\n\nBlock devices:\n  8 sd\n259 blkext\n"
        ),
    )?;
    write(
        &proc.join("modules"),
        "nvidia_uvm 1523712 0 - Live 0x0000000000000000 (POE)\n\
         nvidia_drm 77824 0 - Live 0x0000000000000000 (POE)\n\
         nvidia_modeset 1314816 1 nvidia_drm, Live 0x0000000000000000 (POE)\n\
         nvidia 56717312 2 nvidia_uvm,nvidia_modeset, Live 0x0000000000000000 (POE)\n",
    )?;
    let driver = proc.join("driver/nvidia");
    write(
        &driver.join("version"),
        &format!(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Fri Jun  6 01:01:01 UTC 2025\n\
             GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n",
            layout.module_version
        ),
    )?;
    write(
        &driver.join("params"),
        "ResmanDebugLevel: 4294967295\nRmLogonRC: 1\nModifyDeviceFiles: 1\nDeviceFileUID: 0\n\
         DeviceFileGID: 0\nDeviceFileMode: 438\nInitializeSystemMemoryAllocations: 1\n",
    )?;
    for gpu in gpus {
        write(
            &driver.join("gpus").join(&gpu.bus_id).join("information"),
            &format!(
                "Model: \t\t {}\nIRQ:   \t\t 7{}\nGPU UUID: \t {}\nVideo BIOS: \t 96.00.30.00.01\n\
                 Bus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\n\
                 Bus Location: \t {}\nDevice Minor: \t {}\nGPU Firmware: \t {}\nGPU Excluded:\t No\n",
                gpu.model, gpu.index, gpu.uuid, gpu.bus_id, gpu.minor, layout.module_version
            ),
        )?;
    }
    write(&proc.join("driver/nvidia-caps/mig-minors"), &mig_minors())?;
    let capabilities = driver.join("capabilities");
    write(&capabilities.join("mig/config"), "DeviceFileMinor: 1\n")?;
    write(&capabilities.join("mig/monitor"), "DeviceFileMinor: 2\n")?;
    for mig in &layout.mig {
        let gi = capabilities.join(format!("gpu{}/mig/gi{}", mig.gpu_minor, mig.gi));
        let ci = gi.join(format!("ci{}", mig.ci));
        for (directory, (_, _, minor)) in [gi, ci].iter().zip(mig.nodes()) {
            let text =
                format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n");
            write(&directory.join("access"), &text)?;
        }
    }
    Ok(())
}

/// Every instance that could be made on each of 32 GPUs.
fn mig_minors() -> String {
    let mut lines = String::from("config 1\nmonitor 2\n");
    let mut minor = 3;
    for (gpu, gi) in (0..32).flat_map(|gpu| (0..15).map(move |gi| (gpu, gi))) {
        let cis = (0..8).map(|ci| format!("/ci{ci}"));
        for ci in std::iter::once(String::new()).chain(cis) {
            lines.push_str(&format!("gpu{gpu}/gi{gi}{ci}/access {minor}\n"));
            minor += 1;
        }
    }
    lines
}

fn write_sys(sys: &Path, layout: &Layout, gpus: &[Gpu]) -> io::Result<()> {
    write(&sys.join("module/nvidia/version"), &format!("{}\n", layout.module_version))?;
    write(&sys.join("module/firmware_class/parameters/path"), "\n")?;
    for gpu in gpus {
        let device = sys.join("bus/pci/devices").join(&gpu.bus_id);
        write(&device.join("vendor"), "0x10de\n")?;
        write(&device.join("device"), "0x2330\n")?;
        write(&device.join("class"), "0x030200\n")?;
        for (path, major, minor) in gpu.drm_nodes() {
            let name = path.trim_start_matches("/dev/dri/");
            let dev = device.join("drm").join(name).join("dev");
            write(&dev, &format!("{major}:{minor}\n"))?;
        }
    }
    Ok(())
}

fn make_nodes(dev: &Path, layout: &Layout, gpus: &[Gpu]) -> io::Result<()> {
    node(&dev.join("nvidiactl"), NVIDIA_MAJOR, CTL_MINOR)?;
    node(&dev.join("nvidia-modeset"), NVIDIA_MAJOR, MODESET_MINOR)?;
    if layout.uvm_nodes {
        node(&dev.join("nvidia-uvm"), UVM_MAJOR, 0)?;
        node(&dev.join("nvidia-uvm-tools"), UVM_MAJOR, 1)?;
    }
    node(&dev.join("nvidia-caps/nvidia-cap1"), CAPS_MAJOR, 1)?;
    node(&dev.join("nvidia-caps/nvidia-cap2"), CAPS_MAJOR, 2)?;
    let mut more: Vec<Node> = layout.mig.iter().flat_map(Mig::nodes).collect();
    more.sort();
    more.dedup();
    for channel in &layout.imex_channels {
        let path = format!("/dev/nvidia-caps-imex-channels/channel{channel}");
        more.push((path, IMEX_MAJOR, *channel));
    }
    if layout.gated_nodes {
        more.extend(GATED_NODES.map(|(path, major, minor)| (path.to_owned(), major, minor)));
    }
    for (path, major, minor) in more {
        node(&dev.join(path.trim_start_matches("/dev/")), major, minor)?;
    }
    let by_path = dev.join("dri/by-path");
    fs::create_dir_all(&by_path)?;
    for gpu in gpus {
        let name = format!("nvidia{}", gpu.minor);
        node(&dev.join(name), NVIDIA_MAJOR, gpu.minor)?;
        for ((path, major, minor), kind) in gpu.drm_nodes().iter().zip(["card", "render"]) {
            let name = path.trim_start_matches("/dev/dri/");
            node(&dev.join("dri").join(name), *major, *minor)?;
            let link = by_path.join(format!("pci-{}-{kind}", gpu.bus_id));
            symlink(format!("../{name}"), link)?;
        }
    }
    Ok(())
}

fn node(path: &Path, major: u32, minor: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor))
        .map_err(io::Error::from)
        .and_then(|()| rustix::fs::chmod(path, mode).map_err(io::Error::from))
        .map_err(|e| io::Error::new(e.kind(), format!("make node {}: {e}", path.display())))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
        .map_err(|e| io::Error::new(e.kind(), format!("write {}: {e}", path.display())))
}
