//! The `[vendors]` table of the configuration file.

use super::entry::{Entry, Pattern, SUFFIX, Unknown, below_dev};
use super::{is_known, ready};
use crate::gpu::nodes;
use crate::host::config::Section;
use crate::host::{ConfigError, Settings};

/// The table's name.
pub const SECTION: &str = "vendors";

/// The settings, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The vendors that count: those described, then the ready-made ones that are enabled.
    pub entries: Vec<Entry>,
    /// Whether the container's user joins the groups of the nodes.
    pub additional_gids: bool,
}

impl Config {
    /// Reads the table.
    ///
    /// # Errors
    /// An unknown key, a wrong value, or a ready-made vendor that there is not.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let mut section = settings.section(SECTION)?;
        let enabled = section.strings("enabled")?.unwrap_or_default();
        let additional_gids = nodes::additional_gids(&mut section)?;
        let mut entries = Vec::new();
        for (name, described) in section.tables() {
            entries.push(entry(name, described)?);
        }
        for name in enabled {
            // A description takes the place of the ready-made one.
            if entries.iter().all(|known: &Entry| known.name != name) {
                entries.push(ready::find(name).ok_or_else(|| {
                    section.reject(
                        "enabled",
                        "a list of ascend, mthreads, metax, hygon, cambricon, iluvatar, and \
                         vendors that have a table here",
                    )
                })?);
            }
        }
        section.finish()?;
        Ok(Self { entries, additional_gids })
    }
}

fn entry(name: &str, mut section: Section<'_>) -> Result<Entry, ConfigError> {
    let variable = section.string("variable")?.unwrap_or_default();
    let is_plain = variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !variable.ends_with(SUFFIX) || !is_plain || is_known(variable) {
        return Err(section.reject(
            "variable",
            "the name of a variable that ends in _VISIBLE_DEVICES and is not one that gpurun knows",
        ));
    }
    let patterns = section.strings("devices")?.unwrap_or_default();
    let devices: Option<Vec<Pattern>> = patterns.into_iter().map(Pattern::parse).collect();
    let Some(devices) = devices else {
        return Err(section.reject(
            "devices",
            "an array of paths below /dev, each with {} once in its last part, where the index is",
        ));
    };
    let pci_vendor = section.string("pci-vendor")?.map(str::to_lowercase);
    let is_id = |id: &String| {
        id.strip_prefix("0x").is_some_and(|digits| {
            digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    if !pci_vendor.iter().all(is_id) {
        return Err(section.reject("pci-vendor", "a number such as 0x1d94"));
    }
    if devices.is_empty() && pci_vendor.is_none() {
        return Err(section.reject("devices", "given, or else pci-vendor"));
    }
    let common = section.strings("common")?.unwrap_or_default();
    let common: Option<Vec<&str>> = common.into_iter().map(below_dev).collect();
    let Some(common) = common else {
        return Err(section.reject("common", "an array of paths below /dev"));
    };
    let unknown = match section.string("unknown")? {
        None | Some("error") => Unknown::Error,
        Some("note") => Unknown::Note,
        Some(_) => return Err(section.reject("unknown", "error or note")),
    };
    let prefixes = section.strings("prefixes")?.unwrap_or_default();
    let entry = Entry {
        name: name.to_owned(),
        variable: variable.to_owned(),
        devices,
        pci_vendor,
        common: common.into_iter().map(str::to_owned).collect(),
        prefixes: prefixes.into_iter().map(str::to_owned).collect(),
        ranges: section.boolean("ranges")?.unwrap_or(true),
        all: section.boolean("all")?.unwrap_or(true),
        unknown,
    };
    section.finish()?;
    Ok(entry)
}
