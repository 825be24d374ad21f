//! `config.toml` of containerd, for its CRI plugin: [the options of a
//! runtime](https://github.com/containerd/containerd/blob/main/docs/cri/config.md).

use toml_edit::{DocumentMut, Item, Table, value};

use super::{Ours, TextError, Wish, toml};
use crate::gpu::cdi::annotations;

/// The shim for runtimes with runc's command line.
const SHIM: &str = "io.containerd.runc.v2";
const RUNTIMES: &str = "runtimes";
const DEFAULT: &str = "default_runtime_name";
const OPTIONS: &str = "options";
const BINARY: &str = "BinaryName";

/// The layout of the file, which its `version` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Without `version`: containerd 1.
    V1,
    /// containerd 1 and 2.
    V2,
    /// containerd 2. Later versions of the file keep the names of this one.
    V3(i64),
}

impl Version {
    fn of(document: &DocumentMut) -> Option<Self> {
        match toml::get(document, &["version"]).and_then(Item::as_integer) {
            Some(1) => Some(Self::V1),
            Some(2) => Some(Self::V2),
            Some(later) => Some(Self::V3(later)),
            None => toml::get(document, &["plugins"]).map(|_| Self::V1),
        }
    }

    fn number(self) -> i64 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3(number) => number,
        }
    }

    /// The name of the CRI plugin that starts containers.
    fn plugin(self) -> &'static str {
        match self {
            Self::V1 => "cri",
            Self::V2 => "io.containerd.grpc.v1.cri",
            Self::V3(_) => "io.containerd.cri.v1.runtime",
        }
    }

    /// The table of the plugin's part that knows the runtimes.
    fn section(self) -> [&'static str; 3] {
        ["plugins", self.plugin(), "containerd"]
    }
}

/// The version of the file's layout that a containerd of this version is best given.
#[must_use]
pub fn version_for(containerd: Option<super::places::Release>) -> Version {
    match containerd {
        Some(release) if release.major >= 2 => Version::V3(3),
        _ => Version::V2,
    }
}

/// The text with gpurun among the runtimes. Each has the options of the runtime that is the
/// default now. `fresh`: the layout of a file that says nothing yet.
///
/// # Errors
/// The text is not TOML, or not containerd's.
pub fn add(text: &str, wish: &Wish, fresh: Version) -> Result<String, TextError> {
    let mut document = toml::parse(text)?;
    let version = match Version::of(&document) {
        Some(version) => version,
        None => {
            document.insert("version", value(fresh.number()));
            fresh
        }
    };
    let entry = inherited(&document, version);
    keep_runc(&mut document, version)?;
    extend(&mut document, version, wish, &entry)?;
    Ok(document.to_string())
}

/// Whether this containerd gives containers the devices that CDI annotations name: 2 does, 1.7
/// only if told to, older ones cannot.
fn resolves_cdi(document: &DocumentMut, version: Version) -> bool {
    let told = toml::get(document, &["plugins", version.plugin(), "enable_cdi"]);
    matches!(version, Version::V3(_)) || told.and_then(Item::as_bool) == Some(true)
}

/// Has containerd pass the annotations on in which device plugins name CDI devices.
fn pass_cdi(document: &mut DocumentMut, runtime: &[&str]) -> Result<(), TextError> {
    let pattern = format!("{}*", annotations::PREFIX);
    let path = [runtime, &["container_annotations"]].concat();
    let present = toml::get(document, &path).and_then(Item::as_array).cloned();
    let mut list = present.unwrap_or_default();
    if !list.iter().any(|known| known.as_str() == Some(&pattern)) {
        list.push(pattern);
        toml::put(document, &path, value(list))?;
    }
    Ok(())
}

/// Writes down the runtime that containerd 1 has by itself as long as its file names none: with the
/// first that it names, runc would be gone, and with it the default and the whole CRI plugin.
fn keep_runc(document: &mut DocumentMut, version: Version) -> Result<(), TextError> {
    let runtimes = [&version.section()[..], &[RUNTIMES]].concat();
    if toml::get(document, &runtimes).is_some() {
        return Ok(());
    }
    let mut runc = Table::new();
    runc.insert("runtime_type", value(SHIM));
    toml::put(document, &[&runtimes[..], &["runc"]].concat(), Item::Table(runc))
}

/// Takes away what [`keep_runc`] wrote, once it is alone again.
fn forget_runc(document: &mut DocumentMut, version: Version, original: Option<&DocumentMut>) {
    let runtimes = [&version.section()[..], &[RUNTIMES]].concat();
    let runc = [&runtimes[..], &["runc"]].concat();
    let count = |path: &[&str]| {
        toml::get(document, path).and_then(Item::as_table_like).map(|table| table.len())
    };
    let kind = toml::text(document, &[&runc[..], &["runtime_type"]].concat());
    let is_alone = count(&runtimes) == Some(1) && count(&runc) == Some(1) && kind == Some(SHIM);
    if is_alone && original.is_none_or(|original| toml::get(original, &runc).is_none()) {
        toml::restore(document, &runc, original);
    }
}

/// A file that is merged with the main one (`main`, of containerd 2.1 and newer) and adds nothing
/// but gpurun. `text`: what the file says now.
///
/// # Errors
/// A text is not TOML.
pub fn drop_in(text: &str, main: &str, wish: &Wish) -> Result<String, TextError> {
    let main = toml::parse(main)?;
    let version = Version::of(&main).unwrap_or(Version::V3(3));
    let mut document = toml::parse(text)?;
    if !document.contains_key("version") {
        document.insert("version", value(version.number()));
    }
    let mut entry = inherited(&main, version);
    entry.decor_mut().clear();
    extend(&mut document, version, wish, &toml::copy(&entry))?;
    Ok(document.to_string())
}

fn extend(
    document: &mut DocumentMut,
    version: Version,
    wish: &Wish,
    entry: &Table,
) -> Result<(), TextError> {
    let section = version.section();
    for name in &wish.names {
        let path = [&section[..], &[RUNTIMES, name.as_str()]].concat();
        if toml::get(document, &path).is_none() {
            toml::put(document, &path, Item::Table(entry.clone()))?;
        }
        let kind = toml::table(document, &path)?.get("runtime_type").and_then(Item::as_str);
        // A runtime of this name that had another shim was another runtime.
        if kind != Some(SHIM) {
            toml::put(document, &[&path[..], &["runtime_type"]].concat(), value(SHIM))?;
        }
        let options = [&path[..], &[OPTIONS]].concat();
        if toml::get(document, &options).is_none() {
            toml::put(document, &options, Item::Table(Table::new()))?;
        }
        let binary = [&options[..], &[BINARY]].concat();
        if toml::text(document, &binary) != Some(wish.binary()) {
            toml::put(document, &binary, value(wish.binary()))?;
        }
    }
    if !resolves_cdi(document, version) {
        for name in &wish.names {
            pass_cdi(document, &[&section[..], &[RUNTIMES, name.as_str()]].concat())?;
        }
    }
    let default = [&section[..], &[DEFAULT]].concat();
    if let (true, Some(name)) = (wish.default, wish.names.first())
        && toml::text(document, &default) != Some(name.as_str())
    {
        toml::put(document, &default, value(name.as_str()))?;
    }
    Ok(())
}

/// A runtime's table with everything that the present default has in its own, when that has runc's
/// shim; else with what `runc` or `crun` have.
fn inherited(document: &DocumentMut, version: Version) -> Table {
    let section = version.section();
    let default = toml::text(document, &[&section[..], &[DEFAULT]].concat());
    let entry = |name: &str| {
        let item = toml::get(document, &[&section[..], &[RUNTIMES, name]].concat())?;
        let kind = item.as_table_like()?.get("runtime_type").and_then(Item::as_str).unwrap_or(SHIM);
        (kind.is_empty() || kind == SHIM).then_some(item)
    };
    let candidates = default.into_iter().chain(["runc", "crun"]);
    let mut table = candidates.filter_map(entry).next().and_then(like).unwrap_or_default();
    toml::set(&mut table, "runtime_type", value(SHIM));
    table
}

/// A copy of a runtime's table, its header as far to the right.
fn like(found: &Item) -> Option<Table> {
    let mut table = toml::copy(found.as_table_like()?);
    if let Item::Table(found) = found {
        toml::indent_header(&mut table, found);
    }
    // These belong to that runtime's program.
    table.remove("runtime_path");
    table.remove("runtime_engine");
    if let Some(Item::Table(options)) = table.get_mut(OPTIONS) {
        options.remove("CriuPath");
        options.remove(BINARY);
    }
    Some(table)
}

/// The names under which the text has gpurun, with their tables' paths.
///
/// # Errors
/// The text is not TOML.
pub fn ours(text: &str, it: &Ours) -> Result<Vec<String>, TextError> {
    let document = toml::parse(text)?;
    Ok(Version::of(&document).map(|version| names(&document, version, it)).unwrap_or_default())
}

fn names(document: &DocumentMut, version: Version, it: &Ours) -> Vec<String> {
    let runtimes = toml::get(document, &[&version.section()[..], &[RUNTIMES]].concat());
    let entries = runtimes.and_then(Item::as_table_like).into_iter().flat_map(|t| t.iter());
    let binary = |item: &Item| {
        let options = item.as_table_like()?.get(OPTIONS)?.as_table_like()?;
        options.get(BINARY)?.as_str().map(|program| it.is(program))
    };
    let ours = entries.filter(|(_, item)| binary(item) == Some(true));
    ours.map(|(name, _)| name.to_owned()).collect()
}

/// The text without gpurun: its names are what they were in the original text, or gone. `None`:
/// nothing is left of a file that was not there before.
///
/// # Errors
/// A text is not TOML.
pub fn remove(text: &str, original: Option<&str>, it: &Ours) -> Result<Option<String>, TextError> {
    let mut document = toml::parse(text)?;
    let before = original.map(toml::parse).transpose()?;
    let Some(version) = Version::of(&document) else { return Ok(Some(text.to_owned())) };
    let names = names(&document, version, it);
    let section = version.section();
    let default = [&section[..], &[DEFAULT]].concat();
    let runtimes = [&section[..], &[RUNTIMES]].concat();
    toml::restore_runtimes(&mut document, &names, &runtimes, &default, before.as_ref());
    forget_runc(&mut document, version, before.as_ref());
    let said_nothing = before.as_ref().is_none_or(|before| !before.contains_key("version"));
    if said_nothing && !document.contains_key("plugins") {
        document.remove("version");
    }
    Ok(toml::left(&document, original))
}

/// The name of the CRI plugin in a layout.
#[must_use]
pub fn plugin_of(layout: i64) -> &'static str {
    match layout {
        1 => Version::V1.plugin(),
        2 => Version::V2.plugin(),
        later => Version::V3(later).plugin(),
    }
}

/// The version of the text's layout; `None`: it says nothing.
///
/// # Errors
/// The text is not TOML.
pub fn layout(text: &str) -> Result<Option<i64>, TextError> {
    Ok(Version::of(&toml::parse(text)?).map(Version::number))
}

/// The files that the text has merged into it: patterns, relative to its directory.
///
/// # Errors
/// The text is not TOML.
pub fn imports(text: &str) -> Result<Vec<String>, TextError> {
    let document = toml::parse(text)?;
    let imports = toml::get(&document, &["imports"]).and_then(Item::as_array);
    let imports = imports.into_iter().flatten().filter_map(|pattern| pattern.as_str());
    Ok(imports.map(str::to_owned).collect())
}

/// Whether the text has a table of the CRI plugin, which in containerd before 2.1 replaces the
/// whole table of the file that imports it.
///
/// # Errors
/// The text is not TOML.
pub fn has_plugin(text: &str) -> Result<bool, TextError> {
    let document = toml::parse(text)?;
    let version = Version::of(&document).unwrap_or(Version::V2);
    Ok(toml::get(&document, &["plugins", version.plugin()]).is_some())
}

/// Whether the text turns the CRI plugin off, as the file of Docker's packages does.
///
/// # Errors
/// The text is not TOML.
pub fn is_disabled(text: &str) -> Result<bool, TextError> {
    let document = toml::parse(text)?;
    let disabled = toml::get(&document, &["disabled_plugins"]).and_then(Item::as_array);
    let known = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
    let mut names = disabled.into_iter().flatten().filter_map(|name| name.as_str());
    Ok(names.any(|name| known.contains(&name)))
}

/// The runtimes that a text has, whatever they are.
///
/// # Errors
/// The text is not TOML.
pub fn runtimes(text: &str) -> Result<Vec<String>, TextError> {
    let document = toml::parse(text)?;
    let version = Version::of(&document).unwrap_or(Version::V2);
    let runtimes = toml::get(&document, &[&version.section()[..], &[RUNTIMES]].concat());
    let entries = runtimes.and_then(Item::as_table_like).into_iter().flat_map(|t| t.iter());
    Ok(entries.map(|(name, _)| name.to_owned()).collect())
}

#[cfg(test)]
#[path = "containerd_tests.rs"]
mod tests;
