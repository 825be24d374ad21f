//! Machines whose driver is not that of GPUs on the PCI bus: WSL2 and Jetson.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost};
use integration_tests::{Runtime, gpurun_only, images, probe};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A made-up machine without the PCI driver, and an empty driver root.
struct Machine {
    host: MadeUpHost,
    root: PathBuf,
    directory: TempDir,
}

fn machine() -> Machine {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let host = MadeUpHost::build(&directory.path().join("host"), &Layout::with_gpus(1))
        .expect("build a made-up machine");
    fs::remove_dir_all(host.root.join("proc/driver")).expect("unload the driver");
    let root = directory.path().join("root");
    fs::create_dir(&root).expect("mkdir");
    Machine { host, root, directory }
}

impl Machine {
    fn configure(&self, more: &str) {
        let host = self.host.root.display();
        let text = format!(
            "[host]\nproc = \"{host}/proc\"\nsys = \"{host}/sys\"\ndev = \"{host}/dev\"\n\n\
             [nvidia]\ntoolkit-config = \"none\"\ndriver-root = {:?}\n{more}\n",
            self.root
        );
        fs::write(self.host.config(), text).expect("write the configuration");
    }

    fn node(&self, name: &str, major: u32, minor: u32) {
        let path = self.host.root.join("dev").join(name);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor)).expect("mknod");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
    }

    /// A file of the stub driver under another name.
    fn take(&self, name: &str, to: &str) {
        let from = self.host.driver_root.join(name);
        let to = self.root.join(to);
        fs::create_dir_all(to.parent().unwrap()).expect("mkdir");
        fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    fn container(&self, script: &str) -> GpuContainer {
        let config = config(&[PATH, "NVIDIA_VISIBLE_DEVICES=all"], &["sh", "-c", script]);
        let gpu = GpuContainer::new(Runtime::native(), &self.host, config);
        let rootfs = gpu.container.rootfs();
        images::install(&images::fedora_like().expect("make an image"), &rootfs).expect("copy");
        fs::copy(probe::nodes().expect("the probe"), rootfs.join("bin/nodes")).expect("copy");
        gpu
    }
}

fn library(name: &str) -> String {
    format!("usr/lib/{}-linux-gnu/{name}.so.{DRIVER_VERSION}", std::env::consts::ARCH)
}

fn lines(container: &GpuContainer) -> Vec<String> {
    let output = container.run();
    output.ok().lines().map(str::to_owned).collect()
}

/// As it was before the container.
fn files_of(rootfs: &Path) -> Vec<String> {
    images::listing(rootfs, &[]).expect("list the image")
}

#[test]
fn wsl2_gives_its_node_the_drivers_store_and_the_program_in_it() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let store = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_0";
    machine.node("dxg", 511, 99);
    machine.take(&library("libcuda"), &format!("{store}/libcuda.so.1.1"));
    machine.take(&library("libnvidia-ml"), &format!("{store}/libnvidia-ml.so.1"));
    machine.take("usr/bin/nvidia-smi", &format!("{store}/nvidia-smi"));
    machine.take(&library("libnvidia-tls"), "usr/lib/wsl/lib/libdxcore.so");
    machine.configure("");
    let script = format!(
        "nodes open /dev/dxg; readlink /usr/bin/nvidia-smi; nvidia-smi | head -n 1 | cut -c 1-10; \
         ldconfig -p | grep -c -e 'libcuda.so.1 .*=> /{store}/libcuda.so.1.1' \
         -e 'libdxcore.so .*=> /usr/lib/wsl/lib/'; symbols libcuda.so.1=cuInit; \
         echo x 2>/dev/null > /{store}/nvidia-smi || echo read-only; echo $NVIDIA_VISIBLE_DEVICES"
    );
    let container = machine.container(&script);
    let before = files_of(&container.container.rootfs());
    let lines = lines(&container);
    let smi = format!("/{store}/nvidia-smi");
    assert_eq!(lines[..4], ["/dev/dxg ENXIO", &smi, "NVIDIA-SMI", "2"], "{lines:?}");
    assert_eq!(lines[lines.len() - 2..], ["read-only", "void"], "{lines:?}");
    container.container.assert_gone();
    assert_eq!(files_of(&container.container.rootfs()), before);
}

#[test]
fn a_jetson_gives_what_its_lists_name() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let tegra = "usr/lib/aarch64-linux-gnu/tegra";
    machine.take(&library("libcuda"), &format!("{tegra}/libcuda.so.1.1"));
    symlink("tegra/libcuda.so.1.1", machine.root.join("usr/lib/aarch64-linux-gnu/libcuda.so"))
        .expect("link");
    fs::create_dir_all(machine.root.join("etc")).expect("mkdir");
    fs::write(machine.root.join("etc/nv_tegra_release"), "# R36\n").expect("write");
    machine.node("nvmap", 511, 60);
    let csv = machine.directory.path().join("csv");
    fs::create_dir(&csv).expect("mkdir");
    let list = format!(
        "dev, /dev/nvmap\ndev, /dev/nvhost-*\nlib, /{tegra}/libcuda.so.1.1\n\
         sym, /usr/lib/aarch64-linux-gnu/libcuda.so\nlib, /usr/lib/not-there.so\n"
    );
    fs::write(csv.join("l4t.csv"), list).expect("write");
    machine.configure(&format!("csv-directory = {csv:?}"));
    let script = format!(
        "nodes open /dev/nvmap; readlink /usr/lib/aarch64-linux-gnu/libcuda.so; \
         ldconfig -p | grep -c 'libcuda.so.1 .*=> /{tegra}/libcuda.so.1'; cat /etc/nv_tegra_release"
    );
    let container = machine.container(&script);
    let before = files_of(&container.container.rootfs());
    let lines = lines(&container);
    assert_eq!(lines, ["/dev/nvmap ENXIO", "tegra/libcuda.so.1.1", "1", "# R36"]);
    container.container.assert_gone();
    assert_eq!(files_of(&container.container.rootfs()), before);
}
