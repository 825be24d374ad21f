//! What the NVIDIA variables of a container ask for. Pure.

use oci_spec::runtime::Spec;

use super::capabilities::{Capabilities, KNOWN};
use super::config::{Config, SWARM_PREFIX};
use super::error::Error;
use super::gated::{self, Feature};
use super::marker::{self, Markers};
use super::mps;
use super::requirements::{self, Requirement};
use crate::gpu::cdi::QualifiedName;
use crate::gpu::request::{Asked, Selection};
use crate::gpu::variables::Standing;

/// The variable that names the GPUs.
pub const DEVICES_VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// The variable that names the parts of the driver.
pub const CAPABILITIES_VARIABLE: &str = "NVIDIA_DRIVER_CAPABILITIES";

/// The variable that names IMEX channels.
const IMEX_VARIABLE: &str = "NVIDIA_IMEX_CHANNELS";
/// The variable that chooses among the lists of files on a Tegra.
const LISTS_VARIABLE: &str = "NVIDIA_REQUIRE_JETPACK";
/// The variables that ask for the administration of MIG.
const MIG_CONFIG_VARIABLE: &str = "NVIDIA_MIG_CONFIG_DEVICES";
const MIG_MONITOR_VARIABLE: &str = "NVIDIA_MIG_MONITOR_DEVICES";

/// The CDI kind of devices that are taken from the machine itself, whatever CDI files say.
pub const AUTOMATIC_KIND: &str = "runtime.nvidia.com/gpu";

/// An NVIDIA request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvidiaWish {
    /// Which GPUs.
    pub devices: Selection,
    /// Which parts of the driver; not yet cut down to what the configuration allows.
    pub capabilities: Capabilities,
    /// Whether each of them was asked for by name, so that none may be left out silently.
    /// `all` and the default mean as much of it as the configuration allows.
    pub named_capabilities: bool,
    /// What the container is.
    pub standing: Standing,
    /// Whether it was found in variables, which an image can set as well as a user.
    pub from_variables: bool,
    /// Where it was found.
    pub source: String,
    /// What is asked for besides GPUs.
    pub besides: Besides,
    /// What was not counted as a request, for the log.
    pub notes: Vec<String>,
}

/// What a container asks for besides its GPUs. A request by CDI names has none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Besides {
    /// IMEX channels, by mounts.
    pub imex_mounts: Option<Selection>,
    /// IMEX channels, by a variable.
    pub imex_variable: Option<Selection>,
    /// Whether the container says itself where the pipes of the multi-process service are.
    pub names_mps_pipes: bool,
    /// Devices that are not GPUs.
    pub features: Vec<Feature>,
    /// The values of the variables for the administration of MIG that are set, with their names.
    pub administration: Vec<(&'static str, String)>,
    /// Whether every list of files counts on a Tegra, and not only those of the system software.
    pub every_list: bool,
    /// The constraints on the machine, unless they are turned off.
    pub requirements: Vec<Requirement>,
}

/// The administration of MIG that a container may do, on all GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Administration {
    /// Make and remove MIG devices.
    pub config: bool,
    /// Watch them.
    pub monitor: bool,
}

/// Whether the value of the variable says that nothing is to be given, or no more.
pub fn is_void(value: &str) -> bool {
    value.split(',').any(|item| item.trim() == "void")
}

/// Whether it is for the configuration to say if the container asks for GPUs.
pub fn needs_settings(asked: &Asked<'_>) -> bool {
    marker::any(asked) || !asked.variables(SWARM_PREFIX).is_empty()
}

impl NvidiaWish {
    /// Reads the wish: mounts before variables. `None`: the container asks for no NVIDIA GPU.
    /// `config` may be `None` where [`needs_settings`] is false.
    pub fn read(asked: &Asked<'_>, config: Option<&Config>) -> Result<Option<Self>, Error> {
        let accept_mounts = config.is_some_and(|config| config.accept_mounts);
        let mut markers = marker::read(asked);
        let has_markers = !markers.devices.is_empty() || !markers.imex.is_empty();
        if has_markers && !accept_mounts {
            markers = Markers::default();
            markers.notes.push(format!(
                "mounts below {}: ignored, because \
                 accept-nvidia-visible-devices-as-volume-mounts is false",
                marker::DIRECTORY
            ));
        }
        let (devices, source, from_variables) = if markers.devices.is_empty() {
            let Some((devices, source)) = Self::in_variables(asked, config) else {
                return Ok(None);
            };
            (devices, source, true)
        } else {
            let source = format!("mounts below {}", marker::DIRECTORY);
            let items = markers.devices.iter().map(String::as_str).map(plain);
            let Some(devices) = Selection::of_items(items) else {
                return Ok(None);
            };
            (devices, source, false)
        };
        let mut wish = Self::of(devices, source, from_variables, asked)?;
        wish.besides = Besides::read(asked, &markers)?;
        wish.notes = markers.notes;
        Ok(Some(wish))
    }

    fn in_variables(asked: &Asked<'_>, config: Option<&Config>) -> Option<(Selection, String)> {
        let swarm = config.map(|config| config.swarm_resource.as_slice()).unwrap_or_default();
        let set: Vec<(&str, &str)> =
            swarm.iter().filter_map(|name| Some((name.as_str(), asked.variable(name)?))).collect();
        let named = |(name, value): &(&str, &str)| format!("{name}={value}");
        if !set.is_empty() {
            let source = set.iter().map(named).collect::<Vec<_>>().join(" ");
            let items = set.iter().flat_map(|(_, value)| value.split(','));
            return Some((Selection::of_items(items.map(plain))?, source));
        }
        match asked.variable(DEVICES_VARIABLE) {
            Some(value) => {
                let items = value.split(',').map(plain);
                Some((Selection::of_items(items)?, named(&(DEVICES_VARIABLE, value))))
            }
            None if is_legacy(asked) => Some((
                Selection::All,
                format!("CUDA_VERSION without NVIDIA_REQUIRE_CUDA and {DEVICES_VARIABLE}"),
            )),
            None => None,
        }
    }

    /// The wish for devices by the names that they have in CDI files, found in annotations: there
    /// a management tool wrote them.
    pub fn named(devices: &[String], asked: &Asked<'_>) -> Result<Self, Error> {
        let ids = devices.iter().map(|name| untyped(name));
        let devices = Selection::of_items(ids).unwrap_or(Selection::None);
        let source = format!("CDI devices {}", devices.words().join(","));
        Self::of(devices, source, false, asked)
    }

    /// The wish for a device and for every part of the driver that a CDI file can bring: those with
    /// 32 bits have no place of their own there, as in NVIDIA's files.
    pub fn everything(device: &str) -> Result<Self, Error> {
        let wish = Self::named(&[device.to_owned()], &Asked::of(&Spec::default()))?;
        let capabilities = Capabilities::ALL.without(Capabilities::COMPAT32);
        Ok(Self { capabilities, named_capabilities: false, ..wish })
    }

    /// The devices as CDI names; `None` when one of them is none.
    pub fn qualified_names(&self) -> Option<Vec<QualifiedName>> {
        let Selection::Ids(ids) = &self.devices else {
            return None;
        };
        let names = ids.iter().map(|id| QualifiedName::parse(id).ok());
        names.collect()
    }

    fn of(
        devices: Selection,
        source: String,
        from_variables: bool,
        asked: &Asked<'_>,
    ) -> Result<Self, Error> {
        let (capabilities, named) = match asked.variable(CAPABILITIES_VARIABLE) {
            Some(value) if !value.trim().is_empty() => {
                let capabilities = Capabilities::parse(value)
                    .map_err(|word| Error::UnknownCapability { word, known: KNOWN })?;
                (capabilities, capabilities != Capabilities::ALL)
            }
            None if is_legacy(asked) => (Capabilities::ALL, false),
            _ => (Capabilities::DEFAULT, false),
        };
        Ok(Self {
            devices,
            capabilities,
            named_capabilities: named,
            standing: Standing::of(asked),
            from_variables,
            source,
            besides: Besides::default(),
            notes: Vec::new(),
        })
    }
}

impl Besides {
    fn read(asked: &Asked<'_>, markers: &Markers) -> Result<Self, Error> {
        let administration = [MIG_CONFIG_VARIABLE, MIG_MONITOR_VARIABLE]
            .into_iter()
            .filter_map(|name| Some((name, asked.variable(name)?.to_owned())))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Ok(Self {
            imex_mounts: Selection::of_items(markers.imex.iter().map(String::as_str)),
            imex_variable: asked.variable(IMEX_VARIABLE).and_then(Selection::parse),
            names_mps_pipes: asked.variable(mps::PIPE_VARIABLE).is_some(),
            features: gated::read(asked),
            administration,
            every_list: asked.variable(LISTS_VARIABLE) == Some("csv-mounts=all"),
            requirements: requirements::read(asked, is_legacy(asked)),
        })
    }

    /// What of the administration of MIG is asked for.
    ///
    /// # Errors
    /// A container that is not privileged asks, or for something else than all GPUs.
    pub fn administration(&self, is_privileged: bool) -> Result<Administration, Error> {
        let mut asked = Administration::default();
        for (variable, value) in &self.administration {
            if !is_privileged {
                let what = variable.trim_start_matches("NVIDIA_");
                return Err(Error::MigUnprivileged { what });
            }
            if value != "all" {
                return Err(Error::MigNotAll { variable, value: value.clone() });
            }
            match *variable {
                MIG_CONFIG_VARIABLE => asked.config = true,
                _ => asked.monitor = true,
            }
        }
        Ok(asked)
    }
}

/// The id in `gpu0` and `mig0:1`, as nvidia-ctk names devices with its strategy `type-index`.
fn untyped(name: &str) -> &str {
    let id = name.strip_prefix("gpu").or_else(|| name.strip_prefix("mig"));
    id.filter(|id| id.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(name)
}

/// The id without [`AUTOMATIC_KIND`], which asks for what the id alone asks for.
fn plain(item: &str) -> &str {
    let item = item.trim();
    item.strip_prefix(AUTOMATIC_KIND).and_then(|rest| rest.strip_prefix('=')).unwrap_or(item)
}

/// Whether the image is older than the variables: it has CUDA and no requirement.
fn is_legacy(asked: &Asked<'_>) -> bool {
    let set = |name| asked.variable(name).is_some_and(|value| !value.is_empty());
    set("CUDA_VERSION") && !set("NVIDIA_REQUIRE_CUDA")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(env: &[&str]) -> Result<Option<NvidiaWish>, Error> {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
        }))
        .unwrap();
        NvidiaWish::read(&Asked::of(&spec), None)
    }

    fn devices(env: &[&str]) -> Option<Selection> {
        read(env).unwrap().map(|wish| wish.devices)
    }

    #[test]
    fn unset_empty_and_void_ask_for_nothing() {
        assert_eq!(devices(&[]), None);
        assert_eq!(devices(&["NVIDIA_VISIBLE_DEVICES="]), None);
        assert_eq!(devices(&["NVIDIA_VISIBLE_DEVICES=void"]), None);
        assert_eq!(devices(&["NVIDIA_VISIBLE_DEVICES"]), None);
        // Set and empty is not unset: a legacy image can opt out.
        assert_eq!(devices(&["CUDA_VERSION=9.0", "NVIDIA_VISIBLE_DEVICES="]), None);
    }

    #[test]
    fn the_last_of_several_entries_counts() {
        let env = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=none"];
        assert_eq!(devices(&env), Some(Selection::None));
        let env = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=void"];
        assert_eq!(devices(&env), None);
        assert_eq!(devices(&["NVIDIA_VISIBLE_DEVICES_X=all"]), None);
    }

    #[test]
    fn names_of_every_strategy_of_nvidia_ctk_are_ids() {
        for (name, id) in [
            ("0", "0"),
            ("gpu10", "10"),
            ("mig0:1", "0:1"),
            ("gpu", "gpu"),
            ("GPU-00000002", "GPU-00000002"),
            ("gpu-00000002", "gpu-00000002"),
            ("all", "all"),
        ] {
            assert_eq!(untyped(name), id);
        }
    }

    #[test]
    fn automatic_names_are_the_ids_alone() {
        let of = |value: &str| devices(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")]);
        assert_eq!(of("runtime.nvidia.com/gpu=all"), Some(Selection::All));
        assert_eq!(of("runtime.nvidia.com/gpu=none"), Some(Selection::None));
        assert_eq!(of("runtime.nvidia.com/gpu=void"), None);
        let two = Selection::Ids(vec!["0".to_owned(), "2:1".to_owned()]);
        assert_eq!(of("runtime.nvidia.com/gpu=0, runtime.nvidia.com/gpu=2:1,0"), Some(two));
    }

    #[test]
    fn an_image_with_cuda_and_no_requirement_asks_for_all_of_everything() {
        let wish = read(&["CUDA_VERSION=8.0.61"]).unwrap().unwrap();
        assert_eq!((wish.devices, wish.capabilities), (Selection::All, Capabilities::ALL));
        assert_eq!(devices(&["CUDA_VERSION=12.2", "NVIDIA_REQUIRE_CUDA=cuda>=12.2"]), None);
        assert_eq!(devices(&["CUDA_VERSION="]), None);
    }

    #[test]
    fn capabilities_default_to_utility_and_compute() {
        let capabilities = |env: &[&str]| read(env).unwrap().unwrap().capabilities;
        let all = "NVIDIA_VISIBLE_DEVICES=all";
        assert_eq!(capabilities(&[all]), Capabilities::DEFAULT);
        assert_eq!(capabilities(&[all, "NVIDIA_DRIVER_CAPABILITIES="]), Capabilities::DEFAULT);
        let video = capabilities(&[all, "NVIDIA_DRIVER_CAPABILITIES=video,utility"]);
        assert_eq!(video, Capabilities::VIDEO.or(Capabilities::UTILITY));
        let error = read(&[all, "NVIDIA_DRIVER_CAPABILITIES=compute,gaming"]).unwrap_err();
        assert!(error.to_string().contains("\"gaming\""), "{error}");
        // Nobody asks for a GPU, so nobody cares.
        assert_eq!(devices(&["NVIDIA_DRIVER_CAPABILITIES=gaming"]), None);
    }
}
