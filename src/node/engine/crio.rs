//! CRI-O's `crio.conf` and the files in `crio.conf.d` that are merged with it: [the table of
//! runtimes](https://github.com/cri-o/cri-o/blob/main/docs/crio.conf.5.md).

use toml_edit::{DocumentMut, Item, Table, value};

use super::{Ours, TextError, Wish, toml};

const RUNTIMES: [&str; 3] = ["crio", "runtime", "runtimes"];
const DEFAULT: [&str; 3] = ["crio", "runtime", "default_runtime"];
const PATH: &str = "runtime_path";

/// The text with gpurun among the runtimes, each with the options that the present default has.
/// `others`: the other files, in the order in which CRI-O reads them.
///
/// # Errors
/// A text is not TOML.
pub fn add(text: &str, others: &[String], wish: &Wish) -> Result<String, TextError> {
    let mut document = toml::parse(text)?;
    let mut all = others.iter().map(|text| toml::parse(text)).collect::<Result<Vec<_>, _>>()?;
    all.push(document.clone());
    let entry = inherited(&all);
    if let (true, Some(name)) = (wish.default, wish.names.first())
        && toml::text(&document, &DEFAULT) != Some(name.as_str())
    {
        toml::table(&mut document, &DEFAULT[..2])?;
        toml::put(&mut document, &DEFAULT, value(name.as_str()))?;
    }
    for name in &wish.names {
        let path = [&RUNTIMES[..], &[name.as_str()]].concat();
        if toml::get(&document, &path).is_none() {
            toml::put(&mut document, &path, Item::Table(entry.clone()))?;
        }
        let program = [&path[..], &[PATH]].concat();
        if toml::text(&document, &program) != Some(wish.binary()) {
            toml::put(&mut document, &program, value(wish.binary()))?;
        }
        let kind = [&path[..], &["runtime_type"]].concat();
        if toml::text(&document, &kind).is_some_and(|kind| kind != "oci") {
            toml::put(&mut document, &kind, value("oci"))?;
        }
    }
    Ok(document.to_string())
}

/// A table with what the present default has, or `crun` or `runc`. gpurun's state has a place of
/// its own unless the administrator gave the runtimes one.
fn inherited(documents: &[DocumentMut]) -> Table {
    let last = |path: &[&str]| documents.iter().rev().find_map(|one| toml::get(one, path));
    let default = last(&DEFAULT).and_then(Item::as_str);
    let entry = |name: &str| {
        let table = last(&[&RUNTIMES[..], &[name]].concat())?.as_table_like()?;
        let kind = table.get("runtime_type").and_then(Item::as_str).unwrap_or_default();
        (kind.is_empty() || kind == "oci").then_some(table)
    };
    let mut table = Table::new();
    table.insert(PATH, value(""));
    table.insert("runtime_type", value("oci"));
    table.insert("runtime_root", value("/run/gpurun"));
    let found = default.into_iter().chain(["crun", "runc"]).find_map(entry);
    for (key, item) in found.map(toml::copy).unwrap_or_default() {
        // Empty values are CRI-O's way to write that the default counts.
        let says_nothing = item.as_str().is_some_and(str::is_empty);
        if key != PATH && key != "runtime_type" && key != "runtime_config_path" && !says_nothing {
            table.insert(&key, item);
        }
    }
    table
}

/// The names under which the text has gpurun.
///
/// # Errors
/// The text is not TOML.
pub fn ours(text: &str, it: &Ours) -> Result<Vec<String>, TextError> {
    Ok(names(&toml::parse(text)?, it))
}

fn names(document: &DocumentMut, it: &Ours) -> Vec<String> {
    let runtimes = toml::get(document, &RUNTIMES).and_then(Item::as_table_like);
    let entries = runtimes.into_iter().flat_map(|table| table.iter());
    let ours = entries.filter(|(_, item)| {
        let program = item.as_table_like().and_then(|table| table.get(PATH)?.as_str());
        program.is_some_and(|program| it.is(program))
    });
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
    let names = names(&document, it);
    toml::restore_runtimes(&mut document, &names, &RUNTIMES, &DEFAULT, before.as_ref());
    Ok(toml::left(&document, original))
}

#[cfg(test)]
mod tests {
    use super::super::Name;
    use super::*;

    fn wish(default: bool) -> Wish {
        let names = ["gpurun", "nvidia"].map(|name| Name::parse(name).unwrap()).to_vec();
        Wish { names, binary: "/usr/local/bin/gpurun".into(), default }
    }

    fn it() -> Ours {
        Ours { binary: "/usr/local/bin/gpurun".into() }
    }

    const MAIN: &str = r#"[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_type = ""
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
monitor_cgroup = "pod"
allowed_annotations = [
  "io.containers.trace-syscall",
]
"#;

    #[test]
    fn a_drop_in_has_the_default_runtimes_options() {
        let text = add("", &[MAIN.to_owned()], &wish(true)).unwrap();
        let expected = r#"[crio.runtime]
default_runtime = "gpurun"

[crio.runtime.runtimes.gpurun]
runtime_path = "/usr/local/bin/gpurun"
runtime_type = "oci"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
monitor_cgroup = "pod"
allowed_annotations = [
  "io.containers.trace-syscall",
]
"#;
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("[crio.runtime.runtimes.nvidia]\n"), "{text}");
        assert_eq!(add(&text, &[MAIN.to_owned()], &wish(true)).unwrap(), text);
        assert_eq!(remove(&text, None, &it()).unwrap(), None);
    }

    #[test]
    fn without_anything_to_inherit_the_state_has_a_place_of_its_own() {
        let text = add("", &[], &wish(false)).unwrap();
        assert!(text.contains("runtime_root = \"/run/gpurun\""), "{text}");
        assert!(!text.contains("default_runtime"), "{text}");
    }

    #[test]
    fn the_main_file_can_be_the_one_that_changes() {
        let text = add(MAIN, &[], &wish(true)).unwrap();
        assert_eq!(ours(&text, &it()).unwrap(), ["gpurun", "nvidia"]);
        assert_eq!(remove(&text, Some(MAIN), &it()).unwrap().as_deref(), Some(MAIN));
    }
}
