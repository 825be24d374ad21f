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

use rustix::fs::{FileType, Stat, makedev};

/// What was created, in as much detail as it takes to tell it from what a container has put in its
/// place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created<'a> {
    /// An empty directory used as a mount point or as the parent of one.
    Dir,
    /// An empty regular file used as a mount point.
    MountPoint,
    /// A symbolic link with this text. Journals of older versions do not tell it.
    Link(Option<&'a OsStr>),
    /// A file with content that is gpurun's own.
    File,
    /// This device node. Journals of older versions do not tell which.
    Node(Option<Device>),
}

/// A device node, or a FIFO (0:0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its type.
    pub kind: FileType,
    /// Its number.
    pub major: u32,
    /// Its number.
    pub minor: u32,
}

/// The letters of the types.
const KINDS: [(&str, FileType); 3] =
    [("c", FileType::CharacterDevice), ("b", FileType::BlockDevice), ("p", FileType::Fifo)];

impl Device {
    /// Whether `stat` is of this device.
    #[must_use]
    pub fn is(&self, stat: &Stat) -> bool {
        FileType::from_raw_mode(stat.st_mode) == self.kind
            && (self.kind == FileType::Fifo || stat.st_rdev == makedev(self.major, self.minor))
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
    pub fn record(&mut self, kind: Created<'_>, path: &Path) -> io::Result<()> {
        let Some(file) = &mut self.0 else {
            return Ok(());
        };
        // One write per record: a record is either there as a whole or not at all.
        file.write_all(&record(kind, path))
    }

    /// The records in the bytes of a journal file, in the order in which they were made. What is
    /// damaged, or was cut off in the middle, is left out.
    pub fn records(bytes: &[u8]) -> impl Iterator<Item = (Created<'_>, &Path)> {
        let whole = bytes.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        bytes.get(..whole).unwrap_or_default().split(|byte| *byte == 0).filter_map(parse)
    }
}

/// A letter, what tells the thing from others, and the path; NUL ends it, because a path and a
/// link's text may contain any other byte.
pub(super) fn record(kind: Created<'_>, path: &Path) -> Vec<u8> {
    let mut record = match kind {
        Created::Dir => b"d ".to_vec(),
        Created::MountPoint => b"m ".to_vec(),
        Created::File => b"f ".to_vec(),
        Created::Link(None) => b"l ".to_vec(),
        Created::Link(Some(text)) => {
            [format!("L {} ", text.len()).as_bytes(), text.as_bytes()].concat()
        }
        Created::Node(None) => b"n ".to_vec(),
        Created::Node(Some(Device { kind, major, minor })) => {
            let letter = KINDS.iter().find(|(_, it)| *it == kind).map_or("", |(letter, _)| letter);
            format!("N {letter} {major} {minor} ").into_bytes()
        }
    };
    record.extend_from_slice(path.as_os_str().as_bytes());
    record.push(0);
    record
}

/// The reverse of [`record`].
fn parse(record: &[u8]) -> Option<(Created<'_>, &Path)> {
    let (letter, mut rest) = field(record)?;
    let kind = match letter {
        "d" => Created::Dir,
        "m" => Created::MountPoint,
        "f" => Created::File,
        "l" => Created::Link(None),
        "L" => {
            let (length, after) = field(rest)?;
            let (text, path) = after.split_at_checked(length.parse().ok()?)?;
            rest = path;
            Created::Link(Some(OsStr::from_bytes(text)))
        }
        "n" => Created::Node(None),
        "N" => {
            let (letter, after) = field(rest)?;
            let (major, after) = field(after)?;
            let (minor, path) = field(after)?;
            rest = path;
            let kind = KINDS.iter().find(|(it, _)| *it == letter)?.1;
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Created::Node(Some(Device { kind, major, minor }))
        }
        _ => return None,
    };
    Some((kind, Path::new(OsStr::from_bytes(rest))))
}

/// What stands before the first blank, and what comes after it.
fn field(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (field, rest) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == b' ')?)?;
    Some((std::str::from_utf8(field).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_those_of_older_versions_are_known() {
        let device = |kind, major, minor| Created::Node(Some(Device { kind, major, minor }));
        let odd = OsStr::new("a b\n/c");
        let records = [
            (Created::Dir, "/d"),
            (Created::MountPoint, "/m\nx"),
            (Created::File, "/f"),
            (Created::Link(Some(odd)), "/a link"),
            (Created::Link(Some(OsStr::new(""))), "/l"),
            (device(FileType::CharacterDevice, 195, 0), "/dev/nvidia0"),
            (device(FileType::BlockDevice, 8, 1), "/dev/a b"),
            (device(FileType::Fifo, 0, 0), "/dev/p"),
            (Created::Link(None), "/old"),
            (Created::Node(None), "/old"),
        ];
        let bytes: Vec<u8> =
            records.iter().flat_map(|(kind, path)| record(*kind, Path::new(path))).collect();
        let expected = records.iter().map(|(kind, path)| (*kind, Path::new(*path)));
        assert!(Journal::records(&bytes).eq(expected));
        let old = Journal::records(b"l /x y\0n /dev/z\0L 9 short\0N q 1 1 /x\0N c 1 /x\0L x\0");
        let known = [(Created::Link(None), "/x y"), (Created::Node(None), "/dev/z")];
        assert!(old.eq(known.map(|(kind, path)| (kind, Path::new(path)))));
    }
}
