//! `pids.max`, the same on both versions.

use oci_spec::runtime::LinuxPids;

use super::{CgroupError, Knobs, convert, invalid};

pub(super) fn set(knobs: &Knobs, pids: &LinuxPids) -> Result<(), CgroupError> {
    let value = match pids.limit() {
        // systemd cannot set 0, so every runtime takes it as 1: the container's init alone.
        0 => "1".to_owned(),
        limit if limit < -1 => {
            return Err(invalid(
                "pids.limit",
                format!("{limit} is neither -1 (no limit) nor positive"),
            ));
        }
        limit => convert::or_max(limit),
    };
    knobs.write("pids.max", &value)
}
