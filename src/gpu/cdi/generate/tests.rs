//! Files of a made-up machine.

use super::*;
use crate::gpu::cdi::spec::CdiDeviceNode;
use crate::gpu::nvidia::testing::{LIBRARIES, Machine, VERSION};

fn options() -> Options {
    Options { program: HookProgram::gpurun("/usr/bin/gpurun".into(), None), ..Options::default() }
}

fn file(machine: &Machine, options: &Options) -> Result<CdiSpec, GenerateError> {
    generate(options, &machine.settings(""), &machine.host()).map(|generated| generated.spec)
}

/// The words of the hook with this command.
fn words(spec: &CdiSpec, command: &str) -> Option<String> {
    let hooks = spec.edits().flat_map(|edits| &edits.hooks);
    let mut hooks = hooks.filter(|hook| hook.args[2] == command);
    hooks.next().map(|hook| hook.args.join(" "))
}

fn node<'a>(spec: &'a CdiSpec, path: &str) -> &'a CdiDeviceNode {
    spec.edits().flat_map(|edits| &edits.device_nodes).find(|node| node.path == path).unwrap()
}

#[test]
fn libraries_keep_their_path_below_the_drivers_root_and_links_stand_beside_their_library() {
    let machine = Machine::new();
    let root = machine.at("root");
    // Debian spreads the driver over two directories.
    let elsewhere = "usr/lib/x86_64-linux-gnu/nvidia/current";
    machine.library(elsewhere, &format!("libnvidia-ml.so.{VERSION}"), Some("libnvidia-ml.so.1"));
    let ml = root.join(LIBRARIES).join(format!("libnvidia-ml.so.{VERSION}"));
    std::fs::remove_file(&ml).unwrap();
    let apart = format!("usr/lib64/vdpau/libvdpau_nvidia.so.{VERSION}");
    machine.library("usr/lib64/vdpau", &format!("libvdpau_nvidia.so.{VERSION}"), Some("x.so.1"));

    let spec = file(&machine, &options()).unwrap();
    let mount = |path: &str| {
        let mounts = &spec.container_edits.mounts;
        let found = mounts.iter().find(|mount| mount.container_path == path);
        found.unwrap_or_else(|| panic!("{path} in {mounts:#?}")).host_path.clone()
    };
    let in_other = format!("/{elsewhere}/libnvidia-ml.so.{VERSION}");
    assert_eq!(mount(&in_other), root.join(&in_other[1..]).to_str().unwrap());
    mount(&format!("/usr/lib64/libcuda.so.{VERSION}"));
    mount(&format!("/{apart}"));
    mount("/usr/bin/nvidia-smi");
    let links = words(&spec, "create-symlinks").unwrap();
    for link in [
        format!("libcuda.so.{VERSION}::/usr/lib64/libcuda.so.1"),
        "libcuda.so.1::/usr/lib64/libcuda.so".to_owned(),
        format!("libnvidia-ml.so.{VERSION}::/{elsewhere}/libnvidia-ml.so.1"),
        "../libnvidia-allocator.so.1::/usr/lib64/gbm/nvidia-drm_gbm.so".to_owned(),
        format!("libvdpau_nvidia.so.{VERSION}::/usr/lib64/vdpau/x.so.1"),
    ] {
        assert!(links.contains(&format!("--link {link}")), "{link} in {links}");
    }
    let folders = words(&spec, "update-ldcache").unwrap();
    assert!(
        folders.ends_with(&format!("--folder /{elsewhere} --folder /usr/lib64"))
            || folders.ends_with(&format!("--folder /usr/lib64 --folder /{elsewhere}")),
        "{folders}"
    );
}

#[test]
fn a_driver_containers_root_is_no_part_of_the_containers_paths() {
    let machine = Machine::new();
    let moved = machine.at("root/run/nvidia/driver/usr/lib64");
    std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
    std::fs::rename(machine.at("root/usr/lib64"), &moved).unwrap();
    let spec = file(&machine, &options()).unwrap();
    let cuda = format!("/usr/lib64/libcuda.so.{VERSION}");
    let mounts = &spec.container_edits.mounts;
    let cuda = mounts.iter().find(|mount| mount.container_path == cuda).unwrap();
    assert!(cuda.host_path.contains("/root/run/nvidia/driver/usr/lib64/"), "{cuda:?}");
}

#[test]
fn nodes_that_the_machine_lacks_have_their_numbers() {
    let machine = Machine::new();
    let spec = file(&machine, &options()).unwrap();
    let uvm = node(&spec, "/dev/nvidia-uvm");
    assert_eq!((uvm.r#type.as_str(), uvm.major, uvm.host_path.as_str()), ("c", 511, ""));
    let third = spec.device("2").unwrap();
    assert_eq!(third.container_edits.device_nodes[0].path, "/dev/nvidia7");
    let shared: Vec<&str> =
        spec.container_edits.device_nodes.iter().map(|node| node.path.as_str()).collect();
    assert!(shared.contains(&"/dev/nvidiactl") && !shared.contains(&"/dev/nvidia0"), "{shared:?}");
}

#[test]
fn the_only_gpu_has_its_node_for_itself() {
    let machine = Machine::new();
    for bus in ["25", "41", "61"] {
        std::fs::remove_dir_all(machine.at(format!("proc/driver/nvidia/gpus/0000:{bus}:00.0")))
            .unwrap();
    }
    let spec = file(&machine, &options()).unwrap();
    let own = &spec.device("0").unwrap().container_edits.device_nodes;
    assert_eq!(own.iter().map(|node| node.path.as_str()).collect::<Vec<_>>(), ["/dev/nvidia0"]);
    assert_eq!(words(&spec, "hide-other-gpus"), None);
}

#[test]
fn hooks_can_be_left_out_and_belong_to_another_program() {
    let machine = Machine::new();
    let commands = |options: &Options| -> Vec<String> {
        let spec = file(&machine, options).unwrap();
        spec.container_edits.hooks.iter().map(|hook| hook.args[1..3].join(" ")).collect()
    };
    assert_eq!(
        commands(&options()),
        [
            "hook create-symlinks",
            "hook enable-cuda-compat",
            "hook disable-device-node-modification",
            "hook update-application-profile",
            "hook hide-other-gpus",
            "hook update-ldcache"
        ]
    );
    let disabled_hooks = ["enable-cuda-compat", "hide-other-gpus"].map(str::to_owned).to_vec();
    assert_eq!(commands(&Options { disabled_hooks, ..options() }).len(), 4);
    let disabled_hooks = vec![ALL.to_owned()];
    assert_eq!(commands(&Options { disabled_hooks, ..options() }), [""; 0]);
    let program = HookProgram::other("/usr/bin/nvidia-cdi-hook".into());
    let spec = file(&machine, &Options { program, ..options() }).unwrap();
    let hook = &spec.container_edits.hooks[0];
    assert_eq!(hook.args[..2], ["nvidia-cdi-hook", "create-symlinks"]);
    // An image must have no say in what a hook runs with.
    assert!(spec.edits().flat_map(|edits| &edits.hooks).all(|hook| !hook.env.is_empty()));
}

#[test]
fn a_device_that_cannot_be_given_is_left_out_unless_it_is_named() {
    let machine = Machine::new();
    machine.gpu("0000:25:00.0", "Model: broken\n");
    let generated = generate(&options(), &machine.settings(""), &machine.host()).unwrap();
    assert!(generated.spec.device("1").is_none() && generated.spec.device("2").is_some());
    assert!(generated.notes[0].starts_with("1 left out: "), "{:?}", generated.notes);
    let named = Options { ids: vec!["1".to_owned()], ..options() };
    assert!(file(&machine, &named).is_err());
    std::fs::remove_dir_all(machine.at("root/usr")).unwrap();
    let error = file(&machine, &options()).unwrap_err().to_string();
    assert!(error.contains(VERSION), "{error}");
}

#[test]
fn a_machine_without_gpus_and_devices_in_trouble_have_their_own_errors() {
    let machine = Machine::new();
    let no = Options { ids: vec!["7".to_owned()], ..options() };
    assert!(file(&machine, &no).unwrap_err().to_string().contains("present: 0, 1, 2, 3"));
    let kind = Options { of: Some("example.com/gpu".to_owned()), ..options() };
    assert!(file(&machine, &kind).unwrap_err().to_string().contains("nvidia.com/gpu"));
    std::fs::remove_dir_all(machine.at("proc/driver")).unwrap();
    let error = file(&machine, &options()).unwrap_err().to_string();
    assert!(error.contains("the NVIDIA kernel driver is not loaded"), "{error}");
}
