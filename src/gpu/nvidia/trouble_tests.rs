//! Machines with something wrong, and what is said about them.

use super::testing::Machine;
use crate::gpu::plan::Plan;
use crate::gpu::request::Request;
use crate::gpu::{GpuError, resolve};

const FIRST: &str = "sys/bus/pci/devices/0000:01:00.0";

fn plan(machine: &Machine, devices: &str) -> Result<Plan, GpuError> {
    plan_with(machine, devices, "")
}

fn plan_with(machine: &Machine, devices: &str, more: &str) -> Result<Plan, GpuError> {
    let variable = format!("NVIDIA_VISIBLE_DEVICES={devices}");
    let spec = serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": [variable]}
    }))
    .unwrap();
    let request = Request::read(&spec, None)?;
    resolve(&request, vec![], &spec, &machine.settings(more), &machine.host())
}

#[track_caller]
fn says(machine: &Machine, devices: &str, parts: &[&str]) {
    let error = plan(machine, devices).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
}

fn without_driver() -> Machine {
    let machine = Machine::new();
    std::fs::remove_dir_all(machine.at("proc/driver")).unwrap();
    machine
}

/// A display controller of the vendor, bound to this driver if any.
fn controller(machine: &Machine, driver: Option<&str>) {
    machine.files.write(&format!("{FIRST}/vendor"), "0x10de\n");
    machine.files.write(&format!("{FIRST}/class"), "0x030200\n");
    if let Some(driver) = driver {
        machine.files.link(&format!("../../drivers/{driver}"), &format!("{FIRST}/driver"));
    }
}

#[test]
fn a_gpu_that_another_driver_has_taken_is_named_with_that_driver() {
    for (driver, remedy) in
        [("nouveau", "blacklist"), ("nova-core", "blacklist"), ("vfio-pci", "unbind")]
    {
        for machine in [without_driver(), Machine::new()] {
            let _ = std::fs::remove_dir_all(machine.at("proc/driver/nvidia/gpus"));
            controller(&machine, Some(driver));
            says(&machine, "all", &["0000:01:00.0", &format!("bound to {driver}"), remedy]);
        }
    }
}

#[test]
fn a_machine_without_the_hardware_is_told_from_one_without_the_module() {
    let machine = without_driver();
    machine.files.write("sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n");
    machine.files.write("sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n");
    says(&machine, "0", &["no NVIDIA GPU on this machine", "sys/bus/pci/devices"]);
    // A network card of the same vendor is no GPU.
    machine.files.write("sys/bus/pci/devices/0000:03:00.0/vendor", "0x10de\n");
    machine.files.write("sys/bus/pci/devices/0000:03:00.0/class", "0x020000\n");
    says(&machine, "0", &["no NVIDIA GPU on this machine"]);
    controller(&machine, None);
    says(&machine, "0", &["not loaded", "modprobe nvidia"]);
    machine.files.directory("sys/module/nvidia");
    says(&machine, "0", &["could not start", "NVRM"]);
}

#[test]
fn machines_of_another_kind_say_what_they_lack() {
    let machine = without_driver();
    machine.files.write(
        "sys/firmware/devicetree/base/compatible",
        "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0",
    );
    let lists = machine.at("none");
    let error = plan_with(&machine, "all", &format!("csv-directory = {lists:?}")).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("Tegra") && error.contains("l4t.csv in"), "{error}");
    let machine = without_driver();
    machine.files.write("dev/dxg", "");
    says(&machine, "all", &["dev/dxg is no character device"]);
}

#[test]
fn a_gpu_that_fell_off_the_bus_is_refused_by_name_and_left_out_of_all() {
    let machine = Machine::new();
    for bus in ["01", "25", "41", "61"] {
        let device = format!("sys/bus/pci/devices/0000:{bus}:00.0");
        machine.files.write(&format!("{device}/power/runtime_status"), "active\n");
        machine.files.write(&format!("{device}/config"), b"\xde\x10\xb5\x20\x06\x04");
    }
    assert!(plan(&machine, "all").unwrap().notes.is_empty());
    machine.files.write(&format!("{FIRST}/config"), [0xff; 64]);
    says(&machine, "1,0", &["GPU \"0\"", "fallen off the bus", "reset"]);
    assert_eq!(plan(&machine, "1").unwrap().grants.len(), 1);
    let all = plan(&machine, "all").unwrap();
    assert_eq!(all.grants.len(), 3);
    assert!(all.notes[0].contains("fallen off the bus"), "{:?}", all.notes);
    assert!(!all.filters[0].keep.contains(&"0000:01:00.0".to_owned()));

    // Asleep: its configuration is not read, for that would wake it up.
    machine.files.write(&format!("{FIRST}/power/runtime_status"), "suspended\n");
    assert!(plan(&machine, "0").is_ok());
    std::fs::remove_dir_all(machine.at(FIRST)).unwrap();
    says(&machine, "0", &["is gone", "rescan"]);
}

#[test]
fn an_information_file_that_cannot_be_read_is_the_trouble_of_its_gpu_alone() {
    let machine = Machine::new();
    let file = machine.at("proc/driver/nvidia/gpus/0000:25:00.0/information");
    std::fs::remove_file(&file).unwrap();
    // Reading a directory fails.
    std::fs::create_dir(&file).unwrap();
    assert_eq!(plan(&machine, "all").unwrap().grants.len(), 3);
    says(&machine, "1", &["names no valid Device Minor", "NVRM"]);
}

#[test]
fn missing_firmware_is_noted_where_the_open_module_has_started_no_gpu() {
    let machine = Machine::new();
    machine.files.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build\n",
    );
    let notes = |machine: &Machine| plan(machine, "0").unwrap().notes.join("\n");
    std::fs::remove_dir_all(machine.at("root/lib/firmware")).unwrap();
    assert!(!notes(&machine).contains("firmware"));
    machine.gpu(
        "0000:01:00.0",
        "GPU UUID: GPU-????????-????-????-????-????????????\nDevice Minor: 0\n",
    );
    assert!(notes(&machine).contains("gsp_*.bin"), "{}", notes(&machine));
    machine.files.write("root/lib/firmware/nvidia/535.104.05/gsp_tu10x.bin.xz", "x");
    assert!(!notes(&machine).contains("firmware"));
}
