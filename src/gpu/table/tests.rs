//! Whole plans, on made-up machines.

use super::Table;
use crate::gpu::plan::Plan;
use crate::gpu::request::{Asked, Request};
use crate::gpu::vendor::Vendor;
use crate::gpu::{GpuError, resolve};
use crate::host::testing::Scratch;
use crate::host::{Host, Settings};

/// Two davinci devices with one control node of three, and two DRM devices of Hygon among those
/// of others. `None`: mknod is not allowed.
fn machine() -> Option<Scratch> {
    let files = Scratch::new();
    files.directory("proc");
    for (name, minor) in
        [("davinci0", 0), ("davinci11", 11), ("davinci_manager", 255), ("own-3x", 9)]
    {
        if !files.node(&format!("dev/{name}"), 236, minor, 0o666) {
            eprintln!("skipped: mknod is not allowed here");
            return None;
        }
    }
    files.write("dev/davinci7", "no device");
    for (address, vendor, card) in [
        ("0000:81:00.0", "0x1d94", 2),
        ("0000:03:00.0", "0x1a03", 0),
        ("0000:01:00.0", "0x1d94", 3),
        ("0000:00:01.0", "0x1d94", 99),
    ] {
        let function = format!("sys/bus/pci/devices/{address}");
        files.write(&format!("{function}/vendor"), format!("{vendor}\n"));
        files.write(&format!("{function}/device"), "0x54b7\n");
        if card < 99 {
            files.write(&format!("{function}/drm/card{card}/dev"), format!("226:{card}\n"));
            let render = 128 + card;
            files.write(&format!("{function}/drm/renderD{render}/dev"), format!("226:{render}\n"));
        }
    }
    Some(files)
}

fn settings(lines: &str) -> Settings {
    Settings::parse("/c.toml".as_ref(), lines.to_owned(), &crate::gpu::tables()).unwrap()
}

fn host(files: &Scratch) -> Host {
    let at = |name: &str| files.path().join(name);
    Host::at(at("proc"), at("sys"), at("dev")).unwrap()
}

fn spec(env: &[&str]) -> oci_spec::runtime::Spec {
    serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
    }))
    .unwrap()
}

fn try_plan(files: &Scratch, lines: &str, env: &[&str]) -> Result<Plan, GpuError> {
    let (settings, spec) = (settings(lines), spec(env));
    let request = Request::read(&spec, Some(&settings))?;
    resolve(&request, vec![], &spec, &settings, &host(files))
}

fn nodes(plan: &Plan) -> Vec<String> {
    plan.devices.iter().map(|device| device.destination.display().to_string()).collect()
}

const ASCEND: &str = "[vendors]\nenabled = [\"ascend\"]\n";

#[test]
fn a_ready_made_vendor_gives_nothing_until_it_is_enabled() {
    let Some(files) = machine() else { return };
    let env = ["ASCEND_VISIBLE_DEVICES=0"];
    assert_eq!(try_plan(&files, "", &env).unwrap(), Plan::default());
    let plan = try_plan(&files, ASCEND, &env).unwrap();
    assert_eq!(nodes(&plan), ["/dev/davinci0", "/dev/davinci_manager"]);
    assert_eq!((plan.grants[0].kind.as_str(), plan.grants[0].index), ("ascend", 0));
    assert!(plan.notes[0].contains("/dev/devmm_svm does not exist"), "{:?}", plan.notes);
}

#[test]
fn lists_ranges_and_chip_names_mean_devices_and_a_bad_item_is_an_error() {
    let Some(files) = machine() else { return };
    let indexes = |value: &str| -> Result<Vec<u32>, String> {
        let plan = try_plan(&files, ASCEND, &[&format!("ASCEND_VISIBLE_DEVICES={value}")]);
        let plan = plan.map_err(|error| error.to_string())?;
        Ok(plan.grants.iter().map(|grant| grant.index).collect())
    };
    for (value, expected) in [
        ("11, 0,11", vec![11, 0]),
        ("11-11", vec![11]),
        ("Ascend910-11,npu-0", vec![11, 0]),
        ("void", vec![]),
        ("none", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(indexes(value), Ok(expected), "{value:?}");
    }
    for item in ["7", "0-11", "11-0", "0-4000000000", "all", "x", "-1", "Ascend910-", "davinci0"] {
        let error = indexes(item).unwrap_err();
        let expected = format!(
            "ASCEND_VISIBLE_DEVICES={item}: {item:?} is no device of ascend; there is 0,11"
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn devices_found_on_the_bus_are_numbered_in_its_order() {
    let Some(files) = machine() else { return };
    let lines = "[vendors]\nenabled = [\"hygon\", \"metax\"]\n";
    let plan = try_plan(&files, lines, &["HYGON_VISIBLE_DEVICES=1"]).unwrap();
    assert_eq!(nodes(&plan), ["/dev/dri/card2", "/dev/dri/renderD130"]);
    assert_eq!(plan.grants[0].bus_id, "0000:81:00.0");
    let plan = try_plan(&files, lines, &["HYGON_VISIBLE_DEVICES=all"]).unwrap();
    assert_eq!(plan.devices.len(), 4);
    let error = try_plan(&files, lines, &["METAX_VISIBLE_DEVICES=all"]).unwrap_err().to_string();
    assert!(error.contains("no device of metax on this machine"), "{error}");
}

#[test]
fn a_vendor_can_be_described_and_take_the_place_of_a_ready_made_one() {
    let Some(files) = machine() else { return };
    let lines = "[vendors]\nenabled = [\"ascend\", \"own\"]\n\
        [vendors.own]\nvariable = \"OWN_VISIBLE_DEVICES\"\ndevices = [\"/dev/own-{}x\"]\n\
        unknown = \"note\"\nranges = false\n\
        [vendors.ascend]\nvariable = \"ASCEND_VISIBLE_DEVICES\"\ndevices = [\"/dev/davinci{}\"]\n";
    let env = ["OWN_VISIBLE_DEVICES=3,0-3,4", "ASCEND_VISIBLE_DEVICES=all"];
    let plan = try_plan(&files, lines, &env).unwrap();
    assert_eq!(nodes(&plan), ["/dev/own-3x", "/dev/davinci0", "/dev/davinci11"]);
    assert_eq!(plan.notes.len(), 1);
    assert!(plan.notes[0].ends_with("\"0-3\", \"4\" is no device of own; there is 3; ignored"));
    let devices = Table.inventory(&settings(lines), &host(&files)).unwrap();
    let names: Vec<_> = devices.iter().map(|one| format!("{} {}", one.kind, one.name)).collect();
    assert_eq!(names, ["own 3", "ascend 0", "ascend 11"]);
    assert!(Table.inventory(&settings(""), &host(&files)).unwrap().is_empty());
}

#[test]
fn a_wrong_description_is_refused_with_its_line() {
    let Some(files) = machine() else { return };
    for (lines, phrase) in [
        ("enabled = [\"nvidia\"]", "line 2: vendors.enabled must be a list of ascend, mthreads"),
        ("enabled = true", "vendors.enabled must be an array of strings"),
        (
            "[vendors.x]\ndevices = [\"/dev/x{}\"]",
            "vendors.x.variable must be the name of a variable",
        ),
        ("[vendors.x]\nvariable = \"X\"", "line 3: vendors.x.variable must be"),
        ("[vendors.x]\nvariable = \"NVIDIA_VISIBLE_DEVICES\"", "not one that gpurun knows"),
        ("[vendors.x]\nvariable = \"X_VISIBLE_DEVICES\"", "vendors.x.devices must be given"),
        (
            "[vendors.x]\nvariable = \"X_VISIBLE_DEVICES\"\ndevices = [\"/dev/x\"]",
            "line 4: vendors.x.devices must be an array of paths below /dev",
        ),
        (
            "[vendors.x]\nvariable = \"X_VISIBLE_DEVICES\"\npci-vendor = \"1d94\"",
            "vendors.x.pci-vendor must be a number",
        ),
        (
            "[vendors.x]\nvariable = \"X_VISIBLE_DEVICES\"\ndevices = [\"/dev/x{}\"]\ncommon = [\"/etc\"]",
            "vendors.x.common must be an array of paths below /dev",
        ),
        (
            "[vendors.x]\nvariable = \"X_VISIBLE_DEVICES\"\ndevices = [\"/dev/x{}\"]\ncolour = 1",
            "line 5: unknown key \"vendors.x.colour\"",
        ),
    ] {
        let lines = format!("[vendors]\n{lines}\n");
        let error = try_plan(&files, &lines, &["X_VISIBLE_DEVICES=0"]).unwrap_err().to_string();
        assert!(error.contains(phrase), "{lines}: {error}");
    }
}

#[test]
fn only_an_unknown_variable_that_may_select_devices_asks_for_the_configuration() {
    for (env, expected) in [
        ("ASCEND_VISIBLE_DEVICES=0", true),
        ("X_VISIBLE_DEVICES=all", true),
        ("ASCEND_VISIBLE_DEVICES=void", false),
        ("ASCEND_VISIBLE_DEVICES=none", false),
        ("ASCEND_VISIBLE_DEVICES=", false),
        ("NVIDIA_VISIBLE_DEVICES=all", false),
        ("AMD_VISIBLE_DEVICES=all", false),
        ("HABANA_VISIBLE_DEVICES=all", false),
        ("CUDA_VISIBLE_DEVICES=0", false),
        ("X_VISIBLE_DEVICES_Y=0", false),
        ("PATH=/bin", false),
    ] {
        assert_eq!(Table.needs_settings(&Asked::of(&spec(&[env]))), expected, "{env}");
    }
}
