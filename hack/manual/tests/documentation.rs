//! The pages say what is there: links, paths, commands and keys of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use gpurun::cli::{Cli, Refused};
use gpurun::gpu;
use gpurun::host::{Host, Settings};
use manual::configuration;

/// Every page by its path from the top.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("src/gpu/README.md")];
    for entry in fs::read_dir(top().join("docs")).expect("docs") {
        paths.push(Path::new("docs").join(entry.expect("entry").file_name()));
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(top().join(&path)).expect("page");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What stands between these two, at each place.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Vec<&'t str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0)).collect()
}

/// The lines outside and inside of blocks of code.
fn prose_and_code(page: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut prose, mut code) = (Vec::new(), Vec::new());
    let mut is_fenced = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced || line.starts_with("    ") {
            code.push(line);
        } else {
            prose.push(line);
        }
    }
    (prose, code)
}

/// The links of a page, as they are written.
fn links(page: &str) -> Vec<&str> {
    let (prose, _) = prose_and_code(page);
    let links = prose.iter().flat_map(|line| between(line, "](", ")"));
    links.filter(|link| !link.contains("://")).collect()
}

/// The page and the anchor that a link of `page` leads to.
fn target<'l>(page: &Path, link: &'l str) -> (PathBuf, Option<&'l str>) {
    let (file, anchor) = match link.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (link, None),
    };
    if file.is_empty() {
        return (page.to_owned(), anchor);
    }
    let mut path = page.parent().expect("a folder").to_owned();
    for part in file.split('/') {
        match part {
            ".." => assert!(path.pop(), "{page:?}: {link}"),
            part => path.push(part),
        }
    }
    (path, anchor)
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let (prose, _) = prose_and_code(page);
    let headings = prose.iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &&str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_and_anchors_lead_somewhere_and_to_every_page() {
    let pages = pages();
    let mut reached: BTreeSet<PathBuf> = BTreeSet::from([PathBuf::from("README.md")]);
    for (page, text) in &pages {
        for link in links(text) {
            let (path, anchor) = target(page, link);
            assert!(top().join(&path).exists(), "{}: {link}", page.display());
            if let Some(anchor) = anchor {
                let has = pages.get(&path).is_some_and(|text| anchors(text).contains(anchor));
                assert!(has, "{}: {link} is no heading", page.display());
            }
            reached.insert(path);
        }
    }
    for page in pages.keys() {
        assert!(reached.contains(page), "no page links to {}", page.display());
    }
    let of_readme: BTreeSet<PathBuf> = links(&pages[Path::new("README.md")])
        .iter()
        .map(|link| target(Path::new("README.md"), link).0)
        .collect();
    for page in pages.keys().filter(|page| page.starts_with("docs")) {
        assert!(of_readme.contains(page), "README.md does not list {}", page.display());
    }
}

#[test]
fn tables_are_whole() {
    for (page, text) in pages() {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let is_first =
                line.starts_with('|') && !(index > 0 && lines[index - 1].starts_with('|'));
            let next = lines.get(index + 1).copied().unwrap_or_default();
            assert!(!is_first || next.starts_with("|--"), "{}:{}", page.display(), index + 1);
        }
    }
}

#[test]
fn paths_of_the_source_that_pages_name_exist() {
    let pages = pages();
    for (page, text) in &pages {
        for code in between(text, "`", "`") {
            let path = code.split(' ').next().unwrap_or_default();
            let is_path = ["src/", "hack/", "docs/", "fuzz/", "integration-tests/"]
                .iter()
                .any(|folder| path.starts_with(folder));
            // An example or a pattern.
            let is_name =
                path.chars().all(|c| c.is_ascii_lowercase() || "/_-.0123456789".contains(c));
            if is_path && is_name {
                assert!(top().join(path).exists(), "{}: {code}", page.display());
            }
        }
    }
    let map = &pages[Path::new("docs/architecture.md")];
    for entry in fs::read_dir(top().join("src")).expect("src") {
        let name = entry.expect("entry").file_name().into_string().expect("a name");
        assert!(map.contains(&format!("src/{name}")), "the map has no src/{name}");
    }
}

/// The command lines of gpurun in a page: (the words, whether it is a whole line of a block).
fn commands(page: &str) -> Vec<(Vec<String>, bool)> {
    let (prose, code) = prose_and_code(page);
    let text = prose.join("\n");
    let mut found = Vec::new();
    for line in code {
        let line = line.trim_start().trim_start_matches("$ ");
        found.push((line, true));
    }
    let binary = |line: &str| line.replace("\"$(command -v gpurun)\"", "/usr/bin/gpurun");
    found.extend(between(&text, "`", "`").into_iter().map(|code| (code, false)));
    let words = |line: &str| -> Option<usize> {
        line.starts_with("gpurun ").then(|| {
            let ends = ["#", " && ", " | ", ";", "…", "\\"];
            ends.iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len())
        })
    };
    found
        .into_iter()
        .map(|(line, whole)| (binary(line), whole))
        .filter_map(|(line, whole)| Some((line.get(..words(&line)?)?.to_owned(), whole)))
        .map(|(line, whole)| (line.split_whitespace().map(str::to_owned).collect(), whole))
        .collect()
}

#[test]
fn commands_that_pages_show_exist_with_their_options() {
    for (page, text) in pages() {
        for (words, whole) in commands(&text) {
            // Output that begins with the name, a synopsis.
            let is_version = words.get(1).is_some_and(|word| word == "version") && words.len() > 2;
            let is_synopsis = words.iter().any(|word| word.contains(['[', '|', '*']));
            if is_version || is_synopsis || words.len() < 2 {
                continue;
            }
            let engine = words.iter().map(|word| if word == "ENGINE" { "docker" } else { word });
            let Err(Refused::Usage(error)) = Cli::from_args(engine.map(OsString::from)) else {
                continue;
            };
            let is_short =
                error.message.contains(" requires ") || error.message.contains("needs an");
            assert!(
                !whole && is_short,
                "{}: {}: {}",
                page.display(),
                words.join(" "),
                error.message
            );
        }
    }
}

/// The keys that gpurun knows in a table, from what it says about one that it does not know.
fn known(table: &str, lines: &str) -> BTreeSet<String> {
    let text = format!("[{table}]\n{lines}no-such-key = 1\n");
    let settings = Settings::parse(Path::new("/x"), text, &gpu::tables()).expect("TOML");
    let error = match Host::from_settings(&settings) {
        Ok(_) => gpu::check_settings(&settings).expect_err("an unknown key").to_string(),
        Err(error) => error.to_string(),
    };
    let (_, keys) = error.split_once("known here: ").expect(&error);
    keys.split(", ").map(|key| format!("{table}.{key}")).collect()
}

#[test]
fn the_page_of_the_configuration_has_every_key_and_no_other() {
    let mut expected: BTreeSet<String> =
        gpu::tables().iter().flat_map(|table| known(table, "")).collect();
    let vendor = "variable = \"X_VISIBLE_DEVICES\"\ndevices = [\"/dev/x{}\"]\n";
    expected.extend(known("vendors.NAME", vendor));
    let page = fs::read_to_string(top().join("docs/configuration.md")).expect("page");
    let example = configuration::example(&page).expect("example");
    let mut table = "";
    let mut found = BTreeSet::new();
    for line in example.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let [name] = between(line, "[", "]")[..]
            && line.starts_with('[')
        {
            table = name;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
            found.insert(format!("{table}.{key}"));
        }
    }
    assert_eq!(found, expected);
}
