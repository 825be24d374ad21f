//! A made-up machine with devices of other makers than NVIDIA, in a directory.
//!
//! As [`crate::gpu_host`], and it can be put beside such a machine's files: nodes with numbers
//! that nothing serves, and the directories of sysfs that name them.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Map, Value, json};

use crate::gpu_host::{DRM_MAJOR, Node};

/// The major number that KFD got; a real one is dynamic.
pub const KFD_MAJOR: u32 = 503;
/// The static major number of the class `accel`.
pub const ACCEL_MAJOR: u32 = 261;
/// The major number of `davinci`, dynamic as well.
pub const DAVINCI_MAJOR: u32 = 502;
/// The group of DRM's cards.
pub const VIDEO: u32 = 44;
/// The group of DRM's render nodes, of KFD and of accelerators.
pub const RENDER: u32 = 106;

/// The number of the first AMD card; smaller ones are other makers'.
const AMD_CARD: u32 = 32;
/// The number of the first AMD render node.
const AMD_RENDER: u32 = 160;

/// The machine. Dropping it leaves the directory alone; its owner removes it.
#[derive(Debug)]
pub struct VendorHost {
    root: PathBuf,
}

impl VendorHost {
    /// An empty machine in `root`, with a configuration that has these lines besides.
    #[must_use]
    pub fn new(root: &Path, lines: &str) -> Self {
        let root = root.canonicalize().expect("root");
        for directory in ["proc", "sys/bus/pci/devices", "dev", "cdi"] {
            fs::create_dir_all(root.join(directory)).expect("mkdir");
        }
        let at = |name: &str| root.join(name);
        let text = format!(
            "[host]\nproc = {:?}\nsys = {:?}\ndev = {:?}\n[cdi]\nspec-dirs = [{:?}]\n{lines}\n",
            at("proc"),
            at("sys"),
            at("dev"),
            at("cdi")
        );
        fs::write(at("config.toml"), text).expect("write the configuration");
        Self { root }
    }

    /// In the directory of a machine that exists.
    #[must_use]
    pub fn beside(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The configuration file, for the environment variable `GPURUN_CONFIG`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `gpus` AMD GPUs, each of which is `partitions` devices. After the last there is a
    /// partition whose node leads nowhere, and of which KFD knows nothing.
    pub fn amd(&self, gpus: u32, partitions: u32) {
        fs::create_dir_all(self.root.join("sys/module/amdgpu/drivers/pci:amdgpu")).expect("mkdir");
        self.write("sys/class/kfd/kfd/dev", &format!("{KFD_MAJOR}:0\n"));
        self.node("kfd", KFD_MAJOR, 0, 0o660, RENDER);
        for processor in 0..2 {
            self.kfd(processor, 0, 0, 0);
        }
        let count = gpus * partitions;
        for index in 0..count {
            let (gpu, part) = (index / partitions, index % partitions);
            let bus = 0x05 + 0x10 * gpu;
            let address = format!("0000:{bus:02x}:00.0");
            let device = match part {
                0 => format!("sys/bus/pci/devices/{address}"),
                // The driver counts them through all GPUs.
                _ => {
                    format!("sys/devices/platform/amdgpu_xcp_{}", gpu * (partitions - 1) + part - 1)
                }
            };
            self.drm(&device, AMD_CARD + index, AMD_RENDER + index);
            self.kfd(2 + index, AMD_RENDER + index, bus << 8, amd_unique_id(gpu));
            if part == 0 {
                self.write(&format!("{device}/product_name"), "AMD Instinct MI300X OAM\n");
                let target = format!("../../../../bus/pci/devices/{address}");
                self.link(&target, &format!("sys/module/amdgpu/drivers/pci:amdgpu/{address}"));
            }
        }
        self.drm("sys/devices/platform/amdgpu_xcp_999", AMD_CARD + count, AMD_RENDER + count);
    }

    /// The file of AMD's GPU tracker, which the configuration must name.
    #[must_use]
    pub fn tracker(&self) -> PathBuf {
        self.root.join("gpu-tracker.json")
    }

    /// Turns AMD's GPU tracker on for so many GPUs; those of `exclusive` are for one container.
    pub fn track(&self, gpus: u32, exclusive: &[u32]) {
        let status = |index: u32| {
            let accessibility = u32::from(exclusive.contains(&index));
            let status = json!({"uuid": format!("{:#X}", amd_unique_id(index)),
                                "partitionType": "spx_nps1",
                                "accessibility": accessibility, "containerIds": []});
            (index.to_string(), status)
        };
        let info = |index: u32| {
            let nodes = drm_nodes(AMD_CARD + index, AMD_RENDER + index).map(|(path, ..)| path);
            (index.to_string(), json!({"DrmDevices": nodes, "PartitionType": "spx_nps1"}))
        };
        let list = json!({
            "enabled": true,
            "gpusStatus": (0..gpus).map(status).collect::<Map<_, _>>(),
            "gpusInfo": (0..gpus).map(info).collect::<Map<_, _>>(),
        });
        fs::write(self.tracker(), list.to_string()).expect("write the tracker's file");
    }

    /// The containers in the tracker's list that have this GPU.
    #[must_use]
    pub fn holders(&self, gpu: u32) -> Value {
        let text = fs::read_to_string(self.tracker()).expect("read the tracker's file");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["gpusStatus"][gpu.to_string()]["containerIds"].clone()
    }

    fn kfd(&self, node: u32, render: u32, location: u32, unique_id: u64) {
        self.write(
            &format!("sys/class/kfd/kfd/topology/nodes/{node}/properties"),
            &format!(
                "simd_count 304\nlocation_id {location}\ndomain 0\ndrm_render_minor {render}\n\
                 unique_id {unique_id}\n"
            ),
        );
    }

    /// An integrated GPU, a card that is divided into two virtual functions, and an NPU.
    pub fn intel(&self) {
        for (card, address, device, functions) in [
            (0, "0000:00:02.0", "0x46a6", None),
            (20, "0000:e0:00.0", "0x56c0", Some(2)),
            (21, "0000:e0:00.1", "0x56c0", None),
            (22, "0000:e0:00.2", "0x56c0", None),
        ] {
            let function = self.function(address, "0x8086", device);
            self.drm(&function, card, 228 + card);
            if let Some(count) = functions {
                self.write(&format!("{function}/sriov_numvfs"), &format!("{count}\n"));
            }
            let target = format!("../../../bus/pci/devices/{address}");
            self.link(&target, &format!("sys/class/drm/card{card}/device"));
            for (kind, name) in
                [("card", format!("card{card}")), ("render", format!("renderD{}", 228 + card))]
            {
                let link = format!("dev/dri/by-path/pci-{address}-{kind}");
                self.link(&format!("../{name}"), &link);
            }
        }
        self.function("0000:00:0b.0", "0x8086", "0x7d1d");
        self.accel("accel20", 200, "0000:00:0b.0");
    }

    /// Gaudi devices.
    pub fn gaudi(&self, count: u32) {
        for number in 0..count {
            let address = format!("0000:{:02x}:00.0", 0xa0 + number);
            self.function(&address, "0x1da3", "0x1020");
            self.accel(&format!("accel{number}"), 2 * number, &address);
            self.accel(&format!("accel_controlD{number}"), 2 * number + 1, &address);
        }
    }

    /// Ascend devices.
    pub fn ascend(&self, count: u32) {
        for number in 0..count {
            self.node(&format!("davinci{number}"), DAVINCI_MAJOR, number, 0o660, 0);
        }
        self.node("davinci_manager", DAVINCI_MAJOR, 255, 0o660, 0);
    }

    fn accel(&self, name: &str, minor: u32, address: &str) {
        self.write(&format!("sys/class/accel/{name}/dev"), &format!("{ACCEL_MAJOR}:{minor}\n"));
        let target = format!("../../../bus/pci/devices/{address}");
        self.link(&target, &format!("sys/class/accel/{name}/device"));
        self.node(&format!("accel/{name}"), ACCEL_MAJOR, minor, 0o660, RENDER);
    }

    fn function(&self, address: &str, vendor: &str, device: &str) -> String {
        let function = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{function}/vendor"), &format!("{vendor}\n"));
        self.write(&format!("{function}/device"), &format!("{device}\n"));
        function
    }

    fn drm(&self, device: &str, card: u32, render: u32) {
        for (name, minor, group) in
            [(format!("card{card}"), card, VIDEO), (format!("renderD{render}"), render, RENDER)]
        {
            let dev = format!("{device}/drm/{name}/dev");
            self.write(&dev, &format!("{DRM_MAJOR}:{minor}\n"));
            self.node(&format!("dri/{name}"), DRM_MAJOR, minor, 0o660, group);
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::write(path, text).expect("write");
    }

    fn link(&self, target: &str, path: &str) {
        symlink(target, self.path(path)).expect("symlink");
    }

    fn node(&self, name: &str, major: u32, minor: u32, mode: u32, group: u32) {
        let path = self.path(&format!("dev/{name}"));
        let mode = Mode::from_raw_mode(mode);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor))
            .expect("make a node");
        rustix::fs::chmod(&path, mode).expect("chmod");
        chown(&path, Some(0), Some(group)).expect("chown");
    }

    /// The path, whose directory exists afterwards.
    fn path(&self, path: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        path
    }
}

/// The unique id of an AMD GPU, which its partitions share.
#[must_use]
pub fn amd_unique_id(gpu: u32) -> u64 {
    0x0378_041e_1ada_6010 + u64::from(gpu)
}

/// The nodes of the AMD devices with these indexes, with KFD, sorted by path.
#[must_use]
pub fn amd_nodes(indexes: &[u32]) -> Vec<Node> {
    let mut nodes: Vec<Node> =
        indexes.iter().flat_map(|index| drm_nodes(AMD_CARD + index, AMD_RENDER + index)).collect();
    if !nodes.is_empty() {
        nodes.push(("/dev/kfd".to_owned(), KFD_MAJOR, 0));
    }
    nodes.sort();
    nodes
}

/// The nodes of Intel's cards with these numbers, sorted by path.
#[must_use]
pub fn intel_nodes(cards: &[u32]) -> Vec<Node> {
    let mut nodes: Vec<Node> = cards.iter().flat_map(|card| drm_nodes(*card, 228 + card)).collect();
    nodes.sort();
    nodes
}

fn drm_nodes(card: u32, render: u32) -> [Node; 2] {
    [
        (format!("/dev/dri/card{card}"), DRM_MAJOR, card),
        (format!("/dev/dri/renderD{render}"), DRM_MAJOR, render),
    ]
}

/// The nodes of the Gaudi devices with these indexes, sorted by path.
#[must_use]
pub fn gaudi_nodes(indexes: &[u32]) -> Vec<Node> {
    let of = |index: &u32| {
        [
            (format!("/dev/accel/accel{index}"), ACCEL_MAJOR, 2 * index),
            (format!("/dev/accel/accel_controlD{index}"), ACCEL_MAJOR, 2 * index + 1),
        ]
    };
    let mut nodes: Vec<Node> = indexes.iter().flat_map(of).collect();
    nodes.sort();
    nodes
}
