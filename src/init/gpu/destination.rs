//! Where the plan's places are in this container.

use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType};

use crate::gpu::loader::layout::{Layout, Seen};
use crate::gpu::plan::Place;
use crate::init::root::Root;

/// Turns a [`Place`] into a path of the container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destinations {
    /// The image's arrangement of library directories.
    pub layout: Layout,
}

impl Destinations {
    /// Looks at the image. What cannot be looked at counts as absent; it fails where it is used.
    pub fn detect(root: &Root) -> Self {
        let layout = Layout::decide(|path| {
            let Ok(fd) = root.resolve_nofollow(Path::new(path)) else {
                return Seen::Nothing;
            };
            match fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Ok(FileType::Directory) => Seen::Directory,
                Ok(FileType::Symlink) => Seen::Link,
                Ok(_) => Seen::Other,
                Err(_) => Seen::Nothing,
            }
        });
        Self { layout }
    }

    /// The absolute path of `place` in the container.
    pub fn path(&self, place: &Place) -> PathBuf {
        match place {
            Place::Path(path) => Path::new("/").join(path),
            // `join` with an absolute path would leave the directory.
            Place::Library(abi, name) => {
                self.layout.library_dir(*abi).join(name.strip_prefix("/").unwrap_or(name))
            }
        }
    }
}
