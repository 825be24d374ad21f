//! Whole plans, on a made-up machine.

use super::inventory;
use crate::gpu::plan::{Place, Plan};
use crate::gpu::request::Request;
use crate::gpu::{GpuError, resolve};
use crate::host::testing::Scratch;
use crate::host::{Host, Settings};

/// An integrated GPU, a card of another maker, a divided GPU with two virtual functions, and an
/// NPU beside an accelerator of another maker.
fn machine() -> Scratch {
    let files = Scratch::new();
    files.directory("proc");
    for (card, address, vendor, device, driver, vfs) in [
        (0, "0000:00:02.0", "0x8086", "0x46a6", "i915", None),
        (1, "0000:0b:00.0", "0x1002", "0x74a1", "amdgpu", None),
        (2, "0000:0f:00.0", "0x8086", "0x56c0", "xe", Some(2)),
        (3, "0000:0f:00.1", "0x8086", "0x56c0", "xe", None),
        (10, "0000:0f:00.2", "0x8086", "0x56c0", "xe", Some(0)),
    ] {
        let function = function(&files, address, vendor, device, driver);
        if let Some(count) = vfs {
            files.write(&format!("{function}/sriov_numvfs"), format!("{count}\n"));
        }
        for (name, minor) in [
            (format!("card{card}"), card),
            (format!("renderD{}", 128 + card), 128 + card),
            (format!("controlD{}", 64 + card), 64 + card),
        ] {
            files.write(&format!("{function}/drm/{name}/dev"), format!("226:{minor}\n"));
        }
        for (kind, name) in
            [("card", format!("card{card}")), ("render", format!("renderD{}", 128 + card))]
        {
            files.link(&format!("../{name}"), &format!("dev/dri/by-path/pci-{address}-{kind}"));
        }
        files.link(
            &format!("../../../bus/pci/devices/{address}"),
            &format!("sys/class/drm/card{card}/device"),
        );
        files.directory(&format!("sys/class/drm/card{card}-DP-1"));
        files.directory(&format!("sys/class/drm/renderD{}", 128 + card));
    }
    for (accel, address, vendor, device, driver) in [
        (0, "0000:00:0b.0", "0x8086", "0x7d1d", "intel_vpu"),
        (1, "0000:4d:00.0", "0x1da3", "0x1020", "habanalabs"),
    ] {
        function(&files, address, vendor, device, driver);
        let class = format!("sys/class/accel/accel{accel}");
        files.write(&format!("{class}/dev"), format!("261:{accel}\n"));
        files.link(&format!("../../../bus/pci/devices/{address}"), &format!("{class}/device"));
    }
    files
}

fn function(files: &Scratch, address: &str, vendor: &str, device: &str, driver: &str) -> String {
    let function = format!("sys/bus/pci/devices/{address}");
    files.write(&format!("{function}/vendor"), format!("{vendor}\n"));
    files.write(&format!("{function}/device"), format!("{device}\n"));
    files.write(&format!("{function}/numa_node"), "-1\n");
    files.link(&format!("../../../../bus/pci/drivers/{driver}"), &format!("{function}/driver"));
    function
}

fn host(files: &Scratch) -> Host {
    let at = |name: &str| files.path().join(name);
    Host::at(at("proc"), at("sys"), at("dev")).unwrap()
}

fn try_plan(files: &Scratch, names: &str) -> Result<Plan, GpuError> {
    let lines = "[cdi]\nspec-dirs = [\"/nonexistent/cdi\"]\n";
    let settings =
        Settings::parse("/c.toml".as_ref(), lines.to_owned(), &crate::gpu::tables()).unwrap();
    let spec = serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "annotations": {"cdi.k8s.io/x": names}
    }))
    .unwrap();
    let request = Request::read(&spec, Some(&settings))?;
    resolve(&request, vec![], &spec, &settings, &host(files))
}

fn nodes(plan: &Plan) -> Vec<String> {
    plan.devices
        .iter()
        .map(|d| format!("{} {}:{}", d.destination.display(), d.major, d.minor))
        .collect()
}

#[test]
fn every_name_of_a_gpu_gives_its_card_and_render_node() {
    let files = machine();
    let card0 = ["/dev/dri/card0 226:0", "/dev/dri/renderD128 226:128"];
    let card3 = ["/dev/dri/card3 226:3", "/dev/dri/renderD131 226:131"];
    let card10 = ["/dev/dri/card10 226:10", "/dev/dri/renderD138 226:138"];
    for (names, expected) in [
        ("intel.com/gpu=card0", card0.to_vec()),
        ("intel.com/gpu=0000-00-02-0-0x46a6", card0.to_vec()),
        ("intel.com/gpu=0000-0f-00-1-0x56c0,intel.com/gpu=card3", card3.to_vec()),
        ("intel.com/gpu=card3,intel.com/gpu=card0", [card3, card0].concat()),
        ("intel.com/gpu=all", [card0, card3, card10].concat()),
        ("intel.com/npu=accel0", vec!["/dev/accel/accel0 261:0"]),
        ("intel.com/npu=0000-00-0b-0-0x7d1d", vec!["/dev/accel/accel0 261:0"]),
        ("intel.com/npu=all", vec!["/dev/accel/accel0 261:0"]),
    ] {
        assert_eq!(nodes(&try_plan(&files, names).unwrap()), expected, "{names}");
    }
}

#[test]
fn links_by_path_stay_links() {
    let files = machine();
    let plan = try_plan(&files, "intel.com/gpu=card3").unwrap();
    let links: Vec<_> = plan.links.iter().map(|link| (&link.destination, &link.target)).collect();
    let place =
        |kind: &str| Place::Path(format!("/dev/dri/by-path/pci-0000:0f:00.1-{kind}").into());
    assert_eq!(
        links,
        [(&place("card"), &"../card3".into()), (&place("render"), &"../renderD131".into()),]
    );
    let grant = &plan.grants[0];
    assert_eq!((grant.index, grant.model.as_str()), (3, "Intel 8086:56c0"));
}

#[test]
fn another_makers_card_a_divided_gpu_and_unknown_names_are_refused() {
    let files = machine();
    for name in [
        "intel.com/gpu=card1",
        "intel.com/gpu=card2",
        "intel.com/gpu=0000-0f-00-0-0x56c0",
        "intel.com/gpu=0",
        "intel.com/gpu=accel0",
        "intel.com/npu=accel1",
        "intel.com/npu=card0",
    ] {
        let error = try_plan(&files, name).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("no device {name} on this machine; there is ")),
            "{error}"
        );
    }
    let error = try_plan(&files, "intel.com/gpu=card1").unwrap_err().to_string();
    assert!(
        error.ends_with(
            "there is card0 (0000-00-02-0-0x46a6), card3 (0000-0f-00-1-0x56c0), \
         card10 (0000-0f-00-2-0x56c0); its driver is i915 or xe"
        ),
        "{error}"
    );
    let empty = Scratch::new();
    for directory in ["proc", "sys", "dev"] {
        empty.directory(directory);
    }
    let error = try_plan(&empty, "intel.com/gpu=all").unwrap_err().to_string();
    assert!(error.contains("there is none"), "{error}");
    assert_eq!(inventory::read(&host(&empty)).unwrap(), []);
}

#[test]
fn the_inventory_lists_gpus_then_npus() {
    let files = machine();
    let devices = inventory::read(&host(&files)).unwrap();
    let names: Vec<_> = devices.iter().map(|one| (&*one.kind, one.name.as_str())).collect();
    assert_eq!(
        names,
        [
            ("intel.com/gpu", "card0"),
            ("intel.com/gpu", "card3"),
            ("intel.com/gpu", "card10"),
            ("intel.com/npu", "accel0"),
        ]
    );
    assert_eq!(devices[1].driver.as_deref(), Some("xe"));
    assert_eq!(
        devices[1].nodes,
        ["/dev/dri/card3", "/dev/dri/renderD131"].map(std::path::PathBuf::from)
    );
    assert_eq!((devices[1].numa_node, devices[1].uuid.as_ref()), (None, None));
}
