//! [`Table`] → bytes of a cache.

use super::{
    EXTENSION_MAGIC, LITTLE_ENDIAN, NEW_ENTRY, NEW_HEADER, NEW_MAGIC, OLD_ENTRY, OLD_HEADER,
    OLD_MAGIC, Row, TAG_GENERATOR, TAG_HWCAPS, TAG_ORIGINAL, Table,
};

/// Writes a cache in the form in which ldconfig would: the old format first if the table had it,
/// strings shared between a path and the name at its end.
pub(super) fn write(table: &Table<'_>) -> Vec<u8> {
    let rows = &table.rows;
    let first_string = NEW_HEADER + rows.len() * NEW_ENTRY;
    let mut strings = Strings { base: first_string, bytes: Vec::new() };
    let places: Vec<Place> = rows.iter().map(|row| strings.put_row(row)).collect();
    let hwcaps: Vec<u32> = table.hwcaps.iter().map(|name| strings.put(name)).collect();

    let mut out = Vec::with_capacity(first_string * 2 + strings.bytes.len());
    if table.with_old {
        write_old(&mut out, rows, &places, first_string);
    }
    let base = out.len();
    let unaligned = base + first_string + strings.bytes.len();
    let sections = unaligned.next_multiple_of(4);

    out.extend_from_slice(NEW_MAGIC);
    put(&mut out, rows.len());
    put(&mut out, strings.bytes.len());
    out.extend_from_slice(&[LITTLE_ENDIAN, 0, 0, 0]);
    put(&mut out, sections);
    out.extend_from_slice(&[0; 12]);
    for (row, place) in rows.iter().zip(&places) {
        for word in [row.flags, place.name, place.path, row.osversion] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&row.hwcap.to_le_bytes());
    }
    out.extend_from_slice(&strings.bytes);
    out.resize(sections, 0);

    let original = table.original.map(|file| [&[1], file].concat()).unwrap_or_default();
    write_sections(
        &mut out,
        &[
            // The words come first, so that they are aligned.
            (TAG_HWCAPS, (!hwcaps.is_empty()).then(|| words(hwcaps))),
            (TAG_GENERATOR, table.generator.map(<[u8]>::to_vec)),
            (TAG_ORIGINAL, Some(original)),
        ],
    );
    out
}

/// Writes the old format's table. Its strings are the new format's: they begin where this table
/// ends, which is where the new header will be, so the offsets are the same.
fn write_old(out: &mut Vec<u8>, rows: &[Row<'_>], places: &[Place], first_string: usize) {
    debug_assert!(places.iter().all(|place| place.path as usize >= first_string));
    // Entries for optional hardware are only in the new format.
    let mut old: Vec<(u32, &Place)> = rows
        .iter()
        .zip(places)
        .filter(|(row, _)| row.hwcap == 0)
        .map(|(row, place)| (row.flags, place))
        .collect();
    // With an even number the new header is aligned for 32- and 64-bit readers alike.
    if old.len() % 2 == 1 {
        old.extend(old.last().copied());
    }
    out.extend_from_slice(OLD_MAGIC);
    out.push(0);
    put(out, old.len());
    debug_assert_eq!(out.len(), OLD_HEADER);
    for (flags, place) in &old {
        for word in [*flags, place.name, place.path] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    debug_assert_eq!(out.len(), OLD_HEADER + old.len() * OLD_ENTRY);
}

/// Writes the section directory at the end of `out`, and the sections after it.
fn write_sections(out: &mut Vec<u8>, sections: &[(u32, Option<Vec<u8>>)]) {
    let present: Vec<(u32, &Vec<u8>)> =
        sections.iter().filter_map(|(tag, data)| Some((*tag, data.as_ref()?))).collect();
    let mut offset = out.len() + 8 + present.len() * 16;
    out.extend_from_slice(&EXTENSION_MAGIC.to_le_bytes());
    put(out, present.len());
    for (tag, data) in &present {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        put(out, offset);
        put(out, data.len());
        offset += data.len();
    }
    for (_, data) in &present {
        out.extend_from_slice(data);
    }
}

/// Where the two strings of a row are, from the new header.
struct Place {
    name: u32,
    path: u32,
}

/// The string table under construction.
struct Strings {
    base: usize,
    bytes: Vec<u8>,
}

impl Strings {
    fn put(&mut self, text: &[u8]) -> u32 {
        let offset = clamp(self.base + self.bytes.len());
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        offset
    }

    fn put_row(&mut self, row: &Row<'_>) -> Place {
        let path = self.put(row.path);
        let name = if row.path.ends_with(row.name) {
            path.saturating_add(clamp(row.path.len() - row.name.len()))
        } else {
            self.put(row.name)
        };
        Place { name, path }
    }
}

/// Appends a count or an offset. The reader's limits keep all of them far below 4 GiB.
fn put(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&clamp(value).to_le_bytes());
}

fn clamp(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_le_bytes).collect()
}
