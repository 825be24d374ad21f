//! Removing the cgroup's directories.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Cgroup, CgroupError, Driver};

/// A killed process leaves its cgroup a little later: waits of 1, 2, 4, … ms, about 1 s in all.
const BUSY_TRIES: u32 = 10;

impl Cgroup {
    /// Removes the cgroup and those that were made below it, and its unit. What is not there is
    /// fine; one hierarchy that fails does not keep the others.
    ///
    /// # Errors
    /// [`CgroupError::Directory`], `EBUSY` when processes stay for more than a second;
    /// [`CgroupError::Unit`].
    pub fn delete(&self) -> Result<(), CgroupError> {
        let unit = match &self.driver {
            Driver::Cgroupfs => Ok(()),
            Driver::Systemd(unit) => unit.stop(),
        };
        let dirs = self.hierarchies.iter().map(|hierarchy| remove(&hierarchy.dir()));
        let mut errors: Vec<CgroupError> =
            std::iter::once(unit).chain(dirs).filter_map(Result::err).collect();
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(CgroupError::Several(errors)),
        }
    }
}

/// Removes the cgroups below `dir`, but not `dir`.
pub(super) fn sub_cgroups(dir: &Path) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Directory { action: "open", dir: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<(), CgroupError> {
    let busy = |err: &io::Error| {
        matches!(err.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY | libc::EINTR))
    };
    let mut result = fs::remove_dir(dir);
    if result.as_ref().is_err_and(busy) {
        match sub_cgroups(dir) {
            Err(err) if !err.is_absent() => return Err(err),
            _ => {}
        }
        for attempt in 0..BUSY_TRIES {
            result = fs::remove_dir(dir);
            if !result.as_ref().is_err_and(busy) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1 << attempt));
        }
    }
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CgroupError::Directory { action: "remove", dir: dir.to_owned(), source })
        }
        _ => Ok(()),
    }
}
