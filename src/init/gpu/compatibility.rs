//! Libraries of the image that are newer than the host's driver and take the place of its own.
//!
//! The files are the image's, so they are hostile: they are found inside the root, read with
//! bounds and never executed here.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir};

use super::loader::Found;
use crate::gpu::compatibility::{self, Note};
use crate::gpu::plan::{Abi, Compatibility};
use crate::host::elf;
use crate::init::root::Root;
use crate::reopen;

/// The directory holds some ten files.
const MOST_ENTRIES: usize = 1000;

/// The libraries in the directory, if they are to be used. Anything that is not as it should be
/// means that they are not.
pub(super) fn libraries(asked: &Compatibility, root: &Root) -> Vec<Found> {
    wanted(asked, root).unwrap_or_default()
}

fn wanted(asked: &Compatibility, root: &Root) -> Option<Vec<Found>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = root.open_in(&asked.directory, flags, Mode::empty()).ok()?;
    let names = regular_files(&dir)?;
    let mut versions = names.iter().filter_map(|name| {
        let version = name.strip_prefix("libcuda.so.")?;
        version.contains('.').then_some((name, version))
    });
    let (Some((name, version)), None) = (versions.next(), versions.next()) else {
        return None;
    };
    let note = elf::section(open(&dir, name)?, compatibility::SECTION, compatibility::LONGEST_NOTE);
    let note = note.as_deref().and_then(Note::from_section);
    if !compatibility::is_wanted(asked, version, note.as_ref()) {
        return None;
    }
    let found = names.iter().filter_map(|name| {
        let identity = elf::identify(open(&dir, name)?)?;
        let path = asked.directory.join(name);
        identity.is_64_bit.then_some(Found { path, soname: identity.soname, abi: Abi::Native })
    });
    Some(found.collect())
}

/// The regular files called like libraries, sorted.
fn regular_files(dir: &OwnedFd) -> Option<Vec<String>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.ok()?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with("lib") || !name.contains(".so") || names.len() >= MOST_ENTRIES {
            continue;
        }
        let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Some(names)
}

/// Opens a regular file for reading. What else has the name by now is not opened, for that alone
/// does something to a device or to whoever waits at a FIFO.
fn open(dir: &OwnedFd, name: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = fs::openat(dir, name, flags, Mode::empty()).ok()?;
    let found = FileType::from_raw_mode(fs::fstat(&handle).ok()?.st_mode);
    if found == FileType::RegularFile { reopen::readable(&handle).ok()? } else { None }
}
