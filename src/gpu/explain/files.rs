//! Files, by the directories that they come from and go to: a driver has dozens in one directory.

use std::path::{Path, PathBuf};

use super::page::Page;
use super::{IsKind, text};
use crate::gpu::plan::{Abi, FileMount, Link, Place, Plan};
use crate::paint::Ink;

/// Files that go from one directory to another.
struct Group<'a> {
    from: &'a Path,
    to: String,
    files: Vec<&'a FileMount>,
}

/// The files of one kind. Links to one of them in its row are taken out of `links`.
pub fn section<'a>(
    page: &mut Page,
    title: &str,
    about: &str,
    plan: &'a Plan,
    is_it: IsKind,
    links: &mut Vec<&'a Link>,
) {
    let files: Vec<_> = plan.files.iter().filter(|file| is_it(&file.kind)).collect();
    if files.is_empty() {
        return;
    }
    page.title(&format!("{title} ({})", files.len()), about);
    let mut alone = Vec::new();
    for group in groups(&files) {
        if let [file] = &group.files[..] {
            let also = take_links(file, links);
            alone.push(vec![
                place(&file.destination),
                format!("<- {}", file.source.display()),
                why(file, &also),
            ]);
            continue;
        }
        let from = group.from.display();
        page.heading(&format!("{}, from {from}", group.to));
        let rows = group.files.iter().map(|file| {
            let name = file_name(path_of(&file.destination));
            let source = file_name(&file.source);
            let shown = if name == source { name } else { format!("{name} <- {source}") };
            vec![shown, why(file, &take_links(file, links))]
        });
        page.rows(&rows.collect::<Vec<_>>(), "    ", Some(Ink::Dim));
    }
    page.rows(&alone, "  ", Some(Ink::Dim));
}

fn groups<'a>(files: &[&'a FileMount]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for file in files {
        let from = file.source.parent().unwrap_or(Path::new("/"));
        let to = directory(&file.destination);
        match groups.iter_mut().find(|group| group.from == from && group.to == to) {
            Some(group) => group.files.push(file),
            None => groups.push(Group { from, to, files: vec![file] }),
        }
    }
    groups
}

fn why(file: &FileMount, also: &[String]) -> String {
    match also.is_empty() {
        true => file.why.clone(),
        false => format!("{}; also {}", file.why, also.join(", ")),
    }
}

/// Takes the links that lead to the file, also over other links: their names, as seen from the
/// file's directory.
fn take_links(file: &FileMount, links: &mut Vec<&Link>) -> Vec<String> {
    let mut targets = vec![(kind(&file.destination), path_of(&file.destination).to_owned())];
    let mut names = Vec::new();
    while let Some((within, target)) = targets.pop() {
        let mut index = 0;
        while let Some(link) = links.get(index) {
            let path = path_of(&link.destination);
            if kind(&link.destination) == within && leads_to(path, &link.target, &target) {
                names.push(shown(path, path_of(&file.destination)));
                targets.push((within, path.to_owned()));
                links.remove(index);
            } else {
                index += 1;
            }
        }
    }
    names
}

/// Whether a link at `path` with this text leads to `target`; both below the same directory.
fn leads_to(path: &Path, text: &Path, target: &Path) -> bool {
    let mut found = path.parent().map(Path::to_owned).unwrap_or_default();
    for part in text.components() {
        match part {
            std::path::Component::ParentDir => drop(found.pop()),
            std::path::Component::CurDir => {}
            std::path::Component::Normal(name) => found.push(name),
            _ => found = PathBuf::from("/"),
        }
    }
    found == target
}

/// A link's path, without the directory that it shares with the file.
fn shown(link: &Path, file: &Path) -> String {
    let parent = file.parent().unwrap_or(Path::new(""));
    text(link.strip_prefix(parent).unwrap_or(link))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn kind(place: &Place) -> Option<Abi> {
    match place {
        Place::Path(_) => None,
        Place::Library(abi, _) => Some(*abi),
    }
}

fn path_of(place: &Place) -> &Path {
    match place {
        Place::Path(path) | Place::Library(_, path) => path,
    }
}

/// A place in words: `{lib}` and `{lib32}` are where the image's distribution has its libraries.
pub fn place(place: &Place) -> String {
    match place {
        Place::Path(path) => text(path),
        Place::Library(abi, path) => format!("{}/{}", library(*abi), path.display()),
    }
}

/// The place's directory in words.
fn directory(place: &Place) -> String {
    let parent = path_of(place).parent().unwrap_or(Path::new("")).display().to_string();
    match place {
        Place::Path(_) => parent,
        Place::Library(abi, _) if parent.is_empty() => {
            let what = if *abi == Abi::Native { "libraries" } else { "32-bit libraries" };
            format!("{} (the image's directory of {what})", library(*abi))
        }
        Place::Library(abi, _) => format!("{}/{parent}", library(*abi)),
    }
}

fn library(abi: Abi) -> &'static str {
    match abi {
        Abi::Native => "{lib}",
        Abi::I386 => "{lib32}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::plan::FileKind;

    fn library(name: &str) -> FileMount {
        FileMount {
            source: Path::new("/host/lib").join(name),
            destination: Place::Library(Abi::Native, name.into()),
            kind: FileKind::Library { soname: None, abi: Abi::Native },
            why: "compute".to_owned(),
        }
    }

    fn link(name: &str, target: &str) -> Link {
        let destination = Place::Library(Abi::Native, name.into());
        Link { destination, target: target.into(), why: "compute".to_owned() }
    }

    #[test]
    fn files_of_one_directory_share_a_heading_and_have_their_links_beside_them() {
        let plan = Plan {
            files: vec![library("liba.so.1.2"), library("libb.so.1.2")],
            links: vec![
                link("liba.so", "liba.so.1"),
                link("liba.so.1", "liba.so.1.2"),
                link("gbm/b.so", "../libb.so.1.2"),
                link("other.so", "elsewhere.so"),
            ],
            ..Plan::default()
        };
        let mut links: Vec<_> = plan.links.iter().collect();
        let mut page = Page::new(crate::paint::Paint::OFF);
        let is_library: IsKind = |kind| matches!(kind, FileKind::Library { .. });
        section(&mut page, "Libraries", "", &plan, is_library, &mut links);
        assert_eq!(
            page.finish(),
            "Libraries (2)\n  {lib} (the image's directory of libraries), from /host/lib\n    \
             liba.so.1.2  compute; also liba.so.1, liba.so\n    \
             libb.so.1.2  compute; also gbm/b.so\n"
        );
        assert_eq!(links, [&plan.links[3]]);
    }
}
