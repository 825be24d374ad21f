//! What the lists name, as far as the machine has it.
//!
//! The lists of a release name files of every board and option, so each entry is optional. One
//! thing can be named several times, as a library and as the end of a link: it is given once, and
//! a link never takes the place of a file.

use std::path::{Path, PathBuf};

use super::csv::{Entry, Kind};
use crate::gpu::lexical::joined;
use crate::gpu::nodes;
use crate::gpu::nvidia::error::Error;
use crate::gpu::nvidia::loose::Root;
use crate::gpu::plan::{DeviceNode, FileKind, FileMount, Link, Place};
use crate::host::tree::HostError;
use crate::host::{Host, elf, glob};

/// How many links may lead from one to the next: the kernel's own limit (`MAXSYMLINKS`).
const LONGEST_CHAIN: usize = 40;

const WHY: &str = "listed for Tegra";

/// What was found.
#[derive(Debug, Default)]
pub struct Collected {
    /// Device nodes.
    pub devices: Vec<DeviceNode>,
    /// Files and directories, at their own paths.
    pub files: Vec<FileMount>,
    /// Links, at their own paths.
    pub links: Vec<Link>,
    /// How many entries name nothing that is there.
    pub absent: usize,
}

/// Looks up the entries.
pub fn collect(entries: &[Entry], root: &Root, host: &Host) -> Result<Collected, Error> {
    let mut found = Collected::default();
    for entry in entries {
        let before = (found.devices.len(), found.files.len(), found.links.len());
        let mut is_known = false;
        match entry.kind {
            Kind::Device => {
                let Some(below) = entry.path.strip_prefix("/dev/") else { continue };
                for path in glob::find(&host.dev, below)? {
                    let Some(name) = path.to_str() else { continue };
                    let node = nodes::of_host(host, name, WHY.to_owned())?;
                    is_known |= node.is_some();
                    let known = |node: &DeviceNode| {
                        found.devices.iter().any(|other| other.destination == node.destination)
                    };
                    if let Some(node) = node.filter(|node| !known(node)) {
                        found.devices.push(node);
                    }
                }
            }
            _ => {
                for path in glob::find(&root.tree, &entry.path)? {
                    is_known |= match entry.kind {
                        Kind::Link => found.chain(&path, root)?,
                        Kind::Library => found.library(&path, root)?,
                        _ => found.file(&path, root, true)?.is_some(),
                    };
                }
            }
        }
        let after = (found.devices.len(), found.files.len(), found.links.len());
        found.absent += usize::from(before == after && !is_known);
    }
    found.settle();
    Ok(found)
}

impl Collected {
    /// Adds a file, or a directory where one is meant. `None`: there is none.
    fn file(
        &mut self,
        path: &Path,
        root: &Root,
        is_directory: bool,
    ) -> Result<Option<FileMount>, Error> {
        let Some(file) = root.mount(path, WHY)? else {
            return Ok(None);
        };
        if is_directory && !file.source.is_dir() {
            return Ok(None);
        }
        if self.files.iter().all(|known| known.destination != file.destination) {
            self.files.push(file.clone());
        }
        Ok(Some(file))
    }

    /// Adds a library with the links beside it that programs look it up by.
    fn library(&mut self, path: &Path, root: &Root) -> Result<bool, Error> {
        let Some(file) = self.file(path, root, false)? else {
            return Ok(false);
        };
        let Place::Path(path) = &file.destination else { return Ok(true) };
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(true);
        };
        let name = name.to_string_lossy();
        let FileKind::Library { soname, .. } = &file.kind else { return Ok(true) };
        let Some((stem, version)) = name.split_once(".so.") else { return Ok(true) };
        if !version.contains('.') {
            return Ok(true);
        }
        let target = soname.as_deref().unwrap_or(&name);
        let plain = format!("{stem}.so");
        for (link, target) in [(target, &*name), (&plain, target)] {
            let is_there = || root.tree.link(below(&directory.join(link)));
            let always = stem == "libcuda" && link == plain;
            let is_plain = Path::new(link).file_name() == Some(link.as_ref());
            if link != target && is_plain && (always || is_there()?.is_some()) {
                self.link(directory.join(link), target.into());
            }
        }
        Ok(true)
    }

    /// Adds the links that begin at `path`, and the file or directory at their end.
    fn chain(&mut self, path: &Path, root: &Root) -> Result<bool, Error> {
        let mut path = Path::new("/").join(path);
        let mut links = Vec::new();
        for _ in 0..LONGEST_CHAIN {
            let Some(target) = root.tree.link(below(&path))? else { break };
            let next = joined(path.parent().unwrap_or(Path::new("/")), &target);
            links.push((path, target));
            path = next;
        }
        if self.file(below(&path), root, false)?.is_none() {
            return Ok(false);
        }
        for (path, target) in links {
            self.link(path, target);
        }
        Ok(true)
    }

    fn link(&mut self, path: PathBuf, target: PathBuf) {
        let destination = Place::Path(path);
        if self.links.iter().all(|known| known.destination != destination) {
            self.links.push(Link { destination, target, why: WHY.to_owned() });
        }
    }

    /// Leaves out what a directory brings already, and links whose place a file has.
    fn settle(&mut self) {
        let path = |place: &Place| match place {
            Place::Path(path) | Place::Library(_, path) => path.clone(),
        };
        let directories: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|file| file.source.is_dir())
            .map(|file| path(&file.destination))
            .collect();
        let is_brought =
            |path: &Path| directories.iter().any(|dir| path != dir && path.starts_with(dir));
        self.files.retain(|file| {
            matches!(file.kind, FileKind::Library { .. }) || !is_brought(&path(&file.destination))
        });
        let files: Vec<PathBuf> = self.files.iter().map(|file| path(&file.destination)).collect();
        self.links.retain(|link| {
            let path = path(&link.destination);
            !files.contains(&path) && !is_brought(&path)
        });
    }
}

/// The version of CUDA of the libcuda among the files, if it says.
pub fn cuda(files: &[FileMount]) -> Result<Option<String>, HostError> {
    use crate::gpu::compatibility::{LONGEST_NOTE, Note, SECTION};
    let is_cuda = |file: &&FileMount| {
        let name = file.source.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libcuda.so.")
    };
    let file = files.iter().find(is_cuda).and_then(|file| std::fs::File::open(&file.source).ok());
    let note = file.and_then(|file| elf::section(file, SECTION, LONGEST_NOTE));
    let note = note.as_deref().and_then(Note::from_section);
    Ok(note.map(|note| note.cuda().to_owned()).filter(|cuda| !cuda.is_empty()))
}

fn below(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
