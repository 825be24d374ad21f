//! Removing the cgroup's directories.

use super::{Cgroup, CgroupError, Driver, tree};

impl Cgroup {
    /// Removes the cgroup and those that were made below it, and its unit. What is not there is
    /// fine; one hierarchy that fails does not keep the others. `false`: another container's has its
    /// place by now, and stays.
    ///
    /// # Errors
    /// [`CgroupError::Directory`], `EBUSY` when processes stay for more than a second;
    /// [`CgroupError::Unit`].
    pub fn delete(&self) -> Result<bool, CgroupError> {
        if self.is_anothers() {
            return Ok(false);
        }
        let unit = match &self.driver {
            Driver::Cgroupfs => Ok(()),
            Driver::Systemd(unit) => unit.stop(),
        };
        let dirs = self.hierarchies.iter().map(|hierarchy| tree::remove(&hierarchy.dir()));
        let mut errors: Vec<CgroupError> =
            std::iter::once(unit).chain(dirs).filter_map(Result::err).collect();
        match errors.len() {
            0 => Ok(true),
            1 => Err(errors.remove(0)),
            _ => Err(CgroupError::Several(errors)),
        }
    }
}
