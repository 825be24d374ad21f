//! Plans for requests that are more than a list of GPUs, on made-up machines.

use super::testing::{LIBRARIES, Machine, VERSION};
use crate::gpu::compatibility::{OWNER, SECTION};
use crate::gpu::plan::Plan;
use crate::gpu::request::Request;
use crate::gpu::{GpuError, resolve};
use crate::host::elf::{EM_AARCH64, EM_X86_64};
use crate::host::testing::elf;

fn try_plan(machine: &Machine, more: &str, env: &[&str]) -> Result<Plan, GpuError> {
    let spec = serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
    }))
    .unwrap();
    let settings = machine.settings(more);
    let request = Request::read(&spec, Some(&settings))?;
    resolve(&request, vec![], &spec, &settings, &machine.host())
}

/// A libcuda whose note says that it is of this version of CUDA.
fn libcuda(cuda: &str) -> Vec<u8> {
    let machine = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
    let mut file = elf(true, machine, Some("libcuda.so.1"));
    let text = format!("{{\"CUDA Version\": \"{cuda}\", \"Driver\": [525]}}");
    let words = [OWNER.len() + 1, text.len(), 1].map(|word| (word as u32).to_le_bytes());
    let owner = [OWNER, b"\0\0"].concat();
    assert_eq!(owner.len() % 4, 0);
    let note = [words.concat(), owner, text.into_bytes()].concat();
    let names = [b"\0", SECTION, b"\0"].concat();
    let mut headers = vec![0; 64];
    for (name, content) in [(1_u32, &note), (0, &names)] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
        headers.extend_from_slice(&header);
        file.extend_from_slice(content);
    }
    let table = (file.len() as u64).to_le_bytes();
    file[40..48].copy_from_slice(&table);
    file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
    file.extend_from_slice(&headers);
    file
}

#[test]
fn the_version_of_cuda_is_what_the_drivers_libcuda_says() {
    let machine = Machine::new();
    let check = |requirement: &str| {
        let env = ["NVIDIA_VISIBLE_DEVICES=0", &format!("NVIDIA_REQUIRE_CUDA={requirement}")];
        try_plan(&machine, "unmet-requirements = \"error\"", &env)
    };
    let undecided = check("cuda>=99").unwrap();
    assert!(undecided.notes.iter().any(|note| note.contains("not checked")), "{undecided:?}");
    let path = format!("root/{LIBRARIES}/libcuda.so.{VERSION}");
    machine.files.write(&path, libcuda("12.2"));
    assert!(check("cuda>=12.2").unwrap().notes.is_empty());
    let error = check("cuda>=12.9").unwrap_err().to_string();
    assert!(error.starts_with("unsatisfied condition: cuda>=12.9, please update"), "{error}");
    assert!(error.contains("driver 535.104.05, CUDA 12.2"), "{error}");
}

/// Two MIG devices on the GPU with index 2, which has the minor number 7.
fn divided() -> Machine {
    let machine = Machine::new();
    for (gi, ci) in [(1, 0), (10, 0)] {
        let path = format!("proc/driver/nvidia/capabilities/gpu7/mig/gi{gi}/ci{ci}/access");
        machine.files.write(&path, "DeviceFileMinor: 9\n");
    }
    machine.files.directory("proc/driver/nvidia/capabilities/gpu7/mig/gi3/ci0");
    machine.files.write(
        "proc/driver/nvidia-caps/mig-minors",
        "config 1\ngpu7/gi1/access 20\ngpu7/gi1/ci0/access 21\ngpu7/gi10/access 30\n\
         gpu7/gi10/ci0/access 31\n",
    );
    machine
}

fn visible(machine: &Machine, devices: &str) -> Result<Plan, String> {
    let variable = format!("NVIDIA_VISIBLE_DEVICES={devices}");
    try_plan(machine, "", &[&variable]).map_err(|error| error.to_string())
}

#[test]
fn mig_indexes_count_existing_devices_in_the_order_of_their_numbers() {
    let machine = divided();
    let devices = "\n195 nvidia-frontend\n510 nvidia-caps\n511 nvidia-uvm\n";
    machine.files.write("proc/devices", format!("Character devices:{devices}\nBlock devices:\n"));
    let plan = visible(&machine, "2:1").unwrap();
    let nodes: Vec<String> = plan
        .devices
        .iter()
        .skip(3)
        .map(|node| format!("{} {}:{}", node.destination.display(), node.major, node.minor))
        .collect();
    assert_eq!(
        nodes,
        [
            "/dev/nvidia7 195:7",
            "/dev/nvidia-caps/nvidia-cap30 510:30",
            "/dev/nvidia-caps/nvidia-cap31 510:31",
        ]
    );
    let grant = &plan.grants[0];
    assert_eq!((grant.index, grant.asked_as.as_str()), (2, "2:1"));
    assert_eq!(grant.part.as_deref(), Some("MIG device 1 (GI 10, CI 0)"));
    let all = visible(&machine, "all").unwrap();
    let parts: Vec<bool> = all.grants.iter().map(|grant| grant.part.is_some()).collect();
    assert_eq!(parts, [false, false, true, true, false]);
    // The GPU itself can be had, but nothing can be computed on it.
    let whole = visible(&machine, "2").unwrap();
    assert!(whole.notes[0].contains("ask for 2:0"), "{:?}", whole.notes);
    // Graphics nodes are the whole GPU's.
    machine.files.write("sys/bus/pci/devices/0000:41:00.0/drm/card3/dev", "226:3\n");
    let env = ["NVIDIA_VISIBLE_DEVICES=2:1", "NVIDIA_DRIVER_CAPABILITIES=graphics"];
    let plan = try_plan(&machine, "", &env).unwrap();
    assert!(!plan.devices.iter().any(|node| node.destination.starts_with("/dev/dri")));
}

#[test]
fn a_driver_that_does_not_number_its_rights_is_named() {
    let machine = divided();
    let error = visible(&machine, "2:0").unwrap_err();
    assert!(error.contains("no major number for nvidia-caps"), "{error}");
    let devices = "\n195 nvidia-frontend\n510 nvidia-caps\n511 nvidia-uvm\n";
    machine.files.write("proc/devices", format!("Character devices:{devices}\nBlock devices:\n"));
    machine.files.write("proc/driver/nvidia-caps/mig-minors", "gpu7/gi1/access 20\n");
    let error = visible(&machine, "2:0").unwrap_err();
    assert!(error.contains("mig-minors has no number for gpu7/gi1/ci0/access"), "{error}");
}

#[test]
fn gpudirect_storage_brings_its_files_only_where_it_has_a_node() {
    let machine = Machine::new();
    machine.files.directory("root/run/udev");
    machine.files.write("root/etc/cufile.json", "{}");
    let env = ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_GDS=enabled"];
    let given = || {
        let plan = try_plan(&machine, "", &env).unwrap();
        let files = plan.files.into_iter().filter(|file| file.why.contains("GDS"));
        (files.map(|file| file.source).collect::<Vec<_>>(), plan.notes)
    };
    let (files, notes) = given();
    assert!(files.is_empty() && notes[0].contains("no such device"), "{files:?} {notes:?}");
    if machine.files.node("dev/nvidia-fs3", 506, 3, 0o666) {
        let (files, _) = given();
        assert_eq!(files, [machine.at("root/run/udev"), machine.at("root/etc/cufile.json")]);
    }
}

#[test]
fn keys_of_the_configuration_are_checked() {
    let machine = Machine::new();
    for (line, part) in [
        ("swarm-resource = \"GPU\"", "DOCKER_RESOURCE_"),
        ("unmet-requirements = \"warn\"", "note or error"),
        ("disable-require = 1", "disable-require"),
    ] {
        let error = try_plan(&machine, line, &["NVIDIA_VISIBLE_DEVICES=0"]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_daemon_of_the_multi_process_service_can_be_reached_where_it_was_put() {
    let machine = Machine::new();
    let plan = |lines: &str, env: &[&str]| {
        let env = [&["NVIDIA_VISIBLE_DEVICES=0"], env].concat();
        try_plan(&machine, lines, &env).unwrap()
    };
    let pipes = |plan: &Plan| {
        let files = plan.files.iter().filter(|file| file.why.contains("multi-process"));
        files.map(|file| file.source.clone()).collect::<Vec<_>>()
    };
    let variable = |plan: &Plan| {
        plan.env.iter().find(|(name, _)| name == "CUDA_MPS_PIPE_DIRECTORY").map(|(_, v)| v.clone())
    };
    assert!(pipes(&plan("", &[])).is_empty());

    let own = machine.at("mps/pipe");
    let lines =
        format!("mps-pipe-directory = {own:?}\nmps-shm-directory = {:?}", machine.at("mps/shm"));
    let without = plan(&lines, &[]);
    assert!(pipes(&without).is_empty() && without.mounts.is_empty());
    assert!(without.notes[0].contains("mps-pipe-directory"), "{:?}", without.notes);

    machine.files.directory("mps/pipe");
    let with = plan(&lines, &[]);
    assert_eq!(pipes(&with), std::slice::from_ref(&own));
    assert_eq!(variable(&with).as_deref(), own.to_str());
    assert_eq!(with.mounts[0].source().as_deref(), Some(machine.at("mps/shm").as_path()));
    assert_eq!(with.mounts[0].destination(), std::path::Path::new("/dev/shm"));
    // The container knows better.
    let named = plan(&lines, &["CUDA_MPS_PIPE_DIRECTORY=/elsewhere"]);
    assert_eq!((pipes(&named).len(), variable(&named)), (1, None));
    let utility = plan(&lines, &["NVIDIA_DRIVER_CAPABILITIES=utility"]);
    assert!(pipes(&utility).is_empty() && utility.mounts.is_empty());

    // The place where CUDA looks anyway needs no variable.
    machine.files.directory("root/tmp/nvidia-mps");
    let usual = plan("", &[]);
    assert_eq!(pipes(&usual), [machine.at("root/tmp/nvidia-mps")]);
    assert_eq!((variable(&usual), usual.mounts.len()), (None, 0));
}

#[test]
fn a_mig_uuid_without_anybody_who_knows_it_is_named_with_the_remedy() {
    let machine = divided();
    let id = "MIG-ffda444c-c706-57c6-98c9-67c441a0b109";
    // The made-up program is none.
    let error = visible(&machine, id).unwrap_err();
    for part in [id, "cannot run", "nvidia-smi -L", "(0:1)"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    std::fs::remove_file(machine.at("root/usr/bin/nvidia-smi")).unwrap();
    let error = visible(&machine, id).unwrap_err();
    for part in [id, "there is none below", "binary-paths"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn the_beginning_of_a_uuid_must_leave_no_doubt() {
    let machine = Machine::new();
    machine.gpu(
        "0000:25:00.0",
        "GPU UUID: GPU-00000002-1000-0000-0000-000000000000\nDevice Minor: 1\n",
    );
    let error = visible(&machine, "GPU-00000002").unwrap_err();
    assert!(error.contains("GPU-00000002-1000") && error.contains("0000:41:00.0"), "{error}");
    assert!(!error.contains("0000:61:00.0"), "{error}");
    assert_eq!(visible(&machine, "GPU-00000002-1").unwrap().grants[0].bus_id, "0000:25:00.0");
    // A whole one is never the beginning of another.
    let whole = "GPU-00000002-0000-0000-0000-000000000000";
    assert_eq!(visible(&machine, whole).unwrap().grants[0].bus_id, "0000:41:00.0");
    // In the id of a MIG device, a GPU is named in full.
    assert!(visible(&machine, "MIG-GPU-00000002-1/1/0").is_err());
}

#[test]
fn management_gives_every_node_of_the_driver_and_hides_nothing() {
    let machine = Machine::new();
    let more = "[cdi]\nspec-dirs = []";
    let plan = |device: &str| {
        let spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": {"cdi.k8s.io/x": format!("management.nvidia.com/gpu={device}")},
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": [],
                        "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}
        }))
        .unwrap();
        let settings = machine.settings(more);
        let request = Request::read(&spec, Some(&settings))?;
        resolve(&request, vec![], &spec, &settings, &machine.host())
    };
    let error = plan("all").unwrap_err().to_string();
    assert!(error.contains("has no device node of the NVIDIA driver"), "{error}");
    let error = plan("0").unwrap_err().to_string();
    assert!(error.contains("no device \"0\" of management.nvidia.com/gpu"), "{error}");
    for (path, major, minor) in [
        ("nvidiactl", 195, 255),
        ("nvidia0", 195, 0),
        ("nvidia-uvm", 511, 0),
        ("nvidia-fs0", 506, 0),
        ("nvidia-nvswitchctl", 504, 255),
        ("nvidia-caps/nvidia-cap1", 510, 1),
        ("nvidia-caps-imex-channels/channel3", 507, 3),
        ("dri/card0", 226, 0),
    ] {
        if !machine.files.node(&format!("dev/{path}"), major, minor, 0o600) {
            println!("skipped: mknod is not allowed here");
            return;
        }
    }
    machine.files.write("dev/nvidia-no-device", "x");
    let plan = plan("all").unwrap();
    let nodes: Vec<String> =
        plan.devices.iter().map(|node| node.destination.display().to_string()).collect();
    assert_eq!(
        nodes,
        [
            "/dev/nvidia-uvm",
            "/dev/nvidia0",
            "/dev/nvidiactl",
            "/dev/nvidia-caps/nvidia-cap1",
            "/dev/nvidia-caps-imex-channels/channel3",
        ]
    );
    assert!(plan.masks.is_empty() && plan.filters.is_empty());
    assert!(plan.files.iter().any(|file| file.source.ends_with("nvidia-smi")));
    assert_eq!(plan.env, [("NVIDIA_VISIBLE_DEVICES".to_owned(), "void".to_owned())]);
    assert_eq!(plan.grants.len(), 4);
}

#[test]
fn automatic_names_in_annotations_need_no_cdi_file() {
    let machine = Machine::new();
    let plan = |names: &str, env: &[&str]| {
        let spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": {"cdi.k8s.io/x": names},
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
        }))
        .unwrap();
        let settings = machine.settings("[cdi]\nspec-dirs = []");
        let request = Request::read(&spec, Some(&settings)).unwrap();
        let plan = resolve(&request, vec![], &spec, &settings, &machine.host()).unwrap();
        plan.grants.iter().map(|grant| grant.index).collect::<Vec<_>>()
    };
    assert_eq!(plan("runtime.nvidia.com/gpu=2", &[]), [2]);
    assert_eq!(plan("runtime.nvidia.com/gpu=all", &[]), [0, 1, 2, 3]);
    // An engine has applied them already.
    let void = ["NVIDIA_VISIBLE_DEVICES=void"];
    assert!(plan("runtime.nvidia.com/gpu=2,management.nvidia.com/gpu=all", &void).is_empty());
}
