//! Whole plans, on made-up machines.

use std::path::Path;

use super::testing::{LIBRARIES, Machine, VERSION};
use crate::gpu::plan::{Abi, FileKind, Link, Place, Plan};
use crate::gpu::request::Request;
use crate::gpu::{GpuError, resolve};
use crate::host::elf::EM_386;
use crate::host::testing::elf;

fn try_plan(machine: &Machine, more: &str, env: &[&str]) -> Result<Plan, GpuError> {
    try_plan_as(machine, more, env, &[])
}

fn try_plan_as(
    machine: &Machine,
    more: &str,
    env: &[&str],
    bounding: &[&str],
) -> Result<Plan, GpuError> {
    let spec = serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env,
                    "capabilities": {"bounding": bounding}}
    }))
    .unwrap();
    let request = Request::read(&spec, Some(&machine.settings(more)))?;
    resolve(&request, vec![], &spec, &machine.settings(more), &machine.host())
}

fn visible(value: &str) -> String {
    format!("NVIDIA_VISIBLE_DEVICES={value}")
}

fn plan(machine: &Machine, devices: &str, capabilities: &str) -> Plan {
    let capabilities = format!("NVIDIA_DRIVER_CAPABILITIES={capabilities}");
    try_plan(machine, "", &[&visible(devices), &capabilities]).unwrap()
}

fn failure(machine: &Machine, devices: &str) -> String {
    try_plan(machine, "", &[&visible(devices)]).unwrap_err().to_string()
}

/// `path major:minor` of every node.
fn nodes(plan: &Plan) -> Vec<String> {
    let node = |d: &crate::gpu::plan::DeviceNode| {
        format!("{} {}:{}", d.destination.display(), d.major, d.minor)
    };
    plan.devices.iter().map(node).collect()
}

fn gpu_nodes(plan: &Plan) -> Vec<String> {
    nodes(plan).into_iter().skip(3).collect()
}

fn library_names(plan: &Plan) -> Vec<String> {
    let mut names: Vec<String> = plan
        .files
        .iter()
        .filter_map(|file| match &file.destination {
            Place::Library(Abi::Native, path) => Some(path.display().to_string()),
            Place::Library(Abi::I386, path) => Some(format!("32:{}", path.display())),
            Place::Path(_) => None,
        })
        .map(|name| name.replace(&format!(".so.{VERSION}"), ""))
        .collect();
    names.sort();
    names
}

fn destinations(plan: &Plan, kind: &FileKind) -> Vec<String> {
    let chosen = plan.files.iter().filter(|file| file.kind == *kind);
    let path = |place: &Place| match place {
        Place::Path(path) => path.display().to_string(),
        Place::Library(..) => "library".to_owned(),
    };
    chosen.map(|file| path(&file.destination)).collect()
}

#[test]
fn every_form_of_id_gives_exactly_that_gpu() {
    let machine = Machine::new();
    for id in [
        "2",
        "GPU-00000002-0000-0000-0000-000000000000",
        "gpu-00000002-0000-0000-0000-000000000000",
        "GPU-00000002",
        "gpu-00000002-0",
        "runtime.nvidia.com/gpu=GPU-00000002-0000",
        "00000000:41:00.0",
        "0000:41:00.0",
        "41:00.0",
        "runtime.nvidia.com/gpu=2",
        "2,2",
        "2,41:00.0,gpu-00000002-0000-0000-0000-000000000000",
    ] {
        let plan = plan(&machine, id, "utility,compute");
        assert_eq!(
            nodes(&plan),
            [
                "/dev/nvidiactl 195:255",
                "/dev/nvidia-uvm 511:0",
                "/dev/nvidia-uvm-tools 511:1",
                "/dev/nvidia7 195:7",
            ],
            "{id}"
        );
        let grant = &plan.grants[0];
        assert_eq!((grant.index, grant.bus_id.as_str()), (2, "0000:41:00.0"));
        assert_eq!(
            (grant.kind.as_str(), grant.model.as_str()),
            ("nvidia.com/gpu", "NVIDIA A100-SXM4-40GB")
        );
    }
}

#[test]
fn several_gpus_come_in_the_order_of_the_request_and_all_in_bus_order() {
    let machine = Machine::new();
    let nodes = |devices| gpu_nodes(&plan(&machine, devices, ""));
    assert_eq!(nodes("3,0"), ["/dev/nvidia3 195:3", "/dev/nvidia0 195:0"]);
    assert_eq!(
        nodes("all"),
        ["/dev/nvidia0 195:0", "/dev/nvidia1 195:1", "/dev/nvidia7 195:7", "/dev/nvidia3 195:3"]
    );
}

#[test]
fn none_gives_the_driver_without_a_gpu() {
    let machine = Machine::new();
    let plan = plan(&machine, "none", "utility,compute");
    assert!(plan.grants.is_empty());
    assert_eq!(nodes(&plan).len(), 3);
    assert!(library_names(&plan).contains(&"libcuda".to_owned()));
}

#[test]
fn an_unknown_id_is_named_with_what_exists() {
    let machine = Machine::new();
    let error = failure(&machine, "0,9");
    assert!(
        error.starts_with("no GPU \"9\" on this machine; there is [0: GPU-00000000-"),
        "{error}"
    );
    assert!(error.contains("0000:61:00.0, NVIDIA A100"), "{error}");
    for id in
        ["+1", "-1", "GPU-", "GPU-1", "ALL", "0000:99:00.0", "99999999999", "../../x", "\u{7f}"]
    {
        let error = failure(&machine, id);
        assert!(error.contains("no GPU") || error.contains("CDI"), "{id}: {error}");
    }
    for (id, part) in [
        ("0:1", "MIG"),
        ("MIG-x", "no id of a MIG device"),
        ("MIG-ffda444c-c706-57c6-98c9-67c441a0b109", "no GPU is divided"),
        ("GPU-0", "beginning of several UUIDs: [0: GPU-00000000-"),
        ("0,nvidia.com/gpu=0", "CDI"),
        ("example.com/gpu=0", "unresolvable CDI devices example.com/gpu=0"),
        ("nvidia.com/gpu=9", "no GPU \"9\""),
    ] {
        let error = failure(&machine, id);
        assert!(error.contains(part), "{id}: {error}");
    }
}

#[test]
fn an_excluded_gpu_has_no_index_and_cannot_be_had() {
    let machine = Machine::new();
    machine.gpu("0000:25:00.0", "Model: X\nGPU UUID: GPU-00000001-0000-0000-0000-000000000000\nDevice Minor: 1\nGPU Excluded: Yes\n");
    let all = plan(&machine, "all", "");
    assert_eq!(all.grants.len(), 3);
    assert_eq!(all.grants[1].bus_id, "0000:41:00.0");
    assert_eq!(all.grants[1].index, 1);
    assert!(all.notes[0].contains("excludes it"), "{:?}", all.notes);
    let error = failure(&machine, "25:00.0");
    assert!(error.contains("is excluded") && error.contains("NVreg_ExcludedGpus"), "{error}");
}

#[test]
fn garbage_information_files_do_not_break_the_others() {
    let machine = Machine::new();
    machine.gpu("0000:01:00.0", "");
    machine.gpu("0000:25:00.0", "Device Minor: -5\nGPU UUID: GPU-????????-????-????-????-????????????\n\u{0}:::\nModel:\u{1b}[2JX");
    machine.gpu("not-an-address", "Device Minor: 9\n");
    machine.files.directory("proc/driver/nvidia/gpus/0000:7f:00.0");
    let all = plan(&machine, "all", "");
    let given: Vec<u32> = all.grants.iter().map(|grant| grant.index).collect();
    assert_eq!(given, [2, 3]);
    assert_eq!(all.notes.len(), 3);
    let error = failure(&machine, "1");
    assert!(error.contains("names no valid Device Minor"), "{error}");
    let error = failure(&machine, "GPU-0000000f-0000-0000-0000-000000000000");
    assert!(error.contains("no UUID until"), "{error}");
}

#[test]
fn a_missing_driver_or_gpu_or_module_is_named_with_its_remedy() {
    let machine = Machine::new();
    std::fs::remove_dir_all(machine.at("proc/driver/nvidia/gpus")).unwrap();
    for id in ["all", "0"] {
        assert!(failure(&machine, id).contains("serves no GPU"));
    }
    assert!(try_plan(&machine, "", &[&visible("none")]).is_ok());
    std::fs::remove_file(machine.at("proc/driver/nvidia/version")).unwrap();
    let error = failure(&machine, "all");
    assert!(error.contains("not loaded") && error.contains("modprobe nvidia"), "{error}");
    machine.files.write("proc/driver/nvidia/version", "garbage");
    assert!(failure(&machine, "all").contains("names no driver version: \"garbage\""));

    let machine = Machine::new();
    machine.files.write("proc/devices", "Character devices:\n195 nvidia\n");
    let error = failure(&machine, "0");
    assert!(error.contains("nvidia-uvm") && error.contains("modprobe nvidia-uvm"), "{error}");
    assert_eq!(
        nodes(&plan(&machine, "0", "utility")),
        ["/dev/nvidiactl 195:255", "/dev/nvidia0 195:0"]
    );
}

#[test]
fn libraries_of_another_version_are_a_mismatch_and_none_are_searched_for() {
    let machine = Machine::new();
    machine.kernel("550.54.14");
    let error = failure(&machine, "all");
    for part in [VERSION, "550.54.14", "usr/lib64", "reboot"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    std::fs::remove_dir_all(machine.at("root/usr")).unwrap();
    let error = failure(&machine, "all");
    assert!(error.contains("libcuda.so.550.54.14") && error.contains("library-paths"), "{error}");
}

#[test]
fn a_driver_in_an_unusual_place_is_found() {
    for place in [
        "usr/local/nvidia/lib64",
        "usr/lib",
        "usr/lib/nvidia-535",
        "usr/lib/nvidia-server-535",
        "run/opengl-driver/lib",
        "run/nvidia/driver/usr/lib64",
        "opt/odd",
    ] {
        let machine = Machine::new();
        let target = machine.at("root").join(place);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::rename(machine.at("root").join(LIBRARIES), machine.at("moved")).unwrap();
        let _ = std::fs::remove_dir(&target);
        std::fs::rename(machine.at("moved"), &target).unwrap();
        let more = if place == "opt/odd" { "library-paths = [\"/opt/odd\"]" } else { "" };
        let plan = try_plan(&machine, more, &[&visible("0")]).unwrap();
        let cuda = format!("libcuda.so.{VERSION}");
        let file = plan.files.iter().find(|file| file.source == target.join(&cuda));
        assert_eq!(file.unwrap().destination, Place::Library(Abi::Native, cuda.into()), "{place}");
    }
}

#[test]
fn capabilities_choose_the_libraries_and_new_names_are_not_lost() {
    let machine = Machine::new();
    let names = |capabilities| library_names(&plan(&machine, "0", capabilities));
    assert_eq!(names("utility"), ["libnvidia-ml"]);
    assert_eq!(names("ngx"), ["libnvidia-ngx"]);
    let compute =
        ["libcuda", "libnvidia-allocator", "libnvidia-brandnew", "libnvidia-ptxjitcompiler"];
    assert_eq!(names("compute"), compute);
    assert_eq!(names("graphics"), ["libGLX_nvidia", "libnvidia-allocator", "libnvidia-brandnew"]);
    assert_eq!(names("graphics"), names("display"));
    assert_eq!(names("video").len(), compute.len() + 2);
    assert_eq!(names("all").len(), 9);
    assert_eq!(names("none"), [""; 0]);
}

#[test]
fn links_follow_the_sonames_and_what_the_host_has() {
    let machine = Machine::new();
    machine.files.link("libnvidia-ml.so.1", &format!("root/{LIBRARIES}/libnvidia-ml.so"));
    let plan = plan(&machine, "0", "all");
    let has = |path: &str, target: &str| {
        let destination = Place::Library(Abi::Native, path.into());
        let is_it =
            |link: &Link| link.destination == destination && link.target == Path::new(target);
        assert_eq!(plan.links.iter().filter(|link| is_it(link)).count(), 1, "{path} -> {target}");
    };
    has("libcuda.so.1", &format!("libcuda.so.{VERSION}"));
    has("libcuda.so", "libcuda.so.1");
    has("libnvidia-ml.so", "libnvidia-ml.so.1");
    has("libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1");
    has("libGLX_indirect.so.0", &format!("libGLX_nvidia.so.{VERSION}"));
    has("gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1");
    let encode = Place::Library(Abi::Native, "libnvidia-encode.so".into());
    assert!(plan.links.iter().all(|link| link.destination != encode));
}

#[test]
fn thirty_two_bit_libraries_come_with_compat32_only() {
    if cfg!(not(target_arch = "x86_64")) {
        println!("skipped: no 32-bit x86 on this machine");
        return;
    }
    let machine = Machine::new();
    let path = format!("root/usr/lib/libcuda.so.{VERSION}");
    machine.files.write(&path, elf(false, EM_386, Some("libcuda.so.1")));
    let wide = library_names(&plan(&machine, "0", "compute"));
    assert!(wide.iter().all(|name| !name.starts_with("32:")), "{wide:?}");
    let both = library_names(&plan(&machine, "0", "compute,compat32"));
    assert!(both.contains(&"32:libcuda".to_owned()) && both.contains(&"libcuda".to_owned()));
}

#[test]
fn files_that_are_no_libraries_are_left_out_with_a_note() {
    let machine = Machine::new();
    machine.files.write(&format!("root/{LIBRARIES}/libnvidia-nvvm.so.{VERSION}"), "not ELF");
    machine.files.link("/nowhere", &format!("root/{LIBRARIES}/libnvidia-opencl.so.{VERSION}"));
    machine.files.directory(&format!("root/{LIBRARIES}/libnvidia-compiler.so.{VERSION}"));
    let plan = plan(&machine, "0", "compute");
    assert!(
        library_names(&plan).iter().all(|name| !name.contains("nvvm") && !name.contains("open"))
    );
    assert_eq!(plan.notes.len(), 3, "{:?}", plan.notes);
}

#[test]
fn programs_firmware_sockets_and_configuration_go_where_programs_look() {
    let machine = Machine::new();
    machine.files.write("root/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "{}");
    machine.files.write("root/etc/OpenCL/vendors/nvidia.icd", "x");
    machine.files.write("root/usr/bin/nvidia-debugdump", "not executable");
    machine.files.directory("root/run/nvidia-persistenced");
    let socket = machine.at("root/run/nvidia-persistenced/socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let all = plan(&machine, "0", "all");
    let programs = ["/usr/bin/nvidia-smi", "/usr/bin/nvidia-cuda-mps-control"];
    assert_eq!(destinations(&all, &FileKind::Binary), programs);
    assert_eq!(
        destinations(&all, &FileKind::Data),
        [
            &format!("/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"),
            "/etc/OpenCL/vendors/nvidia.icd",
            "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        ]
    );
    assert_eq!(destinations(&all, &FileKind::Ipc), ["/run/nvidia-persistenced/socket"]);
    let utility = plan(&machine, "0", "utility");
    assert_eq!(destinations(&utility, &FileKind::Binary), ["/usr/bin/nvidia-smi"]);
    assert_eq!(destinations(&utility, &FileKind::Data).len(), 1);
}

#[test]
fn x_server_modules_are_found_wherever_servers_keep_them() {
    let glx = format!("libglxserver_nvidia.so.{VERSION}");
    for place in [
        "usr/lib64/nvidia/xorg",
        "usr/lib64/xorg/modules/drivers",
        "usr/lib/xorg/modules/updates/drivers",
        "usr/X11R6/lib64/modules/extensions",
        "usr/lib/nvidia/current",
    ] {
        let machine = Machine::new();
        machine.files.write(&format!("root/{place}/nvidia_drv.so"), "x");
        machine.files.write(&format!("root/{place}/{glx}"), "x");
        let plan = plan(&machine, "0", "display");
        for name in ["nvidia_drv.so", &glx] {
            let path = format!("/{place}/{name}");
            assert!(destinations(&plan, &FileKind::Binary).contains(&path), "{path}");
        }
        let link = Place::Path(format!("/{place}/libglxserver_nvidia.so").into());
        assert!(plan.links.iter().any(|known| known.destination == link), "{place}");
    }
}

#[test]
fn vulkan_files_are_found_where_container_optimized_os_has_them() {
    for place in ["vulkan/icd.d", "home/kubernetes/bin/nvidia/vulkan/icd.d", "etc/vulkan/icd.d"] {
        let machine = Machine::new();
        machine.files.write(&format!("root/{place}/nvidia_icd.json"), "{}");
        let plan = plan(&machine, "0", "graphics");
        let found = destinations(&plan, &FileKind::Data);
        assert!(
            found.contains(&"/etc/vulkan/icd.d/nvidia_icd.json".to_owned()),
            "{place}: {found:?}"
        );
    }
}

#[test]
fn the_images_newer_libcuda_can_be_left_alone() {
    let machine = Machine::new();
    for (more, is_looked_at) in [
        ("", true),
        ("cuda-compat-mode = \"mount\"", true),
        ("cuda-compat-mode = \"disabled\"", false),
        ("disable-cuda-compat-lib-hook = true", false),
    ] {
        let plan = try_plan(&machine, more, &[&visible("0")]).unwrap();
        assert_eq!(plan.compatibility.is_some(), is_looked_at, "{more}");
    }
}

#[test]
fn only_a_directory_of_roots_or_of_ones_own_is_taken_for_the_usual_mps_directory() {
    let machine = Machine::new();
    let place = machine.at("root/tmp/nvidia-mps");
    let pipes = |lines: &str| {
        let plan =
            try_plan(&machine, lines, &[&visible("0"), "NVIDIA_DRIVER_CAPABILITIES=compute"])
                .unwrap();
        (destinations(&plan, &FileKind::Ipc), plan.notes.join("; "))
    };
    assert_eq!(pipes(""), (vec![], String::new()));
    machine.files.directory("root/secret");
    machine.files.link("/secret", "root/tmp/nvidia-mps");
    let (none, notes) = pipes("");
    assert!(none.is_empty() && notes.contains("it is no directory"), "{notes}");
    std::fs::remove_file(&place).unwrap();
    machine.files.directory("root/tmp/nvidia-mps");
    assert_eq!(pipes(""), (vec!["/tmp/nvidia-mps".to_owned()], String::new()));
    if std::os::unix::fs::chown(&place, Some(1000), None).is_err() {
        println!("skipped: chown is not allowed here");
        return;
    }
    let (none, notes) = pipes("");
    assert!(none.is_empty(), "{none:?}");
    assert!(notes.contains("belongs to user 1000") && notes.contains("mps-pipe-directory"));
    // Named by the administrator.
    let (named, notes) = pipes(&format!("mps-pipe-directory = {place:?}"));
    assert_eq!((named, notes), (vec![place.display().to_string()], String::new()));
}

#[test]
fn host_nodes_lend_mode_and_group_and_wrong_ones_are_not_used() {
    let machine = Machine::new();
    if !machine.files.node("dev/nvidia0", 195, 0, 0o660) {
        println!("skipped: mknod is not allowed here");
        return;
    }
    rustix::fs::chown(machine.at("dev/nvidia0"), None, Some(rustix::fs::Gid::from_raw(44)))
        .unwrap();
    machine.files.node("dev/nvidia-modeset", 195, 254, 0o666);
    machine.files.node("dev/nvidia-uvm", 237, 0, 0o666);
    machine.files.write("dev/nvidiactl", "no device");
    let plan = plan(&machine, "0", "compute");
    let node = |name: &str| plan.devices.iter().find(|d| d.destination.ends_with(name)).unwrap();
    assert_eq!(node("nvidia0").host_path, Some(machine.at("dev/nvidia0")));
    assert_eq!((node("nvidia0").mode, node("nvidia0").gid), (0o660, 44));
    assert!(node("nvidia-modeset").host_path.is_some());
    // A stale node of another boot: the kernel's number counts.
    assert_eq!((node("nvidia-uvm").host_path.clone(), node("nvidia-uvm").major), (None, 511));
    assert_eq!((node("nvidiactl").host_path.clone(), node("nvidiactl").mode), (None, 0o666));
    assert_eq!(plan.gids, [44]);
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
    let more = "no-additional-gids-for-device-nodes = true";
    assert!(try_plan(&machine, more, &[&visible("0")]).unwrap().gids.is_empty());
}

#[test]
fn graphics_brings_modeset_and_the_drm_nodes_of_that_gpu_only() {
    let machine = Machine::new();
    for (bus, card, render) in [("01", 0, 128), ("41", 2, 130)] {
        let drm = format!("sys/bus/pci/devices/0000:{bus}:00.0/drm");
        machine.files.write(&format!("{drm}/card{card}/dev"), format!("226:{card}\n"));
        machine.files.write(&format!("{drm}/renderD{render}/dev"), format!("226:{render}\n"));
        machine.files.directory(&format!("{drm}/card{card}-DP-1"));
        machine
            .files
            .link(&format!("../card{card}"), &format!("dev/dri/by-path/pci-0000:{bus}:00.0-card"));
    }
    let graphics = plan(&machine, "2", "graphics");
    assert_eq!(
        nodes(&graphics),
        [
            "/dev/nvidiactl 195:255",
            "/dev/nvidia-modeset 195:254",
            "/dev/nvidia7 195:7",
            "/dev/dri/card2 226:2",
            "/dev/dri/renderD130 226:130",
        ]
    );
    let by_path = Place::Path("/dev/dri/by-path/pci-0000:41:00.0-card".into());
    let link = graphics.links.iter().find(|link| link.destination == by_path).unwrap();
    assert_eq!(link.target, Path::new("../card2"));
    assert!(nodes(&plan(&machine, "2", "compute")).iter().all(|node| !node.contains("dri")));
}

#[test]
fn the_parameters_are_masked_and_the_variable_is_void() {
    let machine = Machine::new();
    let first = plan(&machine, "0", "");
    assert_eq!(first.masks[0].content, "ModifyDeviceFiles: 0\nDeviceFileMode: 438\n");
    assert_eq!(first.env, [("NVIDIA_VISIBLE_DEVICES".to_owned(), "void".to_owned())]);
    machine.files.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 0\n");
    assert!(plan(&machine, "0", "").masks.is_empty());
}

#[test]
fn gpus_that_were_not_granted_are_hidden_from_proc() {
    let machine = Machine::new();
    for (devices, kept) in [
        ("2,0", Some(vec!["0000:41:00.0", "0000:01:00.0"])),
        ("GPU-00000003-0000-0000-0000-000000000000", Some(vec!["0000:61:00.0"])),
        ("none", Some(vec![])),
        ("all", None),
    ] {
        let plan = plan(&machine, devices, "");
        let filter = plan.filters.first();
        assert_eq!(
            filter.map(|filter| filter.keep.clone()),
            kept.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            "{devices}"
        );
        assert!(filter.is_none_or(|f| f.destination == Path::new("/proc/driver/nvidia/gpus")));
    }
    machine.gpu("0000:25:00.0", "GPU Excluded: Yes\n");
    assert_eq!(plan(&machine, "all", "").filters[0].keep.len(), 3);
}

#[test]
fn unprivileged_requests_can_be_turned_down_and_capabilities_limited() {
    let machine = Machine::new();
    let off = "accept-nvidia-visible-devices-envvar-when-unprivileged = false";
    let env = [visible("0")];
    let env = [env[0].as_str()];
    let refused = try_plan(&machine, off, &env).unwrap();
    assert!(refused.devices.is_empty() && refused.notes[0].contains("not privileged"));
    let admitted = try_plan_as(&machine, off, &env, &["CAP_SYS_ADMIN"]).unwrap();
    assert_eq!(admitted.grants.len(), 1);

    let limited = "supported-driver-capabilities = \"utility\"";
    assert_eq!(library_names(&try_plan(&machine, limited, &env).unwrap()), ["libnvidia-ml"]);
    let error = try_plan(&machine, limited, &[env[0], "NVIDIA_DRIVER_CAPABILITIES=video,utility"]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("video not allowed") && error.contains("supported-driver"), "{error}");
    assert!(try_plan(&machine, limited, &[env[0], "NVIDIA_DRIVER_CAPABILITIES=all"]).is_ok());
    let error = try_plan(&machine, "driver-rot = 1", &env).unwrap_err().to_string();
    assert!(error.contains("line 3: unknown key \"nvidia.driver-rot\""), "{error}");
}
