//! Made-up Jetsons.

use std::path::Path;

use crate::gpu::GpuError;
use crate::gpu::cdi::generate::{HookProgram, Options, generate};
use crate::gpu::nvidia::config::Config;
use crate::gpu::nvidia::testing::Machine;
use crate::gpu::plan::{Abi, FileKind, Place, Plan};
use crate::gpu::request::Request;
use crate::gpu::resolve;
use crate::host::elf::{EM_AARCH64, EM_X86_64};
use crate::host::testing::elf;

const LIBRARIES: &str = "usr/lib/aarch64-linux-gnu";

const L4T: &str = "\
dev, /dev/nvmap
dev, /dev/nvhost-*
dev, /dev/nvidia1
dev, /dev/not-there
lib, /usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1.1
lib, /usr/lib/aarch64-linux-gnu/tegra/libnvrm_*.so
sym, /usr/lib/aarch64-linux-gnu/libcuda.so
sym, /usr/lib/aarch64-linux-gnu/libcuda.so
lib, /usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1.1
dir, /usr/share/nvfw
sym, /usr/share/nvfw/current
sym, /usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1.1
lib, /usr/lib/not-there.so
";

/// `None` where no device node can be made.
fn machine() -> Option<Machine> {
    let machine = Machine::new();
    let files = &machine.files;
    for gone in ["proc/driver", "root"] {
        std::fs::remove_dir_all(machine.at(gone)).unwrap();
    }
    let model = "NVIDIA Jetson AGX Orin Developer Kit\0";
    files.write("sys/firmware/devicetree/base/model", model);
    let names = "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0";
    files.write("sys/firmware/devicetree/base/compatible", names);
    files.write("root/etc/nv_tegra_release", "# R36 (release), REVISION: 3.0\n");
    let own = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
    let library = |name: &str, soname: &str| {
        let path = format!("root/{LIBRARIES}/tegra/{name}");
        files.write(&path, elf(true, own, Some(soname)));
    };
    library("libcuda.so.1.1", "libcuda.so.1");
    files.link("libcuda.so.1.1", &format!("root/{LIBRARIES}/tegra/libcuda.so.1"));
    files.link("tegra/libcuda.so", &format!("root/{LIBRARIES}/libcuda.so"));
    files.link("libcuda.so.1.1", &format!("root/{LIBRARIES}/tegra/libcuda.so"));
    library("libnvrm_gpu.so", "libnvrm_gpu.so");
    library("libnvrm_mem.so", "libnvrm_mem.so");
    files.write("root/usr/share/nvfw/a.bin", "x");
    files.link("a.bin", "root/usr/share/nvfw/current");
    files.write("csv/l4t.csv", L4T);
    files.write("csv/.csv", "dev, /dev/nvhost-hidden\n");
    files.write("csv/cudnn.csv", "dir, /usr/src/cudnn\n");
    files.write("root/usr/src/cudnn/sample", "x");
    let nodes = [("nvmap", 10, 60), ("nvhost-ctrl", 240, 0), ("nvhost-gpu", 240, 1)];
    let made = nodes
        .iter()
        .chain(&[("nvidia1", 195, 1), ("nvidia2", 195, 2)])
        .all(|(name, major, minor)| files.node(&format!("dev/{name}"), *major, *minor, 0o666));
    made.then_some(machine)
}

fn plan(machine: &Machine, env: &[&str]) -> Result<Plan, GpuError> {
    let spec = serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
    }))
    .unwrap();
    let settings = machine.settings(&format!("csv-directory = {:?}", machine.at("csv")));
    let request = Request::read(&spec, Some(&settings))?;
    resolve(&request, vec![], &spec, &settings, &machine.host())
}

fn devices(plan: &Plan) -> Vec<&str> {
    plan.devices.iter().map(|node| node.destination.to_str().unwrap()).collect()
}

fn path(place: &Place) -> String {
    match place {
        Place::Path(path) | Place::Library(_, path) => path.display().to_string(),
    }
}

fn files(plan: &Plan) -> Vec<String> {
    plan.files.iter().map(|file| path(&file.destination)).collect()
}

#[test]
fn what_the_lists_name_is_given_once_and_what_is_not_there_is_left_out() {
    let Some(machine) = machine() else { return };
    for id in ["all", "0"] {
        let plan = plan(&machine, &[&format!("NVIDIA_VISIBLE_DEVICES={id}")]).unwrap();
        assert_eq!(
            devices(&plan),
            ["/dev/nvmap", "/dev/nvhost-ctrl", "/dev/nvhost-gpu", "/dev/nvidia1"]
        );
        let tegra = |name: &str| format!("/{LIBRARIES}/tegra/{name}");
        assert_eq!(
            files(&plan),
            [
                tegra("libcuda.so.1.1"),
                tegra("libnvrm_gpu.so"),
                tegra("libnvrm_mem.so"),
                "/usr/share/nvfw".to_owned(),
                "/etc/nv_tegra_release".to_owned(),
            ]
        );
        let links: Vec<String> = plan
            .links
            .iter()
            .map(|link| format!("{} -> {}", path(&link.destination), link.target.display()))
            .collect();
        assert_eq!(
            links,
            [
                format!("{} -> libcuda.so.1.1", tegra("libcuda.so.1")),
                format!("{} -> libcuda.so.1", tegra("libcuda.so")),
                format!("/{LIBRARIES}/libcuda.so -> tegra/libcuda.so"),
            ]
        );
        let soname = Some("libcuda.so.1".to_owned());
        assert_eq!(plan.files[0].kind, FileKind::Library { soname, abi: Abi::Native });
        assert!(plan.notes[0].starts_with("2 entries of the lists"), "{:?}", plan.notes);
        assert!(plan.grants[0].model.contains("Orin"), "{:?}", plan.grants);
        assert_eq!(plan.env[0].1, "void");
    }
}

#[test]
fn every_list_counts_where_a_container_asks_for_it() {
    let Some(machine) = machine() else { return };
    let all = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_JETPACK=csv-mounts=all"];
    assert!(files(&plan(&machine, &all).unwrap()).contains(&"/usr/src/cudnn".to_owned()));
    assert!(!files(&plan(&machine, &all[..1]).unwrap()).contains(&"/usr/src/cudnn".to_owned()));
}

#[test]
fn none_brings_files_without_nodes_and_other_ids_are_refused() {
    let Some(machine) = machine() else { return };
    let none = plan(&machine, &["NVIDIA_VISIBLE_DEVICES=none"]).unwrap();
    assert!(none.devices.is_empty() && !none.files.is_empty());
    let error = plan(&machine, &["NVIDIA_VISIBLE_DEVICES=1"]).unwrap_err().to_string();
    assert!(error.contains("\"1\"") && error.contains("ask for 0 or all"), "{error}");
}

#[test]
fn an_orin_looks_for_compatibility_libraries_where_its_images_have_them() {
    let Some(machine) = machine() else { return };
    let asked = |cuda, names: &[&str], more: &str| {
        let config = Config::read(&machine.settings(more)).unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        super::compatibility(cuda, &names, &config).map(|asked| asked.directory)
    };
    let orin = ["nvidia,p3737", "nvidia,tegra234"];
    let path = |path: &str| Some(path.into());
    assert_eq!(asked(Some("12.2"), &orin, ""), path("/usr/local/cuda/compat_orin"));
    assert_eq!(asked(Some("12.2"), &["nvidia,tegra194"], ""), path("/usr/local/cuda/compat"));
    let own = "csv-compat-directory = \"/opt/compat\"";
    assert_eq!(asked(Some("12.2"), &orin, own), path("/opt/compat"));
    // Nothing to compare with.
    assert_eq!(asked(None, &orin, ""), None);
}

/// A second GPU, on the PCI bus.
fn with_pci(machine: &Machine, bus_id: &str, model: &str) {
    machine.kernel("580.65.06");
    machine.files.write(
        "proc/devices",
        "Character devices:\n195 nvidia\n511 nvidia-uvm\n\nBlock devices:\n",
    );
    machine.gpu(
        bus_id,
        &format!(
            "Model: {model}\nGPU UUID: GPU-00000001-0000-0000-0000-000000000000\nDevice Minor: 1\n"
        ),
    );
}

#[test]
fn a_thors_own_gpu_is_on_the_bus_and_is_still_the_integrated_one() {
    let Some(machine) = machine() else { return };
    with_pci(&machine, "0000:01:00.0", "NVIDIA Thor");
    let plan = plan(&machine, &["NVIDIA_VISIBLE_DEVICES=all"]).unwrap();
    assert_eq!(plan.grants.len(), 1);
    assert!(devices(&plan).contains(&"/dev/nvidia1"));
}

#[test]
fn a_gpu_on_the_bus_is_the_second_and_each_has_its_own_nodes() {
    let Some(machine) = machine() else { return };
    with_pci(&machine, "0005:03:00.0", "NVIDIA RTX A2000");
    let given = |id: &str| {
        let plan = plan(&machine, &[&format!("NVIDIA_VISIBLE_DEVICES={id}")]).unwrap();
        devices(&plan).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let lists = ["/dev/nvmap", "/dev/nvhost-ctrl", "/dev/nvhost-gpu"];
    let [integrated, discrete] = [given("0"), given("1")];
    assert_eq!(integrated, [&lists[..], &["/dev/nvidia2"]].concat());
    let bus = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];
    assert_eq!(discrete, [&lists[..], &bus, &["/dev/nvidia1"]].concat());
    assert_eq!(given("GPU-00000001-0000-0000-0000-000000000000"), discrete);
    assert_eq!(given("all").len(), discrete.len() + 1);

    machine.gpu("0005:04:00.0", "Model: NVIDIA RTX A2000\nDevice Minor: 3\n");
    let error = plan(&machine, &["NVIDIA_VISIBLE_DEVICES=0"]).unwrap_err().to_string();
    assert!(error.contains("2 GPUs on the PCI bus"), "{error}");
}

#[test]
fn a_cdi_file_has_the_gpu_and_its_files() {
    let Some(machine) = machine() else { return };
    let program = HookProgram::gpurun("/usr/bin/gpurun".into(), None);
    let options = Options { program, ..Options::default() };
    let settings = machine.settings(&format!("csv-directory = {:?}", machine.at("csv")));
    let spec = generate(&options, &settings, &machine.host()).unwrap().spec;
    let names: Vec<&str> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["0", "all"]);
    let mounts = &spec.container_edits.mounts;
    let cuda = format!("/{LIBRARIES}/tegra/libcuda.so.1.1");
    let cuda = mounts.iter().find(|mount| mount.container_path == cuda).unwrap();
    assert!(Path::new(&cuda.host_path).starts_with(machine.at("root")), "{cuda:?}");
}
