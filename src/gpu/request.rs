//! What a spec asks for. Pure: only the spec is looked at.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use oci_spec::runtime::{Capability, Spec};

use super::cdi;
use super::cdi::accepted::Annotations;
use super::cdi::wish::CdiWish;
use super::error::GpuError;
use super::exclusive::Policy;
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
        cdi::wish::may_be_annotated(&asked)
            || VENDORS.iter().any(|vendor| vendor.needs_settings(&asked))
    }

    /// Reads the wishes out of a spec. CDI names in annotations that count come from whoever manages
    /// the container: they are all it gets, whatever the variables of its image say. `settings`:
    /// `None` where [`Request::needs_settings`] says that they do not matter.
    pub fn read(spec: &Spec, settings: Option<&Settings>) -> Result<Self, GpuError> {
        let asked = Asked { spec };
        let mut wishes: Vec<Box<dyn Wish>> = Vec::new();
        if let Some(settings) = settings.filter(|_| cdi::wish::may_be_annotated(&asked)) {
            let prefixes = cdi::Config::read(settings)?.prefixes;
            let accepted = Policy::read(settings)?.cdi_annotations;
            let annotations = Annotations::of(&asked, &prefixes, accepted);
            let names = annotations.names()?;
            if !names.is_empty() {
                if let Some(wish) = CdiWish::of_annotations(names, &asked)? {
                    wishes.push(Box::new(wish));
                }
                return Ok(Self { wishes });
            }
            if let Some(ignored) = annotations.ignored(&asked) {
                wishes.push(Box::new(ignored));
            }
        }
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
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (name, value) in self.environment().filter(|(name, _)| name.starts_with(prefix)) {
            let place = *places.entry(name).or_insert(found.len());
            match found.get_mut(place) {
                Some(known) => known.1 = value,
                None => found.push((name, value)),
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

    /// The path of the container's cgroup.
    pub fn cgroup(&self) -> Option<&'a Path> {
        self.spec.linux().as_ref()?.cgroups_path().as_deref()
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
        let mut known: HashSet<&str> = HashSet::new();
        let mut whole = None;
        for item in items.into_iter().map(str::trim).filter(|item| !item.is_empty()) {
            match item {
                "void" => return None,
                "all" => whole = whole.or(Some(Self::All)),
                "none" => whole = whole.or(Some(Self::None)),
                _ if known.insert(item) => ids.push(item.to_owned()),
                _ => {}
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

/// How many items a message names.
const LONGEST_MESSAGE: usize = 8;

/// The items of a list that are not understood, for one message about all of them.
pub fn quoted(items: &[&str]) -> String {
    let mut words: Vec<String> =
        items.iter().take(LONGEST_MESSAGE).map(|item| format!("{item:?}")).collect();
    if items.len() > LONGEST_MESSAGE {
        words.push(format!("{} more", items.len() - LONGEST_MESSAGE));
    }
    words.join(", ")
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
    fn long_lists_and_many_variables_take_no_time_that_grows_with_their_square() {
        let list = (0..200_000).map(|id| format!("{id},{id}")).collect::<Vec<_>>().join(",");
        let env: Vec<_> = (0..60_000).map(|at| format!("NVIDIA_REQUIRE_{at}=cuda>=1")).collect();
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
        }))
        .unwrap();
        let began = std::time::Instant::now();
        assert!(
            matches!(Selection::parse(&list), Some(Selection::Ids(ids)) if ids.len() == 200_000)
        );
        assert_eq!(Asked::of(&spec).variables("NVIDIA_REQUIRE_").len(), 60_000);
        // Some tenths of a second; squared, a minute.
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    #[test]
    fn of_several_entries_the_last_counts_in_the_place_of_the_first() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
                        "env": ["A_1=x", "B=x", "A_2=y", "A_1=z"]}
        }))
        .unwrap();
        assert_eq!(Asked::of(&spec).variables("A_"), [("A_1", "z"), ("A_2", "y")]);
    }

    #[test]
    fn a_message_names_some_items_and_counts_the_others() {
        assert_eq!(quoted(&["a", "\u{1b}"]), r#""a", "\u{1b}""#);
        let many = ["x"; 10];
        assert!(quoted(&many).ends_with("\"x\", 2 more"), "{}", quoted(&many));
    }

    #[test]
    fn ids_are_trimmed_and_kept_once_in_order() {
        assert_eq!(Selection::parse(" 2 ,0,,2,1"), ids(&["2", "0", "1"]));
        assert_eq!(Selection::parse("ALL"), ids(&["ALL"]));
    }
}
