//! `pids.*`.

use serde::Serialize;

use super::super::procs;
use super::{CgroupError, Counters, is_default};

/// Number of processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pids {
    /// How many there are.
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    /// How many there may be; 0 for any number.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

pub(super) fn read(counters: &Counters) -> Result<Pids, CgroupError> {
    let limit = counters.number("pids.max")?.filter(|limit| *limit != u64::MAX).unwrap_or(0);
    let current = match (counters.number("pids.current")?, &counters.dir) {
        (Some(current), _) => current,
        // Without the controller the processes can still be counted.
        (None, Some(dir)) => procs::of_dir(dir)?.len() as u64,
        (None, None) => 0,
    };
    Ok(Pids { current, limit })
}
