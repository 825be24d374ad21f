//! Reading and writing one file of a cgroup.
//!
//! A file is opened for each use and never created: what is not there is a controller that is not
//! there. Every error names the file, a write error the value as well.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use super::CgroupError;

/// More than any file of a cgroup that gpurun reads, except `cgroup.procs` of a huge cgroup.
const READ_AT_ONCE: usize = 4096;

/// The content of `name` in `dir`.
pub(super) fn read(dir: &Path, name: &str) -> Result<String, CgroupError> {
    read_path(&dir.join(name))
}

/// The content of `file`.
pub(super) fn read_path(file: &Path) -> Result<String, CgroupError> {
    read_all(File::open(file), file)
}

fn read_all(open: std::io::Result<File>, file: &Path) -> Result<String, CgroupError> {
    let failed = |source| CgroupError::Read { file: file.to_owned(), source };
    let mut text = Vec::with_capacity(READ_AT_ONCE);
    open.map_err(failed)?.read_to_end(&mut text).map_err(failed)?;
    String::from_utf8(text).map_err(|err| failed(std::io::Error::other(err)))
}

/// The content of `name` in the cgroup that a descriptor is on; `place` is for errors.
pub(super) fn read_in(
    dir: BorrowedFd<'_>,
    place: &Path,
    name: &str,
) -> Result<String, CgroupError> {
    let open = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    read_all(open.map(File::from).map_err(Into::into), &place.join(name))
}

/// The processes of one cgroup alone, whose files `read` reads.
pub(super) fn pids(
    read: impl Fn(&str) -> Result<String, CgroupError>,
) -> Result<Vec<i32>, CgroupError> {
    let text = match read("cgroup.procs") {
        // A threaded cgroup lists threads only.
        Err(err) if err.errno() == Some(libc::EOPNOTSUPP) => read("cgroup.threads")?,
        Err(err) if err.is_absent() => return Ok(Vec::new()),
        text => text?,
    };
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Writes `value` to `name` in the cgroup that a descriptor is on; `place` is for errors.
pub(super) fn write_in(
    dir: BorrowedFd<'_>,
    place: &Path,
    name: &str,
    value: &str,
) -> Result<(), CgroupError> {
    let open = openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let file = open.map(File::from).map_err(Into::into);
    Writer { dir: place, name, file: None }.write_to(file, value)
}

/// The number in `name` in `dir`.
pub(super) fn read_u64(dir: &Path, name: &str) -> Result<u64, CgroupError> {
    let text = read(dir, name)?;
    text.trim().parse().map_err(|_| CgroupError::Read {
        file: dir.join(name),
        source: std::io::Error::other(format!("{:?} is not a number", text.trim())),
    })
}

/// Writes `value` to `name` in `dir`, in one write(2) as the kernel demands.
pub(super) fn write(dir: &Path, name: &str, value: &str) -> Result<(), CgroupError> {
    Writer::new(dir, name).write(value)
}

/// A file that takes one value after the other; opened at the first.
pub(super) struct Writer<'a> {
    dir: &'a Path,
    name: &'a str,
    file: Option<File>,
}

impl<'a> Writer<'a> {
    /// For `name` in `dir`.
    pub fn new(dir: &'a Path, name: &'a str) -> Self {
        Self { dir, name, file: None }
    }

    /// Writes one value.
    pub fn write(&mut self, value: &str) -> Result<(), CgroupError> {
        let open = match self.file.take() {
            Some(file) => Ok(file),
            None => OpenOptions::new().write(true).open(self.dir.join(self.name)),
        };
        self.write_to(open, value)
    }

    fn write_to(&mut self, open: std::io::Result<File>, value: &str) -> Result<(), CgroupError> {
        let written = open.and_then(|mut file| {
            let count = file.write(value.as_bytes())?;
            if count != value.len() {
                return Err(std::io::Error::other(format!("only {count} bytes were taken")));
            }
            Ok(file)
        });
        self.file = Some(written.map_err(|source| CgroupError::Write {
            file: self.dir.join(self.name),
            value: value.to_owned(),
            source,
        })?);
        Ok(())
    }
}
