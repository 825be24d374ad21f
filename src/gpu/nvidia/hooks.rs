//! NVIDIA's hooks, recognised by name and argument, and what gpurun does instead.
//!
//! `nvidia-cdi-hook COMMAND …`, and `nvidia-ctk hook COMMAND …` in CDI files of older versions;
//! the commands of nvidia-container-toolkit 1.14 to 1.20. A command or option that is not known
//! here is not taken over: the hook runs as it is given.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, LinuxDeviceType, Spec};

use super::gpus::{self, Gpu};
use super::hook_options::Options;
use super::{Nvidia, params, profile};
use crate::gpu::absorb::{HookPrograms, Substitute};
use crate::gpu::compatibility;
use crate::gpu::error::GpuError;
use crate::gpu::plan::{Compatibility, Link, Place, Plan};
use crate::host::Host;

/// The programs whose only work is to give GPUs: dockerd's `--gpus` and OCI hook directories run
/// the first, older packages name it as the second.
pub const INJECTORS: [&str; 2] = ["nvidia-container-runtime-hook", "nvidia-container-toolkit"];

/// NVIDIA's program for hooks; gpurun does its work when it is started under this name.
const PROGRAM: &str = "nvidia-cdi-hook";

/// gpurun's own name in the hooks of CDI files that it makes, whatever its file is called.
const OWN: &str = "gpurun";

/// The commands that are known here.
const COMMANDS: &[&str] = &[
    "create-symlinks",
    "update-ldcache",
    "create-soname-symlinks",
    "enable-cuda-compat",
    "disable-device-node-modification",
    "update-nvidia-params",
    "update-application-profile",
    HIDE,
    "chmod",
];

/// gpurun's own: NVIDIA's CDI files show every GPU of the machine in the container's proc.
const HIDE: &str = "hide-other-gpus";

/// A hook of NVIDIA's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NvidiaHook {
    /// Gives the GPUs that the variables ask for.
    Inject,
    /// `create-symlinks`: the target and the link.
    CreateSymlinks(Vec<(String, PathBuf)>),
    /// `update-ldcache`, and `create-soname-symlinks` which does a part of it: the directories.
    UpdateLdcache(Vec<PathBuf>),
    /// `enable-cuda-compat`.
    EnableCudaCompat { host_driver: Option<String>, host_cuda: Option<String>, root: PathBuf },
    /// `disable-device-node-modification`.
    DisableDeviceNodeModification,
    /// `update-application-profile`.
    UpdateApplicationProfile,
    /// `hide-other-gpus`.
    HideOtherGpus,
    /// `chmod` of the directories of device nodes, which another runtime makes with mode 0700.
    Chmod,
}

impl HookPrograms for Nvidia {
    fn absorbs(&self, hook: &Hook) -> Option<Box<dyn Substitute>> {
        recognise(hook).map(|hook| Box::new(hook) as Box<dyn Substitute>)
    }

    fn names(&self) -> &'static [&'static str] {
        &[PROGRAM]
    }

    fn commands(&self) -> &'static [&'static str] {
        COMMANDS
    }

    fn of_plan(&self, plan: &Plan) -> Vec<Vec<String>> {
        of(plan)
    }
}

fn recognise(hook: &Hook) -> Option<NvidiaHook> {
    let name = hook.path().file_name()?.to_str()?;
    if INJECTORS.contains(&name) {
        return Some(NvidiaHook::Inject);
    }
    let args = hook.args().as_deref().unwrap_or_default();
    let mut words = args.iter().skip(1).map(String::as_str).skip_while(|word| is_global(word));
    let is_own = args.first().is_some_and(|own| own == OWN);
    match name {
        _ if is_own || name == "nvidia-ctk" => words.next().filter(|word| *word == "hook")?,
        PROGRAM => PROGRAM,
        _ => return None,
    };
    let mut words = words.skip_while(|word| is_global(word));
    let command = words.next()?;
    let options = Options::parse(words)?;
    match command {
        "create-symlinks" => {
            options.only(&["link"])?;
            let links = options.all("link").map(|link| {
                let (target, link) = link.split_once("::")?;
                (!target.is_empty() && link.starts_with('/'))
                    .then(|| (target.to_owned(), PathBuf::from(link)))
            });
            links.collect::<Option<_>>().map(NvidiaHook::CreateSymlinks)
        }
        "update-ldcache" | "create-soname-symlinks" => {
            options.only(&["folder", "ldconfig-path"])?;
            let dirs = options.list("folder").map(PathBuf::from);
            Some(NvidiaHook::UpdateLdcache(dirs.filter(|dir| dir.is_absolute()).collect()))
        }
        "enable-cuda-compat" => {
            options.only(&[
                "host-driver-version",
                "host-cuda-version",
                "cuda-compat-container-root",
            ])?;
            let one = |name| options.all(name).last().filter(|text| !text.is_empty());
            Some(NvidiaHook::EnableCudaCompat {
                host_driver: one("host-driver-version").map(str::to_owned),
                host_cuda: one("host-cuda-version").map(str::to_owned),
                root: one("cuda-compat-container-root").unwrap_or(compatibility::DIRECTORY).into(),
            })
        }
        "disable-device-node-modification" | "update-nvidia-params" => {
            options.only(&[]).map(|()| NvidiaHook::DisableDeviceNodeModification)
        }
        "update-application-profile" => {
            options.only(&[]).map(|()| NvidiaHook::UpdateApplicationProfile)
        }
        HIDE => options.only(&[]).map(|()| NvidiaHook::HideOtherGpus),
        "chmod" => {
            options.only(&["mode", "path"])?;
            let is_ours = |path: &str| path == "/dev" || path.starts_with("/dev/");
            (options.all("mode").last() == Some("755") && options.list("path").all(is_ours))
                .then_some(NvidiaHook::Chmod)
        }
        _ => None,
    }
}

/// The hooks that a CDI file needs for what of a plan is not a mount, a node or a link.
fn of(plan: &Plan) -> Vec<Vec<String>> {
    let mut hooks: Vec<Vec<String>> = Vec::new();
    let mut hook = |words: &[&str]| hooks.push(words.iter().map(|&word| word.into()).collect());
    if let Some(Compatibility { directory, host_driver, host_cuda }) = &plan.compatibility {
        let root = directory.to_string_lossy();
        let mut words = vec!["enable-cuda-compat"];
        for (option, value) in
            [("--host-driver-version", host_driver), ("--host-cuda-version", host_cuda)]
        {
            words.extend(value.iter().flat_map(|value| [option, value.as_str()]));
        }
        if root != compatibility::DIRECTORY {
            words.extend(["--cuda-compat-container-root", &root]);
        }
        hook(&words);
    }
    // Whether the driver's parameters need a mask may change while the file stays.
    if plan.devices.iter().any(|node| node.destination == Path::new("/dev/nvidiactl")) {
        hook(&["disable-device-node-modification"]);
    }
    if !plan.generated.is_empty() {
        hook(&["update-application-profile"]);
    }
    if !plan.filters.is_empty() {
        hook(&[HIDE]);
    }
    hooks
}

/// The switches that may stand before the command; they only concern logging.
fn is_global(word: &str) -> bool {
    matches!(word, "--debug" | "-d" | "--quiet" | "-q" | "--debug=false" | "--quiet=false")
}

impl Substitute for NvidiaHook {
    fn instead(&self) -> String {
        match self {
            Self::Inject => "gpurun gives the GPUs itself".to_owned(),
            Self::CreateSymlinks(links) => format!("gpurun makes the links ({})", links.len()),
            Self::UpdateLdcache(_) => {
                "gpurun enters the libraries in the loader's files".to_owned()
            }
            Self::EnableCudaCompat { .. } => {
                "gpurun compares the image's compatibility libraries with the driver".to_owned()
            }
            Self::DisableDeviceNodeModification => {
                "gpurun masks the driver's parameters".to_owned()
            }
            Self::UpdateApplicationProfile => "gpurun writes the application profile".to_owned(),
            Self::HideOtherGpus => "gpurun hides the other GPUs in proc".to_owned(),
            Self::Chmod => "gpurun makes these directories with mode 0755".to_owned(),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Inject | Self::Chmod)
    }

    fn plan(&self, spec: &Spec, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        match self {
            Self::Inject | Self::Chmod => {}
            Self::CreateSymlinks(links) => {
                for (target, link) in links {
                    let destination = Place::Path(link.clone());
                    if plan.links.iter().all(|known| known.destination != destination) {
                        plan.links.push(Link {
                            destination,
                            target: target.into(),
                            why: "asked for by a hook".to_owned(),
                        });
                    }
                }
            }
            Self::UpdateLdcache(dirs) => {
                for dir in dirs {
                    if !plan.library_dirs.contains(dir) {
                        plan.library_dirs.push(dir.clone());
                    }
                }
            }
            Self::EnableCudaCompat { host_driver: None, host_cuda: None, .. } => {}
            Self::EnableCudaCompat { host_driver, host_cuda, root } => {
                plan.compatibility = Some(Compatibility {
                    directory: root.clone(),
                    host_driver: host_driver.clone(),
                    host_cuda: host_cuda.clone(),
                });
            }
            Self::DisableDeviceNodeModification => {
                if let Some(mask) = params::mask(host)?
                    && plan.masks.iter().all(|known| known.destination != mask.destination)
                {
                    plan.masks.push(mask);
                }
            }
            Self::UpdateApplicationProfile => profile::add(&gpu_minors(spec, plan), plan),
            Self::HideOtherGpus => {
                let minors = gpu_minors(spec, plan);
                let all = gpus::read(host)?;
                let is_given = |gpu: &&Gpu| gpu.minor.is_some_and(|minor| minors.contains(&minor));
                gpus::filter(host, all.iter().filter(is_given), plan)?;
            }
        }
        Ok(())
    }
}

/// The minors of the GPUs whose nodes the container gets: `/dev/nvidia` and a number. An engine
/// without root's rights binds the nodes.
fn gpu_minors(spec: &Spec, plan: &Plan) -> Vec<u32> {
    let of_spec = spec.linux().iter().flat_map(|linux| linux.devices().iter().flatten());
    let of_spec = of_spec.filter(|device| device.typ() == LinuxDeviceType::C);
    let bound = spec.mounts().iter().flatten();
    let bound = bound.filter(|mount| mount.source().is_some()).map(|mount| mount.destination());
    let paths = of_spec
        .map(|device| device.path().as_path())
        .chain(bound.map(PathBuf::as_path))
        .chain(plan.devices.iter().map(|device| device.destination.as_path()));
    let minor = |path: &Path| path.to_str()?.strip_prefix("/dev/nvidia")?.parse().ok();
    paths.filter_map(minor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(path: &str, args: &[&str]) -> Hook {
        serde_json::from_value(serde_json::json!({"path": path, "args": args})).unwrap()
    }

    fn cdi(args: &[&str]) -> Option<NvidiaHook> {
        let all: Vec<&str> = ["nvidia-cdi-hook"].iter().chain(args).copied().collect();
        recognise(&hook("/usr/bin/nvidia-cdi-hook", &all))
    }

    #[test]
    fn each_command_of_the_toolkit_is_recognised() {
        assert_eq!(
            cdi(&[
                "create-symlinks",
                "--link",
                "libcuda.so.1::/usr/lib/libcuda.so",
                "--link=../card0::/dev/dri/by-path/x"
            ]),
            Some(NvidiaHook::CreateSymlinks(vec![
                ("libcuda.so.1".to_owned(), "/usr/lib/libcuda.so".into()),
                ("../card0".to_owned(), "/dev/dri/by-path/x".into()),
            ]))
        );
        assert_eq!(
            cdi(&[
                "update-ldcache",
                "--ldconfig-path",
                "/sbin/ldconfig",
                "--folder",
                "/usr/lib",
                "-folder=/a,/b"
            ]),
            Some(NvidiaHook::UpdateLdcache(vec!["/usr/lib".into(), "/a".into(), "/b".into()]))
        );
        assert_eq!(
            cdi(&["enable-cuda-compat", "--host-driver-version=550.54.15"]),
            Some(NvidiaHook::EnableCudaCompat {
                host_driver: Some("550.54.15".to_owned()),
                host_cuda: None,
                root: "/usr/local/cuda/compat".into(),
            })
        );
        assert_eq!(
            cdi(&["--debug", "disable-device-node-modification", "--container-spec", "/x"]),
            Some(NvidiaHook::DisableDeviceNodeModification)
        );
        assert_eq!(
            cdi(&["update-application-profile"]),
            Some(NvidiaHook::UpdateApplicationProfile)
        );
        assert_eq!(
            cdi(&["chmod", "--mode", "755", "--path", "/dev/dri", "--path", "/dev/nvidia-caps"]),
            Some(NvidiaHook::Chmod)
        );
        assert_eq!(
            recognise(&hook(
                "/usr/bin/nvidia-ctk",
                &["nvidia-ctk", "hook", "update-ldcache", "--folder", "/l"]
            )),
            Some(NvidiaHook::UpdateLdcache(vec!["/l".into()]))
        );
        // Of CDI files that gpurun made, wherever it is.
        let own = ["gpurun", "hook", "hide-other-gpus", "--config=/x"];
        assert_eq!(recognise(&hook("/usr/bin/runc", &own)), Some(NvidiaHook::HideOtherGpus));
        assert_eq!(recognise(&hook("/usr/bin/gpurun", &["gpurun", "create"])), None);
        assert_eq!(
            recognise(&hook("/opt/bin/nvidia-container-runtime-hook", &["x", "prestart"])),
            Some(NvidiaHook::Inject)
        );
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for args in [
            &["create-symlinks", "--csv-filename", "/x.csv"][..],
            &["create-symlinks", "--link", "no-separator"],
            &["create-symlinks", "--link", "a::relative"],
            &["create-symlinks", "--link"],
            &["chmod", "--mode", "777", "--path", "/dev/dri"],
            &["chmod", "--mode", "755", "--path", "/etc"],
            &["invented-tomorrow"],
            &["update-ldcache", "word"],
            &[],
        ] {
            assert_eq!(cdi(args), None, "{args:?}");
        }
        assert_eq!(
            recognise(&hook("/usr/bin/nvidia-ctk", &["nvidia-ctk", "cdi", "generate"])),
            None
        );
        assert_eq!(
            recognise(&hook("/usr/bin/other", &["nvidia-cdi-hook", "update-ldcache"])),
            None
        );
    }

    #[test]
    fn a_gpu_counts_by_its_node_whether_it_is_made_or_bound() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "mounts": [
                {"destination": "/dev/nvidia3", "source": "/dev/nvidia3", "options": ["bind"]},
                {"destination": "/dev/nvidiactl", "source": "/dev/nvidiactl"},
                {"destination": "/dev/nvidia4", "type": "tmpfs"},
            ],
            "linux": {"devices": [
                {"path": "/dev/nvidia1", "type": "c", "major": 195, "minor": 1},
                {"path": "/dev/nvidia-uvm", "type": "c", "major": 511, "minor": 0},
            ]}
        }))
        .unwrap();
        assert_eq!(gpu_minors(&spec, &Plan::default()), [1, 3]);
    }
}
