//! podman's `containers.conf` and the files in `containers.conf.d` that are merged with it: [the
//! table of engines](https://github.com/containers/common/blob/main/docs/containers.conf.5.md).

use toml_edit::{Array, DocumentMut, Item, value};

use super::{Ours, TextError, Wish, toml};

const RUNTIMES: [&str; 2] = ["engine", "runtimes"];
const DEFAULT: [&str; 2] = ["engine", "runtime"];
/// The runtimes whose errors podman reads from a JSON log. A list replaces the one before it.
const JSON: [&str; 2] = ["engine", "runtime_supports_json"];

/// podman's own list.
const JSON_DEFAULT: &[&str] = &["crun", "runc", "kata", "runsc", "youki", "krun", "ocijail"];

/// The text with gpurun among the runtimes. `others`: the other files, in the order in which
/// podman reads them.
///
/// # Errors
/// A text is not TOML.
pub fn add(text: &str, others: &[String], wish: &Wish) -> Result<String, TextError> {
    let mut document = toml::parse(text)?;
    if let (true, Some(name)) = (wish.default, wish.names.first())
        && toml::text(&document, &DEFAULT) != Some(name.as_str())
    {
        toml::put(&mut document, &DEFAULT, value(name.as_str()))?;
    }
    let mut list = strings(toml::get(&document, &JSON));
    if list.is_empty() {
        let others = others.iter().map(|text| toml::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let lists = others.iter().rev().map(|other| strings(toml::get(other, &JSON)));
        let default = || JSON_DEFAULT.iter().map(|name| (*name).to_owned()).collect();
        list = lists.into_iter().find(|list| !list.is_empty()).unwrap_or_else(default);
    }
    // The name with which podman was told of it: a runtime given by its path has its file's.
    let file = wish.binary.file_name().and_then(|name| name.to_str());
    let names = wish.names.iter().map(|name| name.as_str()).chain(file);
    let before = list.len();
    for name in names {
        if !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    }
    if list.len() > before {
        toml::put(&mut document, &JSON, value(list.iter().collect::<Array>()))?;
    }
    for name in &wish.names {
        let path = [&RUNTIMES[..], &[name.as_str()]].concat();
        if strings(toml::get(&document, &path)) != [wish.binary()] {
            toml::table(&mut document, &RUNTIMES)?;
            toml::put(&mut document, &path, value(Array::from_iter([wish.binary()])))?;
        }
    }
    Ok(document.to_string())
}

fn strings(item: Option<&Item>) -> Vec<String> {
    let array = item.and_then(Item::as_array).into_iter().flatten();
    array.filter_map(|value| value.as_str()).map(str::to_owned).collect()
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
    let ours = entries.filter(|(_, item)| strings(Some(*item)).iter().any(|path| it.is(path)));
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
    if names.is_empty() {
        return Ok(Some(text.to_owned()));
    }
    toml::restore_runtimes(&mut document, &names, &RUNTIMES, &DEFAULT, before.as_ref());
    toml::restore(&mut document, &JSON, before.as_ref());
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

    #[test]
    fn a_drop_in_names_gpurun_and_that_it_logs_json() {
        let text = add("", &[], &wish(true)).unwrap();
        let expected = r#"[engine]
runtime = "gpurun"
runtime_supports_json = ["crun", "runc", "kata", "runsc", "youki", "krun", "ocijail", "gpurun", "nvidia"]

[engine.runtimes]
gpurun = ["/usr/local/bin/gpurun"]
nvidia = ["/usr/local/bin/gpurun"]
"#;
        assert_eq!(text, expected);
        assert_eq!(add(&text, &[], &wish(true)).unwrap(), text);
        assert_eq!(remove(&text, None, &it()).unwrap(), None);
    }

    #[test]
    fn an_administrators_list_is_kept_and_a_main_file_is_put_back() {
        let main = "[engine]\nruntime_supports_json = [\"crun\"] # only this\n";
        let text = add("", &[main.to_owned()], &wish(false)).unwrap();
        assert!(text.contains("= [\"crun\", \"gpurun\", \"nvidia\"]\n"), "{text}");
        let text = add(main, &[], &wish(true)).unwrap();
        assert!(text.contains("= [\"crun\", \"gpurun\", \"nvidia\"] # only this\n"), "{text}");
        assert_eq!(remove(&text, Some(main), &it()).unwrap().as_deref(), Some(main));
    }
}
