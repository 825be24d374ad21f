//! The few facts of an ELF file that gpurun needs: its class, its machine and its `DT_SONAME`.
//!
//! At most three short reads per file (header with program headers, dynamic section, the name),
//! whatever its size. The file may hold anything: all arithmetic is checked and all lengths are bounded.
//! Layout: elf(5). Little-endian only, as are all machines that have GPU drivers.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

/// What one ELF file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 64-bit (`ELFCLASS64`) or 32-bit.
    pub is_64_bit: bool,
    /// `e_machine`, such as [`EM_X86_64`].
    pub machine: u16,
    /// `DT_SONAME`, if it has one that is a plain file name.
    pub soname: Option<String>,
}

/// `e_machine` of 32-bit x86.
pub const EM_386: u16 = 3;
/// `e_machine` of 64-bit x86.
pub const EM_X86_64: u16 = 62;
/// `e_machine` of 64-bit ARM.
pub const EM_AARCH64: u16 = 183;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

/// The header and the program headers are read together; they are near each other in practice.
const HEAD: usize = 4096;
/// No real dynamic section is larger.
const MAX_DYNAMIC: u64 = 64 * 1024;
/// No real library has more names of sections.
const MAX_SECTION_NAMES: usize = 64 * 1024;
/// `PATH_MAX`: a longer loader cannot be opened.
const MAX_INTERPRETER: u64 = 4096;
/// `NAME_MAX`: a longer SONAME cannot be a file name.
const MAX_NAME: usize = 255;

/// A file, and what kept it from being read.
struct Source<'a> {
    file: BorrowedFd<'a>,
    failed: Cell<Option<Errno>>,
}

impl<'a> Source<'a> {
    fn of(file: &'a impl AsFd) -> Self {
        Self { file: file.as_fd(), failed: Cell::new(None) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Option<usize> {
        rustix::io::pread(self.file, buffer, offset).map_err(|err| self.failed.set(Some(err))).ok()
    }
}

/// Reads the identity. `None`: not a little-endian ELF file, or it cannot be read.
pub fn identify(file: impl AsFd) -> Option<Identity> {
    identity(&Source::of(&file))
}

/// As [`identify`], where a file that cannot be read must not be taken for another kind of file.
///
/// # Errors
/// Read errors of files that can be read at any place.
pub fn read_identity(file: impl AsFd) -> io::Result<Option<Identity>> {
    let source = Source::of(&file);
    let identity = identity(&source);
    match source.failed.get() {
        // A directory, a pipe, a device, an offset that the file itself names.
        None | Some(Errno::ISDIR | Errno::SPIPE | Errno::INVAL | Errno::NXIO | Errno::AGAIN) => {
            Ok(identity)
        }
        Some(err) => Err(err.into()),
    }
}

fn identity(file: &Source<'_>) -> Option<Identity> {
    let mut head = [0; HEAD];
    let length = file.read_at(&mut head, 0)?;
    let head = head.get(..length)?;
    // e_ident: magic, class, data (1 = little-endian).
    if head.get(..4)? != b"\x7fELF" || *head.get(5)? != 1 {
        return None;
    }
    let is_64_bit = match *head.get(4)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let machine = u16_at(head, 18)?;
    let soname = soname(file, head, is_64_bit);
    Some(Identity { is_64_bit, machine, soname })
}

/// The content of the section of this name in a 64-bit file, if it has at most `limit` bytes.
pub fn section(file: impl AsFd, name: &[u8], limit: usize) -> Option<Vec<u8>> {
    const ENTRY: usize = 64;
    let file = Source::of(&file);
    let mut head = [0; ENTRY];
    let length = file.read_at(&mut head, 0)?;
    let head = head.get(..length)?;
    // e_ident: magic, 64-bit, little-endian.
    if head.get(..6)? != b"\x7fELF\x02\x01" || usize::from(u16_at(head, 58)?) != ENTRY {
        return None;
    }
    let (table, count, names) = (u64_at(head, 40)?, u16_at(head, 60)?, u16_at(head, 62)?);
    let mut headers = vec![0; usize::from(count) * ENTRY];
    let length = file.read_at(&mut headers, table)?;
    let headers = headers.get(..length)?;
    let content = |header: &[u8], limit: usize| {
        let size = usize::try_from(u64_at(header, 32)?).ok().filter(|size| *size <= limit)?;
        let mut bytes = vec![0; size];
        (file.read_at(&mut bytes, u64_at(header, 24)?)? == size).then_some(bytes)
    };
    let all = || headers.as_chunks::<ENTRY>().0.iter().map(<[u8; ENTRY]>::as_slice);
    let names = content(all().nth(names.into())?, MAX_SECTION_NAMES)?;
    let header = all().find(|header| {
        let at = u32_at(header, 0).and_then(|at| usize::try_from(at).ok());
        let text = at.and_then(|at| names.get(at..)).unwrap_or_default();
        text.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0))
    })?;
    content(header, limit)
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

/// The path of the loader that a program needs (`PT_INTERP`). `None`: it needs none, or is no
/// little-endian ELF file.
pub fn interpreter(file: impl AsFd) -> Option<String> {
    let file = Source::of(&file);
    let mut head = [0; HEAD];
    let length = file.read_at(&mut head, 0)?;
    let head = head.get(..length)?;
    if head.get(..4)? != b"\x7fELF" || *head.get(5)? != 1 {
        return None;
    }
    let wide = *head.get(4)? == 2;
    let mut apart = [0; HEAD];
    let (table, entry_size) = program_headers(&file, head, &mut apart, wide)?;
    let mut segments = table.chunks_exact(entry_size).filter_map(|entry| segment(entry, wide));
    let found = segments.find(|segment| segment.kind == PT_INTERP)?;
    let mut text = vec![0; usize::try_from(found.size.min(MAX_INTERPRETER)).ok()?];
    let length = read_again(&file, head, &mut text, found.offset)?;
    let text = text.get(..length)?;
    let text = text.get(..text.iter().position(|byte| *byte == 0)?)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

/// The table of program headers, and the size of an entry.
fn program_headers<'a>(
    file: &Source<'_>,
    head: &'a [u8],
    apart: &'a mut [u8; HEAD],
    wide: bool,
) -> Option<(&'a [u8], usize)> {
    let (table, entry_size, count) = if wide {
        (u64_at(head, 32)?, u16_at(head, 54)?, u16_at(head, 56)?)
    } else {
        (u32_at(head, 28)?.into(), u16_at(head, 42)?, u16_at(head, 44)?)
    };
    let entry_size = usize::from(entry_size);
    if entry_size < if wide { 56 } else { 32 } {
        return None;
    }
    let size = entry_size.checked_mul(count.into())?;
    if size > HEAD {
        return None;
    }
    // Usually right behind the header, hence already read.
    let start = usize::try_from(table).ok()?;
    match head.get(start..start.checked_add(size)?) {
        Some(table) => Some((table, entry_size)),
        None => {
            file.read_at(apart.get_mut(..size)?, table)?;
            Some((apart.get(..size)?, entry_size))
        }
    }
}

fn soname(file: &Source<'_>, head: &[u8], wide: bool) -> Option<String> {
    let mut apart = [0; HEAD];
    let (table, entry_size) = program_headers(file, head, &mut apart, wide)?;
    let segments = || table.chunks_exact(entry_size).filter_map(|entry| segment(entry, wide));
    let dynamic = segments().find(|segment| segment.kind == PT_DYNAMIC)?;

    let mut bytes = vec![0; usize::try_from(dynamic.size.min(MAX_DYNAMIC)).ok()?];
    let length = read_again(file, head, &mut bytes, dynamic.offset)?;
    let (mut strings, mut name) = (None, None);
    for entry in bytes.get(..length)?.chunks_exact(if wide { 16 } else { 8 }) {
        let (tag, value) = if wide {
            (u64_at(entry, 0)?, u64_at(entry, 8)?)
        } else {
            (u32_at(entry, 0)?.into(), u32_at(entry, 4)?.into())
        };
        match tag {
            DT_NULL => break,
            DT_STRTAB => strings = Some(value),
            DT_SONAME => name = Some(value),
            _ => {}
        }
    }
    // DT_STRTAB is an address: the segment that is loaded there says where it is in the file.
    let strings = strings?;
    let load = segments().find(|segment| {
        segment.kind == PT_LOAD
            && strings.checked_sub(segment.address).is_some_and(|into| into < segment.size)
    })?;
    let at = load.offset.checked_add(strings.checked_sub(load.address)?)?.checked_add(name?)?;
    let mut text = [0; MAX_NAME + 1];
    let length = read_again(file, head, &mut text, at)?;
    let text = text.get(..length)?;
    let text = std::str::from_utf8(text.get(..text.iter().position(|byte| *byte == 0)?)?).ok()?;
    is_file_name(text).then(|| text.to_owned())
}

/// Whether the text can be one component of a path in the container and nothing more.
fn is_file_name(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

fn segment(entry: &[u8], wide: bool) -> Option<Segment> {
    let kind = u32_at(entry, 0)?;
    Some(if wide {
        Segment {
            kind,
            offset: u64_at(entry, 8)?,
            address: u64_at(entry, 16)?,
            size: u64_at(entry, 32)?,
        }
    } else {
        Segment {
            kind,
            offset: u32_at(entry, 4)?.into(),
            address: u32_at(entry, 8)?.into(),
            size: u32_at(entry, 16)?.into(),
        }
    })
}

/// As [`read_at`], from the `head` of the file where that has all of it: in a library without a
/// large symbol table the names are there.
fn read_again(file: &Source<'_>, head: &[u8], buffer: &mut [u8], offset: u64) -> Option<usize> {
    let start = usize::try_from(offset).ok();
    let end = start.and_then(|start| start.checked_add(buffer.len()));
    match start.zip(end).and_then(|(start, end)| head.get(start..end)) {
        Some(known) => {
            buffer.copy_from_slice(known);
            Some(known.len())
        }
        None => file.read_at(buffer, offset),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{Scratch, elf};

    fn identify_bytes(bytes: &[u8]) -> Option<Identity> {
        let scratch = Scratch::new();
        scratch.write("file", bytes);
        identify(std::fs::File::open(scratch.path().join("file")).unwrap())
    }

    #[test]
    fn the_soname_of_both_classes_is_read() {
        let wide = identify_bytes(&elf(true, EM_X86_64, Some("libcuda.so.1"))).unwrap();
        assert_eq!(wide.soname.as_deref(), Some("libcuda.so.1"));
        assert!(wide.is_64_bit && wide.machine == EM_X86_64);
        let narrow = identify_bytes(&elf(false, EM_386, Some("libcuda.so.1"))).unwrap();
        assert_eq!(narrow.soname.as_deref(), Some("libcuda.so.1"));
        assert!(!narrow.is_64_bit && narrow.machine == EM_386);
        assert_eq!(identify_bytes(&elf(true, EM_X86_64, None)).unwrap().soname, None);
    }

    #[test]
    fn a_soname_that_is_no_file_name_is_not_taken() {
        for name in ["../../etc/passwd", "..", "a b", ""] {
            let identity = identify_bytes(&elf(true, EM_X86_64, Some(name))).unwrap();
            assert_eq!(identity.soname, None, "{name:?}");
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_survived() {
        let good = elf(true, EM_X86_64, Some("libcuda.so.1"));
        let scratch = Scratch::new();
        for length in 0..good.len() {
            scratch.write("file", &good[..length]);
            identify(std::fs::File::open(scratch.path().join("file")).unwrap());
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] = 0xff;
            scratch.write("file", &bad);
            identify(std::fs::File::open(scratch.path().join("file")).unwrap());
        }
        assert_eq!(identify_bytes(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn a_real_library_is_identified() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let candidates =
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"];
        let mapped = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let Some(path) = candidates
            .into_iter()
            .chain(mapped)
            .find(|path| path.ends_with("libc.so.6") && std::path::Path::new(path).exists())
        else {
            println!("skipped: no libc.so.6 on this machine");
            return;
        };
        let identity = identify(std::fs::File::open(path).unwrap()).unwrap();
        assert_eq!(identity.soname.as_deref(), Some("libc.so.6"));
    }
}
