//! The list of what had to be created in the rootfs.
//!
//! A container's image is left as it was found: every mount point, link or file that gpurun has
//! to create in it is written down here *before* it is created, so that `delete` can take it away
//! again, also after a crash at any moment. The journal is an append-only file in the state
//! directory, opened by the parent and inherited by the init.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// An empty directory used as a mount point or as the parent of one.
    Dir,
    /// An empty regular file used as a mount point.
    MountPoint,
    /// A symbolic link.
    Link,
    /// A file with content that is gpurun's own.
    File,
    /// A device node.
    Node,
}

impl Created {
    /// The letter that stands for the kind in the journal file.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Dir => 'd',
            Self::MountPoint => 'm',
            Self::Link => 'l',
            Self::File => 'f',
            Self::Node => 'n',
        }
    }

    /// The reverse of [`Created::letter`].
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Self> {
        [Self::Dir, Self::MountPoint, Self::Link, Self::File, Self::Node]
            .into_iter()
            .find(|kind| kind.letter() == letter)
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal(Option<File>);

impl Journal {
    /// Writes to `file`, which must have been opened for appending.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self(Some(file))
    }

    /// A journal that forgets, for what nobody has to clean up (a tmpfs of the container).
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Notes that `path` (absolute inside the container) is about to be created.
    ///
    /// # Errors
    /// When the state directory cannot be written; the caller must then not create anything.
    pub fn record(&mut self, kind: Created, path: &Path) -> io::Result<()> {
        let Some(file) = &mut self.0 else {
            return Ok(());
        };
        // One write per record: a record is either there as a whole or not at all. NUL ends a
        // record because a path may contain any other byte.
        let mut record = Vec::with_capacity(path.as_os_str().len() + 3);
        record.push(kind.letter() as u8);
        record.push(b' ');
        record.extend_from_slice(path.as_os_str().as_bytes());
        record.push(0);
        file.write_all(&record)
    }

    /// The records in the bytes of a journal file, in the order in which they were made. What is
    /// damaged, or was cut off in the middle, is left out.
    pub fn records(bytes: &[u8]) -> impl Iterator<Item = (Created, &Path)> {
        let whole = bytes.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        bytes.get(..whole).unwrap_or_default().split(|byte| *byte == 0).filter_map(|record| {
            let (letter, rest) = record.split_first()?;
            let path = rest.strip_prefix(b" ")?;
            let kind = Created::from_letter(char::from(*letter))?;
            Some((kind, Path::new(OsStr::from_bytes(path))))
        })
    }
}
