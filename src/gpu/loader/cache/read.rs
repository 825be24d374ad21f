//! Bytes of an image's cache → [`Table`]. Every offset is checked; what does not fit is left out.

use super::{
    EXTENSION_MAGIC, LITTLE_ENDIAN, NEW_ENTRY, NEW_HEADER, NEW_MAGIC, OLD_ENTRY, OLD_HEADER,
    OLD_MAGIC, Row, TAG_GENERATOR, TAG_HWCAPS, TAG_ORIGINAL, Table,
};

/// The longest string that is taken over: `PATH_MAX`.
const LONGEST_STRING: usize = 4096;
/// How many names of hwcaps subdirectories are taken over; glibc itself knows fewer than ten.
const MOST_HWCAPS: usize = 1024;

/// Reads a cache. `None`: the loader would not accept it, or its strings overlap so much that
/// writing them out would take far more room than the file.
pub(super) fn read(file: &[u8]) -> Option<Table<'_>> {
    if let Some(base) = new_header(file) {
        let table = read_new(file, base)?;
        return Some(Table { with_old: base != 0, ..table });
    }
    let (count, strings) = old_size(file)?;
    let mut budget = Budget::of(file);
    let mut rows = Vec::with_capacity(count);
    for entry in file.get(OLD_HEADER..strings)?.as_chunks::<OLD_ENTRY>().0 {
        let names =
            (string(file, strings, word(entry, 4)?), string(file, strings, word(entry, 8)?));
        let (Some(name), Some(path)) = names else {
            continue;
        };
        budget.take(name.len() + path.len() + 2)?;
        rows.push(Row { name, path, flags: word(entry, 0)?, osversion: 0, hwcap: 0 });
    }
    Some(Table { with_old: true, rows, ..Table::default() })
}

/// The section that gpurun adds. `None`: there is none.
pub(super) fn original(file: &[u8]) -> Option<&[u8]> {
    let header = file.get(new_header(file)?..)?;
    Sections::read(file, word(header, 32)? as usize).get(TAG_ORIGINAL)
}

/// Where the header of the new format is, if the file has that format.
fn new_header(file: &[u8]) -> Option<usize> {
    if file.starts_with(NEW_MAGIC) {
        return Some(0);
    }
    let (_, strings) = old_size(file)?;
    let new = strings.checked_next_multiple_of(8)?;
    file.get(new..)?.starts_with(NEW_MAGIC).then_some(new)
}

/// The number of entries in the old format and where its strings begin.
fn old_size(file: &[u8]) -> Option<(usize, usize)> {
    if !file.starts_with(OLD_MAGIC) {
        return None;
    }
    let count = word(file, 12)? as usize;
    let strings = OLD_HEADER.checked_add(count.checked_mul(OLD_ENTRY)?)?;
    (strings <= file.len()).then_some((count, strings))
}

/// Reads the new format, whose header is at `base`. Strings count from there, sections from the
/// start of the file.
fn read_new(file: &[u8], base: usize) -> Option<Table<'_>> {
    let header = file.get(base..base.checked_add(NEW_HEADER)?)?;
    // 0: written before glibc 2.33, which did not say.
    if !matches!(*header.get(28)? & 3, 0 | LITTLE_ENDIAN) {
        return None;
    }
    let count = word(header, 20)? as usize;
    let start = base + NEW_HEADER;
    let end = start.checked_add(count.checked_mul(NEW_ENTRY)?)?;
    let entries = file.get(start..end)?;
    let sections = Sections::read(file, word(header, 32)? as usize);
    let mut budget = Budget::of(file);
    let mut table = Table::default();
    table.rows.reserve(count);
    for entry in entries.as_chunks::<NEW_ENTRY>().0 {
        let names = (string(file, base, word(entry, 4)?), string(file, base, word(entry, 8)?));
        let (Some(name), Some(path)) = names else {
            continue;
        };
        budget.take(name.len() + path.len() + 2)?;
        table.rows.push(Row {
            name,
            path,
            flags: word(entry, 0)?,
            osversion: word(entry, 12)?,
            hwcap: u64::from(word(entry, 16)?) | u64::from(word(entry, 20)?) << 32,
        });
    }
    for offset in sections.words(TAG_HWCAPS).take(MOST_HWCAPS) {
        // An index must stay what it was, so a bad name becomes one that matches nothing.
        let name = string(file, base, offset).unwrap_or_default();
        budget.take(name.len() + 1)?;
        table.hwcaps.push(name);
    }
    table.generator = sections.get(TAG_GENERATOR).filter(|text| text.len() <= LONGEST_STRING);
    Some(table)
}

/// The sections after the strings.
struct Sections<'a> {
    file: &'a [u8],
    directory: &'a [u8],
}

impl<'a> Sections<'a> {
    /// Reads the directory at `offset`; one that is absent or damaged counts as empty.
    fn read(file: &'a [u8], offset: usize) -> Self {
        let directory = (|| {
            if offset == 0 || word(file, offset)? != EXTENSION_MAGIC {
                return None;
            }
            let count = word(file, offset.checked_add(4)?)? as usize;
            let start = offset.checked_add(8)?;
            file.get(start..start.checked_add(count.checked_mul(16)?)?)
        })();
        Self { file, directory: directory.unwrap_or_default() }
    }

    fn get(&self, tag: u32) -> Option<&'a [u8]> {
        // A cache has two or three; more is nothing that ldconfig wrote.
        self.directory.as_chunks::<16>().0.iter().take(64).find_map(|section| {
            let (offset, size) = (word(section, 8)? as usize, word(section, 12)? as usize);
            (word(section, 0)? == tag).then(|| self.file.get(offset..offset.checked_add(size)?))?
        })
    }

    fn words(&self, tag: u32) -> impl Iterator<Item = u32> + 'a {
        let section = self.get(tag).unwrap_or_default();
        section.as_chunks::<4>().0.iter().map(|chunk| u32::from_le_bytes(*chunk))
    }
}

/// How many bytes of strings, with their NULs, may still be taken over.
struct Budget(usize);

impl Budget {
    /// ldconfig shares a string at most between a name and its path, so the strings of an honest
    /// cache, written out, are less than twice the file. With the entries, which grow to three
    /// times their size, and the file itself, three times make seven: [`super::READ_LIMIT`] is
    /// eight.
    fn of(file: &[u8]) -> Self {
        Self(file.len().saturating_mul(3))
    }

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }
}

/// The little-endian word at `offset`.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The string at `offset` from `base`, without its NUL; `None` when empty, too long or not ended.
fn string(file: &[u8], base: usize, offset: u32) -> Option<&[u8]> {
    let rest = file.get(base.checked_add(offset as usize)?..)?;
    let end = rest.iter().take(LONGEST_STRING).position(|byte| *byte == 0)?;
    rest.get(..end).filter(|text| !text.is_empty())
}
