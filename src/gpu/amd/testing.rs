//! A made-up AMD machine, as a directory tree.

use crate::host::testing::Scratch;
use crate::host::{Host, Settings};

/// The machine.
pub struct Machine {
    /// Its files.
    pub files: Scratch,
    kfd_nodes: std::cell::Cell<u32>,
}

impl Machine {
    /// Two processors and no GPU; the driver is loaded.
    pub fn new() -> Self {
        let machine = Self { files: Scratch::new(), kfd_nodes: 0.into() };
        for directory in ["proc", "dev", "sys/module/amdgpu/drivers/pci:amdgpu"] {
            machine.files.directory(directory);
        }
        machine.files.write("sys/class/kfd/kfd/dev", "510:0\n");
        machine.kfd(0, 0, 0, 0);
        machine.kfd(0, 0, 0, 0);
        machine
    }

    /// `count` GPUs on buses 0x05, 0x15, …, each of which is `partitions` devices. Render nodes
    /// are given out GPU by GPU; card 0 is the machine's own display adapter.
    pub fn with(count: u32, partitions: u32) -> Self {
        let machine = Self::new();
        for gpu in 0..count {
            let first = gpu * partitions;
            machine.gpu(bus(gpu), 1 + first, 128 + first, &format!("{:x}", unique(gpu)));
            for part in 1..partitions {
                // Numbered through all GPUs.
                let xcp = gpu * (partitions - 1) + part - 1;
                machine.partition(xcp, 1 + first + part, 128 + first + part);
                machine.kfd(128 + first + part, 0, u64::from(bus(gpu)) << 8, unique(gpu));
            }
        }
        machine
    }

    /// A GPU on this bus, with these numbers of its nodes, and its node in KFD's list.
    pub fn gpu(&self, bus: u32, card: u32, render: u32, unique_id: &str) {
        let address = format!("0000:{bus:02x}:00.0");
        let device = format!("sys/bus/pci/devices/{address}");
        self.drm(&device, card, render);
        self.files.write(&format!("{device}/drm/card{card}/card{card}-DP-1/status"), "x");
        self.files.write(&format!("{device}/product_name"), "AMD Instinct MI300X OAM\n");
        self.files.write(&format!("{device}/numa_node"), "1\n");
        self.files.write(&format!("{device}/current_compute_partition"), "CPX\n");
        self.files.write(&format!("{device}/current_memory_partition"), "NPS4\n");
        let link = format!("sys/module/amdgpu/drivers/pci:amdgpu/{address}");
        self.files.link(&format!("../../../../bus/pci/devices/{address}"), &link);
        let id = u64::from_str_radix(unique_id, 16).unwrap();
        self.kfd(render, 0, u64::from(bus) << 8, id);
    }

    /// A partition's platform device; KFD need not know it.
    pub fn partition(&self, number: u32, card: u32, render: u32) {
        self.drm(&format!("sys/devices/platform/amdgpu_xcp_{number}"), card, render);
    }

    /// A node of KFD's list.
    pub fn kfd(&self, render: u32, domain: u32, location: u64, unique_id: u64) {
        let node = self.kfd_nodes.replace(self.kfd_nodes.get() + 1);
        self.files.write(
            &format!("sys/class/kfd/kfd/topology/nodes/{node}/properties"),
            format!(
                "cpu_cores_count 0\nsimd_count 1216\nlocation_id {location}\ndomain {domain}\n\
                 drm_render_minor {render}\nhive_id 0\nunique_id {unique_id}\n"
            ),
        );
    }

    fn drm(&self, device: &str, card: u32, render: u32) {
        self.files.write(&format!("{device}/drm/card{card}/dev"), format!("226:{card}\n"));
        self.files.write(&format!("{device}/drm/renderD{render}/dev"), format!("226:{render}\n"));
    }

    /// The machine as the code sees it.
    pub fn host(&self) -> Host {
        let at = |name: &str| self.files.path().join(name);
        Host::at(at("proc"), at("sys"), at("dev")).unwrap()
    }

    /// A configuration with these lines.
    pub fn settings(&self, lines: &str) -> Settings {
        Settings::parse("/c.toml".as_ref(), lines.to_owned(), &crate::gpu::tables()).unwrap()
    }
}

/// The bus of a GPU.
pub fn bus(gpu: u32) -> u32 {
    0x05 + 0x10 * gpu
}

/// The unique id of a GPU.
pub fn unique(gpu: u32) -> u64 {
    0x0378_041e_1ada_6010 + u64::from(gpu)
}
