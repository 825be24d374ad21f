//! What a spec asks for. Pure: only the spec is looked at.

use std::path::Path;

use oci_spec::runtime::{Capability, Spec};

use super::cdi;
use super::cdi::wish::{CdiWish, has_foreign_prefix};
use super::error::GpuError;
use super::vendor::{VENDORS, Wish};
use crate::host::Settings;

/// Every vendor's wish in one spec.
#[derive(Debug, Default)]
pub struct Request {
    wishes: Vec<Box<dyn Wish>>,
}

impl Request {
    /// Whether something in the spec counts or not as the configuration has it, so that
    /// [`Request::read`] needs it.
    pub fn needs_settings(spec: &Spec) -> bool {
        let asked = Asked { spec };
        has_foreign_prefix(spec) || VENDORS.iter().any(|vendor| vendor.needs_settings(&asked))
    }

    /// Reads the wishes out of a spec. CDI names in annotations come from whoever manages the
    /// container: they are all it gets, whatever the variables of its image say. `settings`:
    /// `None` where [`Request::needs_settings`] says that they do not matter.
    pub fn read(spec: &Spec, settings: Option<&Settings>) -> Result<Self, GpuError> {
        let asked = Asked { spec };
        let prefixes = match settings {
            Some(settings) if has_foreign_prefix(spec) => cdi::Config::read(settings)?.prefixes,
            _ => Vec::new(),
        };
        if let Some(wish) = CdiWish::from_annotations(&asked, &prefixes)? {
            return Ok(Self { wishes: vec![Box::new(wish)] });
        }
        let mut wishes = Vec::new();
        for vendor in VENDORS {
            wishes.extend(vendor.read(&asked, settings)?);
        }
        Ok(Self { wishes })
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }

    /// The wishes, in the order of the vendors.
    pub fn wishes(&self) -> impl Iterator<Item = &dyn Wish> {
        self.wishes.iter().map(AsRef::as_ref)
    }
}

/// The parts of a spec in which a vendor may look for a wish.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    spec: &'a Spec,
}

impl<'a> Asked<'a> {
    /// The parts of this spec.
    pub fn of(spec: &'a Spec) -> Self {
        Self { spec }
    }

    /// The value of an environment variable of the container's process. Of several entries the
    /// last counts, as it does for the process.
    pub fn variable(&self, name: &str) -> Option<&'a str> {
        let env = self.spec.process().as_ref()?.env().as_ref()?;
        env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    /// The entries of the environment in their order: name and value.
    pub fn environment(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let env = self.spec.process().as_ref().and_then(|process| process.env().as_ref());
        env.into_iter().flatten().filter_map(|entry| entry.split_once('='))
    }

    /// The variables whose names begin so, each with the value that counts.
    pub fn variables(&self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for (name, value) in self.environment() {
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None if name.starts_with(prefix) => found.push((name, value)),
                None => {}
            }
        }
        found
    }

    /// The device nodes: path, major and minor number.
    pub fn devices(&self) -> impl Iterator<Item = (&'a Path, i64, i64)> {
        let linux = self.spec.linux().iter();
        let all = linux.flat_map(|linux| linux.devices().iter().flatten());
        all.map(|device| (device.path().as_path(), device.major(), device.minor()))
    }

    /// The mounts that have a source: source and destination.
    pub fn mounts(&self) -> impl Iterator<Item = (&'a Path, &'a Path)> {
        let all = self.spec.mounts().iter().flatten();
        all.filter_map(|mount| Some((mount.source().as_deref()?, mount.destination().as_path())))
    }

    /// The annotations.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.spec.annotations().iter().flatten();
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The user and group of the container's process.
    pub fn user(&self) -> (u32, u32) {
        let process = self.spec.process().as_ref();
        process.map_or((0, 0), |process| (process.user().uid(), process.user().gid()))
    }

    /// Whether the container is privileged, by the rule of NVIDIA's toolkit: `CAP_SYS_ADMIN` is in
    /// the bounding set.
    pub fn is_privileged(&self) -> bool {
        let capabilities = self.spec.process().as_ref().and_then(|p| p.capabilities().as_ref());
        capabilities
            .and_then(|sets| sets.bounding().as_ref())
            .is_some_and(|bounding| bounding.contains(&Capability::SysAdmin))
    }
}

/// Which devices are asked for, in the grammar that vendors' variables share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every GPU.
    All,
    /// The driver's files without a GPU.
    None,
    /// These, in order of first appearance, each once.
    Ids(Vec<String>),
}

impl Selection {
    /// Reads a comma-separated list. `None` is no request at all: the list is empty or holds
    /// `void`, which beats everything; else the first of `all` and `none` decides.
    pub fn parse(list: &str) -> Option<Self> {
        Self::of_items(list.split(','))
    }

    /// [`Selection::parse`] of the list's items.
    pub fn of_items<'a>(items: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut ids: Vec<String> = Vec::new();
        let mut whole = None;
        for item in items.into_iter().map(str::trim).filter(|item| !item.is_empty()) {
            match item {
                "void" => return None,
                "all" => whole = whole.or(Some(Self::All)),
                "none" => whole = whole.or(Some(Self::None)),
                _ if ids.iter().any(|id| id == item) => {}
                _ => ids.push(item.to_owned()),
            }
        }
        whole.or_else(|| (!ids.is_empty()).then_some(Self::Ids(ids)))
    }

    /// The list as it was understood.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::All => vec!["all".to_owned()],
            Self::None => vec!["none".to_owned()],
            Self::Ids(ids) => ids.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[&str]) -> Option<Selection> {
        Some(Selection::Ids(list.iter().map(|id| (*id).to_owned()).collect()))
    }

    #[test]
    fn empty_lists_and_void_anywhere_ask_for_nothing() {
        for list in ["", " ", ",,", "void", "all,void", "0, void ,1", "none,void"] {
            assert_eq!(Selection::parse(list), None, "{list:?}");
        }
    }

    #[test]
    fn the_first_of_all_and_none_decides() {
        assert_eq!(Selection::parse("all"), Some(Selection::All));
        assert_eq!(Selection::parse("0,all,none"), Some(Selection::All));
        assert_eq!(Selection::parse("0,none,all"), Some(Selection::None));
    }

    #[test]
    fn ids_are_trimmed_and_kept_once_in_order() {
        assert_eq!(Selection::parse(" 2 ,0,,2,1"), ids(&["2", "0", "1"]));
        assert_eq!(Selection::parse("ALL"), ids(&["ALL"]));
    }
}
