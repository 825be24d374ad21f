//! WSL2: the GPUs are those of the Windows driver, behind one device node.
//!
//! Windows shows its driver store below `/usr/lib/wsl/drivers`, a directory for each driver that
//! is installed, and the library that speaks to it in `/usr/lib/wsl/lib`. Which GPUs there are and
//! which of the stores is in use only that library knows; so containers get all GPUs or none, and
//! every store of NVIDIA's, the newest first.

use std::path::{Path, PathBuf};

use super::KIND;
use super::config::{Config, Unmet};
use super::error::Error;
use super::loose::Root;
use super::requirements;
use super::trouble::Trouble;
use super::wish::{DEVICES_VARIABLE, NvidiaWish};
use crate::gpu::compatibility;
use crate::gpu::inventory::Device;
use crate::gpu::nodes::{self, join_groups};
use crate::gpu::plan::{FileKind, Grant, Link, Place, Plan};
use crate::gpu::request::Selection;
use crate::host::{Host, HostError, elf};

/// The node, below `/dev`.
pub const NODE: &str = "dxg";
/// The driver stores, below the root.
const STORES: &str = "usr/lib/wsl/drivers";
/// What every store of NVIDIA's has, and no other.
const MARK: &str = "libcuda.so.1.1";
/// The library that speaks to Windows.
const DXCORE: &str = "usr/lib/wsl/lib/libdxcore.so";
/// The program, in a store.
const PROGRAM: &str = "nvidia-smi";
/// How the data in a store ends, and what programs for Windows load.
const DATA: &str = ".bin";
const WINDOWS_LIBRARY: &str = ".dll";

/// The only name that devices have.
const ALL: &str = "all";

/// Whether this is such a machine.
pub fn is(host: &Host) -> Result<bool, HostError> {
    Ok(host.dev.link_status(NODE)?.is_some())
}

/// The one device that containers can have.
pub fn inventory(host: &Host) -> Vec<Device> {
    vec![Device {
        kind: KIND.into(),
        name: ALL.to_owned(),
        model: Some(MODEL.to_owned()),
        driver: Some("dxgkrnl".to_owned()),
        nodes: vec![Path::new("/dev").join(NODE)],
        trouble: match nodes::of_host(host, NODE, String::new()) {
            Ok(Some(_)) => None,
            _ => Some(format!("{} is no character device", host.dev.at(NODE).display())),
        },
        ..Device::default()
    }]
}

const MODEL: &str = "the GPUs of the Windows driver";

/// Adds the node, the driver's files and the variables.
pub fn resolve(
    wish: &NvidiaWish,
    config: &Config,
    host: &Host,
    plan: &mut Plan,
) -> Result<(), Error> {
    if let Selection::Ids(ids) = &wish.devices
        && let Some(id) = ids.iter().find(|id| id.as_str() != ALL)
    {
        return Err(Trouble::WslId { id: id.clone() }.into());
    }
    if wish.devices != Selection::None {
        let node = nodes::of_host(host, NODE, MODEL.to_owned())?;
        let path = || host.dev.at(NODE);
        let node = node.ok_or_else(|| Trouble::WslNode { path: path() })?;
        plan.devices.push(node);
        if config.additional_gids {
            join_groups(plan.devices.len() - 1, plan);
        }
        plan.grants.push(Grant {
            kind: KIND.to_owned(),
            index: 0,
            uuid: String::new(),
            bus_id: String::new(),
            model: MODEL.to_owned(),
            part: None,
            asked_as: ALL.to_owned(),
        });
    }
    if !wish.capabilities.and(config.supported).is_empty() {
        let cuda = files(&Root::open(&config.driver_root)?, plan)?;
        if config.unmet != Unmet::Ignored {
            let machine = requirements::Machine { driver: None, cuda };
            requirements::check(&wish.besides.requirements, &machine, config.unmet, plan)?;
        }
    }
    plan.env.push((DEVICES_VARIABLE.to_owned(), "void".to_owned()));
    Ok(())
}

/// Adds the driver's files; gives back the version of CUDA that they are of, if they say.
fn files(root: &Root, plan: &mut Plan) -> Result<Option<String>, Error> {
    let stores = stores(root)?;
    let Some(current) = stores.first() else {
        return Err(Trouble::WslStore { mark: MARK, path: root.tree.at(STORES) }.into());
    };
    if stores.len() > 1 {
        plan.notes.push(format!(
            "{} of the driver stores in {} have {MARK}: all are given, {} first, the newest",
            stores.len(),
            root.tree.at(STORES).display(),
            current.display()
        ));
    }
    let dxcore = root.mount(Path::new(DXCORE), "WSL2")?;
    plan.files.push(dxcore.ok_or_else(|| Trouble::WslDxcore { path: root.tree.at(DXCORE) })?);
    for store in &stores {
        for name in root.tree.names(store)? {
            let is_data = name.ends_with(DATA);
            let is_code =
                name == PROGRAM || name.contains(".so") || name.ends_with(WINDOWS_LIBRARY);
            if !is_data && !is_code {
                continue;
            }
            let Some(mut file) = root.mount(&store.join(&name), "WSL2, the driver store")? else {
                continue;
            };
            if is_data {
                file.kind = FileKind::Data;
            }
            plan.files.push(file);
        }
    }
    if root.tree.find(current.join(PROGRAM))?.is_some() {
        plan.links.push(Link {
            destination: Place::Path(Path::new("/usr/bin").join(PROGRAM)),
            target: Path::new("/").join(current).join(PROGRAM),
            why: "WSL2, the driver store".to_owned(),
        });
    }
    let note = root
        .tree
        .open_file(current.join(MARK))?
        .and_then(|file| elf::section(file, compatibility::SECTION, compatibility::LONGEST_NOTE));
    let note = note.as_deref().and_then(compatibility::Note::from_section);
    Ok(note.map(|note| note.cuda().to_owned()).filter(|cuda| !cuda.is_empty()))
}

/// NVIDIA's stores, below the root; the newest first.
fn stores(root: &Root) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for name in root.tree.names(STORES)? {
        let store = Path::new(STORES).join(name);
        if let Some(changed) = root.tree.changed(store.join(MARK))? {
            found.push((changed, store));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, store)| store).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuError;
    use crate::gpu::cdi::generate::{HookProgram, Options, generate};
    use crate::gpu::nvidia::testing::Machine;
    use crate::gpu::request::Request;
    use crate::gpu::resolve;
    use crate::host::elf::EM_X86_64;
    use crate::host::testing::elf;

    const STORE: &str = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_1";

    /// `None` where no device node can be made.
    fn machine() -> Option<Machine> {
        let machine = Machine::new();
        let files = &machine.files;
        for gone in ["proc/driver", "root"] {
            std::fs::remove_dir_all(machine.at(gone)).unwrap();
        }
        let library = |path: &str, soname: Option<&str>| {
            files.write(&format!("root/{path}"), elf(true, EM_X86_64, soname));
        };
        library(DXCORE, None);
        library(&format!("{STORE}/{MARK}"), Some("libcuda.so.1"));
        library(&format!("{STORE}/libcuda_loader.so"), None);
        library(&format!("{STORE}/libnvidia-ml.so.1"), Some("libnvidia-ml.so.1"));
        for name in ["nvcubins.bin", "nvngx.dll", "nvidia.inf"] {
            files.write(&format!("root/{STORE}/{name}"), "x");
        }
        files.program(&format!("root/{STORE}/nvidia-smi"));
        library("usr/lib/wsl/drivers/iigd_dispi.inf_amd64_2/libigdgmm.so", None);
        files.node("dev/dxg", 10, 125, 0o666).then_some(machine)
    }

    fn plan(machine: &Machine, devices: &str) -> Result<Plan, GpuError> {
        let spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
                        "env": [format!("NVIDIA_VISIBLE_DEVICES={devices}")]}
        }))
        .unwrap();
        let settings = machine.settings("");
        let request = Request::read(&spec, Some(&settings))?;
        resolve(&request, vec![], &spec, &settings, &machine.host())
    }

    fn paths(plan: &Plan) -> Vec<String> {
        let path = |place: &Place| match place {
            Place::Path(path) | Place::Library(_, path) => path.display().to_string(),
        };
        let mut paths: Vec<String> =
            plan.files.iter().map(|file| path(&file.destination)).collect();
        paths.sort();
        paths
    }

    #[test]
    fn all_brings_the_node_and_the_drivers_store_at_their_own_paths() {
        let Some(machine) = machine() else { return };
        let plan = plan(&machine, "all").unwrap();
        let [node] = &plan.devices[..] else { panic!("{:?}", plan.devices) };
        assert_eq!(
            (node.destination.to_str(), node.major, node.minor),
            (Some("/dev/dxg"), 10, 125)
        );
        let store = |name: &str| format!("/{STORE}/{name}");
        assert_eq!(
            paths(&plan),
            [
                store("libcuda.so.1.1"),
                store("libcuda_loader.so"),
                store("libnvidia-ml.so.1"),
                store("nvcubins.bin"),
                store("nvidia-smi"),
                store("nvngx.dll"),
                format!("/{DXCORE}"),
            ]
        );
        let [link] = &plan.links[..] else { panic!("{:?}", plan.links) };
        assert_eq!(link.destination, Place::Path("/usr/bin/nvidia-smi".into()));
        assert_eq!(link.target, Path::new(&store("nvidia-smi")));
        assert!(plan.compatibility.is_none() && plan.masks.is_empty());
        assert_eq!(plan.env, [(DEVICES_VARIABLE.to_owned(), "void".to_owned())]);
    }

    #[test]
    fn none_brings_no_node_and_a_single_gpu_cannot_be_asked_for() {
        let Some(machine) = machine() else { return };
        assert!(plan(&machine, "none").unwrap().devices.is_empty());
        assert_eq!(plan(&machine, "runtime.nvidia.com/gpu=all").unwrap().devices.len(), 1);
        let error = plan(&machine, "0").unwrap_err().to_string();
        assert!(error.contains("WSL2") && error.contains("ask for all"), "{error}");
    }

    #[test]
    fn of_several_stores_the_newest_comes_first() {
        let Some(machine) = machine() else { return };
        let newer = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_0";
        machine.files.write(&format!("root/{newer}/{MARK}"), elf(true, EM_X86_64, None));
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let file = std::fs::File::open(machine.at(format!("root/{STORE}/{MARK}"))).unwrap();
        file.set_modified(old).unwrap();
        let plan = plan(&machine, "all").unwrap();
        assert!(plan.files[1].source.ends_with(format!("{newer}/{MARK}")), "{:?}", plan.files[1]);
        assert!(plan.notes[0].contains("2 of the driver stores"), "{:?}", plan.notes);
    }

    #[test]
    fn what_windows_lacks_is_named() {
        let Some(machine) = machine() else { return };
        let says = |part: &str| {
            let error = plan(&machine, "all").unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        };
        std::fs::remove_file(machine.at(format!("root/{DXCORE}"))).unwrap();
        says("wsl --update");
        std::fs::remove_dir_all(machine.at(format!("root/{STORE}"))).unwrap();
        says("install NVIDIA's driver in Windows");
        std::fs::remove_file(machine.at("dev/dxg")).unwrap();
        machine.files.write("dev/dxg", "");
        says("no character device");
    }

    #[test]
    fn a_cdi_file_has_the_device_all_alone() {
        let Some(machine) = machine() else { return };
        let program = HookProgram::gpurun("/usr/bin/gpurun".into(), None);
        let options = Options { program, ..Options::default() };
        let spec = generate(&options, &machine.settings(""), &machine.host()).unwrap().spec;
        assert_eq!(spec.devices.len(), 1);
        assert_eq!(spec.devices[0].name, "all");
        let hooks = &spec.container_edits.hooks;
        let commands: Vec<&str> = hooks.iter().map(|hook| hook.args[2].as_str()).collect();
        assert_eq!(commands, ["create-symlinks", "update-ldcache"]);
        let folders = hooks[1].args[3..].join(" ");
        assert_eq!(folders, format!("--folder /usr/lib/wsl/lib --folder /{STORE}"));
    }
}
