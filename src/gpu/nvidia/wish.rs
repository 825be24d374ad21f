//! What the NVIDIA variables of a container ask for. Pure.

use super::capabilities::{Capabilities, KNOWN};
use super::error::Error;
use crate::gpu::cdi::QualifiedName;
use crate::gpu::request::{Asked, Selection};

/// The variable that names the GPUs.
pub const DEVICES_VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// The variable that names the parts of the driver.
pub const CAPABILITIES_VARIABLE: &str = "NVIDIA_DRIVER_CAPABILITIES";

/// The CDI kind of devices that are taken from the machine itself.
const AUTOMATIC_KIND: &str = "runtime.nvidia.com/gpu";

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
    /// Whether the container is privileged.
    pub privileged: bool,
    /// Whether it was found in variables, which an image can set as well as a user.
    pub from_variables: bool,
    /// Where it was found.
    pub source: String,
}

/// Whether the value of the variable says that nothing is to be given, or no more.
pub fn is_void(value: &str) -> bool {
    value.split(',').any(|item| item.trim() == "void")
}

impl NvidiaWish {
    /// Reads the wish. `None`: the container asks for no NVIDIA GPU.
    pub fn read(asked: &Asked<'_>) -> Result<Option<Self>, Error> {
        let variable = asked.variable(DEVICES_VARIABLE);
        // Images older than the variables are recognised by having CUDA and no requirement.
        let set = |name| asked.variable(name).is_some_and(|value| !value.is_empty());
        let is_legacy = || set("CUDA_VERSION") && !set("NVIDIA_REQUIRE_CUDA");
        let (devices, source) = match variable {
            Some(value) => (Selection::parse(value), format!("{DEVICES_VARIABLE}={value}")),
            None if is_legacy() => (
                Some(Selection::All),
                format!("CUDA_VERSION without NVIDIA_REQUIRE_CUDA and {DEVICES_VARIABLE}"),
            ),
            None => return Ok(None),
        };
        let Some(devices) = devices else {
            return Ok(None);
        };
        Self::of(devices, source, true, asked).map(Some)
    }

    /// The wish for devices by the names that they have in CDI files, found in annotations: there
    /// a management tool wrote them.
    pub fn named(devices: &[String], asked: &Asked<'_>) -> Result<Self, Error> {
        let devices = Selection::parse(&devices.join(",")).unwrap_or(Selection::None);
        let source = format!("CDI devices {}", devices.words().join(","));
        Self::of(devices, source, false, asked)
    }

    /// The devices as CDI names; `None` when one of them is none, or asks by
    /// `runtime.nvidia.com/gpu=` to be taken from the machine itself.
    pub fn qualified_names(&self) -> Option<Vec<QualifiedName>> {
        let Selection::Ids(ids) = &self.devices else {
            return None;
        };
        let names = ids.iter().map(|id| QualifiedName::parse(id).ok());
        let names: Vec<_> = names.collect::<Option<_>>()?;
        names.iter().all(|name| name.kind != AUTOMATIC_KIND).then_some(names)
    }

    fn of(
        devices: Selection,
        source: String,
        from_variables: bool,
        asked: &Asked<'_>,
    ) -> Result<Self, Error> {
        let set = |name| asked.variable(name).is_some_and(|value| !value.is_empty());
        let is_legacy = || set("CUDA_VERSION") && !set("NVIDIA_REQUIRE_CUDA");
        let (capabilities, named) = match asked.variable(CAPABILITIES_VARIABLE) {
            Some(value) if !value.trim().is_empty() => {
                let capabilities = Capabilities::parse(value)
                    .map_err(|word| Error::UnknownCapability { word, known: KNOWN })?;
                (capabilities, capabilities != Capabilities::ALL)
            }
            None if is_legacy() => (Capabilities::ALL, false),
            _ => (Capabilities::DEFAULT, false),
        };
        Ok(Self {
            devices,
            capabilities,
            named_capabilities: named,
            privileged: asked.is_privileged(),
            from_variables,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Spec;

    fn read(env: &[&str]) -> Result<Option<NvidiaWish>, Error> {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
        }))
        .unwrap();
        NvidiaWish::read(&Asked::of(&spec))
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
