//! Single files of a driver that is not arranged as PCI GPUs' is: on WSL2 and on Tegra they are
//! named one by one, and keep their paths.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::error::Error;
use crate::gpu::plan::{Abi, FileKind, FileMount, Place};
use crate::host::elf;
use crate::host::tree::{Found, Tree};

/// The driver's root, and where it really is.
#[derive(Debug)]
pub struct Root {
    /// The root.
    pub tree: Tree,
    real: PathBuf,
}

impl Root {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let tree = Tree::open(path)?;
        let real = tree.find(".")?.map_or_else(|| path.to_owned(), |found| found.path);
        Ok(Self { tree, real })
    }

    /// The path in a container of a file that was found.
    pub fn inside(&self, found: &Found) -> PathBuf {
        Path::new("/").join(found.path.strip_prefix(&self.real).unwrap_or(&found.path))
    }

    /// A file or directory at its own path, links resolved. `None`: there is none.
    pub fn mount(&self, path: &Path, why: &str) -> Result<Option<FileMount>, Error> {
        let Some(found) = self.tree.find(path)? else {
            return Ok(None);
        };
        let kind = match found.status.kind {
            FileType::Directory => FileKind::Binary,
            FileType::RegularFile => self.kind(&found, path)?,
            FileType::Socket => FileKind::Ipc,
            _ => return Ok(None),
        };
        Ok(Some(FileMount {
            destination: Place::Path(self.inside(&found)),
            source: found.path,
            kind,
            why: why.to_owned(),
        }))
    }

    fn kind(&self, found: &Found, path: &Path) -> Result<FileKind, Error> {
        let name = found.path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with("lib") && name.contains(".so")) {
            // Not known to be without code: some of it is mapped and run by other programs.
            return Ok(FileKind::Binary);
        }
        let identity = self.tree.open_file(path)?.and_then(elf::identify);
        let library = identity.and_then(|identity| Some((Abi::of(&identity)?, identity.soname)));
        Ok(match library {
            Some((abi, soname)) => FileKind::Library { soname, abi },
            None => FileKind::Binary,
        })
    }
}
