//! The loader's files of an image, with anything in them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::cache::{self, Entry, Origin};
use super::{READ_LIMIT, conf, musl};
use crate::fuzzing::{Choices, Target};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "ld_so_cache", run: ld_so_cache },
    Target { name: "ld_so_conf", run: ld_so_conf },
    Target { name: "musl_path", run: musl_path },
    Target { name: "library_order", run: library_order },
];

/// Up to eight libraries to add, then the image's cache.
fn ld_so_cache(data: &[u8]) {
    let mut choices = Choices(data);
    let count = choices.byte() % 8;
    let add: Vec<Entry> = (0..count)
        .map(|_| Entry {
            name: choices.bytes().to_vec(),
            path: choices.bytes().to_vec(),
            flags: choices.one(&[0x0303, 0x0003, 0]),
        })
        .collect();
    let image = choices.0;
    let made = cache::extend(Some(image), &add);

    let table = loader::read(&made);
    for window in table.windows(2) {
        assert!(cache::compare(window[0].name, window[1].name).is_ge(), "not sorted");
    }
    let usable = |entry: &&Entry| !entry.name.contains(&0) && !entry.path.contains(&0);
    for entry in add.iter().filter(usable) {
        // glibc takes two names for one when only zeros before a number differ.
        let first = add.iter().filter(usable).find(|other| {
            cache::compare(&other.name, &entry.name).is_eq() && other.flags == entry.flags
        });
        assert_eq!(loader::look_up(&table, &entry.name, entry.flags), first.map(|e| &*e.path));
    }
    let before = cache::original(image);
    assert_eq!(cache::original(&made), before);
    assert_ne!(cache::origin(&made), Origin::Foreign);
    assert_eq!(cache::extend(Some(&made), &add), made, "not the same the second time");
    assert_eq!(cache::extend(before, &add), made, "it depends on the run before");
    // What was there stays, in its order.
    let mut kept = cache::entries(image)
        .into_iter()
        .filter(|row| !add.iter().filter(usable).any(|entry| (&*entry.name, &*entry.path) == *row));
    let mut left = kept.next();
    let ours = |row: &&loader::Row<'_>| {
        !add.iter().any(|e| (&*e.name, &*e.path, e.flags) == (row.name, row.path, row.flags))
    };
    let mut rows: Vec<_> = table.iter().filter(ours).map(|row| (row.name, row.path)).collect();
    if cache::entries(image).is_sorted_by(|a, b| cache::compare(a.0, b.0).is_ge()) {
        for row in &rows {
            if left == Some(*row) {
                left = kept.next();
            }
        }
        assert_eq!(left, None, "an entry of the image is gone or elsewhere");
    } else {
        let mut all: Vec<_> = left.into_iter().chain(kept).collect();
        all.sort_unstable();
        rows.sort_unstable();
        assert!(all.iter().all(|row| rows.binary_search(row).is_ok()), "an entry is gone");
    }
    // The next run, and `delete`, must be able to read it.
    let added: usize = add.iter().map(|entry| entry.name.len() + entry.path.len() + 40).sum();
    let most = (cache::READ_LIMIT / READ_LIMIT) as usize * before.map_or(0, <[u8]>::len);
    assert!(made.len() <= most + added + 4096, "{} bytes became {}", image.len(), made.len());
}

/// What glibc's loader makes of a cache (`dl-cache.c`, 2.41), written after it and not after the
/// code beside this one. Panics where the loader would refuse the file.
mod loader {
    use std::cmp::Ordering;

    use crate::gpu::loader::cache::compare;

    pub struct Row<'a> {
        pub name: &'a [u8],
        pub path: &'a [u8],
        pub flags: u32,
    }

    fn word(file: &[u8], at: usize) -> usize {
        u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize
    }

    fn string(file: &[u8], at: usize) -> &[u8] {
        let length = file[at..].iter().position(|byte| *byte == 0).expect("a string ends");
        &file[at..at + length]
    }

    pub fn read(file: &[u8]) -> Vec<Row<'_>> {
        let mut base = 0;
        if file.starts_with(b"ld.so-1.7.0\0") {
            let count = word(file, 12);
            base = (16 + count * 12).next_multiple_of(8);
            let end = 16 + count * 12;
            for at in (16..end).step_by(12) {
                string(file, end + word(file, at + 4));
                string(file, end + word(file, at + 8));
            }
        }
        let new = &file[base..];
        assert!(new.starts_with(b"glibc-ld.so.cache1.1"), "no new format");
        assert_eq!(new[28], 2, "not marked as little-endian");
        let extensions = word(new, 32);
        assert!(extensions.is_multiple_of(4) && word(file, extensions) == 0xeaa4_2174);
        for at in 0..word(file, extensions + 4) {
            let section = extensions + 8 + at * 16;
            let (tag, flags) = (word(file, section), word(file, section + 4));
            let end = word(file, section + 8) + word(file, section + 12);
            assert!(end <= file.len() && flags == 0, "a section outside of the file");
            assert!(tag != 1 || word(file, section + 8).is_multiple_of(4), "indexes not aligned");
        }
        let entries = (0..word(new, 20)).map(|at| 48 + at * 24);
        entries
            .map(|at| Row {
                flags: word(new, at) as u32,
                name: string(new, word(new, at + 4)),
                path: string(new, word(new, at + 8)),
            })
            .collect()
    }

    /// The binary search for the first entry of the name, then the first of the ABI.
    pub fn look_up<'a>(table: &[Row<'a>], name: &[u8], flags: u32) -> Option<&'a [u8]> {
        let first = table.partition_point(|row| compare(row.name, name) == Ordering::Greater);
        table[first..]
            .iter()
            .take_while(|row| compare(row.name, name) == Ordering::Equal)
            .find(|row| row.flags == flags)
            .map(|row| row.path)
    }
}

fn ld_so_conf(data: &[u8]) {
    let mut choices = Choices(data);
    let dirs = [choices.bytes(), choices.bytes()].map(|dir| Path::new(OsStr::from_bytes(dir)));
    let image = choices.0;
    if let Some(more) = conf::including(Some(image)) {
        assert!(more.ends_with(image) && more.len() <= image.len() + 64);
        assert_eq!(conf::including(Some(&more)), None, "included twice");
    }
    let made = conf::drop_in(dirs);
    // Nothing but comments and whole names of directories that were given.
    for line in made.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let is_given = dirs.iter().any(|dir| dir.as_os_str().as_bytes() == line);
        assert!(line.starts_with(b"# ") || is_given, "{:?}", line.escape_ascii().to_string());
    }
}

fn musl_path(data: &[u8]) {
    let mut choices = Choices(data);
    let dirs = [choices.bytes(), choices.bytes()].map(|dir| Path::new(OsStr::from_bytes(dir)));
    let image = choices.0;
    let before = [Some(image), None];
    for existing in before {
        let Some(made) = musl::extended(existing, dirs) else { continue };
        assert!(existing.is_none_or(|image| made.starts_with(image)));
        assert_eq!(musl::extended(Some(&made), dirs), None, "extended twice");
        assert!(existing.is_some() || musl::is_own(&made));
        let is_separator = |byte: &u8| matches!(byte, b'\n' | b':');
        let names: Vec<&[u8]> = made.split(is_separator).collect();
        for dir in dirs.map(|dir| dir.as_os_str().as_bytes()) {
            assert!(dir.iter().any(is_separator) || names.contains(&dir));
        }
    }
}

/// What is sorted by it must be an order, or sorting may panic.
fn library_order(data: &[u8]) {
    let mut names = data
        .splitn(3, |byte| *byte == b'\n')
        .map(|name| name.split(|byte| *byte == 0).next().unwrap_or_default());
    let [a, b, c] = [(); 3].map(|()| names.next().unwrap_or_default());
    let compare = cache::compare;
    assert!(compare(a, a).is_eq());
    assert_eq!(compare(a, b), compare(b, a).reverse());
    if compare(a, b).is_le() && compare(b, c).is_le() {
        assert!(compare(a, c).is_le(), "not transitive");
    }
    if compare(a, b).is_eq() && compare(b, c).is_eq() {
        assert!(compare(a, c).is_eq(), "not transitive");
    }
}
