//! What resctrl says about a group, as `events` reports it: runc's `intel_rdt`.
//!
//! The kernel has files for what the machine can do; what it cannot do is left out.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::{Resctrl, ResctrlError};

/// Allocations and monitored amounts of a group. Of a container without a group: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The L3 cache that there is to allocate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3Cache>,
    /// The default group's share of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The group's share of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// The memory bandwidth that there is to allocate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemoryBandwidth>,
    /// The default group's share of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The group's share of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All that the group is allocated, line by line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory traffic, per L3 cache; without a monitoring group, that of the whole group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<Bandwidth>>,
    /// Cache in use, per L3 cache; without a monitoring group, that of the whole group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<Occupancy>>,
}

/// `info/L3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct L3Cache {
    /// The mask of the whole cache, in hexadecimal.
    pub cbm_mask: String,
    /// The fewest bits that a mask may have.
    pub min_cbm_bits: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// `info/MB`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryBandwidth {
    /// The steps, in percent.
    pub bandwidth_gran: u64,
    /// 1: a share is a share; 0: the scale is not linear.
    pub delay_linear: u64,
    /// The smallest share, in percent.
    pub min_bandwidth: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// Memory traffic of one L3 cache, in bytes since the group was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Bandwidth {
    /// All.
    pub mbm_total_bytes: u64,
    /// To the memory of its own node.
    pub mbm_local_bytes: u64,
}

/// Use of one L3 cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// Bytes.
    pub llc_occupancy: u64,
}

impl Resctrl {
    /// Reads all statistics.
    ///
    /// # Errors
    /// A file that is there and cannot be read; the group has gone.
    pub fn stats(&self) -> Result<Stats, ResctrlError> {
        let info = self.root.join("info");
        let all = self.required(&self.root.join("schemata"))?;
        let own = self.required(&self.group.join("schemata"))?;
        let mut stats = Stats {
            schemata: own.lines().map(|line| line.trim().to_owned()).collect(),
            ..Stats::default()
        };
        let l3 = info.join("L3");
        if l3.is_dir() {
            stats.l3_cache_info = Some(L3Cache {
                cbm_mask: self.text(&l3.join("cbm_mask"))?,
                min_cbm_bits: self.number(&l3.join("min_cbm_bits"))?,
                num_closids: self.number(&l3.join("num_closids"))?,
            });
            stats.l3_cache_schema_root = line_of(&all, "L3:");
            stats.l3_cache_schema = line_of(&own, "L3:");
        }
        let mb = info.join("MB");
        if mb.is_dir() {
            stats.mem_bw_info = Some(MemoryBandwidth {
                bandwidth_gran: self.number(&mb.join("bandwidth_gran"))?,
                delay_linear: self.number(&mb.join("delay_linear"))?,
                min_bandwidth: self.number(&mb.join("min_bandwidth"))?,
                num_closids: self.number(&mb.join("num_closids"))?,
            });
            stats.mem_bw_schema_root = line_of(&all, "MB:");
            stats.mem_bw_schema = line_of(&own, "MB:");
        }
        let features = self.text(&info.join("L3_MON/mon_features"))?;
        let has = |name: &str| features.lines().any(|feature| feature == name);
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            stats.mbm_stats = Some(self.each_cache(|cache| {
                Ok(Bandwidth {
                    mbm_total_bytes: self.number(&cache.join("mbm_total_bytes"))?,
                    mbm_local_bytes: self.number(&cache.join("mbm_local_bytes"))?,
                })
            })?);
        }
        if has("llc_occupancy") {
            stats.cmt_stats = Some(self.each_cache(|cache| {
                Ok(Occupancy { llc_occupancy: self.number(&cache.join("llc_occupancy"))? })
            })?);
        }
        Ok(stats)
    }

    /// What `read` says about each cache that is monitored, in their order.
    fn each_cache<T>(
        &self,
        read: impl Fn(&Path) -> Result<T, ResctrlError>,
    ) -> Result<Vec<T>, ResctrlError> {
        let data = self.monitoring.as_ref().unwrap_or(&self.group).join("mon_data");
        let failed = |err| self.failed("read", &data, err);
        let mut caches: Vec<_> = fs::read_dir(&data)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()
            .map_err(failed)?;
        caches.sort();
        caches.iter().filter(|cache| cache.is_dir()).map(|cache| read(cache)).collect()
    }

    fn required(&self, file: &Path) -> Result<String, ResctrlError> {
        fs::read_to_string(file).map_err(|err| self.failed("read", file, err))
    }

    /// The content of a file, empty where there is none.
    fn text(&self, file: &Path) -> Result<String, ResctrlError> {
        match fs::read_to_string(file) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(err) => Err(self.failed("read", file, err)),
        }
    }

    /// The number in a file; 0 where there is none, as where the kernel has words (`Unavailable`).
    fn number(&self, file: &Path) -> Result<u64, ResctrlError> {
        Ok(self.text(file)?.parse().unwrap_or(0))
    }
}

/// The line of a resource.
fn line_of(schemata: &str, resource: &str) -> String {
    let mut lines = schemata.lines().map(str::trim);
    lines.find(|line| line.starts_with(resource)).unwrap_or_default().to_owned()
}
