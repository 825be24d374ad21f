//! What a cgroup has used, as runc's `events` reports it: one file per controller, both cgroup
//! versions in it.
//!
//! What belongs here: reading and the numbers' names. What does not: when they are read, and what
//! is around them (`container::events`).
//!
//! The types serialize to the JSON of runc 1.4 (its package `types`); v2's values are put under
//! v1's names and units as there. A controller that the machine or the cgroup lacks leaves zeros,
//! because a reader of statistics has no use for an error.

mod cpu;
mod cpuset;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod hugetlb;
mod io;
mod memory;
mod pids;
mod pressure;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

pub use cpu::{Cpu, CpuUsage, Throttling};
pub use cpuset::CpuSet;
pub use hugetlb::Hugetlb;
pub use io::{BlockIo, BlockIoEntry};
pub use memory::{Memory, MemoryEntry};
pub use pids::Pids;
pub use pressure::{Pressure, PressureAverages};

use super::{Cgroup, CgroupError, Mode, file};

/// The statistics of a cgroup and of those below it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Where it may run (v1 only).
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Number of processes.
    pub pids: Pids,
    /// Block devices.
    pub blkio: BlockIo,
    /// Huge pages, by page size (`2MB`).
    pub hugetlb: BTreeMap<String, Hugetlb>,
}

impl Cgroup {
    /// Reads all statistics.
    ///
    /// # Errors
    /// [`CgroupError::Read`] for a file that is there and cannot be read or understood.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Ok(Stats {
            cpu: cpu::read(&self.counters("cpu"), &self.counters("cpuacct"))?,
            cpuset: cpuset::read(&self.counters("cpuset"))?,
            memory: memory::read(&self.counters("memory"))?,
            pids: pids::read(&self.counters("pids"))?,
            blkio: io::read(&self.counters(if self.mode == Mode::V2 { "io" } else { "blkio" }))?,
            hugetlb: hugetlb::read(&self.counters("hugetlb"))?,
        })
    }

    fn counters(&self, controller: &str) -> Counters {
        Counters { dir: self.controller_dir(controller), v2: self.mode == Mode::V2 }
    }
}

/// The files of one controller.
struct Counters {
    /// `None`: the machine has no such controller (v1).
    dir: Option<PathBuf>,
    v2: bool,
}

impl Counters {
    /// The content of a file; `None` where there is none.
    fn text(&self, name: &str) -> Result<Option<String>, CgroupError> {
        let Some(dir) = &self.dir else { return Ok(None) };
        match file::read(dir, name) {
            // EOPNOTSUPP: pressure that the kernel was booted without.
            Err(err) if err.is_absent() || err.errno() == Some(libc::EOPNOTSUPP) => Ok(None),
            text => text.map(Some),
        }
    }

    /// The number in a file; `max` is the largest there is, a negative one 0.
    fn number(&self, name: &str) -> Result<Option<u64>, CgroupError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match parse(text.trim()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.malformed(name, &text)),
        }
    }

    /// The number in a file, 0 where there is none.
    fn number_or_0(&self, name: &str) -> Result<u64, CgroupError> {
        Ok(self.number(name)?.unwrap_or(0))
    }

    /// The lines `KEY NUMBER` of a file, empty where there is none.
    fn table(&self, name: &str) -> Result<BTreeMap<String, u64>, CgroupError> {
        let text = self.text(name)?.unwrap_or_default();
        text.lines()
            .map(|line| {
                let pair = line
                    .split_once(' ')
                    .and_then(|(key, value)| Some((key.to_owned(), parse(value.trim())?)));
                pair.ok_or_else(|| self.malformed(name, line))
            })
            .collect()
    }

    fn malformed(&self, name: &str, text: &str) -> CgroupError {
        CgroupError::Read {
            file: self.dir.as_deref().unwrap_or_else(|| "".as_ref()).join(name),
            source: std::io::Error::other(format!("cannot understand {:?}", text.trim())),
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        negative if negative.starts_with('-') => negative.parse::<i64>().ok().map(|_| 0),
        number => number.parse().ok(),
    }
}

/// What Go leaves out of its JSON: a value that is zero or empty.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
