//! What the AMD variables of a container ask for. Pure.

use crate::gpu::request::Asked;

/// The variable that names the GPUs.
pub const DEVICES_VARIABLE: &str = "AMD_VISIBLE_DEVICES";

/// How the variables begin in which Docker Swarm names the resources of a task.
const SWARM_PREFIX: &str = "DOCKER_RESOURCE_";

/// How many digits a unique id without `0x` has at least.
const SHORTEST_UNIQUE_ID: usize = 9;

/// A request for AMD GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmdWish {
    /// The items of the list, as they are written.
    pub devices: Vec<String>,
    /// Whether an item that means nothing is an error, not a note.
    pub strict: bool,
    /// Whether only the form of the value says that AMD GPUs are meant.
    pub is_guess: bool,
    /// Where it was found.
    pub source: String,
}

/// One item of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The GPU with this unique id, with all its partitions.
    UniqueId(u64),
    /// These indexes, both included.
    Range(u32, u32),
    /// This index.
    Index(u32),
}

impl AmdWish {
    /// Reads the variables. Of several the last entry of the environment counts, as in AMD's
    /// runtime. `None`: no AMD GPU is asked for.
    #[must_use]
    pub fn read(asked: &Asked<'_>) -> Option<Self> {
        let counts = |(name, value): (&'_ str, &'_ str)| match name {
            DEVICES_VARIABLE => Some(false),
            _ => swarm(name, value),
        };
        let found = asked.environment().filter_map(|entry| Some((entry, counts(entry)?)));
        let ((name, value), is_guess) = found.last()?;
        if matches!(value, "" | "none" | "void") {
            return None;
        }
        Some(Self {
            devices: value.split(',').map(str::to_owned).collect(),
            strict: false,
            is_guess,
            source: format!("{name}={value}"),
        })
    }

    /// The wish for devices by the names that they have in CDI files.
    #[must_use]
    pub fn named(devices: Vec<String>) -> Self {
        let source = format!("CDI devices {}", devices.join(","));
        Self { devices, strict: true, is_guess: false, source }
    }
}

/// Whether a variable of Docker Swarm names AMD GPUs: by its name, which has the word AMD, or else
/// by its value, which is nothing but unique ids; then it is a guess. AMD's runtime takes every
/// such variable for its own, but they also carry other vendors' resources.
fn swarm(name: &str, value: &str) -> Option<bool> {
    let resource = name.strip_prefix(SWARM_PREFIX)?;
    if resource.split(['_', '-', '.']).any(|word| word.eq_ignore_ascii_case("AMD")) {
        return Some(false);
    }
    let is_id = |item: &str| matches!(Item::parse(item), Some(Item::UniqueId(_)));
    value.split(',').all(is_id).then_some(true)
}

impl Item {
    /// Reads one item of a list that is not `all` as a whole. Neither space nor another spelling
    /// is taken off. `None`: it means nothing.
    #[must_use]
    pub fn parse(item: &str) -> Option<Self> {
        if let Some(digits) = item.strip_prefix("0x").or_else(|| item.strip_prefix("0X")) {
            return unique_id(digits);
        }
        if item.len() >= SHORTEST_UNIQUE_ID && is_hex(item) {
            return unique_id(item);
        }
        match item.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (first.parse().ok()?, last.parse().ok()?);
                (first <= last).then_some(Self::Range(first, last))
            }
            None => item.parse().ok().map(Self::Index),
        }
    }

    /// Whether the list means every GPU: these three spellings, and nothing beside them.
    #[must_use]
    pub fn is_all(list: &[String]) -> bool {
        matches!(list, [one] if matches!(one.as_str(), "all" | "All" | "ALL"))
    }
}

fn unique_id(digits: &str) -> Option<Item> {
    is_hex(digits).then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(Item::UniqueId)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Spec;

    fn read(env: &[&str]) -> Option<AmdWish> {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
        }))
        .unwrap();
        AmdWish::read(&Asked::of(&spec))
    }

    #[test]
    fn items_are_read_as_by_amds_runtime() {
        for (item, expected) in [
            ("0", Some(Item::Index(0))),
            ("07", Some(Item::Index(7))),
            ("+1", Some(Item::Index(1))),
            ("12345678", Some(Item::Index(12_345_678))),
            // More than eight digits are an id, though they may be decimal.
            ("123456789", Some(Item::UniqueId(0x1_2345_6789))),
            ("0x378041E1ADA6015", Some(Item::UniqueId(0x378_041e_1ada_6015))),
            ("0X1f", Some(Item::UniqueId(0x1f))),
            ("378041e1ada6015", Some(Item::UniqueId(0x378_041e_1ada_6015))),
            ("0-3", Some(Item::Range(0, 3))),
            ("2-2", Some(Item::Range(2, 2))),
            ("3-0", None),
            ("-1", None),
            ("1-", None),
            ("1-2-3", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("0x", None),
            ("0xg", None),
            ("0x11112222333344445", None),
            ("deadbeef", None),
            ("all", None),
            ("void", None),
            ("GPU-1", None),
        ] {
            assert_eq!(Item::parse(item), expected, "{item:?}");
        }
    }

    #[test]
    fn all_has_three_spellings_and_stands_alone() {
        let all = |list: &str| {
            Item::is_all(&read(&[&format!("AMD_VISIBLE_DEVICES={list}")]).unwrap().devices)
        };
        assert!(all("all") && all("All") && all("ALL"));
        assert!(!all("aLL") && !all("all,0") && !all(" all"));
    }

    #[test]
    fn none_void_and_nothing_ask_for_nothing() {
        for value in ["", "none", "void"] {
            assert_eq!(read(&[&format!("AMD_VISIBLE_DEVICES={value}")]), None, "{value:?}");
        }
        assert_eq!(read(&["AMD_VISIBLE_DEVICES"]), None);
        assert_eq!(read(&["AMD_VISIBLE_DEVICES_X=0", "HIP_VISIBLE_DEVICES=0"]), None);
        // A list with such a word is a list.
        assert!(read(&["AMD_VISIBLE_DEVICES=0,void"]).is_some());
    }

    #[test]
    fn the_last_entry_counts_whichever_variable_it_is() {
        for (env, expected) in [
            (["AMD_VISIBLE_DEVICES=0", "AMD_VISIBLE_DEVICES=1"], Some("AMD_VISIBLE_DEVICES=1")),
            (
                ["DOCKER_RESOURCE_AMD_GPU=0x1", "AMD_VISIBLE_DEVICES=1"],
                Some("AMD_VISIBLE_DEVICES=1"),
            ),
            (
                ["AMD_VISIBLE_DEVICES=1", "DOCKER_RESOURCE_AMD_GPU=0x1"],
                Some("DOCKER_RESOURCE_AMD_GPU=0x1"),
            ),
            (["AMD_VISIBLE_DEVICES=1", "AMD_VISIBLE_DEVICES=void"], None),
        ] {
            assert_eq!(read(&env).map(|wish| wish.source).as_deref(), expected, "{env:?}");
        }
    }

    #[test]
    fn resources_of_a_swarm_are_amds_by_name_or_by_value() {
        for (entry, expected) in [
            ("DOCKER_RESOURCE_AMD_GPU=0", Some(false)),
            ("DOCKER_RESOURCE_amd-gpu=all", Some(false)),
            ("DOCKER_RESOURCE_GPU=0x378041e1ada6015", Some(true)),
            ("DOCKER_RESOURCE_GPU=378041e1ada6015,0x1", Some(true)),
            // Another vendor's.
            ("DOCKER_RESOURCE_GPU=GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000", None),
            ("DOCKER_RESOURCE_GPU=0,1", None),
            ("DOCKER_RESOURCE_GPU=all", None),
            ("DOCKER_RESOURCE_GPU=", None),
            ("DOCKER_RESOURCE_NVIDIA_GPU=0", None),
            ("DOCKER_RESOURCE_CAMDISK=0", None),
            ("MY_RESOURCE_AMD_GPU=0x378041e1ada6015", None),
        ] {
            assert_eq!(read(&[entry]).map(|wish| wish.is_guess), expected, "{entry}");
        }
    }
}
