//! Whole plans, on made-up machines.

use super::inventory;
use crate::gpu::plan::Plan;
use crate::gpu::request::Request;
use crate::gpu::{GpuError, resolve};
use crate::host::testing::Scratch;
use crate::host::{Host, Settings};

/// Twelve devices of this class, the first two with InfiniBand, and an accelerator of another
/// maker with the number 12.
fn machine(class: &str, prefix: &str) -> Scratch {
    let files = Scratch::new();
    files.directory("proc");
    files.directory("dev");
    for number in 0..13 {
        let (vendor, kind) = if number < 12 { ("0x1da3", "GAUDI2") } else { ("0x8086", "") };
        let function = format!("sys/bus/pci/devices/0000:{:02x}:00.0", 0x10 + number);
        for (name, text) in [("vendor", vendor), ("device", "0x1020"), ("device_type", kind)] {
            files.write(&format!("{function}/{name}"), format!("{text}\n"));
        }
        files.write(&format!("{function}/driver_ver"), "1.16.0-abc\n");
        let target = format!("../../../bus/pci/devices/0000:{:02x}:00.0", 0x10 + number);
        for (name, minor) in [
            (format!("{prefix}{number}"), 2 * number),
            (format!("{prefix}_controlD{number}"), 2 * number + 1),
        ] {
            files.write(&format!("sys/class/{class}/{name}/dev"), format!("261:{minor}\n"));
            files.link(&target, &format!("sys/class/{class}/{name}/device"));
        }
        if number < 2 {
            let verbs = format!("{function}/infiniband_verbs/uverbs{}/dev", 7 - number);
            files.write(&verbs, format!("231:{}\n", 192 + number));
            files.link(&target, &format!("sys/class/infiniband/hlib_{number}/device"));
        }
    }
    files
}

fn host(files: &Scratch) -> Host {
    let at = |name: &str| files.path().join(name);
    Host::at(at("proc"), at("sys"), at("dev")).unwrap()
}

fn try_plan(files: &Scratch, lines: &str, env: &str, cdi: &str) -> Result<Plan, GpuError> {
    let lines = format!("[cdi]\nspec-dirs = [\"/nonexistent/cdi\"]\n{lines}");
    let settings = Settings::parse("/c.toml".as_ref(), lines, &crate::gpu::tables()).unwrap();
    let mut spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": [env]}
    });
    if !cdi.is_empty() {
        spec["annotations"] = serde_json::json!({"cdi.k8s.io/x": cdi});
    }
    let spec = serde_json::from_value(spec).unwrap();
    let request = Request::read(&spec, Some(&settings))?;
    resolve(&request, vec![], &spec, &settings, &host(files))
}

fn nodes(plan: &Plan) -> Vec<String> {
    plan.devices
        .iter()
        .map(|d| format!("{} {}:{} {}", d.destination.display(), d.major, d.minor, d.access))
        .collect()
}

fn indexes(plan: &Plan) -> Vec<u32> {
    plan.grants.iter().map(|grant| grant.index).collect()
}

#[test]
fn a_device_is_its_node_and_its_control_node() {
    for (class, prefix, dev) in [("accel", "accel", "/dev/accel"), ("habanalabs", "hl", "/dev")] {
        let files = machine(class, prefix);
        let plan = try_plan(&files, "", "HABANA_VISIBLE_DEVICES=1,11", "").unwrap();
        assert_eq!(
            nodes(&plan),
            [
                format!("{dev}/{prefix}1 261:2 rwm"),
                format!("{dev}/{prefix}_controlD1 261:3 rwm"),
                format!("{dev}/{prefix}11 261:22 rwm"),
                format!("{dev}/{prefix}_controlD11 261:23 rwm"),
            ]
        );
        assert_eq!(plan.grants[1].model, "GAUDI2");
        assert_eq!(plan.grants[1].bus_id, "0000:1b:00.0");
    }
}

#[test]
fn lists_are_indexes_and_what_nobody_has_is_noted() {
    let files = machine("accel", "accel");
    for (value, expected) in [
        ("all", (0..12).collect::<Vec<_>>()),
        ("3, 1,3", vec![3, 1]),
        ("", vec![]),
        ("none", vec![]),
        ("void", vec![]),
        ("12,0", vec![0]),
        ("-1,+1,x", vec![]),
    ] {
        let plan = try_plan(&files, "", &format!("HABANA_VISIBLE_DEVICES={value}"), "").unwrap();
        assert_eq!(indexes(&plan), expected, "{value:?}");
    }
    let plan = try_plan(&files, "", "HABANA_VISIBLE_DEVICES=12", "").unwrap();
    assert!(
        plan.notes[0].contains("no such Gaudi device on this machine: \"12\"; there is"),
        "{:?}",
        plan.notes
    );
    // Not without being asked, nor by a variable that only begins so.
    for env in ["A=1", "HABANA_VISIBLE_DEVICES_X=all"] {
        assert_eq!(try_plan(&files, "", env, "").unwrap(), Plan::default(), "{env}");
    }
}

#[test]
fn infiniband_comes_when_the_configuration_says_so() {
    let files = machine("accel", "accel");
    let lines = "[habana]\nmount-uverbs = true\n";
    let plan = try_plan(&files, lines, "HABANA_VISIBLE_DEVICES=1,2", "").unwrap();
    let verbs: Vec<_> = nodes(&plan).into_iter().filter(|node| node.contains("uverbs")).collect();
    assert_eq!(verbs, ["/dev/infiniband/uverbs6 231:193 rwm"]);
    assert!(plan.notes[0].contains("hlib_2"), "{:?}", plan.notes);
}

#[test]
fn cdi_names_are_index_node_and_address() {
    let files = machine("accel", "accel");
    for name in ["4", "accel4", "0000-14-00-0-0x1020"] {
        let plan = try_plan(&files, "", "A=1", &format!("intel.com/gaudi={name}")).unwrap();
        assert_eq!(indexes(&plan), [4], "{name}");
    }
    assert_eq!(indexes(&try_plan(&files, "", "A=1", "intel.com/gaudi=all").unwrap()).len(), 12);
    for name in ["12", "accel12", "hl1", "void", "0000-14-00-0-0x1"] {
        let error = try_plan(&files, "", "A=1", &format!("intel.com/gaudi={name}")).unwrap_err();
        assert!(error.to_string().starts_with(&format!("no Gaudi device {name:?}")), "{error}");
    }
}

#[test]
fn a_missing_driver_is_an_error_for_those_who_want_devices() {
    let files = Scratch::new();
    for directory in ["proc", "sys", "dev"] {
        files.directory(directory);
    }
    let error = try_plan(&files, "", "HABANA_VISIBLE_DEVICES=0", "").unwrap_err().to_string();
    assert!(error.contains("no Gaudi device") && error.contains("modprobe habanalabs"), "{error}");
    assert!(try_plan(&files, "", "HABANA_VISIBLE_DEVICES=none", "").is_ok());
    assert_eq!(inventory::read(&host(&files)).unwrap(), []);
}

#[test]
fn the_inventory_has_the_driver_and_the_nodes() {
    let devices = inventory::read(&host(&machine("habanalabs", "hl"))).unwrap();
    assert_eq!(devices.len(), 12);
    assert_eq!(devices[11].driver.as_deref(), Some("habanalabs 1.16.0-abc"));
    assert_eq!(
        devices[11].nodes,
        ["/dev/hl11", "/dev/hl_controlD11"].map(std::path::PathBuf::from)
    );
}
