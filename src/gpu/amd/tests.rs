//! Whole plans, on made-up machines.

use super::testing::{Machine, unique};
use super::{gpus, inventory};
use crate::gpu::plan::Plan;
use crate::gpu::request::Request;
use crate::gpu::{GpuError, resolve};
use crate::host::testing::Scratch;
use crate::host::{Host, Settings};

fn try_plan(machine: &Machine, lines: &str, spec: serde_json::Value) -> Result<Plan, GpuError> {
    plan_on(&machine.host(), &machine.settings(lines), spec)
}

fn plan_on(host: &Host, settings: &Settings, spec: serde_json::Value) -> Result<Plan, GpuError> {
    let spec = serde_json::from_value(spec).unwrap();
    let request = Request::read(&spec, Some(settings))?;
    resolve(&request, vec![], &spec, settings, host)
}

fn with_env(env: &[&str]) -> serde_json::Value {
    serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
    })
}

fn visible(machine: &Machine, value: &str) -> Plan {
    try_plan(machine, "", with_env(&[&format!("AMD_VISIBLE_DEVICES={value}")])).unwrap()
}

fn indexes(plan: &Plan) -> Vec<u32> {
    plan.grants.iter().map(|grant| grant.index).collect()
}

/// `path major:minor` of every node.
fn nodes(plan: &Plan) -> Vec<String> {
    let node = |d: &crate::gpu::plan::DeviceNode| {
        format!("{} {}:{} {}", d.destination.display(), d.major, d.minor, d.access)
    };
    plan.devices.iter().map(node).collect()
}

#[test]
fn a_gpu_is_its_drm_nodes_and_kfd_which_comes_once() {
    let machine = Machine::with(8, 1);
    let plan = visible(&machine, "0,2");
    assert_eq!(
        nodes(&plan),
        [
            "/dev/dri/card1 226:1 rwm",
            "/dev/dri/renderD128 226:128 rwm",
            "/dev/dri/card3 226:3 rwm",
            "/dev/dri/renderD130 226:130 rwm",
            "/dev/kfd 510:0 rwm",
        ]
    );
    let grant = &plan.grants[1];
    assert_eq!((grant.index, grant.bus_id.as_str()), (2, "0000:25:00.0"));
    assert_eq!((grant.uuid.as_str(), grant.part.as_deref()), ("0x378041e1ada6012", None));
    assert_eq!((grant.model.as_str(), grant.asked_as.as_str()), ("AMD Instinct MI300X OAM", "2"));
    assert!(plan.files.is_empty() && plan.links.is_empty() && plan.env.is_empty());
}

#[test]
fn every_form_of_list_gives_what_amds_runtime_gives() {
    let machine = Machine::with(8, 1);
    let id = |gpu| format!("0x{:x}", unique(gpu));
    let all: Vec<u32> = (0..8).collect();
    for (value, expected) in [
        ("all".to_owned(), all.clone()),
        ("All".to_owned(), all.clone()),
        ("ALL".to_owned(), all),
        ("aLL".to_owned(), vec![]),
        ("all,1".to_owned(), vec![1]),
        ("3,1".to_owned(), vec![1, 3]),
        ("1,1,0-1".to_owned(), vec![0, 1]),
        ("6-9".to_owned(), vec![6, 7]),
        ("0-4000000000".to_owned(), (0..8).collect()),
        ("3-1,2".to_owned(), vec![2]),
        ("8".to_owned(), vec![]),
        ("x, 1,2 ,5".to_owned(), vec![5]),
        (",".to_owned(), vec![]),
        (id(3), vec![3]),
        (id(3).to_uppercase(), vec![3]),
        (id(3).trim_start_matches("0x").to_owned(), vec![3]),
        (format!("{},{},0", id(5), id(5)), vec![0, 5]),
        (id(9), vec![]),
        ("none".to_owned(), vec![]),
        ("void".to_owned(), vec![]),
        ("0,void".to_owned(), vec![0]),
    ] {
        let plan = visible(&machine, &value);
        assert_eq!(indexes(&plan), expected, "{value:?}");
        assert_eq!(plan.devices.is_empty(), expected.is_empty(), "{value:?}");
    }
}

#[test]
fn what_means_nothing_is_noted_with_what_there_is() {
    let machine = Machine::with(1, 1);
    let plan = visible(&machine, "0,7,oops,0-3");
    assert_eq!(indexes(&plan), [0]);
    let [unknown, range] = &plan.notes[..] else { panic!("{:?}", plan.notes) };
    assert_eq!(
        unknown,
        "AMD_VISIBLE_DEVICES=0,7,oops,0-3: ignored, because there is no such GPU on this machine: \
         \"7\", \"oops\"; there is [0: 0x378041e1ada6010, 0000:05:00.0]"
    );
    assert!(range.contains("goes beyond the last GPU of this machine: \"0-3\""), "{range}");
    let plan = visible(&Machine::with(8, 8), "64");
    assert!(plan.notes[0].ends_with("\"64\"; there is 0 to 63"), "{:?}", plan.notes);
    let plan = visible(&Machine::new(), "all");
    assert!(plan.notes[0].contains("the amdgpu driver serves no GPU"), "{:?}", plan.notes);
}

#[test]
fn partitions_have_indexes_of_their_own_beside_their_gpu() {
    let machine = Machine::with(8, 8);
    let gpus = gpus::read(&machine.host()).unwrap();
    assert_eq!(gpus.len(), 64);
    for (index, gpu) in (0..).zip(&gpus) {
        assert_eq!((gpu.index, gpu.render), (index, 128 + index));
        assert_eq!(gpu.address.to_string(), format!("0000:{:02x}:00.0", 5 + 16 * (index / 8)));
    }
    let plan = visible(&machine, "9");
    assert_eq!(
        nodes(&plan),
        ["/dev/dri/card10 226:10 rwm", "/dev/dri/renderD137 226:137 rwm", "/dev/kfd 510:0 rwm"]
    );
    assert_eq!(plan.grants[0].part.as_deref(), Some("partition 1 of 8 (cpx_nps4)"));
    // One unique id is all partitions of that GPU.
    let plan = visible(&machine, &format!("{:#x}", unique(1)));
    assert_eq!(indexes(&plan), (8..16).collect::<Vec<_>>());
    assert_eq!(visible(&machine, "all").devices.len(), 129);
}

/// `amdgpu_xcp_10` comes before `amdgpu_xcp_2`, but within one GPU render nodes decide, and
/// between GPUs where the first of their nodes is met.
#[test]
fn the_order_is_that_of_the_toolkit() {
    let machine = Machine::new();
    let location = |bus: u64| bus << 8;
    // The second GPU has no PCI device with a render node, only partitions.
    machine.gpu(0x85, 4, 131, "85");
    for (xcp, render, bus) in [(2, 130, 0x05), (10, 129, 0x25), (1, 132, 0x85), (11, 133, 0x05)] {
        machine.partition(xcp, render - 100, render);
        machine.kfd(render, 0, location(bus), bus);
    }
    // Seen, but of no use: KFD does not know it.
    machine.partition(12, 60, 160);
    let gpus = gpus::read(&machine.host()).unwrap();
    let order: Vec<(u32, String)> =
        gpus.iter().map(|gpu| (gpu.render, gpu.address.to_string())).collect();
    let expected = [
        (131, "0000:85:00.0"),
        (132, "0000:85:00.0"),
        (129, "0000:25:00.0"),
        (130, "0000:05:00.0"),
        (133, "0000:05:00.0"),
    ];
    assert_eq!(order, expected.map(|(render, address)| (render, address.to_owned())));
}

#[test]
fn a_missing_driver_is_an_error_but_not_for_those_who_want_nothing() {
    let files = Scratch::new();
    for directory in ["proc", "sys", "dev"] {
        files.directory(directory);
    }
    let at = |name: &str| files.path().join(name);
    let host = Host::at(at("proc"), at("sys"), at("dev")).unwrap();
    let settings = Machine::new().settings("");
    for value in ["all", "0", "garbage"] {
        let env = format!("AMD_VISIBLE_DEVICES={value}");
        let error = plan_on(&host, &settings, with_env(&[&env])).unwrap_err().to_string();
        assert!(error.starts_with("the amdgpu kernel driver is not loaded: "), "{error}");
        assert!(error.contains("modprobe amdgpu"), "{error}");
    }
    for value in ["", "none", "void"] {
        let env = format!("AMD_VISIBLE_DEVICES={value}");
        assert_eq!(plan_on(&host, &settings, with_env(&[&env])).unwrap(), Plan::default());
    }
    // A resource that only looks like AMD's.
    let guess = ["DOCKER_RESOURCE_KEY=0xdeadbeef0123"];
    let plan = plan_on(&host, &settings, with_env(&guess)).unwrap();
    assert!(plan.devices.is_empty() && plan.notes[0].contains("no AMD GPU"), "{:?}", plan.notes);
    assert_eq!(inventory::read(&host).unwrap(), []);
}

#[test]
fn kfd_without_numbers_and_damaged_topology_are_no_reason_to_guess() {
    let machine = Machine::with(2, 1);
    std::fs::remove_file(machine.files.path().join("sys/class/kfd/kfd/dev")).unwrap();
    let all = with_env(&["AMD_VISIBLE_DEVICES=all"]);
    let error = try_plan(&machine, "", all).unwrap_err().to_string();
    assert!(error.contains("the numbers of /dev/kfd are unknown"), "{error}");
    for properties in [
        "",
        "drm_render_minor",
        "drm_render_minor -1\n",
        "drm_render_minor 128x\n",
        "drm_render_minor 99999999999999999999\n",
        "xdrm_render_minor 128\n",
    ] {
        let path = "sys/class/kfd/kfd/topology/nodes/2/properties";
        machine.files.write(path, properties);
        let gpus = gpus::read(&machine.host()).unwrap();
        let renders: Vec<u32> = gpus.iter().map(|gpu| gpu.render).collect();
        assert_eq!(renders, [129], "{properties:?}");
    }
}

fn annotated(names: &str) -> serde_json::Value {
    let mut spec = with_env(&["AMD_VISIBLE_DEVICES=all"]);
    spec["annotations"] = serde_json::json!({"cdi.k8s.io/plugin_x": names});
    spec
}

/// Without CDI files in these directories.
const NO_FILES: &str = "[cdi]\nspec-dirs = [\"/nonexistent/cdi\"]\n";

#[test]
fn cdi_names_need_no_file_and_an_unknown_one_is_an_error() {
    let machine = Machine::with(2, 2);
    for (names, expected) in [
        ("amd.com/gpu=3", vec![3]),
        ("amd.com/gpu=3,amd.com/gpu=0", vec![0, 3]),
        ("amd.com/gpu=all", vec![0, 1, 2, 3]),
        ("amd.com/gpu=0x378041e1ada6011", vec![2, 3]),
        ("amd.com/gpu=378041e1ada6011", vec![2, 3]),
    ] {
        let plan = try_plan(&machine, NO_FILES, annotated(names)).unwrap();
        assert_eq!(indexes(&plan), expected, "{names}");
    }
    for name in ["4", "All", "0-1", "x", "0x1"] {
        let names = format!("amd.com/gpu=0,amd.com/gpu={name}");
        let error = try_plan(&machine, NO_FILES, annotated(&names)).unwrap_err().to_string();
        let start = format!("no AMD GPU {name:?} on this machine; there is [0: 0x3780");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn the_groups_of_closed_nodes_are_joined_unless_turned_off() {
    let machine = Machine::with(1, 1);
    let files = &machine.files;
    let nodes =
        [("dri/card1", 226, 1, 44), ("dri/renderD128", 226, 128, 106), ("kfd", 510, 0, 106)];
    for (name, major, minor, gid) in nodes {
        let path = format!("dev/{name}");
        if !files.node(&path, major, minor, 0o660) {
            eprintln!("skipped: mknod is not allowed here");
            return;
        }
        std::os::unix::fs::chown(files.path().join(path), Some(7), Some(gid)).unwrap();
    }
    let plan = visible(&machine, "0");
    assert_eq!(plan.gids, [44, 106]);
    let owners: Vec<_> = plan.devices.iter().map(|d| (d.uid, d.gid, d.mode)).collect();
    assert_eq!(owners, [(0, 44, 0o660), (0, 106, 0o660), (0, 106, 0o660)]);
    assert!(plan.devices.iter().all(|device| device.host_path.is_some()));
    let lines = "[amd]\nno-additional-gids-for-device-nodes = true\n";
    let plan = try_plan(&machine, lines, with_env(&["AMD_VISIBLE_DEVICES=0"])).unwrap();
    assert!(plan.gids.is_empty());
    let error = try_plan(&machine, "[amd]\ngids = true\n", with_env(&["AMD_VISIBLE_DEVICES=0"]));
    assert!(error.unwrap_err().to_string().contains("unknown key \"amd.gids\""));
}

#[test]
fn the_inventory_has_gpus_and_their_partitions_with_indexes_through_all() {
    let machine = Machine::with(2, 1);
    machine.files.write("sys/module/amdgpu/version", "6.8.5\n");
    let devices = inventory::read(&machine.host()).unwrap();
    assert_eq!(devices.len(), 2);
    let expected = serde_json::json!({
        "kind": "amd.com/gpu", "name": "1", "uuid": "0x378041e1ada6011", "bus_id": "0000:15:00.0",
        "model": "AMD Instinct MI300X OAM", "driver": "amdgpu 6.8.5",
        "numa_node": 1, "nodes": ["/dev/dri/card2", "/dev/dri/renderD129"]
    });
    assert_eq!(serde_json::to_value(&devices[1]).unwrap(), expected);

    let devices = inventory::read(&Machine::with(2, 2).host()).unwrap();
    assert_eq!(devices.len(), 2);
    let expected = serde_json::json!({
        "kind": "amd.com/gpu", "name": "0x378041e1ada6011", "uuid": "0x378041e1ada6011",
        "bus_id": "0000:15:00.0", "model": "AMD Instinct MI300X OAM", "driver": "amdgpu",
        "numa_node": 1, "nodes": [],
        "parts": [
            {"name": "2", "what": "partition 0 of 2 (cpx_nps4)",
             "nodes": ["/dev/dri/card3", "/dev/dri/renderD130"]},
            {"name": "3", "what": "partition 1 of 2 (cpx_nps4)",
             "nodes": ["/dev/dri/card4", "/dev/dri/renderD131"]},
        ]
    });
    assert_eq!(serde_json::to_value(&devices[1]).unwrap(), expected);
}
