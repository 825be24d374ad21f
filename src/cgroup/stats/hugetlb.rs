//! `hugetlb.SIZE.*`. Where the kernel counts reservations (Linux 5.7), those are reported: they
//! are what fails.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde::Serialize;

use super::{CgroupError, Counters, is_default};

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Hugetlb {
    /// Bytes in use.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// The most that ever was (v1).
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

pub(super) fn read(counters: &Counters) -> Result<BTreeMap<String, Hugetlb>, CgroupError> {
    let mut all = BTreeMap::new();
    for size in sizes(counters) {
        let number = |name: &str| -> Result<u64, CgroupError> {
            match counters.number(&format!("hugetlb.{size}.rsvd.{name}"))? {
                Some(value) => Ok(value),
                None => counters.number_or_0(&format!("hugetlb.{size}.{name}")),
            }
        };
        let entry = if counters.v2 {
            let events = counters.table(&format!("hugetlb.{size}.events"))?;
            let failcnt = events.get("max").copied().unwrap_or(0);
            Hugetlb { usage: number("current")?, max: 0, failcnt }
        } else {
            Hugetlb {
                usage: number("usage_in_bytes")?,
                max: number("max_usage_in_bytes")?,
                failcnt: number("failcnt")?,
            }
        };
        all.insert(size, entry);
    }
    Ok(all)
}

/// The page sizes for which the cgroup has files.
fn sizes(counters: &Counters) -> Vec<String> {
    let entries = counters.dir.as_ref().and_then(|dir| std::fs::read_dir(dir).ok());
    let suffix = if counters.v2 { ".current" } else { ".usage_in_bytes" };
    let size = |name: OsString| {
        let size = name.to_str()?.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    entries.into_iter().flatten().flatten().filter_map(|entry| size(entry.file_name())).collect()
}
