//! Which of its GPUs a container wants for itself alone: the `[gpu]` table of the configuration
//! file and an annotation of the container.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::cdi::accepted::Accepted;
use super::error::GpuError;
use super::inventory::{Device, Part, is_part_id};
use super::pci::Address;
use super::variables::{self, Terms};
use crate::host::config::Choice;
use crate::host::{ConfigError, Settings};

/// The table's name.
pub const SECTION: &str = "gpu";

/// The annotation: `true`, `false`, or the names of some of the container's GPUs.
pub const ANNOTATION: &str = "gpurun.gpu.exclusive";

/// Where the holders of GPUs are entered, unless the configuration says otherwise.
pub const HOLDERS: &str = "/run/gpurun-gpus";

/// GPUs that are for one container at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exclusive {
    /// None: GPUs are shared.
    #[default]
    None,
    /// Each.
    All,
    /// Those with these names (see [`is_named`]).
    These(Vec<String>),
}

impl Exclusive {
    /// Whether nothing is exclusive.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// What the annotation of a container asks for.
    ///
    /// # Errors
    /// A value that is no list of names.
    pub fn read(spec: &Spec) -> Result<Self, GpuError> {
        let value = spec.annotations().as_ref().and_then(|all| all.get(ANNOTATION));
        value.map_or(Ok(Self::None), |value| Self::of_annotation(value))
    }

    fn of_annotation(value: &str) -> Result<Self, GpuError> {
        match value.trim() {
            "true" => Ok(Self::All),
            "false" => Ok(Self::None),
            list => {
                let names: Vec<String> = list.split(',').map(|name| name.trim().into()).collect();
                match names.iter().any(|name| name.is_empty()) {
                    false => Ok(Self::These(names)),
                    true => Err(GpuError::Annotation(format!(
                        "annotation {ANNOTATION} must be true, false, or names of GPUs separated \
                         by commas (`gpurun gpu list` shows them), not {value:?}"
                    ))),
                }
            }
        }
    }

    /// What is exclusive by either word: neither takes back what the other says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, other) => other,
            (own, Self::None) => own,
            (Self::These(mut names), Self::These(more)) => {
                names.extend(more);
                Self::These(names)
            }
        }
    }

    /// Whether this device, or this part of it, is exclusive. A device stands for all its parts.
    #[must_use]
    pub fn covers(&self, device: &Device, part: Option<&Part>) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(names) => names.iter().any(|name| is_named(name, device, part)),
        }
    }

    /// Whether some name may be an id of a part that only a vendor's program knows.
    #[must_use]
    pub fn names_part_ids(&self) -> bool {
        matches!(self, Self::These(names) if names.iter().any(|name| is_part_id(name.rsplit('=').next().unwrap_or(name))))
    }

    /// The names that none of these devices or their parts has.
    pub fn strangers<'a>(&'a self, devices: &'a [Device]) -> impl Iterator<Item = &'a str> {
        let names = if let Self::These(names) = self { names.as_slice() } else { &[] };
        let known = |name: &str| {
            devices.iter().any(|device| {
                let mut parts = device.parts.iter().map(Some);
                is_named(name, device, None) || parts.any(|part| is_named(name, device, part))
            })
        };
        names.iter().map(String::as_str).filter(move |name| !known(name))
    }
}

/// Whether this is a name of the device or of the part of it: its name with or without the CDI
/// kind (`nvidia.com/gpu=0`, `0`), its UUID or its PCI bus id. A part's UUID counts if it was asked for
/// ([`super::inventory::identify`]).
#[must_use]
pub fn is_named(name: &str, device: &Device, part: Option<&Part>) -> bool {
    let bare = match name.split_once('=') {
        Some((kind, bare)) if kind == device.kind => bare,
        Some(_) => return false,
        None => name,
    };
    let same = |known: &Option<String>| {
        known.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(bare))
    };
    let address = |text: &str| Address::parse(text);
    let at = device.bus_id.as_deref().and_then(address);
    bare == device.name
        || part.is_some_and(|part| bare == part.name || same(&part.uuid))
        || same(&device.uuid)
        || same(&device.bus_id)
        || at.is_some() && at == address(bare)
}

/// What the configuration says of who has which GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The GPUs that are for one container at a time, whoever gets them.
    pub exclusive: Exclusive,
    /// The directory in which the holders of GPUs are entered.
    pub holders: PathBuf,
    /// On what terms variables count, of vendors without terms of their own.
    pub variables: Terms,
    /// Whose annotations with CDI names count.
    pub cdi_annotations: Accepted,
}

impl Policy {
    /// Reads the table.
    ///
    /// # Errors
    /// A value of the wrong type, or a key that does not exist.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let mut section = settings.section(SECTION)?;
        let exclusive = match section.choice("exclusive")? {
            Some(Choice::Each(true)) => Exclusive::All,
            Some(Choice::These(names)) if !names.is_empty() => {
                Exclusive::These(names.into_iter().map(str::to_owned).collect())
            }
            _ => Exclusive::None,
        };
        let holders = section.absolute_path("holders")?.unwrap_or_else(|| HOLDERS.into());
        let variables = Terms::read(&mut section, &variables::COMMON)?;
        let cdi_annotations = Accepted::read(&mut section)?;
        section.finish()?;
        Ok(Self { exclusive, holders, variables, cdi_annotations })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn device() -> (Device, Part) {
        let part = Part {
            name: "0:1".to_owned(),
            uuid: Some("MIG-ffda444c-c706-57c6-98c9-67c441a0b109".to_owned()),
            ..Part::default()
        };
        let device = Device {
            kind: "nvidia.com/gpu".into(),
            name: "0".to_owned(),
            uuid: Some("GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000".to_owned()),
            bus_id: Some("0000:65:00.0".to_owned()),
            parts: vec![part.clone()],
            ..Device::default()
        };
        (device, part)
    }

    #[test]
    fn a_device_is_named_in_the_forms_in_which_it_is_asked_for() {
        let (device, part) = device();
        for (name, whole, of_part) in [
            ("0", true, true),
            ("nvidia.com/gpu=0", true, true),
            ("gpu-5E1F0000-9d0a-4c1b-8f00-00c0ffee0000", true, true),
            ("00000000:65:00.0", true, true),
            ("65:00.0", true, true),
            ("0:1", false, true),
            ("nvidia.com/gpu=0:1", false, true),
            ("MIG-ffda444c-c706-57c6-98c9-67c441a0b109", false, true),
            ("nvidia.com/gpu=MIG-ffda444c-c706-57c6-98c9-67c441a0b109", false, true),
            ("nvidia.com/gpu=GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000", true, true),
            ("MIG-fe9bc608-60f5-5479-8cc4-1827021d27a9", false, false),
            ("0:2", false, false),
            ("1", false, false),
            ("amd.com/gpu=0", false, false),
            ("GPU-5e1f0000", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_named(name, &device, None), whole, "{name}");
            assert_eq!(is_named(name, &device, Some(&part)), of_part, "{name}");
        }
    }

    #[test]
    fn the_annotation_is_a_switch_or_a_list() {
        for (value, expected) in [
            ("true", Some(Exclusive::All)),
            ("false", Some(Exclusive::None)),
            ("0, 1:0", Some(Exclusive::These(vec!["0".to_owned(), "1:0".to_owned()]))),
            ("", None),
            ("0,,1", None),
        ] {
            assert_eq!(Exclusive::of_annotation(value).ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn neither_word_takes_back_what_the_other_says() {
        let these = |name: &str| Exclusive::These(vec![name.to_owned()]);
        for (one, other, both) in [
            (Exclusive::None, Exclusive::All, Exclusive::All),
            (Exclusive::None, these("0"), these("0")),
            (these("0"), Exclusive::All, Exclusive::All),
            (these("0"), these("1"), Exclusive::These(vec!["0".to_owned(), "1".to_owned()])),
        ] {
            assert_eq!(one.clone().or(other.clone()), both);
            if !matches!((&one, &other), (Exclusive::These(_), Exclusive::These(_))) {
                assert_eq!(other.or(one), both);
            }
        }
    }

    #[test]
    fn names_that_nothing_has_are_found() {
        let (device, _) = device();
        let names = ["0", "0:1", "7", "GPU-x"].map(str::to_owned).to_vec();
        let listed = Exclusive::These(names);
        assert_eq!(listed.strangers(&[device]).collect::<Vec<_>>(), ["7", "GPU-x"]);
        assert_eq!(Exclusive::All.strangers(&[]).count(), 0);
    }

    #[test]
    fn the_configuration_names_all_some_or_none() {
        let read = |text: &str| {
            let text = format!("[gpu]\n{text}\n");
            let settings = Settings::parse(Path::new("/c.toml"), text, &[SECTION]).unwrap();
            Policy::read(&settings).map_err(|error| error.to_string())
        };
        let default = read("").unwrap();
        assert_eq!((default.exclusive, &*default.holders), (Exclusive::None, Path::new(HOLDERS)));
        assert_eq!(default.cdi_annotations, Accepted::Auto);
        assert!(default.variables.accept_unprivileged);
        assert_eq!(read("exclusive = true").unwrap().exclusive, Exclusive::All);
        assert_eq!(read("exclusive = false").unwrap().exclusive, Exclusive::None);
        assert_eq!(
            read("exclusive = [\"0\"]").unwrap().exclusive,
            Exclusive::These(vec!["0".to_owned()])
        );
        assert_eq!(read("holders = \"/h\"").unwrap().holders, Path::new("/h"));
        for (bad, part) in [
            ("exclusive = 1", "line 2: gpu.exclusive must be true, false or an array of strings"),
            ("exclusive = [1]", "gpu.exclusive must be true, false or an array of strings"),
            ("holders = \"h\"", "gpu.holders must be an absolute path"),
            ("accept-cdi-annotations = true", "gpu.accept-cdi-annotations must be"),
            ("accept-cdi-annotations = \"yes\"", "must be auto, always or never"),
            ("exlusive = true", "unknown key \"gpu.exlusive\""),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
