//! glibc's `/etc/ld.so.cache`, the table in which its loader looks a library name up.
//!
//! Layout (glibc's `dl-cache.h`): the file is either the new format alone, the old format alone
//! (before glibc 2.2), or the old one with the new one in its string table. A table is sorted in
//! descending `order`, because the loader does a binary search and takes the first entry of a
//! name that fits its ABI. Since glibc 2.33 sections may follow the strings: the generator's name
//! and the `glibc-hwcaps` subdirectories to which entries refer by index.
//!
//! gpurun adds one section with a tag of its own, which loader and ldconfig pass over: the file as
//! it was before. The next run begins with that one, so nothing accumulates and entries of a driver
//! that is gone do not stay; and when the container is gone it is put back. ldconfig, run in the
//! container, writes a cache without the section: that one is the container's own.

mod order;
mod read;
mod write;

use std::collections::HashSet;

use crate::gpu::plan::Abi;
pub use order::compare;

/// The tag of the section with the earlier file (`gpur`); glibc counts up from 0. The section is
/// empty where there was none, otherwise a byte of value 1 and the file.
const TAG_ORIGINAL: u32 = 0x6770_7572;
/// The tag of the section with the generator's name.
const TAG_GENERATOR: u32 = 0;
/// The tag of the section with the `glibc-hwcaps` subdirectory names.
const TAG_HWCAPS: u32 = 1;
/// The first word of the section directory.
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
/// The first bytes of the old format.
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
/// The first bytes of the new format, with its version.
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// `sizeof (struct cache_file)`.
const OLD_HEADER: usize = 16;
/// `sizeof (struct file_entry)`.
const OLD_ENTRY: usize = 12;
/// `sizeof (struct cache_file_new)`.
const NEW_HEADER: usize = 48;
/// `sizeof (struct file_entry_new)`.
const NEW_ENTRY: usize = 24;
/// `cache_file_new_flags_endian_little`.
const LITTLE_ENDIAN: u8 = 2;

/// The largest file that is read as a cache: one out of [`extend`], which holds an image's cache
/// of at most [`super::READ_LIMIT`] bytes twice, and its strings as often as they overlap.
pub const READ_LIMIT: u64 = super::READ_LIMIT * 8;

/// One name that the loader is to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What a program asks for: a SONAME or a file name.
    pub name: Vec<u8>,
    /// The file's absolute path in the container.
    pub path: Vec<u8>,
    /// The ABI, as [`flags`] gives it.
    pub flags: u32,
}

/// The cache's number for a library of this ABI on this machine (`FLAG_ELF_LIBC6` with the
/// architecture's bits). `None`: glibc's loader has no such ABI here.
#[must_use]
pub fn flags(abi: Abi) -> Option<u32> {
    match (abi, std::env::consts::ARCH) {
        (Abi::Native, "x86_64") => Some(0x0303),
        (Abi::I386, "x86_64") => Some(0x0003),
        (Abi::Native, "aarch64") => Some(0x0a03),
        _ => None,
    }
}

/// Where a cache comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Not from [`extend`], or rewritten since.
    Foreign,
    /// [`extend`] made it where there was none.
    New,
    /// [`extend`] made it out of this one.
    Extended(&'a [u8]),
}

/// Where `cache` comes from.
#[must_use]
pub fn origin(cache: &[u8]) -> Origin<'_> {
    match read::original(cache) {
        None => Origin::Foreign,
        Some([1, original @ ..]) => Origin::Extended(original),
        Some(_) => Origin::New,
    }
}

/// The cache without what [`extend`] did to it; `None`: there was none.
#[must_use]
pub fn original(cache: &[u8]) -> Option<&[u8]> {
    match origin(cache) {
        Origin::Foreign => Some(cache),
        Origin::New => None,
        Origin::Extended(original) => Some(original),
    }
}

/// Puts `add` into a cache, in front of the existing entries of the same name and ABI, and takes
/// out what an earlier call had added. Other entries keep their order. Doing it twice gives the
/// same bytes as doing it once.
///
/// A cache that is absent or that the loader would not read gives one that holds `add` alone:
/// for everything else the loader goes on to its built-in directories, as it did before.
#[must_use]
pub fn extend(existing: Option<&[u8]>, add: &[Entry]) -> Vec<u8> {
    let original = existing.and_then(original);
    let mut table = original.and_then(read::read).unwrap_or_default();
    table.original = original;
    let mut seen = HashSet::with_capacity(add.len());
    let add: Vec<&Entry> = add
        .iter()
        .filter(|entry| !entry.name.contains(&0) && !entry.path.contains(&0))
        .filter(|entry| seen.insert((&entry.name, entry.flags)))
        .collect();
    let same: HashSet<(&[u8], &[u8], u32)> =
        add.iter().map(|new| (&*new.name, &*new.path, new.flags)).collect();
    table.rows.retain(|row| !same.contains(&(row.name, row.path, row.flags)));
    let mut rows: Vec<Row<'_>> = add.into_iter().map(Row::of).collect();
    rows.append(&mut table.rows);
    // Both sorts are stable: ours stay in front within a name, the rest keeps its order. A name's
    // entries of several ABIs need no order among them, the loader compares every one's flags.
    if !rows.is_sorted_by(|a, b| compare(a.name, b.name).is_ge()) {
        rows.sort_by(|a, b| compare(b.name, a.name));
    }
    table.rows = rows;
    write::write(&table)
}

/// The names and paths in a cache, as they were before gpurun; none when the loader would not
/// read it.
#[must_use]
pub fn entries(cache: &[u8]) -> Vec<(&[u8], &[u8])> {
    let table = original(cache).and_then(read::read).unwrap_or_default();
    table.rows.iter().map(|row| (row.name, row.path)).collect()
}

/// The content of a cache.
#[derive(Debug, Default)]
struct Table<'a> {
    /// Whether the old format comes first.
    with_old: bool,
    rows: Vec<Row<'a>>,
    /// Names of `glibc-hwcaps` subdirectories; the low half of [`Row::hwcap`] may be an index.
    hwcaps: Vec<&'a [u8]>,
    generator: Option<&'a [u8]>,
    /// The file before, if there was one.
    original: Option<&'a [u8]>,
}

/// One entry of a cache.
#[derive(Debug)]
struct Row<'a> {
    name: &'a [u8],
    path: &'a [u8],
    flags: u32,
    osversion: u32,
    hwcap: u64,
}

impl<'a> Row<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self { name: &entry.name, path: &entry.path, flags: entry.flags, osversion: 0, hwcap: 0 }
    }
}

#[cfg(test)]
mod tests;
