//! Where the driver's files go in a container whose image is not known.
//!
//! A plan has "the image's library directory". In a CDI file a library keeps the path that it has
//! on the machine, below the driver's root, and the loader's cache says where that is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::gpu::lexical::joined;
use crate::gpu::plan::{Abi, FileKind, FileMount, Link, Place, Plan};

/// How many links may lead from one to the next: the kernel's own limit (`MAXSYMLINKS`).
const LONGEST_CHAIN: usize = 40;

/// The roots that exist, with their links resolved, as the sources of a plan's files are.
pub(super) fn resolved(roots: Vec<PathBuf>) -> Vec<PathBuf> {
    roots.into_iter().filter_map(|root| std::fs::canonicalize(root).ok()).collect()
}

/// The path of a link that [`Places::links`] made.
pub(super) fn path_of(link: &Link) -> &Path {
    match &link.destination {
        Place::Path(path) | Place::Library(_, path) => path,
    }
}

/// The places of one plan.
#[derive(Debug)]
pub(super) struct Places<'a> {
    roots: &'a [PathBuf],
    /// By their places: what stands in the library directory.
    files: HashMap<&'a Place, &'a FileMount>,
    links: HashMap<&'a Place, &'a Path>,
    /// For what leads to none of the files.
    default: PathBuf,
}

impl<'a> Places<'a> {
    pub fn of(plan: &'a Plan, roots: &'a [PathBuf]) -> Self {
        let mut places = Self {
            roots,
            files: plan.files.iter().map(|file| (&file.destination, file)).collect(),
            links: plan
                .links
                .iter()
                .map(|link| (&link.destination, link.target.as_path()))
                .collect(),
            default: "/usr/lib".into(),
        };
        let first = plan.files.iter().find_map(|file| match &file.destination {
            Place::Library(Abi::Native, name) => Some(places.base(file, name)),
            _ => None,
        });
        places.default = first.unwrap_or(places.default);
        places
    }

    /// The path of a file in the container.
    pub fn path(&self, file: &FileMount) -> PathBuf {
        match &file.destination {
            Place::Path(path) => path.clone(),
            Place::Library(_, name) => self.base(file, name).join(name),
        }
    }

    /// The links, each with a path.
    pub fn links(&self, plan: &Plan) -> Vec<Link> {
        let link = |link: &Link| {
            let path = match &link.destination {
                Place::Path(path) => path.clone(),
                Place::Library(_, name) => self.base_of_link(&link.destination).join(name),
            };
            Link { destination: Place::Path(path), ..link.clone() }
        };
        plan.links.iter().map(link).collect()
    }

    /// The directories that the loader has to know. What is in a directory of its own below the
    /// library directory is opened by path.
    pub fn library_dirs(&self, plan: &Plan) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = Vec::new();
        for file in &plan.files {
            let is_library = matches!(file.kind, FileKind::Library { .. });
            let is_apart = matches!(&file.destination, Place::Library(_, name)
                if name.parent().is_some_and(|parent| !parent.as_os_str().is_empty()));
            if let Some(dir) = self.path(file).parent()
                && is_library
                && !is_apart
                && dirs.iter().all(|known| known != dir)
            {
                dirs.push(dir.to_owned());
            }
        }
        dirs.extend(
            plan.library_dirs.iter().filter(|dir| !dirs.contains(dir)).cloned().collect::<Vec<_>>(),
        );
        dirs
    }

    /// The library directory that a file stands in by this name.
    fn base(&self, file: &FileMount, name: &Path) -> PathBuf {
        let root = self.roots.iter().find_map(|root| file.source.strip_prefix(root).ok());
        let source = Path::new("/").join(root.unwrap_or(&file.source));
        let depth = name.components().count();
        let is_same = source.ends_with(
            name.parent().unwrap_or(Path::new("")).join(source.file_name().unwrap_or_default()),
        );
        source.ancestors().nth(if is_same { depth } else { 1 }).unwrap_or(Path::new("/")).to_owned()
    }

    /// The library directory of the file that a link finally leads to.
    fn base_of_link(&self, place: &Place) -> PathBuf {
        let mut place = place.clone();
        for _ in 0..LONGEST_CHAIN {
            if let (Some(file), Place::Library(_, name)) = (self.files.get(&place), &place) {
                return self.base(file, name);
            }
            let (Some(target), Place::Library(abi, name)) = (self.links.get(&place), &place) else {
                break;
            };
            place = Place::Library(*abi, beside(name, target));
        }
        self.default.clone()
    }
}

/// A link's target, from the directory that `name` and it are in.
fn beside(name: &Path, target: &Path) -> PathBuf {
    let parent = Path::new("/").join(name.parent().unwrap_or(Path::new("")));
    let path = joined(&parent, target);
    path.strip_prefix("/").unwrap_or(&path).to_owned()
}
